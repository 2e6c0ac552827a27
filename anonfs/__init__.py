"""Shared memory for Linux programs that can be looked at, swapped and cleaned up.

The packages are floors, and imports point down only::

    cli      the command line and the pictures
    client   what a program uses: connect, map, inspect
    vm       VmArea, ShareRing, VmOperations
    vfs      inodes, dentries, directories, attributes, extended attributes
    mm       page entries, frames, faults, reclaim: the engine
    swap     swap areas and stores

``errors``, ``inspection`` and ``units`` lie below every floor. Nothing here knows FUSE: the
daemon that puts it all under a real mount is the package ``anonfsd``.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
