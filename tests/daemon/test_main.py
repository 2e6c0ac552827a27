"""The daemon as a program."""

import subprocess

from tests.support.programs import environment, python

_SECONDS = 60.0

_TERMINATED_AT_THE_END = """
import os, signal, sys
from anonfsd import __main__ as program

class Late:
    def __del__(self, kill=os.kill, pid=os.getpid(), number=signal.SIGTERM):
        kill(pid, number)

late = Late()  # goes when the interpreter has taken its handlers of signals away
program.Options.checked = lambda *_: None
program.serve = lambda *_: None
sys.argv = ["anonfsd", "/mnt"]
program.main()
"""


def test_a_daemon_that_has_ended_is_not_killed_any_more() -> None:
    """Whoever terminates it when its mount is gone is told that it ended well."""
    command = python("-c", _TERMINATED_AT_THE_END)
    ended = subprocess.run(command, env=environment(), timeout=_SECONDS, check=False)
    assert ended.returncode == 0
