"""Users who put in the place of names what does not belong there harm nobody but themselves."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from anonfs.client import NoMountError
from anonfs.shm import sysv
from anonfs.shm.sysv import IPC_CREAT, IPC_INFO, IPC_PRIVATE, IPC_RMID, IPC_SET, IPC_STAT, Namespace
from anonfs.units import PAGE_SIZE
from tests.posix.children import NOBODY, STRANGER
from tests.shm.sysv.calls import acting_as, outcome
from tests.support.mounts import Mounted

KEY = 0x5EA1
_ID, _KEY = ".sysv.77", f".sysv.0x{KEY:08x}"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as others")


def test_nobody_can_take_away_what_is_anothers(namespace: Namespace, mount: Path) -> None:
    with acting_as(NOBODY):
        shmid = namespace.shmget(KEY, 1, IPC_CREAT | 0o666)
    names = sorted(mount.iterdir())
    assert [path.name for path in names] == sorted([f".sysv.{shmid}", _KEY])
    with acting_as(STRANGER):
        for path in names:
            assert outcome(path.unlink) == "EPERM"
            assert outcome(path.rename, mount / "mine") == "EPERM"
            (mount / "mine").touch()
            assert outcome((mount / "mine").rename, path) == "EPERM"
        assert outcome(namespace.remove_key, KEY) == "EPERM"
        (mount / "mine").unlink()
    assert sorted(mount.iterdir()) == names


def _directory(path: Path) -> None:
    path.mkdir()


def _link(path: Path) -> None:
    path.symlink_to(path.parent / "target")


def _fifo(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize("put", [_directory, _link, _fifo])
def test_what_is_no_file_is_no_segment(
    namespace: Namespace, mount: Path, put: Callable[[Path], None]
) -> None:
    (mount / "target").write_bytes(b"secret")
    (mount / "target").chmod(0o600)
    with acting_as(STRANGER):
        put(mount / _ID)
        put(mount / _KEY)
    for flags in (0, IPC_CREAT):
        assert outcome(namespace.shmget, KEY, 1, flags) == "EACCES"
    assert outcome(namespace.shmat, 77) == "EINVAL"
    for cmd in (IPC_STAT, IPC_SET, IPC_RMID, sysv.SHM_LOCK):
        assert outcome(namespace.shmctl, 77, cmd) == "EINVAL"
    assert namespace.segments() == []
    assert (mount / "target").read_bytes() == b"secret"
    assert (mount / "target").stat().st_mode & 0o777 == 0o600
    for name in (_ID, _KEY):
        remove = os.rmdir if put is _directory else os.unlink
        remove(mount / name)
    (mount / "target").unlink()


@pytest.mark.parametrize("text", [b"", b"\xff", b"id=1", b"forged", b"long", b"huge"])
def test_what_the_creator_wrote_is_not_trusted(
    namespace: Namespace, mount: Path, text: bytes
) -> None:
    with acting_as(NOBODY):
        shmid = namespace.shmget(KEY, 1, IPC_CREAT | 0o666)
    if text in {b"long", b"huge"}:
        number = "7" * 300 if text == b"long" else "0x" + "f" * 300
        text = f"id={number} key={number} cuid={number} cgid=0 cpid=1 ctime={number}".encode()
    with acting_as(STRANGER):
        theirs = namespace.shmget(IPC_PRIVATE, 1, 0o600)
        if text == b"forged":
            text = f"id={theirs} key=7 cuid=0 cgid=0 cpid=1 ctime=1".encode()
        os.setxattr(mount / f".sysv.{shmid}", "user.sysv.shm", text)
        # Where a file that is not theirs may be linked at all, see proc_sys_fs(5).
        os.link(mount / f".sysv.{shmid}", mount / ".sysv.0x00000099")
    assert namespace.shmget(KEY, 1, 0) == shmid
    ds = namespace.shmctl(shmid, IPC_STAT)
    assert (ds.shmid, ds.shm_perm.uid) == (shmid, NOBODY.uid)
    with acting_as(NOBODY):
        namespace.shmctl(shmid, IPC_RMID)
    assert [path.name for path in mount.iterdir()] == [f".sysv.{theirs}"]


def test_names_that_are_no_segments(namespace: Namespace, mount: Path) -> None:
    names = [".sysv.0", ".sysv.x", ".sysv.99999999999", ".sysv.7.dest.dest", ".sysv.0x7"]
    for name in names:
        (mount / name).touch()
    assert namespace.segments() == []
    for shmid in (0, 99999999999, 1 << 70, -(1 << 70)):
        assert outcome(namespace.shmat, shmid) == "EINVAL"
        assert outcome(namespace.shmctl, shmid, IPC_STAT) == "EINVAL"
    for key in (1 << 32, -(1 << 31) - 1, 1 << 70):
        assert outcome(namespace.shmget, key, 1, IPC_CREAT) == "EINVAL"
    assert outcome(namespace.shmget, KEY, 1 << 70, IPC_CREAT) == "EINVAL"
    for name in names:
        (mount / name).unlink()


def test_a_key_without_an_id(
    namespace: Namespace, mount: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anonfs.shm.sysv._registry._PATIENCE_SECONDS", 0.01)
    shmid = namespace.shmget(KEY, 1, IPC_CREAT | 0o600)
    (mount / f".sysv.{shmid}").unlink()
    assert outcome(namespace.shmget, KEY, 1, IPC_CREAT) == "EIDRM"
    (left,) = namespace.segments()
    assert (left.ds.shmid, left.ds.shm_perm.key) == (0, KEY)
    namespace.remove_key(KEY)
    assert outcome(namespace.remove_key, KEY) == "ENOENT"


def test_limits_are_for_who_made_the_mount(namespace: Namespace, mount: Path) -> None:
    def limit(text: bytes) -> None:
        os.setxattr(mount, "user.sysv.limits", text)

    with acting_as(STRANGER):
        assert outcome(limit, b"shmmni=1") == "EPERM"
    get = partial(outcome, namespace.shmget)
    limit(b"shmmax=4097 shmmni=2 shmall=3")
    try:
        info = namespace.shmctl(0, IPC_INFO)
        assert (info.shmmax, info.shmmni, info.shmall, info.shmmin) == (4097, 2, 3, 1)
        assert get(IPC_PRIVATE, 4098) == "EINVAL"
        assert isinstance(get(KEY, 4097, IPC_CREAT), int)
        assert get(KEY + 1, 4097, IPC_CREAT) == "ENOSPC"
        assert isinstance(get(IPC_PRIVATE, PAGE_SIZE), int)
        assert get(IPC_PRIVATE, 1) == "ENOSPC"
        assert get(KEY + 1, 1, 0) == "ENOENT"
        assert len(namespace.segments()) == 2
    finally:
        os.removexattr(mount, "user.sysv.limits")


def test_no_room_is_said_when_it_is_made(namespace: Namespace, mount: Path) -> None:
    assert outcome(namespace.shmget, KEY, 1 << 40, IPC_CREAT | 0o600) == "ENOSPC"
    assert outcome(namespace.shmget, KEY, 1 << 51, IPC_CREAT | 0o600) == "EINVAL"
    assert list(mount.iterdir()) == []


def test_the_limits_of_the_mount_are_those_of_its_segments(
    mount_factory: Callable[..., Mounted],
) -> None:
    mounted = mount_factory(
        arguments=("--size", "40K", "--max-segment", "20K", "--max-per-user", "8K")
    )
    mounted.workplace.chmod(0o711)
    namespace = Namespace(mounted.path)
    info = namespace.shmctl(0, IPC_INFO)
    assert (info.shmmax, info.shmall) == (20480, 10)
    get = partial(outcome, namespace.shmget, IPC_PRIVATE)
    assert get(20481) == "EINVAL"
    with acting_as(STRANGER):
        assert get(8193) == "EDQUOT"
    assert [type(get(20480)), type(get(20480)), get(1)] == [int, int, "ENOSPC"]


def test_each_mount_has_its_own(
    namespace: Namespace,
    mount: Path,
    mount_factory: Callable[..., Mounted],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shmid = namespace.shmget(KEY, 1, IPC_CREAT)
    monkeypatch.setenv("ANONFS_MOUNT", str(mount))
    assert sysv.shmget(KEY, 0) == shmid
    other = mount_factory()
    monkeypatch.setenv("ANONFS_MOUNT", str(other.path))
    assert outcome(sysv.shmget, KEY, 0) == "ENOENT"
    assert outcome(sysv.shmctl, shmid, IPC_STAT) == "EINVAL"
    other.stop()
    with pytest.raises(NoMountError):
        sysv.shmget(KEY, 0)
