"""What is left to a program whose daemon has gone, on a real mount."""

import errno
import os

import pytest

from anonfs.client import DaemonGoneError, connect
from tests.support.mounts import Mounted


def test_resident_pages_stay_and_a_mapping_can_be_closed(mounted: Mounted) -> None:
    memory = connect(mounted.path).map("a", 1 << 20)
    memory[0] = 7
    # SIGTERM unmounts though the file is mapped; what __exit__ finds is that it is over.
    mounted.process.terminate()
    assert mounted.process.wait(20) == 0
    assert memory[0] == 7
    with pytest.raises(DaemonGoneError):
        memory.inspect()
    with pytest.raises(OSError) as caught:
        os.fstat(memory.fileno())
    assert caught.value.errno == errno.ENOTCONN
    memory.close()
