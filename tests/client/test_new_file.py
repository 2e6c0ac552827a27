"""New files: killed wherever, their makers leave nothing that the next one does not take away."""

import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from anonfs.client._new_file import NewFile
from tests.posix.children import Child

_PREFIX = ".new-"


@pytest.fixture(params=[True, False], ids=["O_TMPFILE", "named"])
def nameless(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the file system can make files without a name."""
    real = os.open

    def refusing(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return real(path, flags, mode, dir_fd=dir_fd)

    if not request.param:
        monkeypatch.setattr(os, "open", refusing)
    return bool(request.param)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def _names(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


def test_a_file_has_its_name_when_it_is_complete(
    nameless: bool, directory: int, tmp_path: Path
) -> None:
    (tmp_path / "old").write_bytes(b"old")
    with NewFile(directory, _PREFIX) as file:
        os.write(file.descriptor, b"new")
        assert len(_names(tmp_path)) == 1 + (not nameless)
        with pytest.raises(FileExistsError):
            file.link("old")
        file.link("linked")
    assert _names(tmp_path) == ["linked", "old"]
    with NewFile(directory, _PREFIX) as file:
        os.write(file.descriptor, b"newer")
        file.replace("old")
    with NewFile(directory, _PREFIX):
        pass
    assert _names(tmp_path) == ["linked", "old"]
    assert [(tmp_path / name).read_bytes() for name in _names(tmp_path)] == [b"new", b"newer"]


def _replace_until(directory: int, call: str) -> None:
    with NewFile(directory, _PREFIX) as file:
        setattr(os, call, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
        file.replace("done")


@pytest.mark.usefixtures("nameless")
def test_what_the_dead_leave_is_taken_away_and_nothing_of_the_living(
    directory: int, tmp_path: Path
) -> None:
    (tmp_path / f"{_PREFIX}{'0' * 31}").touch()
    for name in ("done", f"{_PREFIX}{'0' * 31}g", f"x{_PREFIX}{'0' * 32}"):
        (tmp_path / name).touch()
    own = _names(tmp_path)
    with Child(_replace_until, directory, "rename") as child:
        assert child.wait() == -signal.SIGKILL
    assert len(_names(tmp_path)) == len(own) + 1
    with NewFile(directory, _PREFIX) as living:
        os.write(living.descriptor, b"living")
        with NewFile(directory, _PREFIX) as file:
            file.replace("done")
        living.replace("other")
    assert _names(tmp_path) == sorted([*own, "other"])
    assert (tmp_path / "other").read_bytes() == b"living"
