"""A mount with limits, and several users who come up against them at once."""

import json
import os
import random
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from anonfs.client import Client, connect
from anonfs.limits import LimitInfo, Limits, Usage
from anonfs.shm import SharedMemory
from anonfs.units import PAGE_SIZE, pages_for
from tests.lifecycle.places import anonfs
from tests.posix.children import NOBODY, STRANGER, Child, User, as_user, eventually
from tests.posix.descriptors import descriptor
from tests.posix.memory import Mapping
from tests.posix.reference import outcome
from tests.support.mounts import Mounted

_SIZE, _SEGMENT, _PER_USER, _FILES, _LOCKED = 600, 200, 300, 12, 100
_OPTIONS = (
    *("--check", "--size", f"{_SIZE * 4}K", "--max-segment", f"{_SEGMENT * 4}K"),
    *("--max-per-user", f"{_PER_USER * 4}K", "--max-files-per-user", f"{_FILES}"),
    *("--max-locked-per-user", f"{_LOCKED * 4}K"),
)
_LIMITS = Limits(
    size=_SIZE * PAGE_SIZE,
    segment=_SEGMENT * PAGE_SIZE,
    per_user=_PER_USER * PAGE_SIZE,
    files_per_user=_FILES,
    locked_per_user=_LOCKED * PAGE_SIZE,
)
_EMPTY = {0: Usage(0, 1)}
_USERS = [STRANGER, NOBODY, User(60002, 60002)]
_ROUNDS = 200

pytestmark = pytest.mark.usefixtures("as_root")


@pytest.fixture
def client(mount_factory: Callable[..., Mounted]) -> Client:
    return connect(mount_factory(arguments=_OPTIONS).path)


def _free(client: Client) -> int:
    return os.statvfs(client.mount).f_bfree


def _sized(path: Path, pages: int) -> object:
    """What is said to a file getting so many pages."""
    with descriptor(path) as fd:
        return outcome(os.ftruncate, fd, pages * PAGE_SIZE)


def _exceed(place: Path) -> list[object]:
    """What is said to somebody who has nothing, and goes up to each limit and beyond."""
    said = [_sized(place / "a", _SEGMENT + 1), _sized(place / "a", _SEGMENT)]
    rest = (_PER_USER - _SEGMENT) * PAGE_SIZE
    with descriptor(place / "b") as fd:
        said.append(outcome(os.ftruncate, fd, rest + 1))
        said.append(outcome(os.posix_fallocate, fd, 0, rest))
        said.append(outcome(os.posix_fallocate, fd, 0, rest + 1))
        said.append(outcome(os.pwrite, fd, b"x", rest))
        mapping = Mapping(fd, rest)
        mapping.write(0, b"x" * rest)
        mapping.unmap()
        said.append(outcome(os.setxattr, fd, "user.anonfs.lock", b"on"))
    said.append(outcome(os.setxattr, place / "a", "user.anonfs.lock", b"on"))
    said += {outcome((place / f"{number}").mkdir) for number in range(_FILES - 2)}
    return [*said, outcome((place / "more").mkdir)]


def test_each_limit_is_told_to_the_call_that_exceeds_it(client: Client) -> None:
    place, a, b = client.mount, client.path("a"), client.path("b")
    assert as_user(STRANGER, place, _exceed) == [
        *("ENOSPC", None, "EDQUOT", None, "EDQUOT", "EDQUOT", None, "ENOMEM", None, "EDQUOT")
    ]
    full = Usage(_PER_USER, _FILES, _LOCKED)
    assert client.limits() == LimitInfo(_LIMITS, {**_EMPTY, STRANGER.uid: full})
    os.chown(b, NOBODY.uid, -1)
    assert client.limits().users[NOBODY.uid] == Usage(_LOCKED, 1, _LOCKED)
    assert as_user(NOBODY, place, lambda there: _sized(there / "c", _SEGMENT)) is None
    assert outcome(os.chown, a, NOBODY.uid, -1) == "EDQUOT"
    assert a.stat().st_uid == STRANGER.uid
    left = _SIZE - _PER_USER - _SEGMENT
    assert _free(client) == left
    assert _sized(client.path("roots"), left + 1) == "ENOSPC"
    with descriptor(client.path("roots")) as fd:
        assert os.pwrite(fd, b"x", left * PAGE_SIZE - 1) == 1
        assert outcome(os.pwrite, fd, b"x", left * PAGE_SIZE) == "ENOSPC"

    def read(there: Path) -> LimitInfo:
        return LimitInfo.parse((there / ".anonfs" / "limits").read_bytes().decode())

    own = Usage(_SEGMENT + _LOCKED, 2, _LOCKED)
    assert as_user(NOBODY, place, read) == LimitInfo(_LIMITS, {NOBODY.uid: own})
    shown = json.loads(anonfs("stat", str(place), "--json").stdout)
    assert shown["limits"]["size"] == _LIMITS.size
    assert shown["users"][f"{NOBODY.uid}"]["locked"] == _LOCKED


def test_a_segment_says_which_limit_it_exceeds(client: Client) -> None:
    largest = _SEGMENT * PAGE_SIZE
    with pytest.raises(OSError, match=r"the most for one segment in .*: mount .* --max-segment"):
        SharedMemory("one", create=True, size=largest + 1, mount=client.mount)
    segments = [SharedMemory(name, create=True, size=largest, mount=client.mount) for name in "abc"]
    with pytest.raises(OSError, match=r"0 B are left in .*: unlink .* --size"):
        SharedMemory("d", create=True, size=1, mount=client.mount)
    for segment in segments:
        segment.close()
        segment.unlink()


def test_a_file_counts_until_its_last_user_is_gone(client: Client) -> None:
    with descriptor(client.path("f")) as fd:
        os.ftruncate(fd, _SEGMENT * PAGE_SIZE)
        os.fchown(fd, STRANGER.uid, -1)
        mapping = Mapping(fd, _SEGMENT * PAGE_SIZE)
    client.path("g").touch()
    client.path("g").rename(client.path("f"))
    assert client.limits().users[STRANGER.uid] == Usage(_SEGMENT, 1)
    mapping.write(0, b"x" * mapping.length)
    mapping.unmap()
    eventually(lambda: client.limits().users == {0: Usage(0, 2)}, "the file is deleted")


def _wear_out(place: Path, seed: int) -> set[str]:
    """Make, size, write, fill, rename and unlink files at random; returns what was refused."""
    dice = random.Random(seed)
    refused: set[object] = set()
    for _ in range(_ROUNDS):
        path = place / f"{os.getuid()}-{dice.randrange(_FILES + 2)}"
        with ExitStack() as stack:
            try:
                fd = stack.enter_context(descriptor(path))
                size = dice.randrange(_SEGMENT + 20) * PAGE_SIZE // 2
                if dice.randrange(3):
                    os.ftruncate(fd, size)
                else:
                    os.pwrite(fd, b"w" * PAGE_SIZE, size)
                _fill(fd)
                if dice.randrange(4) == 0:
                    path.rename(f"{path}-{dice.randrange(2)}")
                elif dice.randrange(4) == 0:
                    path.unlink()
            except OSError as error:
                refused.add(outcome(_raise, error))
    return {str(name) for name in refused}


def _raise(error: OSError) -> None:
    raise error


def _fill(fd: int) -> None:
    """Store to all pages of a file, which no other process has: SIGBUS would kill this one."""
    size = os.fstat(fd).st_size
    if size:
        mapping = Mapping(fd, size)
        for offset in range(0, size, PAGE_SIZE):
            mapping.write(offset, b"s")
        mapping.unmap()


def test_users_who_come_up_against_their_limits_at_once(client: Client) -> None:
    place = client.mount
    with ExitStack() as stack:
        children = [
            stack.enter_context(Child(_wear_out, Path(), seed, user=user, directory=place))
            for seed, user in enumerate(_USERS)
        ]
        refused = [child.said() for child in children]
    assert all(names <= {"ENOSPC", "EDQUOT"} for names in refused), refused
    assert set().union(*refused) == {"ENOSPC", "EDQUOT"}

    def counted() -> dict[int, Usage]:
        pages, files = Counter[int](), Counter({0: 1})
        for path in place.iterdir():
            found = path.stat()
            pages[found.st_uid] += pages_for(found.st_size)
            files[found.st_uid] += 1
        return {uid: Usage(pages[uid], files[uid]) for uid in files}

    eventually(lambda: client.limits().users == counted(), "what was unlinked is deleted")
    users = client.limits().users
    assert _free(client) == _SIZE - sum(used.pages for used in users.values())
    for path in place.iterdir():
        path.unlink()
    eventually(lambda: client.limits().users == _EMPTY, "all is given back")
    assert _free(client) == _SIZE


def test_what_a_file_had_is_there_for_the_next_one_when_it_was_unlinked(client: Client) -> None:
    """The kernel tells that it has forgotten the file when its user has long gone on."""
    for name in ("a", "b"):
        assert _sized(client.mount / name, _SEGMENT) is None
    for number in range(2000):
        path = client.mount / str(number)
        assert _sized(path, _SIZE - 2 * _SEGMENT) is None
        path.unlink()


def test_sizes_are_bounded_with_overcommit_as_well(mount_factory: Callable[..., Mounted]) -> None:
    client = connect(mount_factory(overcommit=True, arguments=("--check", "--size", "1T")).path)
    place = client.mount
    pages = (1 << 40) // PAGE_SIZE
    assert _sized(place / "f", pages + 1) == "ENOSPC"
    assert _sized(place / "f", pages) is None
    assert _free(client) == 0
    assert outcome((place / "g").write_bytes, b"x") == "ENOSPC"
    with descriptor(place / "f") as fd:
        assert os.pwrite(fd, b"x", (1 << 40) - 1) == 1
        assert outcome(os.pwrite, fd, b"x", 1 << 40) == "ENOSPC"
    (place / "f").unlink()
    assert _sized(place / "g", pages) is None
