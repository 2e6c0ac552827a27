"""``python -m anonfs.cli``: the command line."""

import sys

from anonfs.cli import main

if __name__ == "__main__":
    sys.exit(main())
