"""Swap areas and the stores behind them.

A *slot* holds one page. `SwapArea` knows which slots are in use, which are being read and which
the disk has lost; a `SwapStore` moves bytes and knows nothing else. This floor knows no inode and
no page entry.
"""

from anonfs.swap._area import SwapArea
from anonfs.swap._async_reads import AsyncReads
from anonfs.swap._buffers import aligned_pages
from anonfs.swap._checksum import checksum, checksums
from anonfs.swap._shares import Shares
from anonfs.swap._store import FileStore, MemoryStore, SwapStore
from anonfs.swap._transfer import Transfer

__all__ = [
    "AsyncReads",
    "FileStore",
    "MemoryStore",
    "Shares",
    "SwapArea",
    "SwapStore",
    "Transfer",
    "aligned_pages",
    "checksum",
    "checksums",
]
