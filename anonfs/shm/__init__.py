"""Shared memory by name, as Python knows it, on an anonfs.

This floor stands on the client: a segment is a file in the root of the mount.
"""

__all__: list[str] = []
