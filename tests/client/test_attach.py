"""Handing over a userfaultfd, without a daemon."""

import os
import threading
import time
from pathlib import Path

import pytest

from anonfs.client import _attach, new_userfaultfd
from tests.posix.children import eventually

_MOMENT = 0.05


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_nobody_inherits_a_userfaultfd_that_is_handed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forks: list[threading.Thread] = []
    statuses: list[int] = []
    handed: list[int] = []

    def ends_with_whether_it_has_it() -> None:
        pid = os.fork()
        if pid == 0:
            os._exit(_is_userfaultfd(handed[0]))
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    def ask(_name: str, _request: bytes, descriptors: list[int], _deadline: float) -> int:
        assert len(descriptors) == 1
        assert _is_userfaultfd(descriptors[0])
        handed.extend(descriptors)
        forks.append(threading.Thread(target=ends_with_whether_it_has_it))
        forks[0].start()
        time.sleep(_MOMENT)  # a fork that does not wait is done by then
        return 0

    try:
        os.close(new_userfaultfd())
    except OSError as error:
        pytest.skip(f"no userfaultfd: {error}")
    monkeypatch.setattr(_attach, "ask", ask)
    assert _attach._hand_over("@nobody", 0.0) == 0
    forks[0].join()
    eventually(lambda: bool(statuses), "the child has ended")
    assert statuses == [0]


def test_the_socket_is_looked_for_once_and_again_when_nobody_answers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sockets, looks = ["@one"], []

    def ask(name: str, _request: bytes, _descriptors: list[int], _deadline: float) -> int:
        if name != sockets[-1]:
            raise ConnectionRefusedError
        return 0

    def socket_name(_device: int) -> str:
        looks.append(sockets[-1])
        return sockets[-1]

    monkeypatch.setattr(_attach, "ask", ask)
    monkeypatch.setattr(_attach, "socket_name", socket_name)
    monkeypatch.setattr(_attach, "_names", {})
    directory = os.open(tmp_path, os.O_RDONLY)
    assert _attach.attach(directory)
    assert _attach.attach(directory)
    sockets.append("@another")
    assert _attach.attach(directory)
    os.close(directory)
    assert looks == ["@one", "@another"]


def _is_userfaultfd(descriptor: int) -> bool:
    """Whether this process has it; other tests may have left some of their own."""
    try:
        return "userfaultfd" in os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115
    except FileNotFoundError:
        return False
