"""The daemon: anonfs under a real mount.

The only place that knows pyfuse3, trio, netlink, userfaultfd and /proc. It translates a request,
makes one engine call, translates back. The engine belongs to whoever holds its lock, which the
event loop does whenever it runs (`EngineLock`); page faults, reclaim and swap have threads of their
own, and what never waits is answered by the thread that received it (`AtOnce`). Whatever blocks
(swap I/O, invalidation, /proc, the mount itself) runs in a thread that holds no lock, each kind in
its own, because a READ that waited for a thread that waits for a READ would never be answered.
"""

__all__: list[str] = []
