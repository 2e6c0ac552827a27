"""The group ``cost``: what the daemon takes as files, their sizes and their users grow.

There is no peer: what is asked is that the cost of a page, an inode, an area be small, and that of
a look at a file not depend on its size. Sizes are free here (``--overcommit``), for sparse giants.
"""

from crowded import Crowded
from growth import FullFile, ManyInodes
from measure import Group
from pages import MIB
from sparse import Sparse

__all__ = ["GROUP"]

GROUP = Group(
    "what the daemon takes as work grows",
    None,
    (FullFile(1024 * MIB), ManyInodes(100_000), Sparse(1000), Crowded(1000)),
    quick=(FullFile(256 * MIB), ManyInodes(10_000), Sparse(100), Crowded(100)),
    large=(FullFile(2048 * MIB),),
    swap_size="3G",
    overcommit=True,
    anew=True,
    runs=3,
)
