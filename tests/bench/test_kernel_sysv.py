"""Segments of the kernel's System V go with whoever has them attached."""

import errno

import pytest

import kernel_sysv


def test_a_segment_is_shared_and_leaves_nothing() -> None:
    number, memory = kernel_sysv.attach_new(8192)
    other = kernel_sysv.attach(number, 8192)
    memory[8191] = b"x"
    assert other[8191] == b"x"
    kernel_sysv.detach(memory)
    kernel_sysv.detach(other)
    with pytest.raises(OSError) as caught:
        kernel_sysv.attach(number, 8192)
    assert caught.value.errno in {errno.EINVAL, errno.EIDRM}
