"""``anonfsd MOUNTPOINT``: serve a mount until it is unmounted.

It stays in the foreground; `anonfs mount` puts it into the background and waits for the one line
that it writes to ``--ready-fd``: ``ready``, or ``error:`` and why not, with exit status 2.
"""

import logging
import os
import signal
import sys

from anonfsd._mounts import MountError
from anonfsd._options import OptionError, Options, parse_arguments
from anonfsd._server import serve

__all__ = ["main"]


def main() -> None:
    """Parse, serve, report."""
    logging.basicConfig(format="%(asctime)s anonfsd: %(levelname)s %(message)s", level=logging.INFO)
    # For the time before the server listens: what was begun is undone on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    given = parse_arguments(sys.argv[1:])
    ready_fd: int | None = given.ready_fd
    try:
        serve(Options.checked(given), lambda: _tell(ready_fd, "ready"))
        # All is undone. The interpreter takes its time to end, and would let itself be killed.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    except (MountError, OptionError) as error:
        if ready_fd is None:
            print(f"anonfsd: {error}", file=sys.stderr)  # noqa: T201
        _tell(ready_fd, f"error: {error}")
        sys.exit(2)


def _tell(fd: int | None, line: str) -> None:
    if fd is not None:
        os.write(fd, f"{line}\n".encode())
        os.close(fd)


if __name__ == "__main__":
    main()
