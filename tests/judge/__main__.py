"""``python -m tests.judge --dir DIR --seed N --ops N``: judge, or replay, by hand."""

import argparse
import secrets
import sys
import time

from anonfs.units import parse_size
from tests.judge._stage import Limits
from tests.judge.crowd import crowd_directory
from tests.judge.judge import judge_directory
from tests.judge.report import FaultFoundError
from tests.support.mountinfo import mount_holding

__all__ = ["main"]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.judge", description=__doc__)
    parser.add_argument("--dir", required=True, help="a directory of the file system to judge")
    parser.add_argument("--seed", type=int, default=None, help="default: a fresh one")
    parser.add_argument("--ops", type=int, default=10_000, help="operations (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=None, help="stop after this time")
    parser.add_argument("--live", type=parse_size, default=20 << 20, help="bytes alive at a time")
    parser.add_argument("--members", type=int, default=3, help="processes (default %(default)s)")
    parser.add_argument("--concurrent", action="store_true", help="all at once, for --seconds")
    parser.add_argument("--drop-caches", action="store_true", help="also the machine's, rarely")
    return parser.parse_args()


def main() -> int:
    """Judge as the options say; 1 when a fault was found."""
    options = _options()
    seed = secrets.randbelow(1 << 31) if options.seed is None else options.seed
    must = mount_holding(options.dir).fstype == "fuse.anonfs"
    start = time.monotonic()
    try:
        if options.concurrent:
            seconds = options.seconds or 10.0
            done = crowd_directory(options.dir, seed, seconds, options.members, must_swap_out=must)
        else:
            done = judge_directory(
                options.dir,
                seed,
                options.ops,
                seconds=options.seconds,
                members=options.members,
                limits=Limits(live=options.live),
                must_swap_out=must,
                may_drop_caches=options.drop_caches,
            )
    except FaultFoundError as fault:
        sys.stdout.write(f"{fault}\n")
        return 1
    rate = done / (time.monotonic() - start)
    sys.stdout.write(f"seed {seed}: {done} operations, {rate:.0f}/s, no fault\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
