"""What this machine offers to anonfs, found by trying it.

Each probe makes the very call that the daemon would make, in a process that has nothing mounted,
and says what came of it. A probe is bounded (the one that waits has a timeout) and never raises:
`_tried` turns whatever goes wrong into a "no". Nothing here imports pyfuse3 or trio, whose
absence is one of the findings.

The tiers build on each other::

    none    an anonfs cannot be mounted
    basic   it mounts; the share ring shows what /proc shows of one's own processes
    full    root: rings of all processes, which follow each fork, exec and exit; loaded PTEs and
            page counts; memory beyond the budget is written back in large requests, and streams
            are read ahead
    exact   userfaultfd: the kernel reports each fork, unmap and mremap as it happens

``python -m anonfsd.doctor`` prints the findings as JSON.
"""

import ctypes
import errno
import importlib.util
import json
import mmap
import os
import re
import shutil
import stat
import struct
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from anonfs.client import new_userfaultfd
from anonfsd._io_flusher import may_be_io_flusher
from anonfsd._mounts import others_allowed
from anonfsd._proc_events import ProcConnector
from anonfsd._userfaultfd import EVENTS, WP_ASYNC, handshake, prepare
from anonfsd.pagemap import scan as pagemap_scan

__all__ = ["Probe", "Tier", "probes", "report", "tier_of"]

MIN_KERNEL = (5, 15)

_SYS_CACHESTAT = 451  # the same on every architecture, since Linux 6.5


class Tier(StrEnum):
    """How much of anonfs works here; each includes the ones before it."""

    NONE = "none"
    BASIC = "basic"
    FULL = "full"
    EXACT = "exact"


_MEANING = {
    Tier.NONE: "an anonfs cannot be mounted here",
    Tier.BASIC: "an anonfs mounts, and its rings show your own processes",
    Tier.FULL: "rings show all processes, with their loaded pages",
    Tier.EXACT: "the kernel reports each fork and unmap as it happens",
}


@dataclass(frozen=True, slots=True)
class Probe:
    """One finding: ``advice`` says how to mend it, ``tier`` what needs it (None: nothing must)."""

    name: str
    ok: bool
    detail: str
    advice: str = ""
    tier: Tier | None = None


@dataclass(frozen=True, slots=True)
class _Check:
    """A probe before it is made: ``look`` returns the detail, or raises when there is nothing."""

    name: str
    tier: Tier | None
    look: Callable[[], str]
    advice: str


def _tried(check: _Check) -> Probe:
    try:
        detail, ok = check.look(), True
    except Exception as error:  # noqa: BLE001 - a probe may fail in any way and stays a finding
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        detail, ok = text or type(error).__name__, False
    return Probe(check.name, ok, detail, "" if ok else check.advice, check.tier)


def _syscall(number: int, *arguments: Any) -> int:
    """The result of a system call that neither Python nor the C library wraps."""
    libc = ctypes.CDLL(None, use_errno=True)
    wrapped = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    result: int = libc.syscall(ctypes.c_long(number), *wrapped)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _kernel() -> str:
    release = os.uname().release
    match = re.match(r"(\d+)\.(\d+)", release)
    if match is None or (int(match[1]), int(match[2])) < MIN_KERNEL:
        raise OSError(0, f"{release} is older than {'.'.join(map(str, MIN_KERNEL))}")
    return release


def _dev_fuse() -> str:
    os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    return "opens"


def _fusermount() -> str:
    found = shutil.which("fusermount3")
    if found is None:
        raise FileNotFoundError(0, "not found")
    if os.geteuid() != 0 and not Path(found).stat().st_mode & stat.S_ISUID:
        raise PermissionError(0, f"{found} is not setuid root")
    return found


def _module(name: str) -> Callable[[], str]:
    def look() -> str:
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError("not installed")
        return "installed"

    return look


def _allow_other() -> str:
    if os.geteuid() == 0:
        return "not needed by root"
    if not others_allowed():
        raise PermissionError(0, "not set: only you can see what you mount")
    return "set"


def _root() -> str:
    if os.geteuid() != 0:
        raise PermissionError(0, f"running as uid {os.geteuid()}")
    return "running as root"


def _uffd_handshake(features: int) -> int:
    """The features that the kernel has, once it has agreed to ``features``."""
    descriptor = new_userfaultfd()
    try:
        return handshake(descriptor, features)
    finally:
        os.close(descriptor)


def _userfaultfd() -> str:
    features = {"WP_ASYNC": WP_ASYNC} | EVENTS
    offered = _uffd_handshake(0)
    missing = [name for name, bit in features.items() if not offered >> bit & 1]
    if missing:
        raise OSError(0, f"the kernel has no {', '.join(missing)}")
    descriptor = new_userfaultfd()
    try:
        prepare(descriptor)
    except PermissionError as error:
        raise PermissionError(error.errno, "EVENT_FORK needs CAP_SYS_PTRACE") from None
    finally:
        os.close(descriptor)
    return ", ".join(features)


def _proc_connector() -> str:
    """Subscribe to the events of processes, as the daemon does."""
    ProcConnector.subscribe().close()
    return "reports forks, execs and exits"


def _pagemap() -> str:
    page = mmap.mmap(-1, mmap.PAGESIZE)
    page[0] = 1
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    with Path("/proc/self/pagemap").open("rb", buffering=0) as pagemap:
        entry = int.from_bytes(
            os.pread(pagemap.fileno(), 8, address // mmap.PAGESIZE * 8), sys.byteorder
        )
    if not entry >> 63:
        raise OSError(0, "a loaded page is not shown as present")
    if not entry & ((1 << 55) - 1):
        raise PermissionError(0, "readable, but frame numbers are hidden")
    return "shows loaded pages and their frame numbers"


def _pagemap_scan() -> str:
    page = mmap.mmap(-1, mmap.PAGESIZE)
    page[0] = 1
    start = ctypes.addressof(ctypes.c_char.from_buffer(page))
    with Path("/proc/self/pagemap").open("rb", buffering=0) as pagemap:
        if pagemap_scan(pagemap.fileno(), start, start + mmap.PAGESIZE) != 1:
            raise OSError(errno.EIO, "does not see a page that is there")
    return "works"


def _cachestat() -> str:
    span = struct.pack("=QQ", 0, 0)
    answer = ctypes.create_string_buffer(40)
    with tempfile.TemporaryFile() as file:
        file.write(b"page")
        file.flush()
        _syscall(_SYS_CACHESTAT, file.fileno(), ctypes.c_char_p(span), answer, 0)
    return "works"


def _kpagecount() -> str:
    with Path("/proc/kpagecount").open("rb", buffering=0) as counts:
        counts.read(8)
    return "readable"


def _io_flusher() -> str:
    if not may_be_io_flusher():
        raise PermissionError(errno.EPERM, "needs CAP_SYS_RESOURCE")
    return "the daemon never waits for write-back of its own"


def _mount_types() -> dict[str, str]:
    """The mount table as mountpoint to type; the last mount at a place is the one that counts."""
    lines = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    return {fields[1]: fields[2] for fields in map(str.split, lines) if len(fields) > 2}


def _fusectl() -> str:
    place = "/sys/fs/fuse/connections"
    if _mount_types().get(place) != "fusectl":
        raise OSError(0, f"{place} is not mounted: a stuck mount cannot be aborted")
    return place


def _swap_disk() -> str:
    place = Path("/var/tmp").resolve()  # noqa: S108 - where the daemon puts its swap file
    types = _mount_types()
    kind = next(types[str(at)] for at in (place, *place.parents) if str(at) in types)
    if kind in {"tmpfs", "ramfs"}:
        raise OSError(0, f"{place} is {kind}: what is swapped out would stay in memory")
    free = shutil.disk_usage(place).free
    return f"{place} is {kind} with {free >> 20} MiB free"


_INSTALL = "install the daemon: pip install 'anonfs[daemon]'"

_CHECKS = (
    _Check("kernel", Tier.BASIC, _kernel, "boot Linux 5.15 or later"),
    _Check("/dev/fuse", Tier.BASIC, _dev_fuse, "run modprobe fuse as root, and chmod 666"
           " /dev/fuse for other users; a container needs --device /dev/fuse"),
    _Check("fusermount3", Tier.BASIC, _fusermount, "install the package fuse3"),
    _Check("pyfuse3", Tier.BASIC, _module("pyfuse3"), _INSTALL),
    _Check("trio", Tier.BASIC, _module("trio"), _INSTALL),
    _Check("user_allow_other", None, _allow_other, "put user_allow_other into /etc/fuse.conf"
           " if other users are to see the mount"),
    _Check("root", Tier.FULL, _root, "mount as root"),
    _Check("pagemap", Tier.FULL, _pagemap, "mount as root (CAP_SYS_ADMIN)"),
    _Check("kpagecount", Tier.FULL, _kpagecount, "mount as root, on a kernel with"
           " CONFIG_PROC_PAGE_MONITOR"),
    _Check("proc connector", Tier.FULL, _proc_connector, "mount as root (CAP_NET_ADMIN) in the"
           " first network and pid namespaces, on a kernel with CONFIG_PROC_EVENTS; without it"
           " rings are true at each inspection, and in between as of the last look at /proc"),
    _Check("userfaultfd", Tier.EXACT, _userfaultfd, "mount as root (CAP_SYS_PTRACE), on Linux"
           " 6.10 or later with CONFIG_USERFAULTFD, where no seccomp filter forbids it"),
    _Check("cachestat", None, _cachestat, "boot Linux 6.5 or later to see what the page cache"
           " holds"),
    _Check("PAGEMAP_SCAN", None, _pagemap_scan, "boot Linux 6.7 or later to scan large areas"
           " faster"),
    _Check(
        "I/O flusher",
        None,
        _io_flusher,
        "mount with CAP_SYS_RESOURCE: without it no stream is read ahead while the memory cgroup of"
        " the daemon has a limit",
    ),
    _Check("fusectl", None, _fusectl, "run mount -t fusectl none /sys/fs/fuse/connections as"
           " root"),
    _Check("swap disk", None, _swap_disk, "mount with --swap PATH on a disk"),
)  # fmt: skip


def probes() -> list[Probe]:
    """Try everything; takes well under a second."""
    return [_tried(check) for check in _CHECKS]


def tier_of(found: list[Probe]) -> Tier:
    """The highest tier of which, and of all below it, nothing is missing."""
    reached = Tier.NONE
    for tier in (Tier.BASIC, Tier.FULL, Tier.EXACT):
        if not all(probe.ok for probe in found if probe.tier is tier):
            break
        reached = tier
    return reached


def report() -> dict[str, object]:
    """The findings as they are printed: the tier, what it means, and the probes."""
    found = probes()
    tier = tier_of(found)
    return {
        "tier": tier,
        "meaning": _MEANING[tier],
        "can_mount": tier is not Tier.NONE,
        "probes": [asdict(probe) for probe in found],
    }


def main() -> int:
    """Print the report; 0 when a mount is possible, else 2."""
    findings = report()
    sys.stdout.write(json.dumps(findings, indent=2) + "\n")
    return 0 if findings["can_mount"] else 2


if __name__ == "__main__":
    sys.exit(main())
