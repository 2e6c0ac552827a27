"""`anonfs shm-exec` for tests: programs with an anonfs of their own on /dev/shm.

Its daemon is known by the path of its swap file, which no other has. Whatever the test does, at its
end the daemon has ended by itself, with a clean log, and left nothing.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.mounts import BAD_LOG_LINE, Finished, UncleanError
from tests.support.programs import environment, python, tied_to_us
from tests.support.rescue import abort_connection_number

__all__ = ["ShmExec", "counters_in", "then_counters"]

_GONE_SECONDS = 60.0
_POLL = 0.01
_LOG_TAIL = 6000

_COUNTER = re.compile(r"^(\w+) (\d+)$", re.MULTILINE)


def then_counters(*program: object) -> list[str]:
    """The command line of ``program``, to show what has happened in its mount if it succeeds."""
    return ["sh", "-c", '"$@" && cat /dev/shm/.anonfs/meminfo', "sh", *map(str, program)]


def counters_in(output: str) -> dict[str, int]:
    """The counters at the end of what such a program says."""
    return {name: int(value) for name, value in _COUNTER.findall(output)}


class ShmExec:
    """A place for programs under ``anonfs shm-exec``, for the time of a ``with`` block.

    Args:
        options: of shm-exec.
        before: what runs it, and all that it runs.
    """

    def __init__(
        self,
        *,
        budget: str = "8M",
        swap_size: str = "256M",
        options: Sequence[str] = (),
        before: Sequence[str] = (),
    ) -> None:
        self.workplace = Path(tempfile.mkdtemp(prefix="anonfs-shm-")).resolve()
        self.workplace.chmod(0o777)
        self.swap = self.workplace / "swap"
        self.log = self.workplace / "log"
        self.killed = False
        """Set by a test that kills the daemon, whose log may say anything then."""
        places = ["--swap", str(self.swap), "--log", str(self.log)]
        self._options = ["--budget", budget, "--swap-size", swap_size, *places, *options]
        self._before = list(before)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        problems = self._problems()
        self._end_at_once()
        shutil.rmtree(self.workplace, ignore_errors=True)
        if error is not None:
            error.add_note("\n".join(problems))
        elif problems:
            raise UncleanError("\n".join(problems))

    def command(self, *program: object, options: Sequence[str] = ()) -> list[str]:
        """The command line that runs ``program``."""
        words = python("-m", "anonfs", "shm-exec", *self._options, *options, "--", *program)
        return [*self._before, *words]

    def start(self, *program: object, extra: dict[str, str] | None = None) -> subprocess.Popen[str]:
        """Start ``program``, with pipes; whoever calls waits for it."""
        return subprocess.Popen(
            tied_to_us(self.command(*program)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment() | (extra or {}),
            cwd=self.workplace,
            process_group=0,
        )

    def run(
        self, *program: object, seconds: float = 60.0, extra: dict[str, str] | None = None
    ) -> Finished:
        """Run ``program``; its output and errors, mixed. Raises UncleanError: it takes longer."""
        with tempfile.TemporaryFile(dir=self.workplace) as output:
            process = subprocess.Popen(
                tied_to_us(self.command(*program)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment() | (extra or {}),
                cwd=self.workplace,
                process_group=0,
            )
            try:
                process.wait(seconds)
                late = False
            except subprocess.TimeoutExpired:
                late = True
                self._end_at_once()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(_GONE_SECONDS)
            output.seek(0)
            text = output.read().decode(errors="replace")
        if late:
            raise UncleanError(f"not done after {seconds:g} s: {program}\n{text[-_LOG_TAIL:]}")
        return Finished(process.returncode, text)

    def daemons(self) -> list[int]:
        """The processes of the daemon: one, or none."""
        mark = os.fsencode(self.swap)
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdecimal():
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                    if b"anonfsd" in words and mark in words:
                        found.append(int(entry.name))
        return sorted(found)

    def wait_until_gone(self) -> None:
        """Wait for the end of the daemon. Raises UncleanError: it does not come."""
        deadline = time.monotonic() + _GONE_SECONDS
        while self.daemons():
            if time.monotonic() > deadline:
                raise UncleanError(f"the daemon is still there: {self.daemons()}")
            time.sleep(_POLL)

    def _problems(self) -> list[str]:
        problems = []
        try:
            self.wait_until_gone()
        except UncleanError as error:
            problems.append(str(error))
        if self.swap.exists():
            problems.append("the swap file is still there")
        log = self.log.read_text("utf-8", "replace") if self.log.exists() else ""
        bad = BAD_LOG_LINE.search(log)
        if bad and not self.killed:
            problems.append(f"the daemon's log has {bad[0].strip()!r}:\n{log[-_LOG_TAIL:]}")
        return problems

    def _end_at_once(self) -> None:
        """Kill the daemon and whoever waits for it; its mount is in a namespace that goes too."""
        for pid in self.daemons():
            with contextlib.suppress(OSError):
                table = Path(f"/proc/{pid}/mountinfo").read_text("utf-8", "surrogateescape")
                for line in table.splitlines():
                    if " /dev/shm " in line and "fuse.anonfs" in line:
                        abort_connection_number(int(line.split()[2].partition(":")[2]))
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
