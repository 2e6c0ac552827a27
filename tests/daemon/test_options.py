import os
import stat
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from anonfs.limits import Limits
from anonfs.swap import aligned_pages
from anonfs.units import PAGE_SIZE
from anonfsd._options import OptionError, Options, parse_arguments

_MEBIBYTE = 1 << 20


@pytest.fixture(autouse=True)
def _much_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=8 << 30))


def _parse(arguments: list[str]) -> Options:
    return Options.checked(parse_arguments(arguments))


def _refusal(*arguments: str) -> str:
    """The one line with which a command line is refused."""
    with pytest.raises(OptionError) as error:
        _parse(["/mnt", *arguments])
    line = str(error.value)
    assert "\n" not in line
    return line


def test_defaults() -> None:
    options = _parse(["/mnt"])
    assert (options.mountpoint, options.swap) == (Path("/mnt"), None)
    assert (options.budget, options.swap_size) == (256 * _MEBIBYTE, 1 << 30)
    assert not options.keep_swap
    assert not options.overcommit
    assert options.frames == 65536


@pytest.mark.parametrize("option", ["--budget", "--swap-size"])
@pytest.mark.parametrize(
    "size", ["", "x", "-1", "-256M", "1e9", "M", "12X", "1,5G", "0x10", "nan", "1 2", "5MM"]
)
def test_what_is_no_size(option: str, size: str) -> None:
    line = _refusal(f"{option}={size}")
    assert line.startswith(f"{option}: {size!r} is not a size")
    assert "256M" in line


@pytest.mark.parametrize("size", ["0", "1", "1M", "2047K", str(2 * _MEBIBYTE - 1)])
def test_a_budget_below_one_leaf(size: str) -> None:
    assert _refusal("--budget", size) == f"--budget {size} is too small: 2 MiB is the least"


@pytest.mark.parametrize("size", ["8G", "8193M", "4T", "99999999T"])
def test_a_budget_beyond_memory(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    available = SimpleNamespace(available=8 * (1 << 30) - 1)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: available)
    line = _refusal("--budget", size)
    assert line == f"--budget {size} is more than the 8 GiB of memory available"


@pytest.mark.parametrize("size", ["0", "1", "4095", "3T", "99999999T"])
def test_swap_sizes_that_cannot_be(size: str) -> None:
    assert _refusal("--swap-size", size) == f"--swap-size {size} is not between 4 KiB and 2 TiB"


def test_the_least_and_the_largest() -> None:
    options = _parse(["/mnt", "--budget", "2M", "--swap-size", "4K"])
    assert (options.frames, options.swap_size) == (512, 4096)
    options = _parse(["/mnt", "--budget", "8G", "--swap-size", "2T"])
    assert (options.frames, options.swap_size) == (1 << 21, 1 << 41)


def test_swap_is_whole_pages() -> None:
    assert _parse(["/mnt", "--swap-size", "12289"]).swap_size == 12288


@pytest.mark.parametrize(
    "arguments", [[], ["/a", "/b"], ["/a", "--nonsense"], ["/a", "--ready-fd", "x"]]
)
def test_what_is_no_command_line(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as status:
        _parse(arguments)
    assert status.value.code == 2


def test_paths_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    options = _parse(["link/mnt", "--swap", "link/swap"])
    assert options.mountpoint == tmp_path / "real/mnt"
    assert options.swap == tmp_path / "link/swap"


def test_the_mountpoint_is_the_kernels_name_of_it(tmp_path: Path) -> None:
    """What /proc/self/mountinfo will call it, or the mount is not found there."""
    (tmp_path / "mnt").mkdir()
    (tmp_path / "link").symlink_to("mnt")
    for name in ("mnt", "mnt/", "mnt/.", "link", "mnt/../mnt"):
        assert _parse([f"{tmp_path}/{name}"]).mountpoint == tmp_path / "mnt", name


@pytest.mark.parametrize("name", [".", "..", "mnt/.."])
def test_a_mountpoint_by_dots(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mnt").mkdir()
    monkeypatch.chdir(tmp_path / "mnt")
    found = _parse([name]).mountpoint
    assert str(found) == os.path.realpath(name)


def _swap(path: Path, size: str = "64K", *arguments: str) -> Options:
    return _parse(["/mnt", "--swap", str(path), "--swap-size", size, *arguments])


def test_a_swap_file(tmp_path: Path) -> None:
    options = _swap(tmp_path / "swap", "64K", "--keep-swap")
    store = options.make_swap()
    found = (tmp_path / "swap").stat()
    assert (found.st_size, stat.S_IMODE(found.st_mode)) == (65536, 0o600)
    assert found.st_blocks * 512 >= 65536
    store.close()
    assert (tmp_path / "swap").exists()


def test_a_swap_file_has_no_name_while_in_use(tmp_path: Path) -> None:
    store = _swap(tmp_path / "swap").make_swap()
    assert list(tmp_path.iterdir()) == []
    page, back = aligned_pages(1), aligned_pages(1)
    page[:] = ord("s")
    store.write_from(PAGE_SIZE, [page.data.cast("B")])
    store.read_into(PAGE_SIZE, back.data.cast("B"))
    assert (back == page).all()
    store.close()


def _advice(path: Path) -> str:
    with pytest.raises(OptionError) as error:
        _swap(path).make_swap()
    line = str(error.value)
    assert line.startswith(f"swap file {path} ")
    assert "\n" not in line
    return line.removeprefix(f"swap file {path} ")


def test_swap_files_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious", encoding="ascii")
    exists = "exists already: remove it or name another"
    missing = "is in a directory that does not exist: make it first"
    assert _advice(tmp_path / "file") == exists
    assert _advice(tmp_path / "none/swap") == missing
    assert _advice(tmp_path / "file/swap") == "cannot be made: Not a directory"
    assert _advice(tmp_path / ("n" * 256)) == "cannot be made: File name too long"
    assert (tmp_path / "file").read_text(encoding="ascii") == "precious"


def test_a_directory_as_swap_file_is_not_to_be_removed(tmp_path: Path) -> None:
    assert _advice(tmp_path) == "is a directory: name a file"


def test_a_symbolic_link_as_swap_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    assert _advice(tmp_path / "link") == "is a symbolic link: name a file"
    assert not (tmp_path / "nowhere").exists()


def test_limits() -> None:
    locked = 256 * _MEBIBYTE // 16
    assert _parse(["/mnt"]).limits == Limits(locked_per_user=locked)
    sizes = ["--size", "1G", "--max-segment", "5000", "--max-per-user", "8K"]
    counts = ["--max-files-per-user", "7", "--max-locked-per-user", "0"]
    assert _parse(["/mnt", *sizes, *counts]).limits == Limits(
        size=1 << 30, segment=4096, per_user=8192, files_per_user=7, locked_per_user=0
    )


@pytest.mark.parametrize("option", ["--size", "--max-segment", "--max-per-user"])
def test_limits_that_let_nothing_in(option: str) -> None:
    assert _refusal(option, "4095") == f"{option} 4095 is too small: 4 KiB is the least"
    assert _refusal(option, "much").startswith(f"{option}: 'much' is not a size")


def test_a_number_of_files_that_cannot_be() -> None:
    line = _refusal("--max-files-per-user", "0")
    assert line == "--max-files-per-user 0 is too small: 1 is the least"
