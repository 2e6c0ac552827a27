"""Who makes a request: what /proc knows of the thread that FUSE names."""

from pathlib import Path

__all__ = ["is_own_thread"]


def is_own_thread(pid: int) -> bool:
    """Whether a request comes from this daemon: FUSE names the thread that made it."""
    return Path(f"/proc/self/task/{pid}").exists()
