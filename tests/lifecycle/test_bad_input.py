"""Whatever cannot be mounted is refused in one line, with status 2, and leaves nothing."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from anonfs.units import PAGE_SIZE
from anonfsd._options import OptionError, Options, parse_arguments
from tests.conftest import skip_or_fail
from tests.lifecycle.places import Front, Place, Started, anonfs, anonfsd, program
from tests.posix.children import NOBODY, Child, as_user, eventually, hear, in_child, say
from tests.posix.descriptors import descriptor
from tests.posix.memory import Mapping
from tests.posix.reference import outcome
from tests.support.mountinfo import mount_at
from tests.support.mounts import Mounted


def _check_refused(place: Place, started: Started, *words: str) -> None:
    assert started.status == 2, started
    assert started.noise == "", started
    assert started.line
    for word in words:
        assert word in started.line, started
    place.check_nothing_left()


@pytest.mark.mount
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (Path.rmdir, ("does not exist", "make the directory")),
        (lambda point: (point.rmdir(), point.touch()), ("not a directory",)),
        (lambda point: (point / "precious").touch(), ("not empty", "empty directory")),
    ],
    ids=["missing", "file", "not empty"],
)
def test_mountpoints(
    place: Place, front: Front, spoil: Callable[[Path], object], words: tuple[str, ...]
) -> None:
    spoil(place.point)
    _check_refused(place, front(place), str(place.point), *words)


def test_a_living_mount_is_not_mounted_over(mounted: Mounted, place: Place, front: Front) -> None:
    (mounted.path / "f").write_bytes(b"kept")
    started = front(place, point=mounted.path)
    _check_refused(place, started, str(mounted.path), "already")
    assert (mounted.path / "f").read_bytes() == b"kept"


@pytest.mark.usefixtures("as_root")
def test_another_file_system_is_mounted_over_where_it_is_empty(place: Place, front: Front) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(place.point)], check=True)
    below = mount_at(place.point)
    (place.point / "segment").touch()
    refused = front(place)
    assert refused.status == 2
    assert "is not empty" in refused.line
    assert not place.swap.exists()
    (place.point / "segment").unlink()
    assert front(place).status is None
    mount = mount_at(place.point)
    assert mount is not None
    assert mount.fstype == "fuse.anonfs"
    done = anonfs("umount", str(place.point))
    assert (done.returncode, done.stderr) == (0, "")
    assert mount_at(place.point) == below


def test_no_fusermount3(place: Place, front: Front) -> None:
    empty = place.workplace / "empty"
    empty.mkdir()
    started = front(place, extra={"PATH": str(empty)})
    empty.rmdir()
    _check_refused(place, started, "fusermount3 is missing", "install")


@pytest.mark.usefixtures("as_root")
def test_a_device_that_is_not_fuse(place: Place, front: Front) -> None:
    """A mount namespace of its own hides the device from nobody else."""
    script = 'mount --bind /dev/null /dev/fuse && exec "$@"'
    before = (program("unshare"), "--mount", program("sh"), "-c", script, "sh")
    if subprocess.run([*before, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("no mount namespaces")
    _check_refused(place, front(place, before=before), str(place.point))


@pytest.mark.mount
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--budget", "2047K"), ("2047K", "2 MiB is the least")),
        (("--budget", "0"), ("--budget 0", "2 MiB is the least")),
        (("--budget", "900T"), ("900T", "memory available")),
        (("--budget", "much"), ("'much' is not a size", "256M")),
        (("--swap-size=-1G",), ("'-1G' is not a size",)),
        (("--swap-size", "1000000T"), ("is not between",)),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("--") else "",
)
def test_sizes(
    place: Place, front: Front, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    _check_refused(place, front(place, *options), *words)


def test_swap_that_is_a_directory(place: Place, front: Front) -> None:
    started = front(place, "--swap", str(place.workplace))
    _check_refused(place, started, f"swap file {place.workplace} ")
    assert place.point.is_dir()


def test_swap_that_exists(place: Place, front: Front) -> None:
    precious = place.workplace / "precious"
    precious.write_text("precious", encoding="ascii")
    started = front(place, "--swap", str(precious))
    _check_refused(place, started, f"swap file {precious} exists already")
    assert precious.read_text(encoding="ascii") == "precious"


def test_swap_in_no_directory(place: Place, front: Front) -> None:
    started = front(place, "--swap", str(place.workplace / "none/swap"))
    _check_refused(place, started, "does not exist")


@pytest.mark.usefixtures("as_root")
def test_swap_on_a_full_disk(place: Place, front: Front) -> None:
    place.disk.mkdir()
    size = ["-o", "size=1M"]
    subprocess.run(["mount", "-t", "tmpfs", *size, "tmpfs", str(place.disk)], check=True)
    started = front(place, "--swap", str(place.disk / "swap"), "--keep-swap")
    _check_refused(place, started, "does not fit on its disk", "--swap-size")
    assert list(place.disk.iterdir()) == []


def test_a_little_more_than_the_memory_available(place: Place, front: Front) -> None:
    budget = psutil.virtual_memory().available + (1 << 30)
    _check_refused(place, front(place, "--budget", str(budget)), str(budget), "memory available")


def test_swap_that_is_exhausted(place: Place) -> None:
    """It is said to whoever asks for too much, each time, and once in the log."""
    assert anonfsd(place, "--budget", "2M", "--swap-size", "2M") == Started(None, "")
    path = place.point / "f"
    room = (512 + 512 - 256) * PAGE_SIZE
    path.write_bytes(b"x" * room)
    for _ in range(3):
        with descriptor(path) as fd:
            assert outcome(os.pwrite, fd, b"y", room) == "ENOSPC"
            assert outcome(os.ftruncate, fd, room + 1) == "ENOSPC"
        assert outcome((place.point / "g").write_bytes, b"y") == "ENOSPC"
        # All of it has a place, but not all at once in swap.
        assert outcome(os.setxattr, path, "user.anonfs.swapout", b"all") == "ENOSPC"
    assert path.read_bytes() == b"x" * room
    log = place.log.read_text(encoding="utf-8")
    assert log.count("refused for want of room") == 1
    assert "ERROR" not in log


@pytest.fixture
def memory_group(as_root: None) -> Iterator[Path]:
    """An empty memory cgroup, of version 1, below our own."""
    del as_root
    groups = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    ours = [line.split(":", 2)[2] for line in groups if line.split(":")[1] == "memory"]
    found = [
        group
        for name in ours
        for root in ("/sys/fs/cgroup/memory", f"/sys/fs/cgroup/memory{name}")
        if (group := Path(root)) and (group / "memory.limit_in_bytes").exists()
    ]
    made = found[-1] / f"anonfs-test-{os.getpid()}" if found else None
    if made is None or outcome(made.mkdir) is not None:
        skip_or_fail("no memory cgroup (version 1) can be made")
        raise AssertionError
    yield made
    eventually(lambda: outcome(made.rmdir) is None, "nobody is in the memory cgroup any more")


def _limited(group: Path) -> bool:
    used = int((group / "memory.usage_in_bytes").read_text("ascii"))
    limit = str(used + (8 << 20))
    return outcome((group / "memory.limit_in_bytes").write_text, limit) == len(limit)


def _write_much(path: Path) -> object:
    """Write far more than there is memory for, and say how that ends."""
    with descriptor(path) as fd:
        for _ in range(128):
            written = outcome(os.write, fd, b"x" * (1 << 20))
            if written != 1 << 20:
                return written
    return "all written"


def _dirty_for_ever(path: Path) -> None:
    size = 64 << 20
    with descriptor(path) as fd:
        os.ftruncate(fd, size)
        mapping = Mapping(fd, size)
    say("runs")
    hear()
    while True:
        for offset in range(0, size, PAGE_SIZE):
            mapping.write(offset, b"x")


def test_a_daemon_that_runs_out_of_memory(place: Place, memory_group: Path) -> None:
    """It says so, or the OOM killer ends it; nobody waits for ever, and the mount can be freed."""
    enter = f'echo $$ > {memory_group}/cgroup.procs && exec "$@"'
    before = (program("sh"), "-c", enter, "sh")
    assert anonfsd(place, "--budget", "256M", "--swap-size", "256M", before=before) == Started(
        None, ""
    )
    with Child(_dirty_for_ever, place.point / "mapped") as child:
        assert child.said() == "runs"
        eventually(lambda: _limited(memory_group), "a little more than it has is all it can have")
        child.tell("go on")
        ended = in_child(outcome, _write_much, place.point / "f")
        assert ended in {"EIO", "ENOMEM", "ENOTCONN", "ECONNABORTED", "all written"}
        child.kill()
        assert child.wait() in {-signal.SIGBUS, -signal.SIGKILL}
    done = anonfs("umount", str(place.point))
    assert (done.returncode, mount_at(place.point)) == (0, None), done
    eventually(lambda: not place.daemons(), "the daemon ends")


@pytest.mark.usefixtures("as_root")
def test_swap_in_a_directory_that_is_closed(place: Place) -> None:
    options = Options.checked(
        parse_arguments([str(place.point), "--budget", "2M", "--swap", str(place.swap)])
    )

    def make(_here: Path) -> str:
        try:
            options.make_swap()
        except OptionError as error:
            return str(error)
        return "made"

    said = as_user(NOBODY, place.workplace, make)
    assert said == f"swap file {place.swap} may not be written by you: name another path"
    place.check_nothing_left()


@pytest.mark.parametrize("arguments", [[], ["a", "--nonsense"]])
def test_words_that_are_no_command_line(arguments: list[str]) -> None:
    done = anonfs("mount", *arguments)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["missing", "."])
def test_there_is_nothing_to_unmount(place: Place, name: str) -> None:
    done = anonfs("umount", str(place.workplace / name))
    assert done.returncode == 2
    assert done.stderr.startswith("anonfs: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_mountpoint_by_another_name(place: Place, front: Front) -> None:
    """By a symbolic link: the kernel lists the mount under the name that it leads to."""
    (place.workplace / "link").symlink_to("mnt")
    started = front(place, point=place.workplace / "link")
    assert started == Started(None, "")
    assert mount_at(place.point) is not None
    assert (place.workplace / "link").is_dir()
    again = front(place, "--swap", f"{place.swap}-2", point=place.workplace / "link")
    assert again.status == 2
    assert "already" in again.line


def test_the_least_that_can_be(place: Place) -> None:
    assert anonfsd(place, "--budget", "2M", "--swap-size", "4K") == Started(None, "")
    path = place.point / "f"
    path.write_bytes(b"x" * (1 << 20))
    assert path.read_bytes() == b"x" * (1 << 20)
