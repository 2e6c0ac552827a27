"""Listings: in pieces, from beyond the end, and of what is gone."""

from typing import Any

import pyfuse3
import pytest

from anonfs.vfs import ROOT
from tests.daemon.operations.mount import Mount
from tests.daemon.operations.requests import CTX, MOST


class Listing:
    """What READDIR hands out, up to ``room`` entries a request."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self.names: list[bytes] = []
        self.next = 0
        self._room = room
        self._left = room
        monkeypatch.setattr(pyfuse3, "readdir_reply", self._reply)

    def _reply(self, _token: object, name: bytes, _attr: object, following: int) -> bool:
        if not self._left:
            return False
        self._left -= 1
        self.names.append(name)
        self.next = following
        return True

    def read(self, mount: Mount, fh: int, start: int) -> Any:
        self.names, self._left = [], self._room
        return mount.call("readdir", fh, start, None)


@pytest.mark.parametrize("room", [1, 2, 3, 5, 100])
def test_a_listing_in_pieces(mount: Mount, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    fh = mount.call("opendir", ROOT, CTX)
    listing, names, start = Listing(monkeypatch, room), [], 0
    while listing.read(mount, fh, start) is None and listing.names:
        names += listing.names
        start = listing.next
    assert names[:2] == [b".", b".."]
    assert sorted(names[2:]) == sorted(mount.inos)
    lookups = {mount.filesystem.inode(ino).lookups for ino in mount.inos.values()}
    assert lookups == {1}, "each entry but the dots counts as a lookup, once"


@pytest.mark.parametrize("start", [6, 7, 1000, 1 << 62, MOST, 1 << 64])
def test_a_listing_from_beyond_its_end(
    mount: Mount, monkeypatch: pytest.MonkeyPatch, start: int
) -> None:
    fh = mount.call("opendir", ROOT, CTX)
    listing = Listing(monkeypatch, 100)
    assert listing.read(mount, fh, start) is None
    assert listing.names == []


def test_a_listing_of_a_removed_directory(mount: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    mount.call("lookup", ROOT, b"dir", CTX)
    fh = mount.call("opendir", mount.inos[b"dir"], CTX)
    mount.call("rmdir", ROOT, b"dir", CTX)
    assert Listing(monkeypatch, 5).read(mount, fh, 0) is None
    mount.call("forget", [(mount.inos[b"dir"], 1)])
    answer = Listing(monkeypatch, 5).read(mount, fh, 0)
    assert answer in {None, "ENOENT", "ESTALE"}
