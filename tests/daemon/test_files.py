import errno
import itertools
from types import SimpleNamespace
from typing import Any, cast

import pytest

from anonfs.errors import AnonfsError
from anonfs.units import Ino
from anonfs.vfs import Inode
from anonfsd._files import Handles, OpenDirectory, OpenFile

INODE = cast("Inode", SimpleNamespace(ino=Ino(7)))
FILE = OpenFile(INODE, pid=1, writes=True)
DIRECTORY = OpenDirectory(INODE, [])


def _refused(call: Any, number: int) -> None:
    with pytest.raises(AnonfsError) as error:
        call(number)
    assert error.value.errno == errno.EBADF


def test_a_handle_stands_for_its_file_until_it_is_removed() -> None:
    files = Handles[OpenFile](itertools.count(1))
    number = files.add(FILE)
    assert files.get(number) is FILE
    assert files.remove(number) is FILE
    _refused(files.get, number)
    _refused(files.remove, number)


def test_a_number_is_not_used_twice() -> None:
    numbers = itertools.count(1)
    files, directories = Handles[OpenFile](numbers), Handles[OpenDirectory](numbers)
    given = []
    for _ in range(5):
        given.append(files.add(FILE))
        files.remove(given[-1])
        given.append(directories.add(DIRECTORY))
    assert len(set(given)) == len(given)
    assert 0 not in given


@pytest.mark.parametrize("number", [0, -1, 99, 1 << 64])
def test_unknown_handles(number: int) -> None:
    files = Handles[OpenFile](itertools.count(1))
    _refused(files.get, number)
    _refused(files.remove, number)


def test_files_and_directories_are_not_taken_for_each_other() -> None:
    numbers = itertools.count(1)
    files, directories = Handles[OpenFile](numbers), Handles[OpenDirectory](numbers)
    file, directory = files.add(FILE), directories.add(DIRECTORY)
    _refused(directories.get, file)
    _refused(files.get, directory)
    _refused(directories.remove, file)
    _refused(files.remove, directory)
    assert directories.get(directory) is DIRECTORY
