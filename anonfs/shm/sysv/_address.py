"""Where an mmap lies, which Python does not tell: the buffer protocol does, to who asks in C.

ctypes asks for it where the memory can be written to; this asks where it cannot, too.
"""

import ctypes
import mmap

__all__ = ["address_of"]

_SIMPLE = 0  # PyBUF_SIMPLE: bytes, read only will do


class _Buffer(ctypes.Structure):
    """Py_buffer of the stable ABI."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


def address_of(mapping: mmap.mmap) -> int:
    """The address of the first byte of ``mapping``."""
    buffer = _Buffer()
    ctypes.pythonapi.PyObject_GetBuffer(
        ctypes.py_object(mapping), ctypes.byref(buffer), ctypes.c_int(_SIMPLE)
    )
    address = int(buffer.buf or 0)
    ctypes.pythonapi.PyBuffer_Release(ctypes.byref(buffer))
    return address
