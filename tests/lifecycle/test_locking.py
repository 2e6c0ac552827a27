"""Files that are locked in core stay there, loaded, while others go through swap beside them."""

import os
from pathlib import Path

import pytest

from anonfs.client import Client, connect
from anonfs.units import PAGE_SIZE
from tests.posix.children import STRANGER, as_user
from tests.posix.reference import outcome
from tests.support.mounts import Mounted

_BUDGET = 2048
_LOCKABLE = (_BUDGET - 256) // 4


@pytest.fixture
def client(mounted: Mounted) -> Client:
    return connect(mounted.path)


def _text(pages: int) -> bytes:
    return b"".join(b"%7d " % number * (PAGE_SIZE // 8) for number in range(pages))


def test_locked_pages_stay_while_four_times_the_budget_goes_through(client: Client) -> None:
    with client.map("kept", _LOCKABLE * PAGE_SIZE) as kept:
        text = _text(_LOCKABLE)
        kept[: len(text)] = text
        kept.swap_out()
        assert kept.inspect().pages.on_swap == _LOCKABLE
        client.lock(kept)
        client.lock("kept")
        assert kept.inspect().locked
        assert kept.inspect().pages.in_core == _LOCKABLE
        assert kept[: len(text)] == text
        with client.map("other", 4 * _BUDGET * PAGE_SIZE) as other:
            for page in range(4 * _BUDGET):
                other[page * PAGE_SIZE] = page % 256
            kept.swap_out()
            found = kept.inspect()
            assert found.pages.in_core == _LOCKABLE
            assert found.counts.loaded_ptes == _LOCKABLE
            assert other.inspect().pages.on_swap > 2 * _BUDGET
            assert all(other[page * PAGE_SIZE] == page % 256 for page in range(4 * _BUDGET))
        assert client.meminfo().cost <= (_BUDGET + _BUDGET // 4) * PAGE_SIZE
        client.unlock(kept)
        kept.swap_out()
        found = kept.inspect()
        assert (found.locked, found.pages.on_swap) == (False, _LOCKABLE)
        assert kept[: len(text)] == text


def test_as_much_can_be_locked_as_leaves_frames_to_others(client: Client) -> None:
    with client.create("a", _LOCKABLE * PAGE_SIZE) as a, client.create("b", PAGE_SIZE) as b:
        a.lock()
        assert outcome(b.lock) == "ENOMEM"
        assert not b.inspect().locked
        assert outcome(a.resize, (_LOCKABLE + 1) * PAGE_SIZE) == "ENOSPC"
        assert outcome(os.pwrite, a.fileno(), b"x", _LOCKABLE * PAGE_SIZE) == "ENOSPC"
        a.resize((_LOCKABLE - 1) * PAGE_SIZE)
        b.lock()
        client.unlink("b")
        assert outcome(a.resize, _LOCKABLE * PAGE_SIZE) == "ENOSPC", "until it is deleted"
        b.unlock()
        a.resize(_LOCKABLE * PAGE_SIZE)


def test_a_file_of_another_user_cannot_be_locked(client: Client, as_root: None) -> None:
    del as_root
    with client.create("a", PAGE_SIZE) as file:
        os.fchmod(file.fileno(), 0o666)
        file.lock()

        def call(place: Path) -> object:
            path = place / "a"
            attribute = "user.anonfs.lock"
            found = [outcome(os.setxattr, path, attribute, value) for value in (b"on", b"off")]
            return [*found, outcome(os.removexattr, path, attribute)]

        assert as_user(STRANGER, client.mount, call) == ["EPERM"] * 3
        os.removexattr(file.fileno(), "user.anonfs.lock")
        assert os.getxattr(file.fileno(), "user.anonfs.lock") == b"off"
