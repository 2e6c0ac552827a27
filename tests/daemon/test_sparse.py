import logging

import pytest

from anonfsd._sparse import Sparse


def test_a_text_is_logged_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("tests.sparse")
    sparse = Sparse(3600.0)
    log.addFilter(sparse)
    for number in range(3):
        log.warning("user %d is at it", number)
        log.warning("something else: %d", number)
    assert caplog.messages == ["user 0 is at it", "something else: 0"]
    log.removeFilter(sparse)
    log.addFilter(Sparse(0.0))
    for number in range(3):
        log.warning("user %d is at it", number)
    assert len(caplog.messages) == 5
