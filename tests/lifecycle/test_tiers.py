"""Less than all: a daemon without root, and clients that may not have a userfaultfd.

What cannot be attached is observed, and nobody hears of it who did not ask.
"""

import ctypes
import errno
import json
import logging
import os
import platform
import signal
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from anonfs.client import Client, attach
from anonfs.inspection import Area
from anonfs.units import PAGE_SIZE
from anonfsd import doctor
from tests.lifecycle.areas import areas_in_proc, ring_in_order
from tests.posix.children import NOBODY, Child, User, as_user, fork, hear, say
from tests.support.mounts import Mounted
from tests.support.programs import as_plain_user, environment, python

_PAGES = 4
_SECONDS = 60
_USERFAULTFD = {"x86_64": 323, "aarch64": 282}
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 22, 38
_FILTER_MODE = 2
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000

pytestmark = pytest.mark.usefixtures("as_root")


class _Records(logging.Handler):
    """What was logged, but for debugging."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def _map_and_fork(mount: Path) -> None:
    """Map a file, attach it if that can be, fork; say who has it, and what was logged meanwhile."""
    records = _Records()
    logging.getLogger().addHandler(records)
    with Client(mount).map("f", _PAGES * PAGE_SIZE) as mapping:
        mapping[:5] = b"works"
        attached = attach(mapping.fileno())
        pid = fork()
        if pid == 0:
            signal.pause()
        say(([os.getpid(), pid], attached, records.texts))
        hear()


def _expect_observed(child: Child, mount: Path, user: User) -> None:
    pids, attached, logged = child.said()
    assert not attached
    assert logged == []

    def both(_: Path) -> tuple[list[Area], list[Area]]:
        return ring_in_order(mount / "f"), areas_in_proc(mount / "f", pids, "observed")

    told, there = as_user(user, mount, both)
    assert told == there
    assert len(told) == 2


@pytest.fixture
def nobodys(can_mount: None) -> Iterator[Mounted]:
    """The mount of a daemon that is not root's."""
    del can_mount
    with Mounted(uid=NOBODY.uid) as mounted:
        yield mounted


def test_without_root_areas_are_observed(nobodys: Mounted) -> None:
    with Child(_map_and_fork, nobodys.path, user=NOBODY) as child:
        _expect_observed(child, nobodys.path, NOBODY)
    log = nobodys.log_text()
    assert "tier basic: rings follow /proc, by a look now and then" in log
    assert f"only what uid {NOBODY.uid} may see" in log


def test_without_root_doctor_names_the_tier() -> None:
    command = as_plain_user(NOBODY.uid, python("-m", "anonfsd.doctor"))
    done = subprocess.run(
        command, env=environment(), capture_output=True, timeout=_SECONDS, check=True
    )
    report = json.loads(done.stdout)
    assert report["tier"] == "basic"
    found = {probe["name"]: probe for probe in report["probes"]}
    assert found["root"]["detail"] == f"running as uid {NOBODY.uid}"
    assert not found["userfaultfd"]["ok"]


def _forbid_userfaultfd(number: int) -> None:
    """Have userfaultfd(2) fail with ``number`` in this process, as container runtimes do."""
    steps = [
        (_LOAD, 0, 0, 0),  # the number of the system call
        (_JUMP_IF_EQUAL, 0, 1, _USERFAULTFD[platform.machine()]),
        (_RETURN, 0, 0, _ERRNO | number),
        (_RETURN, 0, 0, _ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = struct.pack("@HP", len(steps), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert libc.prctl(_PR_SET_SECCOMP, _FILTER_MODE, ctypes.c_char_p(program)) == 0


@pytest.mark.skipif(platform.machine() not in _USERFAULTFD, reason="needs its number")
@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS], ids=["EPERM", "ENOSYS"])
def test_without_userfaultfd_areas_are_observed(shared_mount: Path, number: int) -> None:
    def program() -> None:
        _forbid_userfaultfd(number)
        report = doctor.report()
        found = {probe.name: probe for probe in doctor.probes()}
        say((report["tier"], found["userfaultfd"].ok, found["userfaultfd"].detail))
        _map_and_fork(shared_mount)

    with Child(program) as child:
        assert child.said() == (doctor.Tier.FULL, False, os.strerror(number))
        _expect_observed(child, shared_mount, User(0, 0))
