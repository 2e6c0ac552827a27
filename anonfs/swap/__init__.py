"""Swap areas and the stores behind them.

A *slot* holds one page. `SwapArea` knows which slots are in use and which are being read;
a `SwapStore` moves bytes and knows nothing else. This floor knows no inode and no page entry.
"""

from anonfs.swap._area import SwapArea
from anonfs.swap._buffers import aligned_pages
from anonfs.swap._store import FileStore, MemoryStore, SwapStore

__all__ = ["FileStore", "MemoryStore", "SwapArea", "SwapStore", "aligned_pages"]
