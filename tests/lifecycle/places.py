"""Where a test mounts, and how it starts what mounts.

A mount is started as `python -m anonfsd`, whose word comes over ``--ready-fd``, or as `python -m
anonfs mount`, whose word is what it prints. Both end with status 2 and one line where there can be
no mount, and then nothing of the attempt is left.
"""

import os
import select
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.mountinfo import mount_at
from tests.support.programs import ROOT, environment, python, tied_to_us

__all__ = ["Front", "Place", "Started", "anonfs", "anonfs_mount", "anonfsd", "program"]

SECONDS = 60.0
"""How long a program may take to mount, or to say why not."""


@dataclass(frozen=True, slots=True)
class Started:
    """What came of an attempt to mount.

    ``status`` is None while the daemon runs; ``line`` is why there is no mount, ``noise`` whatever
    else was written.
    """

    status: int | None
    line: str
    noise: str = ""


Front = Callable[..., Started]


@dataclass(frozen=True, slots=True)
class Place:
    """A directory for a mountpoint, a swap file and a log."""

    workplace: Path

    @property
    def point(self) -> Path:
        """Where to mount."""
        return self.workplace / "mnt"

    @property
    def swap(self) -> Path:
        """The swap file."""
        return self.workplace / "swap"

    @property
    def log(self) -> Path:
        """The log of the daemon."""
        return self.workplace / "log"

    @property
    def disk(self) -> Path:
        """Where to mount a small disk."""
        return self.workplace / "disk"

    def options(self) -> list[str]:
        """Sizes that are cheap."""
        return ["--budget", "4M", "--swap-size", "8M", "--swap", str(self.swap)]

    def daemons(self) -> list[int]:
        """The processes that serve the mountpoint, or try to."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal():
                continue
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"anonfsd" in words and any(os.fsencode(self.workplace) in word for word in words):
                found.append(int(entry.name))
        return found

    def check_nothing_left(self) -> None:
        """No mount, no process, no swap file."""
        assert mount_at(self.point) is None
        assert self.daemons() == []
        assert not self.swap.exists()


def anonfsd(
    place: Place,
    *options: str,
    point: Path | None = None,
    extra: Mapping[str, str] | None = None,
    before: tuple[str, ...] = (),
) -> Started:
    """Start the daemon itself, which goes on after the test's word ``ready``.

    Args:
        place: where.
        options: after those that are cheap, so that they win.
        point: the mountpoint, if it is not the place's.
        extra: additions to its environment.
        before: a command to run it under.
    """
    reader, writer = os.pipe()
    command = ["-m", "anonfsd", str(point or place.point), *place.options(), *options]
    with os.fdopen(reader, "rb") as answer, place.log.open("wb") as log:
        words = [*before, *tied_to_us(python(*command, "--ready-fd", str(writer)), "TERM")]
        daemon = subprocess.Popen(
            [program(words[0]), *words[1:]],  # found here: PATH may be another one there
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment() | dict(extra or {}),
            pass_fds=[writer],
            cwd=ROOT,
            process_group=0,
        )
        os.close(writer)
        poll = select.poll()
        poll.register(answer, select.POLLIN | select.POLLHUP)
        assert poll.poll(SECONDS * 1000), "the daemon says nothing"
        line = answer.readline().decode().rstrip("\n")
        if line == "ready":
            daemon.returncode = 0  # it is found and ended by its place
            return Started(None, "")
        rest = answer.read().decode()
        status = daemon.wait(SECONDS)
    return Started(status, line.removeprefix("error: "), rest + _without_info(place.log))


def _without_info(log: Path) -> str:
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(line for line in lines if " INFO " not in line)


def anonfs_mount(
    place: Place,
    *options: str,
    point: Path | None = None,
    extra: Mapping[str, str] | None = None,
    before: tuple[str, ...] = (),
) -> Started:
    """Start a daemon in the background through the command line; arguments as of `anonfsd`."""
    log = ["--log", str(place.log)]
    command = ["mount", str(point or place.point), *place.options(), *log, *options]
    done = anonfs(*command, extra=extra, before=before)
    if done.returncode == 0:
        return Started(None, "")
    lines = done.stderr.splitlines() or [""]
    rest = "\n".join([*lines[1:], done.stdout])
    noise = rest.strip() + (_without_info(place.log) if place.log.exists() else "")
    return Started(done.returncode, lines[0].removeprefix("anonfs: "), noise)


def anonfs(
    *arguments: str, extra: Mapping[str, str] | None = None, before: tuple[str, ...] = ()
) -> "subprocess.CompletedProcess[str]":
    """Run a command of anonfs to its end."""
    return subprocess.run(
        [*before, *python("-m", "anonfs", *arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=2 * SECONDS,
        check=False,
        cwd=ROOT,
        env=environment() | dict(extra or {}),
    )


def program(name: str) -> str:
    """The path of a program that the machine has."""
    path = shutil.which(name)
    assert path is not None, name
    return path
