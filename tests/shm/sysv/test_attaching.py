"""How many are attached, and who was last, whatever the processes do; and what an attachment is."""

import errno
import gc
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from anonfs.shm.sysv import (
    IPC_CREAT,
    IPC_PRIVATE,
    IPC_RMID,
    IPC_STAT,
    SHM_RDONLY,
    Attachment,
    Namespace,
    PlacedAttachment,
    ShmidDs,
)
from anonfs.units import PAGE_SIZE
from tests.lifecycle.areas import ring_of
from tests.posix.children import Child, eventually, hear, in_child, say
from tests.shm.sysv.calls import outcome

FREE = 0x1000_0000_0000
SIZE = 3 * PAGE_SIZE + 100


def _stat(namespace: Namespace, shmid: int) -> ShmidDs:
    return namespace.shmctl(shmid, IPC_STAT)


def _nattch(namespace: Namespace, shmid: int) -> int:
    return _stat(namespace, shmid).shm_nattch


def _hold(namespace: Namespace, shmid: int) -> None:
    namespace.shmat(shmid)
    say(os.getpid())
    hear()


def _fork(namespace: Namespace, shmid: int) -> None:
    namespace.shmat(shmid)
    namespace.shmat(shmid, None, SHM_RDONLY)
    say("attached")
    hear()
    with Child(hear) as child:
        say(child.pid)
        hear()
        child.kill()
        child.wait()
        say("killed")
        hear()
    os.execlp("sleep", "sleep", "1000")  # noqa: S606


def test_nattch_across_fork_exec_and_kill(namespace: Namespace) -> None:
    begun = int(time.time())
    shmid = namespace.shmget(IPC_PRIVATE, SIZE, 0o600)
    with Child(_fork, namespace, shmid) as parent, Child(_hold, namespace, shmid) as other:
        assert parent.said() == "attached"
        assert other.said() == other.pid
        assert _nattch(namespace, shmid) == 3
        parent.tell()
        child = parent.said()
        ds = _stat(namespace, shmid)
        assert (ds.shm_nattch, ds.shm_lpid) == (5, parent.pid)
        assert begun <= ds.shm_atime <= time.time()
        parent.tell()
        assert parent.said() == "killed"
        ds = _stat(namespace, shmid)
        assert (ds.shm_nattch, ds.shm_lpid) == (3, child)
        assert begun <= ds.shm_atime <= ds.shm_dtime <= time.time()
        other.kill()
        other.wait()
        eventually(lambda: _nattch(namespace, shmid) == 2, "a killed process is detached")
        assert _stat(namespace, shmid).shm_lpid == other.pid
        parent.tell()
        parent.await_exec()
        assert _nattch(namespace, shmid) == 0
        assert _stat(namespace, shmid).shm_lpid == parent.pid


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_removed_segment_goes_with_its_last_holder(
    namespace: Namespace, mount: Path, number: signal.Signals
) -> None:
    shmid = namespace.shmget(0x77, SIZE, IPC_CREAT | 0o600)
    with Child(_hold, namespace, shmid) as one, Child(_hold, namespace, shmid) as two:
        assert [one.said(), two.said()] == [one.pid, two.pid]
        namespace.shmctl(shmid, IPC_RMID)
        # Linux would let it be attached.
        assert outcome(namespace.shmat, shmid) == "EIDRM"
        one.kill(number)
        one.wait()
        eventually(lambda: _nattch(namespace, shmid) == 1, "one is left")
        (left,) = namespace.segments()
        assert left.holders == [two.pid]
        two.kill(number)
        eventually(lambda: list(mount.iterdir()) == [], "the segment is gone")
    assert outcome(namespace.shmctl, shmid, IPC_STAT) == "EINVAL"


@pytest.mark.parametrize(("address", "kind"), [(None, Attachment), (FREE, PlacedAttachment)])
def test_an_attachment_is_memory(namespace: Namespace, address: int | None, kind: type) -> None:
    shmid = namespace.shmget(IPC_PRIVATE, SIZE, 0o600)
    mine, theirs = namespace.shmat(shmid, address), namespace.shmat(shmid)
    assert (type(mine), len(mine), mine.shmid) == (kind, SIZE, shmid)
    assert mine.address == address or address is None
    mine[:5] = b"hello"
    mine[5] = 33
    assert (theirs[:6], theirs[5], theirs[SIZE - 1]) == (b"hello!", 33, 0)
    mine.flush()
    assert (mine[1:6:2], mine[-1]) == (b"el!", 0)
    with pytest.raises(IndexError):
        mine[SIZE]
    array = np.frombuffer(mine.buf, np.uint8)
    array[-1] = 9
    assert theirs[SIZE - 1] == 9
    with pytest.raises(BufferError):
        namespace.shmdt(mine)
    assert mine[:1] == b"h"
    del array
    namespace.shmdt(mine)
    for use in (lambda: mine[0], lambda: mine.buf, lambda: len(mine)):
        with pytest.raises(ValueError):
            use()
    assert "closed" in repr(mine)
    mine.close()
    assert outcome(namespace.shmdt, mine) == "EINVAL"


@pytest.mark.parametrize("address", [None, FREE])
def test_what_is_read_only_cannot_be_stored_to(namespace: Namespace, address: int | None) -> None:
    shmid = namespace.shmget(IPC_PRIVATE, SIZE, 0o600)
    with namespace.shmat(shmid, address, SHM_RDONLY) as memory:
        with pytest.raises(TypeError):
            memory[0] = 1
        assert memory.buf.readonly
    assert _nattch(namespace, shmid) == 0


@pytest.mark.parametrize("address", [None, FREE])
def test_it_stays_attached_though_nobody_refers_to_it(
    namespace: Namespace, address: int | None
) -> None:
    shmid = namespace.shmget(IPC_PRIVATE, SIZE, 0o600)
    place = namespace.shmat(shmid, address).address
    gc.collect()
    assert _nattch(namespace, shmid) == 1
    namespace.shmdt(place)
    assert _nattch(namespace, shmid) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's daemon has forks reported")
def test_a_read_only_attachment_keeps_no_other_from_being_attached(
    namespace: Namespace, mount: Path
) -> None:
    shmid = namespace.shmget(IPC_PRIVATE, SIZE, 0o600)

    def known() -> set[str]:
        namespace.shmat(shmid, None, SHM_RDONLY)
        namespace.shmat(shmid)
        return {f"{area.perms} {area.how}" for area in ring_of(mount / f".sysv.{shmid}")}

    assert in_child(known) == {"r--s observed", "rw-s attached"}


def test_a_segment_that_is_being_made_cannot_be_attached(namespace: Namespace, mount: Path) -> None:
    (mount / ".sysv.4711").touch()
    assert outcome(namespace.shmat, 4711) == errno.errorcode[errno.EINVAL]
    (left,) = namespace.segments()
    assert (left.ds.shmid, left.ds.shm_segsz) == (4711, 0)
