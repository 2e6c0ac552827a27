"""The engine: page entries, frames, faults, reclaim.

It is synchronous and deterministic, and knows no file name, no process and no FUSE. `Image` owns
the state, `Memory` the calls on it; what blocks is handed out as `Work`.
"""

from anonfs.mm import cutting, overlaying, seeking, sync
from anonfs.mm._anon_inode_info import AnonInodeInfo
from anonfs.mm._budget import Budget
from anonfs.mm._counters import Counters
from anonfs.mm._cut import PageCut
from anonfs.mm._entry import PageState
from anonfs.mm._fault import FrontLoad, OnePageRead, PageLoad, PageRead, SwapRead
from anonfs.mm._front import FrontStore
from anonfs.mm._image import BlobStore, Image, NameTable
from anonfs.mm._loaded import LoadedPages, Unload
from anonfs.mm._memory import EVICTION_BATCH, Memory, Parts
from anonfs.mm._promises import Promises
from anonfs.mm._reclaim import Eviction
from anonfs.mm._streams import Streams
from anonfs.mm._swap_in import BadPageError
from anonfs.mm._work import Work, perform

__all__ = [
    "EVICTION_BATCH",
    "AnonInodeInfo",
    "BadPageError",
    "BlobStore",
    "Budget",
    "Counters",
    "Eviction",
    "FrontLoad",
    "FrontStore",
    "Image",
    "LoadedPages",
    "Memory",
    "NameTable",
    "OnePageRead",
    "PageCut",
    "PageLoad",
    "PageRead",
    "PageState",
    "Parts",
    "Promises",
    "Streams",
    "SwapRead",
    "Unload",
    "Work",
    "cutting",
    "overlaying",
    "perform",
    "seeking",
    "sync",
]
