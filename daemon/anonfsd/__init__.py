"""The daemon: anonfs under a real mount.

The only place that knows pyfuse3, trio, netlink, userfaultfd and /proc. It translates a request,
makes one engine call, translates back. The engine belongs to the event loop; whatever blocks (swap
I/O, invalidation, /proc, the mount itself) runs in a thread, each kind with a limiter of its own,
because a READ that waited for a thread that waits for a READ would never be answered.
"""

__all__: list[str] = []
