"""Reaping: files that are to go when nobody maps them any more, however their holders ended.

A file says so in its attribute ``user.anonfs.reap``, see `anonfs.inspection.Reap`; it is kept with
all others, in the image. Each close of an area asks it, and so does each RELEASE, for areas may
have come and gone unseen::

    close of an area ──▶ was it the last one, or of the group? ──┐
                                                                 ├──▶ ``on_due``: a suspicion
    RELEASE ───────────▶ was it mapped for certain? ─────────────┘

It must not know who looks at areas. Whoever is told checks again, in his own time, whether areas
have come back meanwhile, as by a fork, and calls `FileSystem.unlink_all`. What is open then lives
on without a name, as after an unlink(2). Who cannot tell while the file is open says so by
`Inode.was_mapped`, and is told again at the last RELEASE.

A RELEASE alone proves no area: the file may have been opened to be made, or to be given a size.
The write-back of a mapping proves one, and comes before it. So what does not count is a mapping
that was never seen and never stored to. Whose it was it does not tell: a group that was never seen
is gone for certain with the last RELEASE only.
"""

from collections.abc import Callable

from anonfs.inspection import NEVER, Reap
from anonfs.vfs._inode import Inode
from anonfs.vfs._xattrs import Xattrs

__all__ = ["Reaping"]

_NAME = b"user.anonfs.reap"


class Reaping:
    """The policies of all inodes, in ``xattrs``; ``on_due`` is told of those that may have to go.

    It is called in the middle of bookkeeping: it must only take note.
    """

    def __init__(self, xattrs: Xattrs) -> None:
        self._xattrs = xattrs
        self.on_due: Callable[[Inode], None] | None = None

    def policy(self, inode: Inode) -> Reap:
        """When ``inode`` goes."""
        value = self._xattrs.all(inode).get(_NAME) if inode.xattrs else None
        return NEVER if value is None else Reap.parse(value.decode("ascii"))

    def set(self, inode: Inode, policy: Reap) -> None:
        """Decide when ``inode`` goes; what was stored to it before does not count.

        Raises AnonfsError: as `Xattrs.set`.
        """
        inode.was_mapped = False
        if policy != NEVER:
            self._xattrs.set(inode, _NAME, policy.render().encode("ascii"))
        elif self.policy(inode) != NEVER:
            self._xattrs.remove(inode, _NAME)

    def note_close(self, inode: Inode, group: int) -> None:
        """An area has left the ring of ``inode``, of a process of that process group."""
        policy = self.policy(inode)
        if policy.group == group if policy.group else inode.share_ring.empty:
            self._suspect(inode, policy)

    def note_release(self, inode: Inode) -> None:
        """An open file of ``inode`` went, with all mappings of it."""
        if not inode.was_mapped:
            return
        inode.was_mapped = inode.opens > 0
        policy = self.policy(inode)
        if not inode.opens or not policy.group:
            self._suspect(inode, policy)

    def _suspect(self, inode: Inode, policy: Reap) -> None:
        if policy != NEVER and inode.names and self.on_due is not None:
            self.on_due(inode)
