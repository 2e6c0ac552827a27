"""Processes that make, remove and die at once: there is no state that somebody else trips over."""

import random
import time
from pathlib import Path

import pytest

from anonfs.shm.sysv import IPC_CREAT, IPC_EXCL, IPC_RMID, IPC_STAT, Namespace
from tests.posix.children import Child, eventually, hear, say
from tests.shm.sysv.calls import outcome, remove_all

KEY = 0x5EA1
_ROUNDS = 12
_KILLS = 120


def _make(namespace: Namespace, flags: int) -> list[int | str]:
    say("ready")
    hear()
    return [outcome(namespace.shmget, KEY + number, 1, flags) for number in range(_ROUNDS)]


@pytest.mark.parametrize("exclusive", [0, IPC_EXCL])
def test_of_many_who_make_one_all_get_the_same(namespace: Namespace, exclusive: int) -> None:
    children = [Child(_make, namespace, IPC_CREAT | exclusive | 0o600) for _ in range(8)]
    try:
        assert {child.said() for child in children} == {"ready"}
        for child in children:
            child.tell()
        made = list(zip(*(child.said() for child in children), strict=True))
    finally:
        for child in children:
            child.__exit__()
    ids = {one.ds.shm_perm.key: one.ds.shmid for one in namespace.segments()}
    assert len(ids) == _ROUNDS
    for number, seen in enumerate(made):
        shmid = ids[KEY + number]
        assert sorted(map(str, seen)) == sorted(
            map(str, [shmid] + [("EEXIST" if exclusive else shmid)] * 7)
        )


def _make_and_remove(namespace: Namespace, seed: int) -> set[str]:
    dice, seen = random.Random(seed), set()
    for _ in range(40):
        shmid = outcome(namespace.shmget, KEY, dice.choice([0, 1, 5000]), IPC_CREAT | 0o600)
        seen.add(str(shmid) if isinstance(shmid, str) else "made")
        if isinstance(shmid, int):
            memory = outcome(namespace.shmat, shmid)
            seen.add(memory if isinstance(memory, str) else "attached")
            seen.add(str(outcome(namespace.shmctl, shmid, IPC_RMID)))
            if not isinstance(memory, str):
                memory[0] = 1
                namespace.shmdt(memory)
    return seen


def test_making_and_removing_at_once(namespace: Namespace, mount: Path) -> None:
    children = [Child(_make_and_remove, namespace, seed) for seed in range(4)]
    try:
        while not children[0].has_said(0):
            assert all(one.ds.shm_segsz in {0, 1, 5000} for one in namespace.segments())
        seen = set[str]().union(*(child.said() for child in children))
    finally:
        for child in children:
            child.__exit__()
    # What a man page does not know of would be among them.
    assert seen <= {"made", "attached", "None", "EINVAL", "EIDRM"}
    eventually(lambda: list(mount.iterdir()) == [], "all are gone")


def _live(namespace: Namespace) -> None:
    say("ready")
    while True:
        shmid = namespace.shmget(KEY, 10000, IPC_CREAT | 0o600)
        memory = namespace.shmat(shmid)
        memory[0] = 1
        namespace.shmctl(shmid, IPC_STAT)
        namespace.shmctl(shmid, IPC_RMID)
        namespace.shmdt(memory)


def test_whoever_is_killed_leaves_only_what_can_be_seen_and_removed(
    namespace: Namespace, mount: Path
) -> None:
    dice, states = random.Random(1), set[tuple[bool, bool]]()
    for _ in range(_KILLS):
        with Child(_live, namespace) as child:
            assert child.said() == "ready"
            time.sleep(dice.uniform(0, 0.02))
            child.kill()
            child.wait()
        left = namespace.segments()
        states.update((bool(one.ds.shm_perm.key), bool(one.ds.shm_segsz)) for one in left)
        again = namespace.shmget(KEY, 10000, IPC_CREAT | 0o600)
        namespace.shmctl(again, IPC_RMID)
        remove_all(namespace)
        eventually(lambda: list(mount.iterdir()) == [], "all that was left is gone")
    assert (True, True) in states
