"""What the files must hold.

An inode is alive while a name, a descriptor or a mapping refers to it:

    names ──▶ Inode ◀── Handle (descriptor of one member)
               │  ▲
            data  └──── Mapping (range of pages, in one member)

Lists and dicts only, never sets: a seed must give the same sequence in every process.
"""

from collections import deque
from dataclasses import dataclass, field

from tests.judge._libc import PAGE

__all__ = ["Handle", "Inode", "Mapping", "Model"]

_REMEMBERED = 24


@dataclass(eq=False, slots=True)
class Inode:
    """A file's bytes, what refers to it, and what was done to it lately."""

    number: int
    data: bytearray = field(default_factory=bytearray)
    names: list[str] = field(default_factory=list)
    handles: list["Handle"] = field(default_factory=list)
    maps: list["Mapping"] = field(default_factory=list)
    history: deque[str] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return len(self.data)

    @property
    def is_alive(self) -> bool:
        """Whether anything refers to it."""
        return bool(self.names or self.handles or self.maps)

    def write(self, offset: int, data: bytes) -> None:
        """Store ``data``; a gap before it is zeros."""
        self.resize(max(self.size, offset + len(data)))
        self.data[offset : offset + len(data)] = data

    def resize(self, size: int) -> None:
        """Cut, or extend with zeros."""
        if size <= self.size:
            del self.data[size:]
        else:
            self.data.extend(bytes(size - self.size))


@dataclass(eq=False, slots=True)
class Handle:
    """A descriptor of ``inode`` in member ``member``."""

    number: int
    member: int
    inode: Inode
    appends: bool


@dataclass(eq=False, slots=True)
class Mapping:
    """``length`` bytes of ``inode`` from ``offset``, both whole pages, in member ``member``."""

    number: int
    member: int
    inode: Inode
    offset: int
    length: int

    @property
    def usable(self) -> int:
        """How many of its bytes lie before end-of-file."""
        return max(0, min(self.length, self.inode.size - self.offset))

    @property
    def loadable(self) -> int:
        """How many of its bytes may be loaded: `usable` up to the end of the page."""
        return -(-self.usable // PAGE) * PAGE

    def expected(self, start: int, length: int) -> bytes:
        """What a load of the mapping gives: past end-of-file, zeros."""
        begin = self.offset + start
        return bytes(self.inode.data[begin : begin + length]).ljust(length, b"\0")


class Model:
    """All inodes, by their names and their holders."""

    def __init__(self) -> None:
        self.inodes: list[Inode] = []
        self.named: dict[str, Inode] = {}
        self.handles: list[Handle] = []
        self.maps: list[Mapping] = []
        self._last = 0

    def number(self) -> int:
        """A number that nothing has had yet."""
        self._last += 1
        return self._last

    @property
    def bytes_alive(self) -> int:
        """The sizes of all inodes together."""
        return sum(inode.size for inode in self.inodes)

    def create(self, name: str) -> Inode:
        """A new inode under a new name."""
        inode = Inode(self.number())
        self.inodes.append(inode)
        self.add_name(inode, name)
        return inode

    def add_name(self, inode: Inode, name: str) -> None:
        """Name ``inode``; a file that had the name loses it."""
        self.remove_name(name)
        self.named[name] = inode
        inode.names.append(name)

    def remove_name(self, name: str) -> None:
        """Unlink ``name`` if there is one."""
        inode = self.named.pop(name, None)
        if inode is not None:
            inode.names.remove(name)
            self._forget_if_dead(inode)

    def add_handle(self, handle: Handle) -> None:
        """A descriptor was opened."""
        self.handles.append(handle)
        handle.inode.handles.append(handle)

    def remove_handle(self, handle: Handle) -> None:
        """A descriptor was closed."""
        self.handles.remove(handle)
        handle.inode.handles.remove(handle)
        self._forget_if_dead(handle.inode)

    def add_mapping(self, mapping: Mapping) -> None:
        """A mapping was made."""
        self.maps.append(mapping)
        mapping.inode.maps.append(mapping)

    def remove_mapping(self, mapping: Mapping) -> None:
        """A mapping was removed."""
        self.maps.remove(mapping)
        mapping.inode.maps.remove(mapping)
        self._forget_if_dead(mapping.inode)

    def remove_member(self, member: int) -> None:
        """All that a process held is gone."""
        for mapping in [item for item in self.maps if item.member == member]:
            self.remove_mapping(mapping)
        for handle in [item for item in self.handles if item.member == member]:
            self.remove_handle(handle)

    def _forget_if_dead(self, inode: Inode) -> None:
        if not inode.is_alive:
            self.inodes.remove(inode)
