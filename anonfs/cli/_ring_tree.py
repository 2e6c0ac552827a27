"""``anonfs ring --follow``: the vm areas of an inode as a tree of its processes, as they change.

    /run/anonfs/job-7: vm areas 3, processes 2
    └── 100 python
        ├── 7f0000000000-7f0000100000  1 MiB  0-255  rw-s  attached
        └── 101 python
            └── 7f0000000000-7f0000100000  1 MiB  0-255  rw-s  attached

Each area that comes or goes is a reason to look again, and the tree is what the look found. Who is
whose child is what the event of the fork said, or else what /proc says.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.tree import Tree

from anonfs.cli._areas import command_of, described
from anonfs.cli._output import console
from anonfs.cli._target import Looked, located, look
from anonfs.client import watch
from anonfs.events import VmEvent
from anonfs.inspection import Area

__all__ = ["follow"]

_CHANGES = {"open", "dup", "close"}
_PARENT = re.compile(r"^PPid:\s*(\d+)", re.MULTILINE)


def follow(file: str) -> None:
    """Show the tree anew whenever it changes, until the file is gone or Ctrl-C."""
    path = located(file)
    shown, forks = _Shown(console()), _Forks()
    with watch(path) as events, shown:
        shown.show(_tree(look(file), forks))
        for event in events:
            forks.note(event)
            if event.event not in _CHANGES:
                continue
            try:
                looked = look(file)
            except FileNotFoundError:
                break
            shown.show(_tree(looked, forks))


class _Shown:
    """One tree in its place on a terminal; elsewhere one after the other."""

    def __init__(self, out: Console) -> None:
        self._console = out
        self._live = Live(console=out, auto_refresh=False) if out.is_terminal else None

    def __enter__(self) -> None:
        if self._live is not None:
            self._live.start()

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, tree: Tree) -> None:
        if self._live is not None:
            self._live.update(tree, refresh=True)
        else:
            self._console.print(tree)
            self._console.file.flush()


class _Forks:
    """Who is whose child."""

    def __init__(self) -> None:
        self._parents: dict[int, int] = {}

    def note(self, event: VmEvent) -> None:
        if event.event == "dup" and event.pid is not None and event.parent is not None:
            self._parents[event.pid] = event.parent

    def parent_of(self, pid: int) -> int:
        """The parent of a process; 0 if it is gone."""
        if pid not in self._parents:
            try:
                status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
            except OSError:
                return 0
            found = _PARENT.search(status)
            self._parents[pid] = int(found[1]) if found else 0
        return self._parents[pid]


def _tree(looked: Looked, forks: _Forks) -> Tree:
    areas_of: defaultdict[int | None, list[Area]] = defaultdict(list)
    for area in looked.inspection.areas:
        areas_of[area.pid].append(area)
    areas = len(looked.inspection.areas)
    root = Tree(f"{looked.path}: vm areas {areas}, processes {len(areas_of)}")
    branches: dict[int | None, Tree] = {}

    def branch(pid: int | None, below: Iterable[int | None]) -> Tree:
        """That of a process, under the nearest of its ancestors that has areas."""
        if pid not in branches:
            parent = forks.parent_of(pid) if pid is not None else None
            above = branch(parent, {*below, pid}) if parent in areas_of.keys() - below else root
            name = "?" if pid is None else f"{pid} {command_of(pid) or '?'}"
            branches[pid] = above.add(name)
        return branches[pid]

    for pid, found in areas_of.items():
        for area in found:
            branch(pid, {pid}).add("  ".join(described(area)))
    return root
