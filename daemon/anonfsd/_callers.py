"""Who makes a request: what /proc knows of the thread that FUSE names."""

from pathlib import Path

import pyfuse3
import trio
from pyfuse3 import RequestContext

__all__ = ["is_own_thread", "may_set_group_id"]


def is_own_thread(pid: int) -> bool:
    """Whether a request comes from this daemon: FUSE names the thread that made it."""
    return Path(f"/proc/self/task/{pid}").exists()


async def may_set_group_id(ctx: RequestContext, gid: int) -> bool:
    """Whether the caller may leave S_ISGID on a file of group ``gid``, as chmod(2) has it."""
    if ctx.uid == 0 or ctx.gid == gid:
        return True
    try:
        return gid in await trio.to_thread.run_sync(pyfuse3.get_sup_groups, ctx.pid)
    except OSError:
        return False
