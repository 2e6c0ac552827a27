"""A judge of file systems that hold shared memory: seeded random operations against a model.

    seed ──▶ Judge ──▶ crew: processes that hold descriptors and MAP_SHARED mappings
               │            one operation at a time, over a pipe
               ▼
             Model: a bytearray for every inode, named or not

Every byte read must be the model's byte. The page cache hides what a daemon loses, so pages are
evicted all the time: by ``user.anonfs.swapout``, by fsync and POSIX_FADV_DONTNEED, and, on a
mount whose budget is far below the data, by the daemon's own reclaim.

Only what every POSIX file system agrees on is done: nothing is written past end-of-file in the
last mapped page, and no page wholly past it is touched. So the judge tolerates nothing.

``python -m tests.judge --dir DIR --seed N --ops N`` replays a run.
"""
