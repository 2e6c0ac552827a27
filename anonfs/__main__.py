"""``python -m anonfs``: the command line."""

import sys

from anonfs.cli import main

if __name__ == "__main__":
    sys.exit(main())
