"""``anonfs ipcs`` and ``anonfs ipcrm``: what they print, and what becomes of the segments."""

import json
import os
import pwd
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from anonfs.cli import main
from anonfs.shm.sysv import IPC_CREAT, IPC_PRIVATE, IPC_RMID, SHM_LOCK, Namespace
from anonfs.units import PAGE_SIZE
from tests.posix.children import NOBODY, STRANGER, Child, hear, say
from tests.shm.sysv.calls import acting_as

KEY = 0x5EA1

Run = Callable[..., str]


@pytest.fixture
def run(mount: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs ``anonfs`` on the mount; returns what it says, an error as ``STATUS LINE``."""
    monkeypatch.setenv("ANONFS_MOUNT", str(mount))

    def call(*arguments: object) -> str:
        status = main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return f"{status} {err.strip()}" if status else out

    return call


def _rows(table: str) -> list[list[str]]:
    """The rows of a table, each cell under its title."""
    _, titles, *lines = table.strip().splitlines()
    begins = [match.start() for match in re.finditer(r"\S+(?: (?:core|swap))?", titles)]
    spans = list(zip(begins, [*begins[1:], None], strict=True))
    return [[line[begin:end].strip() for begin, end in spans] for line in lines]


def _hold(namespace: Namespace, shmid: int) -> None:
    namespace.shmat(shmid)[:PAGE_SIZE] = b"x" * PAGE_SIZE
    say("attached")
    hear()


def test_the_table(run: Run, namespace: Namespace, mount: Path) -> None:
    plain = namespace.shmget(KEY, 3 * PAGE_SIZE, IPC_CREAT | 0o640)
    namespace.shmctl(plain, SHM_LOCK)
    removed = namespace.shmget(-2, 10000, IPC_CREAT | 0o600)
    with Child(_hold, namespace, removed) as one, Child(_hold, namespace, removed) as two:
        assert [one.said(), two.said()] == ["attached"] * 2
        namespace.shmctl(removed, IPC_RMID)
        os.setxattr(mount / f".sysv.{removed}.dest", "user.anonfs.swapout", b"all")
        owner = pwd.getpwuid(os.geteuid()).pw_name
        expected = {
            str(plain): [
                *("0x00005ea1", str(plain), owner, "640", "12288", "0"),
                *("locked", "0", "0", ""),
            ],
            str(removed): [
                *("0x00000000", str(removed), owner, "600", "10000", "2"),
                *("dest", "0", "1", ",".join(map(str, sorted([one.pid, two.pid])))),
            ],
        }
        assert {row[1]: row for row in _rows(run("ipcs", "-m"))} == expected
        (document,) = json.loads(run("ipcs", "-i", removed, "--json"))
        assert document["holders"] == sorted([one.pid, two.pid])
        assert document["shm_nattch"] == 2
        assert document["pages"] == {"total": 3, "none": 2, "in_core": 0, "on_swap": 1, "front": 0}


def test_the_other_tables(run: Run, namespace: Namespace) -> None:
    shmid = namespace.shmget(KEY, 100, IPC_CREAT | 0o640)
    ((shown, *pids),) = [[row[0], *row[2:]] for row in _rows(run("ipcs", "-p"))]
    assert (shown, pids) == (str(shmid), [str(os.getpid()), "0"])
    ((shown, perms, *_),) = _rows(run("ipcs", "-c"))
    assert (shown, perms) == (str(shmid), "640")
    ((*_, attached, detached, changed),) = _rows(run("ipcs", "-t"))
    assert (attached, detached) == ("Not set", "Not set")
    assert re.fullmatch(r"[A-Z][a-z]{2} \d\d \d\d:\d\d:\d\d", changed)
    detail = run("ipcs", "-i", shmid)
    assert f"shmid={shmid}\n" in detail
    assert "mode=0640\taccess_perms=0640\n" in detail
    assert "pages=1\tin_core=0\ton_swap=0\tnot_allocated=1\nholders=\n" in detail
    assert "segments allocated 1\npages allocated 1\n" in run("ipcs", "-u")
    assert json.loads(run("ipcs", "-u", "--json"))["shm_tot"] == 1
    assert "min seg size (bytes) = 1\n" in run("ipcs", "-l")
    assert json.loads(run("ipcs", "-l", "--json"))["shmmin"] == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as others")
def test_what_others_may_not_know(run: Run, namespace: Namespace) -> None:
    with acting_as(NOBODY):
        shmid = namespace.shmget(KEY, 100, IPC_CREAT | 0o600)
    with acting_as(STRANGER):
        ((key, *_, size, nattch, _, in_core, on_swap, holders),) = _rows(run("ipcs"))
        assert (key, size) == ("0x00005ea1", "100")
        assert {nattch, in_core, on_swap, holders} == {"-"}
        (document,) = json.loads(run("ipcs", "--json"))
        assert (document["pages"], document["holders"]) == (None, None)
        assert run("ipcrm", "-m", shmid) == f"2 anonfs: permission denied for id ({shmid})"
        assert run("ipcrm", "--all=shm") == ""
    assert len(namespace.segments()) == 1


def test_ipcrm(run: Run, namespace: Namespace) -> None:
    first = namespace.shmget(KEY, 1, IPC_CREAT | 0o600)
    for key in (KEY + 1, KEY + 2, -2):
        namespace.shmget(key, 1, IPC_CREAT | 0o600)
    assert run("ipcrm", "-m", first, "-M", hex(KEY + 1), "-M", KEY + 2) == ""
    assert len(namespace.segments()) == 1
    assert run("ipcrm", "-M", "0xfffffffe") == ""
    assert namespace.segments() == []
    namespace.shmget(0o17, 1, IPC_CREAT)
    assert run("ipcrm", "--shmem-key", "017") == ""
    for _ in range(3):
        namespace.shmget(IPC_PRIVATE, 1)
    assert run("ipcrm", "--all", "shm") == ""
    assert namespace.segments() == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["-m", "77"], "invalid id (77)"),
        (["-m", "-1"], "invalid id (-1)"),
        (["-m", "x"], "failed to parse argument: 'x'"),
        (["-M", "0x99"], "invalid key (0x99)"),
        (["-M", "0"], "illegal key (0x0)"),
        (["-M", "0x100000000"], "invalid key (0x100000000)"),
        (["-m", "77", "-M", "5"], "invalid id (77); invalid key (0x5)"),
        (["--all=msg"], "--all=msg: there is nothing but shm"),
        ([], "give ids, keys, or --all=shm"),
    ],
)
def test_bad_requests(run: Run, arguments: list[str], complaint: str) -> None:
    assert run("ipcrm", *arguments) == f"2 anonfs: {complaint}"


def test_an_id_that_there_is_not(run: Run) -> None:
    for shmid in (0, 77):
        assert run("ipcs", "-i", shmid) == f"2 anonfs: id {shmid} not found"
