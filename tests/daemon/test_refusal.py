import logging
from pathlib import Path

import pytest

from anonfsd._refusal import FirstRefusal


@pytest.mark.parametrize(("overcommit", "advice"), [(False, "--overcommit"), (True, "--swap-size")])
def test_one_line_in_a_lifetime(
    caplog: pytest.LogCaptureFixture, overcommit: bool, advice: str
) -> None:
    caplog.set_level(logging.INFO)
    refusal = FirstRefusal(Path("/run/anonfs"), overcommit=overcommit)
    refusal(4 << 30, 384)
    refusal(1, 0)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    for word in ("/run/anonfs", "16 TiB", "1.5 MiB", advice):
        assert word in record.getMessage()
