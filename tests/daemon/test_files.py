import errno
from types import SimpleNamespace
from typing import Any, cast

import pytest

from anonfs.errors import AnonfsError
from anonfs.units import Ino
from anonfs.vfs import Inode
from anonfsd._files import OpenDirectory, OpenFile, OpenFiles

INODE = cast("Inode", SimpleNamespace(ino=Ino(7)))
FILE = OpenFile(INODE, pid=1, counted=True)
DIRECTORY = OpenDirectory(INODE, [])


def _refused(call: Any, number: int) -> None:
    with pytest.raises(AnonfsError) as error:
        call(number)
    assert error.value.errno == errno.EBADF


def test_a_handle_stands_for_its_file_until_it_is_removed() -> None:
    files = OpenFiles()
    number = files.add(FILE)
    assert files.file(number) is FILE
    assert files.remove(number) is FILE
    _refused(files.file, number)
    _refused(files.remove, number)


def test_a_number_is_not_used_twice() -> None:
    files = OpenFiles()
    numbers = []
    for _ in range(5):
        numbers.append(files.add(FILE))
        files.remove(numbers[-1])
        numbers.append(files.add_directory(DIRECTORY))
    assert len(set(numbers)) == len(numbers)
    assert 0 not in numbers


@pytest.mark.parametrize("number", [0, -1, 99, 1 << 64])
def test_unknown_handles(number: int) -> None:
    files = OpenFiles()
    for call in (files.file, files.remove, files.directory, files.remove_directory):
        _refused(call, number)


def test_files_and_directories_are_not_taken_for_each_other() -> None:
    files = OpenFiles()
    file, directory = files.add(FILE), files.add_directory(DIRECTORY)
    _refused(files.directory, file)
    _refused(files.file, directory)
    _refused(files.remove_directory, file)
    _refused(files.remove, directory)
    assert files.directory(directory) is DIRECTORY
    files.remove_directory(directory)
    _refused(files.directory, directory)
