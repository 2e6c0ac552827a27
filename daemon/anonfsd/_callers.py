"""Who makes a request: what /proc knows of the thread that FUSE names."""

import os

__all__ = ["is_own_thread"]


def is_own_thread(pid: int) -> bool:
    """Whether a request comes from this daemon: FUSE names the thread that made it."""
    return os.access(f"/proc/self/task/{pid}", os.F_OK)
