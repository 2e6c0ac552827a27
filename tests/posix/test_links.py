"""Names: hard links, symbolic links, and what a name may be made of."""

import os
from pathlib import Path

from tests.posix.descriptors import descriptor
from tests.posix.reference import as_on_tmpfs, facts, forget_pages, names, outcome, times_changed


@as_on_tmpfs
def test_hard_links(directory: Path) -> object:
    file = directory / "file"
    file.write_bytes(b"shared")
    (directory / "d").mkdir()
    (directory / "symlink").symlink_to("file")
    os.mkfifo(directory / "fifo")
    record: dict[str, object] = {}
    for name in ("file", "d", "symlink", "fifo", "missing"):
        new = directory / "d" / name
        record[name] = outcome(os.link, directory / name, new, follow_symlinks=False)
        record[f"{name}: facts"] = facts(new, follow_symlinks=False)
        record[f"{name}: taken"] = outcome(os.link, file, new)
    record["times"] = times_changed(lambda: (directory / "l").hardlink_to(file), file, directory)
    file.unlink()
    forget_pages(directory / "l")
    record["left"] = facts(directory / "l"), (directory / "d/file").read_bytes()
    record["unlinked"] = times_changed((directory / "d/file").unlink, directory / "l")
    return record


@as_on_tmpfs
def test_a_descriptor_of_an_unlinked_file_cannot_be_linked(directory: Path) -> object:
    with descriptor(directory / "f") as fd:
        # With a directory given Python calls linkat, which follows the link in /proc.
        magic = f"/proc/self/fd/{fd}"
        link = outcome(os.link, magic, directory / "alive", src_dir_fd=fd)
        (directory / "f").unlink()
        (directory / "alive").unlink()
        again = outcome(os.link, magic, directory / "back", src_dir_fd=fd)
        return link, again, os.fstat(fd).st_nlink, names(directory)


@as_on_tmpfs
def test_symbolic_links(directory: Path) -> object:
    record: dict[str, object] = {}
    for length in (1, 255, 4094, 4095, 4096):
        link = directory / f"to-{length}"
        record[f"{length}"] = outcome(os.symlink, "t" * length, link)
        record[f"{length}: target"] = outcome(os.readlink, link)
        record[f"{length}: facts"] = facts(link, follow_symlinks=False)
    record["empty"] = outcome(os.symlink, "", directory / "empty")
    record["bytes"] = outcome(os.symlink, b"\xff\xfe \n", os.fsencode(directory / "bytes"))
    record["read"] = outcome(os.readlink, os.fsencode(directory / "bytes"))
    record["no link"] = outcome(os.readlink, directory)
    record["taken"] = outcome(os.symlink, "x", directory / "to-1")
    return record


@as_on_tmpfs
def test_loops_of_symbolic_links(directory: Path) -> object:
    (directory / "self").symlink_to("self")
    (directory / "a").symlink_to("b")
    (directory / "b").symlink_to("a")
    (directory / "0").write_text("end", encoding="ascii")
    for number in range(41):
        (directory / f"{number + 1}").symlink_to(f"{number}")
    opens = [outcome(os.stat, directory / name) for name in ("self", "a", "b/x", "41")]
    return opens, (directory / "40").read_text(encoding="ascii")


@as_on_tmpfs
def test_names_of_any_bytes(directory: Path) -> object:
    top = os.fsencode(directory)
    parts = [
        b"n" * 254,
        b"n" * 255,
        b"n" * 256,
        b"n" * 1024,
        b"\xff\x80",
        b"new\nline",
        b" ",
        b"\\x",
    ]
    parts += ["ä€😀".encode(), b"-rf", b"..."]
    record = {}
    for name in parts:
        path = top + b"/" + name
        record[name] = (
            outcome(lambda path=path: os.close(os.open(path, os.O_CREAT | os.O_EXCL))),
            outcome(os.mkdir, path + b"d"),
            outcome(os.access, path, os.F_OK),
            outcome(os.rename, path, path),
        )
    return record, names(directory)


@as_on_tmpfs
def test_too_long_names_everywhere(directory: Path) -> object:
    long = directory / ("n" * 256)
    short = directory / "s"
    short.touch()
    calls = [
        (os.rename, short, long),
        (os.link, short, long),
        (os.symlink, "x", long),
        (os.mkfifo, long),
        (os.unlink, long),
        (os.rmdir, long),
        (os.stat, long),
        (os.rename, long, short),
    ]
    return [outcome(*call) for call in calls]  # type: ignore[arg-type]
