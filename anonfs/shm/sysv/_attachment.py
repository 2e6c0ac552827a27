"""Attachments: what shmat returns and shmdt takes, one vm area each.

``Attachment`` is an ``mmap.mmap``. The mmap module lets the kernel choose where it lies, so what
is attached at an address is a `PlacedAttachment`, which has the same methods over memory of its
own. Neither can be detached under the feet of an array or a memoryview: that is a BufferError.

As in C an attachment stays until it is detached, or until exec or exit, whether or not anybody
still refers to it. A forked child has all that its parent has.
"""

import ctypes
import errno
import weakref
from typing import Self

from anonfs.client import Mapping, address_of, attach, map_file
from anonfs.shm.sysv._failure import failure

__all__ = ["Attached", "Attachment", "PlacedAttachment", "detach", "make_room"]

_MS_SYNC = 4

_libc = ctypes.CDLL(None, use_errno=True)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.msync.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class Attachment(Mapping):
    """A segment, attached where the kernel has chosen; closing it is shmdt.

    Like any `Mapping` it has descriptors of its own, two.

    Attributes:
        shmid: the id of the segment.
        address: where it is attached.
    """

    shmid: int
    address: int

    def __new__(cls, fileno: int, length: int, *, shmid: int, read_only: bool) -> Self:
        """Attach ``length`` bytes of the segment behind ``fileno``, which stays the caller's."""
        self = super().__new__(cls, fileno, length, read_only=read_only)
        self.shmid = shmid
        self.address = address_of(self)
        _attached[self.address] = self
        attach(fileno)
        return self

    @property
    def buf(self) -> memoryview:
        """The memory."""
        return memoryview(self)

    def close(self) -> None:
        """Detach it; closing again does nothing. Raises BufferError: its memory is in use."""
        super().close()
        _forget(self)

    def resize(self, newsize: int) -> None:
        """Raises TypeError: a segment has the size that it was made with."""
        raise TypeError(f"a segment cannot be resized, to {newsize} bytes or any other size")

    def __repr__(self) -> str:
        return _described(self, closed=_attached.get(self.address) is not self)


class PlacedAttachment:
    """A segment, attached at an address that the caller has chosen; closing it is shmdt.

    It has the attributes of an `Attachment`, slices of bytes, ``len``, and its memory in ``buf``;
    from Python 3.12 on it is a buffer itself.
    """

    def __init__(
        self, fileno: int, length: int, *, shmid: int, read_only: bool, address: int, replace: bool
    ) -> None:
        """Attach at ``address``; what is mapped there is replaced, or is EINVAL."""
        self._memory: ctypes.Array[ctypes.c_ubyte] | None = None
        self._length = length
        self._read_only = read_only
        self.shmid = shmid
        self.address = address
        try:
            map_file(fileno, address, length, over=replace, read_only=read_only)
        except OSError as error:
            number = error.errno or errno.EINVAL
            raise failure(errno.EINVAL if number == errno.EEXIST else number) from None
        self._memory = (ctypes.c_ubyte * length).from_address(address)
        _attached[address] = self
        attach(fileno)

    @property
    def buf(self) -> memoryview:
        """The memory. Raises ValueError: it is detached."""
        if self._memory is None:
            raise ValueError("attachment is closed")
        view = memoryview(self._memory).cast("B")
        return view.toreadonly() if self._read_only else view

    def flush(self) -> None:
        """Write its dirty pages back, as ``mmap.flush``. Raises OSError: EIO."""
        with self.buf:
            _checked(_libc.msync(self.address, self._length, _MS_SYNC))

    def __buffer__(self, _flags: int) -> memoryview:
        return self.buf

    def __len__(self) -> int:
        return len(self.buf)

    def __getitem__(self, index: int | slice) -> int | bytes:
        found = self.buf[index]
        return bytes(found) if isinstance(found, memoryview) else found

    def __setitem__(self, index: int | slice, value: int | bytes) -> None:
        self.buf[index] = value  # type: ignore[index, assignment]

    def close(self) -> None:
        """Detach it; closing again does nothing. Raises BufferError: its memory is in use."""
        if self._memory is None:
            return
        # Whoever has a view of it keeps it alive.
        memory = weakref.ref(self._memory)
        self._memory = None
        kept = memory()
        if kept is not None:
            self._memory = kept
            raise BufferError("cannot close exported pointers exist")
        _checked(_libc.munmap(self.address, self._length))
        _forget(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return _described(self, closed=self._memory is None)


Attached = Attachment | PlacedAttachment
"""What this process has attached."""

_attached: dict[int, Attached] = {}


def _checked(result: int) -> None:
    if result:
        raise failure(ctypes.get_errno())


def _described(attachment: Attached, *, closed: bool) -> str:
    state = "closed" if closed else f"{len(attachment)} bytes at {attachment.address:#x}"
    return f"<{type(attachment).__name__} of {attachment.shmid}, {state}>"


def _forget(attachment: Attached) -> None:
    if _attached.get(attachment.address) is attachment:
        del _attached[attachment.address]


def detach(attachment: Attached | int) -> None:
    """Detach it, or what is attached at an address.

    Raises:
        OSError: EINVAL, nothing is attached there.
        BufferError: its memory is in use.
    """
    if isinstance(attachment, int):
        found = _attached.get(attachment)
    else:
        found = _attached.get(attachment.address)
        found = found if found is attachment else None
    if found is None:
        raise failure(errno.EINVAL)
    found.close()


def make_room(address: int, length: int) -> None:
    """Detach all that has an address from there on. Raises BufferError: its memory is in use."""
    for start, attachment in list(_attached.items()):
        if start < address + length and address < start + len(attachment):
            attachment.close()
