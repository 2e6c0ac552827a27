"""A guard: ends the connection when the daemon is killed.

A killed daemon's descriptors are closed when its last thread is gone. A thread that waits for a
page which only the daemon could fill is never gone, so the connection would stay, and whoever uses
the mount would wait for ever. So a child waits for the death of the daemon's main thread, which
does come, and aborts the connection through fusectl. It holds no descriptor but the standard ones,
and has a name of its own, since those who kill daemons by name kill all that are called so.
"""

import contextlib
import ctypes
import os
import signal
from pathlib import Path

from anonfs.client import Mount
from anonfsd._mounts import abort

__all__ = ["Guard"]

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
_NAME = "anonfs-guard"
_DEATH = signal.SIGUSR1
_IGNORED = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


class Guard:
    """The child; made by `watch` before the daemon has threads, dismissed when all is over."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    @classmethod
    def watch(cls, mounted: Mount) -> "Guard":
        """Fork a guard of ``mounted``, and wait until it is on guard."""
        parent = os.getpid()
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            _guard(mounted, parent)
        os.close(writer)
        os.read(reader, 1)
        os.close(reader)
        return cls(pid)

    def dismiss(self) -> None:
        """Let the guard go."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


def _guard(mounted: Mount, parent: int) -> None:
    _rename(f"{_NAME} {mounted.point}")
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {_DEATH})
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _DEATH)
    # Among them the device, and the pipes on which others wait: for the daemon to be ready, and the
    # daemon for the guard.
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    if os.getppid() == parent:
        signal.sigwait({_DEATH})
    abort(mounted)
    os._exit(0)


def _rename(title: str) -> None:
    """Have /proc show ``title`` in the place of the command line: it is shown as the memory has it.

    Where the memory is, fields 48 and 49 of proc_pid_stat(5) tell; 0 to who may not know.
    """
    fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
    start, size = int(fields[45]), int(fields[46]) - int(fields[45])
    text = os.fsencode(title)[: max(size - 1, 0)]
    ctypes.memset(start, 0, size)
    ctypes.memmove(start, text, len(text))
    ctypes.CDLL(None).prctl(_PR_SET_NAME, _NAME.encode())
