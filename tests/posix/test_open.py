"""open(2): flags, modes, and what O_TRUNC does to pages that nobody caches any more."""

import os
from pathlib import Path

import pytest

from tests.posix.descriptors import descriptor
from tests.posix.reference import as_on_tmpfs, facts, forget_pages, opened, outcome, times_changed

RW, CREATE = os.O_RDWR, os.O_CREAT | os.O_RDWR


@as_on_tmpfs
def test_flags_against_each_kind_of_name(directory: Path) -> object:
    (directory / "file").touch()
    (directory / "dir").mkdir()
    (directory / "to-file").symlink_to("file")
    (directory / "to-dir").symlink_to("dir")
    (directory / "dangling").symlink_to("nowhere")
    flags = {
        "read": os.O_RDONLY,
        "write": os.O_WRONLY,
        "both": RW,
        "create": CREATE,
        "exclusive": CREATE | os.O_EXCL,
        "truncate": RW | os.O_TRUNC,
        "directory": os.O_RDONLY | os.O_DIRECTORY,
        "create directory": os.O_RDONLY | os.O_CREAT | os.O_DIRECTORY,
        "nofollow": os.O_RDONLY | os.O_NOFOLLOW,
        "path": os.O_PATH,
    }
    record: dict[str, object] = {}
    for how, flag in flags.items():
        for name in ("file", "dir", "to-file", "to-dir", "missing", "missing/below", "file/below"):
            record[f"{how} {name}"] = opened(directory / name, flag)
            (directory / "missing").unlink(missing_ok=True)
    record["exclusive dangling"] = opened(directory / "dangling", CREATE | os.O_EXCL)
    record["create dangling"] = opened(directory / "dangling", CREATE)
    record["nowhere"] = facts(directory / "nowhere")
    return record


@as_on_tmpfs
def test_mode_and_umask(directory: Path) -> object:
    record = {}
    for umask in (0, 0o022, 0o077, 0o777):
        old = os.umask(umask)
        try:
            for mode in (0o666, 0o777, 0o4755, 0o0):
                path = directory / f"{umask:o}-{mode:o}"
                os.close(os.open(path, CREATE | os.O_EXCL, mode))
                record[path.name] = facts(path)
                path.with_suffix(".d").mkdir(mode=mode)
                record[f"{path.name}.d"] = facts(path.with_suffix(".d"))
        finally:
            os.umask(old)
    return record


@as_on_tmpfs
def test_a_file_created_without_rights_can_be_written_by_its_creator(directory: Path) -> object:
    with descriptor(directory / "f", CREATE | os.O_EXCL, 0o000) as fd:
        written = os.write(fd, b"mine")
        os.fchmod(fd, 0o400)
        return written, os.pread(fd, 10, 0)


@as_on_tmpfs
def test_truncation_at_open(directory: Path) -> object:
    path = directory / "f"
    path.write_bytes(b"x" * 10_000)
    forget_pages(path)
    record: dict[str, object] = {
        "times": times_changed(lambda: opened(path, RW | os.O_TRUNC), path)
    }
    record["cut"] = facts(path), path.stat().st_blocks
    record["again"] = times_changed(lambda: opened(path, RW | os.O_TRUNC), path)
    os.truncate(path, 10_000)
    forget_pages(path)
    record["bytes"] = path.read_bytes() == bytes(10_000)
    return record


@as_on_tmpfs
def test_append(directory: Path) -> object:
    path = directory / "f"
    first = os.open(path, CREATE | os.O_APPEND)
    second = os.open(path, CREATE | os.O_APPEND)
    try:
        os.write(first, b"one ")
        os.write(second, b"two ")
        os.lseek(first, 0, os.SEEK_SET)
        os.write(first, b"three ")
        os.ftruncate(second, 4)
        os.write(first, b"four")
        at = os.lseek(first, 0, os.SEEK_CUR), os.lseek(second, 0, os.SEEK_END)
        forget_pages(path)
        return at, path.read_bytes()
    finally:
        os.close(first)
        os.close(second)


@as_on_tmpfs
def test_descriptors_allow_what_they_were_opened_for(directory: Path) -> object:
    path = directory / "f"
    path.write_bytes(b"abc")
    record = {}
    for name, flags in {"read": os.O_RDONLY, "write": os.O_WRONLY, "path": os.O_PATH}.items():
        with descriptor(path, flags) as fd:
            record[name] = (
                outcome(os.read, fd, 3),
                outcome(os.write, fd, b"d"),
                outcome(os.ftruncate, fd, 2),
                outcome(os.lseek, fd, -1, os.SEEK_SET),
            )
    return record


@as_on_tmpfs
def test_a_file_without_a_name(directory: Path) -> object:
    """Which may be given one, unless it was opened with O_EXCL."""
    directory.chmod(0o2755)
    record: dict[str, object] = {}
    with descriptor(directory, os.O_RDONLY) as above:
        for how, flag in {"free": 0, "exclusive": os.O_EXCL}.items():
            with descriptor(directory, os.O_TMPFILE | os.O_RDWR | flag) as fd:
                os.pwrite(fd, how.encode(), 3)
                names = list(directory.iterdir())
                link = outcome(os.link, f"/proc/self/fd/{fd}", how, dst_dir_fd=above)
                record[how] = names, facts(fd), os.pread(fd, 100, 0), link
            record[f"{how}, linked"] = facts(directory / how)
            (directory / how).unlink(missing_ok=True)
    record["to read"] = opened(directory, os.O_TMPFILE | os.O_RDONLY)
    return record


@pytest.mark.parametrize("name", ["f", "again"])
def test_what_was_written_is_there_without_the_page_cache(shared_mount: Path, name: str) -> None:
    path = shared_mount / name
    path.write_bytes(bytes(range(256)) * 1024)
    forget_pages(path)
    assert os.getxattr(path, "user.anonfs.pages") == b"total=64 none=0 in_core=0 on_swap=64 front=0"
    assert path.read_bytes() == bytes(range(256)) * 1024
