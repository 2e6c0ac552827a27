"""The operations and how often each is drawn.

An operation picks its participants with the stage's dice, notes what it does, has it done,
checks the answer and changes the model. It answers False when it found nobody to do it.
"""

from collections.abc import Callable

from tests.judge import _holding, _moving_bytes, _naming, _sizing
from tests.judge._scrutiny import evict, verify, verify_all
from tests.judge._stage import Stage

__all__ = ["OPERATIONS", "Operation", "drop_caches"]

Operation = Callable[[Stage], bool]


def evict_some(stage: Stage) -> bool:
    inode = stage.dice.one_of(stage.model.inodes)
    return inode is not None and evict(stage, inode)


def verify_some(stage: Stage) -> bool:
    inode = stage.dice.one_of(stage.model.inodes)
    return inode is not None and verify(stage, inode)


def drop_caches(stage: Stage) -> bool:
    """The whole machine drops its clean page cache: rarely, others live here too."""
    stage.call(stage.any_member(), None, "drop_caches")
    return True


OPERATIONS: list[tuple[Operation, float]] = [
    (_holding.create, 3),
    (_holding.open_file, 4),
    (_holding.close, 4),
    (_holding.map_file, 5),
    (_holding.unmap, 4),
    (_holding.retire, 3),
    (_holding.crash, 0.1),
    (_moving_bytes.pread, 10),
    (_moving_bytes.pwrite, 14),
    (_moving_bytes.fill, 3),
    (_moving_bytes.append, 3),
    (_moving_bytes.peek, 12),
    (_moving_bytes.poke, 16),
    (_moving_bytes.poke_in_child, 1),
    (_moving_bytes.msync, 1),
    (_moving_bytes.fsync, 1),
    (_moving_bytes.start_write_back, 2),
    (_sizing.resize, 6),
    (_sizing.open_truncating, 1),
    (_naming.unlink, 2),
    (_naming.link, 1),
    (_naming.rename, 1),
    (_naming.rename_over, 2),
    (evict_some, 9),
    (verify_some, 4),
    (verify_all, 0.3),
]
