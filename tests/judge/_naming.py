"""Operations on names: a file that loses its last one lives on while it is held."""

from tests.judge._holding import some_name
from tests.judge._scrutiny import chase
from tests.judge._stage import Stage

__all__ = ["link", "rename", "rename_over", "unlink"]


def unlink(stage: Stage) -> bool:
    name = some_name(stage)
    if name is None or len(stage.model.named) <= stage.limits.names // 2:
        return False
    inode, member = stage.model.named[name], stage.any_member()
    stage.note(inode, f"m{member} unlink of {name}")
    stage.call(member, inode, "unlink", name)
    stage.model.remove_name(name)
    chase(stage, inode)
    return True


def link(stage: Stage) -> bool:
    name = some_name(stage)
    if name is None or len(stage.model.named) >= stage.limits.names:
        return False
    inode, member, target = stage.model.named[name], stage.any_member(), f"l{stage.model.number()}"
    stage.note(inode, f"m{member} link of {name} to {target}")
    stage.call(member, inode, "link", name, target)
    stage.model.add_name(inode, target)
    return True


def rename(stage: Stage) -> bool:
    name = some_name(stage)
    if name is None:
        return False
    _rename(stage, name, f"r{stage.model.number()}")
    return True


def rename_over(stage: Stage) -> bool:
    name, target = some_name(stage), some_name(stage)
    if name is None or target is None or name == target:
        return False
    if len(stage.model.named) <= stage.limits.names // 2:
        return False
    _rename(stage, name, target)
    return True


def _rename(stage: Stage, name: str, target: str) -> None:
    inode, member = stage.model.named[name], stage.any_member()
    victim = stage.model.named.get(target)
    stage.note(inode, f"m{member} rename of {name} to {target}")
    if victim is not None:
        stage.note(victim, f"m{member} rename of {name} over {target}")
    stage.call(member, inode, "rename", name, target)
    if victim is inode:
        return  # two names of one file: rename(2) does nothing
    stage.model.add_name(inode, target)
    stage.model.remove_name(name)
    for one in (victim, inode):
        if one is not None:
            chase(stage, one)
