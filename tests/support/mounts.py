"""A real mount of a daemon of its own, made for a test and removed after it.

    /tmp/anonfs-test-XXXX/         workplace
        mnt/                       the mount
        swap                       its swap area
        log                        what the daemon wrote

Everything that might block for ever is bounded: a mount that does not answer is aborted (see
`tests.support.rescue`), and a guard process does the same when the test run itself is killed. A
clean daemon ends with status 0, unmounts, and logs no traceback and no error.
"""

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from tests.support.mountinfo import Mount, mount_at
from tests.support.programs import as_plain_user, environment, python, tied_to_us
from tests.support.rescue import abort_connection, bring_down, remove_workplace

__all__ = [
    "BAD_LOG_LINE",
    "DaemonRefusedError",
    "Finished",
    "Mounted",
    "UncleanError",
    "bring_down_leftovers",
]

_READY_SECONDS = 60.0
BAD_LOG_LINE = re.compile(r"Traceback \(|\bERROR\b|\bCRITICAL\b")
"""What a clean daemon does not log."""

_LOG_TAIL = 6000
_FSTYPE = "fuse.anonfs"


class DaemonRefusedError(RuntimeError):
    """The daemon did not come up; ``line`` is what it said, ``status`` how it ended."""

    def __init__(self, line: str, status: int | None, log: str) -> None:
        super().__init__(f"daemon not ready: {line!r}, exit status {status}\n{log}")
        self.line = line
        self.status = status


class UncleanError(AssertionError):
    """A daemon, or a program on its mount, did not end as it should."""


class Finished:
    """How a program on the mount ended: ``status`` and its mixed ``output``."""

    def __init__(self, status: int, output: str) -> None:
        self.status = status
        self.output = output

    def check(self) -> str:
        """The output of a program that succeeded."""
        if self.status != 0:
            raise UncleanError(f"exit status {self.status}\n{self.output[-_LOG_TAIL:]}")
        return self.output


def _first_line(fd: int, seconds: float) -> str:
    """What arrives on ``fd`` up to the end of a line, of the file or of the time."""
    deadline = time.monotonic() + seconds
    poll = select.poll()
    poll.register(fd, select.POLLIN | select.POLLHUP)
    text = b""
    while not text.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            break
        piece = os.read(fd, 4096)
        if not piece:
            break
        text += piece
    return text.decode(errors="replace").strip()


class Mounted:
    """A daemon, and its mount at ``path``, for the time of a ``with`` block.

    Args:
        budget: the in-core budget, as the daemon's option takes it.
        swap_size: the same for its swap area.
        overcommit: whether sizes are free, for tests that make sparse giants.
        arguments: further options of the daemon; by default it checks its invariants.
        program: what Python runs as the daemon.
        uid: whom it runs as, by default as the test.
    """

    live: ClassVar[list["Mounted"]] = []

    def __init__(
        self,
        *,
        budget: str = "8M",
        swap_size: str = "256M",
        overcommit: bool = False,
        arguments: Sequence[str] = ("--check",),
        program: Sequence[str] = ("-m", "anonfsd"),
        uid: int | None = None,
    ) -> None:
        self.workplace = Path(tempfile.mkdtemp(prefix="anonfs-test-")).resolve()
        self.path = self.workplace / "mnt"
        self.path.mkdir()
        self._uid = uid
        if uid is not None:
            for directory in (self.workplace, self.path):
                os.chown(directory, uid, uid)
        self.expects_errors = False
        """Set by a test that makes the daemon log errors."""
        self.expected_status = 0
        """What the daemon ends with; a test that kills it says how."""
        self.stop_seconds = 30.0
        """How long the daemon may take to end, and a program that was killed."""
        self.last_log = ""
        """The end of the log, once stopped."""
        self._log = self.workplace / "log"
        sizes = ["--budget", budget, "--swap-size", swap_size]
        if overcommit:
            sizes.append("--overcommit")
        self._options = [*sizes, "--swap", str(self.workplace / "swap"), *arguments]
        self._program = list(program)
        self._pidfd = -1
        self._guard: subprocess.Popen[bytes] | None = None
        self.process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        problems = self.stop()
        if error is not None:
            error.add_note("\n".join([*problems, "daemon's log:", self.last_log]))
        elif problems:
            raise UncleanError("; ".join(problems) + f"\ndaemon's log:\n{self.last_log}")

    @property
    def mount(self) -> Mount | None:
        """The mount as the kernel lists it."""
        return mount_at(self.path)

    def log_text(self) -> str:
        """What the daemon has logged up to now."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def hang(self) -> None:
        """Stop the daemon, and return when each of its threads has stopped."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)

    def responds(self, seconds: float = 30.0) -> bool:
        """Whether the mount answers a statfs in time."""
        probe = subprocess.Popen(
            tied_to_us(["stat", "-f", str(self.path)]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            return probe.wait(seconds) == 0
        except subprocess.TimeoutExpired:
            self.abort()
            probe.kill()
            probe.wait()
            return False

    def run(
        self, command: Sequence[str], seconds: float, extra: dict[str, str] | None = None
    ) -> Finished:
        """Run ``command`` beside the mount; when it takes too long, abort the mount.

        Args:
            command: a program and its arguments, which name ``path``.
            seconds: its time.
            extra: additions to its environment.

        Raises:
            UncleanError: it took longer.
        """
        with tempfile.TemporaryFile(dir=self.workplace) as output:
            process = subprocess.Popen(
                tied_to_us(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.workplace,
                env=environment() | (extra or {}),
                process_group=0,
            )
            late = self._outlives(process, seconds)
            output.seek(0)
            text = output.read().decode(errors="replace")
        if late:
            told = f"not done after {seconds:g} s, mount aborted: {' '.join(command)}"
            raise UncleanError(f"{told}\n{text[-_LOG_TAIL:]}")
        return Finished(process.returncode, text)

    def _outlives(self, process: subprocess.Popen[bytes], seconds: float) -> bool:
        """Wait for a program; after ``seconds`` end it and everything it started."""
        late = False
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            late = True
            self.abort()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(self.stop_seconds)
        return late

    def abort(self) -> None:
        """End the connection: whoever waits for the daemon gets an error."""
        mount = self.mount
        if mount is not None:
            abort_connection(mount)

    def start(self) -> None:
        """Start the daemon and wait until it is ready.

        Raises:
            DaemonRefusedError: it did not come up; nothing is left of it.
        """
        try:
            self._start()
        except BaseException:
            self._end_at_once()
            raise

    def stop(self) -> list[str]:
        """Unmount, and say what was not clean; nothing is left in any case."""
        if self not in Mounted.live:
            return []
        problems: list[str] = []
        self.process.terminate()
        try:
            status = self.process.wait(self.stop_seconds)
        except subprocess.TimeoutExpired:
            problems.append(f"daemon still runs {self.stop_seconds:g} s after SIGTERM")
        else:
            if status != self.expected_status:
                problems.append(f"daemon's exit status is {status}, not {self.expected_status}")
            if self.expected_status == 0 and self.mount is not None:
                problems.append("still mounted after the daemon's end")
        self.last_log = self.log_text()[-_LOG_TAIL:]
        bad = BAD_LOG_LINE.search(self.log_text())
        if bad and not self.expects_errors:
            problems.append(f"daemon's log has {bad[0].strip()!r}")
        if self.last_log:
            sys.stderr.write(f"log of the daemon of {self.path}:\n{self.last_log}\n")
        problems.extend(self._end_at_once())
        return problems

    def _start(self) -> None:
        Mounted.live.append(self)
        reader, writer = os.pipe()
        command = python(*self._program, self.path, *self._options, "--ready-fd", str(writer))
        if self._uid is not None:
            command = as_plain_user(self._uid, command)
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                tied_to_us(command, "TERM"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.workplace,
                env=environment() | {"PYTHONUNBUFFERED": "1"},
                pass_fds=[writer],
                process_group=0,
            )
        os.close(writer)
        try:
            self._pidfd = os.pidfd_open(self.process.pid)
            self._start_guard()
            self._await_ready(reader)
        finally:
            os.close(reader)

    def _await_ready(self, reader: int) -> None:
        line = _first_line(reader, _READY_SECONDS)
        if line == "ready":
            mount = self.mount
            if mount is None or mount.fstype != _FSTYPE:
                raise UncleanError(f"daemon says ready, but the mount is {mount}")
            return
        status: int | None = None
        if line or self.process.poll() is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = self.process.wait(self.stop_seconds)
        raise DaemonRefusedError(line, status, self.log_text()[-_LOG_TAIL:])

    def _start_guard(self) -> None:
        guard = ["-m", "tests.support.guard", os.getpid(), self._pidfd, self.path, self.workplace]
        self._guard = subprocess.Popen(
            python(*guard),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=environment(),
            pass_fds=[self._pidfd],
            start_new_session=True,
        )

    def _dismiss_guard(self) -> None:
        if self._guard is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._guard.communicate(b"done", timeout=self.stop_seconds)

    def _end_at_once(self) -> list[str]:
        """Remove daemon, mount and workplace, by force where needed; says what was forced."""
        forced: list[str] = []
        if self._pidfd >= 0:
            forced = bring_down(str(self.path), self._pidfd)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(self.stop_seconds)
            os.close(self._pidfd)
            self._pidfd = -1
        remove_workplace(self.workplace, str(self.path))
        self._dismiss_guard()
        if self in Mounted.live:
            Mounted.live.remove(self)
        expected = self.expected_status != 0
        return [] if expected else forced


def bring_down_leftovers() -> list[str]:
    """End every mount that this process still has; says which."""
    left = list(Mounted.live)
    for mounted in left:
        mounted.stop()
    return [str(mounted.path) for mounted in left]
