"""shm-exec where the kernel refuses; what it does where it can is for real programs to show."""

import errno
from collections.abc import Callable

import pytest

from anonfs.cli import _mount, _namespace, _shm_exec
from tests.cli.conftest import Run


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Has system calls refused, and nothing done; returns the names of those that were made."""

    def set_up(refused: Callable[[str, tuple[object, ...]], bool]) -> list[str]:
        made: list[str] = []

        def call(name: str, *arguments: object) -> None:
            made.append(name)
            if refused(name, arguments):
                raise PermissionError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(_namespace, "_call", call)
        monkeypatch.setattr(_namespace, "_write", lambda *_: None)
        monkeypatch.setattr(_mount, "_require_daemon", lambda: None)
        monkeypatch.setattr(_shm_exec, "_become", lambda *_: pytest.fail("it ran"))
        return made

    return set_up


def test_no_namespace_at_all(run: Run, refuse: Callable[..., list[str]]) -> None:
    made = refuse(lambda name, _: name == "unshare")
    ran = run("shm-exec", "--", "true")
    assert (ran.status, ran.out) == (2, "")
    assert ran.err == (
        "anonfs: this system lets you have no user namespace, in which you could mount on /dev/shm"
        " (Operation not permitted): run this as root\n"
    )
    assert made == ["unshare", "unshare"]


def test_a_user_namespace_without_rights(run: Run, refuse: Callable[..., list[str]]) -> None:
    """As AppArmor has it."""
    refuse(lambda name, _: name == "mount")
    ran = run("shm-exec", "--", "true")
    assert ran.status == 2
    assert ran.err.startswith("anonfs: this system lets you mount nothing in a user namespace")
