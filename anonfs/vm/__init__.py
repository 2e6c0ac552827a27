"""The vm floor: which processes map which inodes.

========================  =======================================================
``VmArea``                one mapping, linked into the share ring of its inode
``ShareRing``             the areas of an inode
``AddressSpace``          the areas of a process
``VmOperations``          what is done when areas come and go; `SharedOperations`
``EventLog``              what happened, for those who follow it; `ToldOperations` tell it
``AddressSpaces``         looks at processes (`ProcessMaps`), told as operations
========================  =======================================================

It must not know how a look is made: the daemon reads /proc. Of the floors below it uses the list
and what `MappedInode` says.
"""

from anonfs.vm._address_space import AddressSpace
from anonfs.vm._area import VmArea
from anonfs.vm._event_log import EventLog, EventReader, Happening, Sight
from anonfs.vm._mapped_inode import MappedDentry, MappedInode
from anonfs.vm._maps import MappedArea, ProcessMaps
from anonfs.vm._observer import AddressSpaces
from anonfs.vm._operations import SharedOperations, ToldOperations, VmOperations
from anonfs.vm._ring import ShareRing

__all__ = [
    "AddressSpace",
    "AddressSpaces",
    "EventLog",
    "EventReader",
    "Happening",
    "MappedArea",
    "MappedDentry",
    "MappedInode",
    "ProcessMaps",
    "ShareRing",
    "SharedOperations",
    "Sight",
    "ToldOperations",
    "VmArea",
    "VmOperations",
]
