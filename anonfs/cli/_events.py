"""``anonfs events``: what happens to the files of a mount, a line for each event."""

import sys
import time
from typing import Annotated

import typer

from anonfs.cli._output import JsonOption, console
from anonfs.cli._target import located
from anonfs.client import watch
from anonfs.events import VmEvent
from anonfs.meminfo import escaped
from anonfs.units import PAGE_SIZE

__all__ = ["events"]

_ROW = "{:<12}  {:<7}  {:>7}  {:>7}  {:<25}  {:<13}  {}"
_TITLES = _ROW.format("TIME", "EVENT", "PID", "PARENT", "ADDRESSES", "FILE PAGES", "FILE")

_FileOption = Annotated[
    str | None,
    typer.Argument(metavar="FILE", help="A path, or a name in the mount.", show_default=False),
]
_FollowOption = Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")]


def events(
    file: _FileOption = None, follow: _FollowOption = False, as_json: JsonOption = False
) -> None:
    """Show which mappings of FILE, or of all files, came and went lately.

    With --follow also what happens from now on, page faults and swap-outs included.
    """
    target = None if file is None else located(file)
    with watch(target, past=True, timeout=None if follow else 0) as found:
        show = _AsJson() if as_json else _AsTable()
        lost = 0
        for event in found:
            if found.lost > lost:
                show.lost(found.lost - lost)
                lost = found.lost
            show.event(event)


class _AsJson:
    """One object a line."""

    def event(self, event: VmEvent) -> None:
        self._write(event.render())

    def lost(self, events: int) -> None:
        self._write(f'{{"lost": {events}}}')

    @staticmethod
    def _write(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


class _AsTable:
    """One row a line, below titles. A file that goes is called what it was called before."""

    def __init__(self) -> None:
        self._console = console()
        self._names: dict[int, str] = {}
        self._write(_TITLES)

    def event(self, event: VmEvent) -> None:
        if event.name is not None:
            self._names[event.inode] = escaped(event.name)
        self._write(_row(event, self._names.get(event.inode, f"inode {event.inode}")))
        if event.event == "delete":
            self._names.pop(event.inode, None)

    def lost(self, events: int) -> None:
        self._write(f"({events} events were lost here)")

    def _write(self, line: str) -> None:
        self._console.print(line, soft_wrap=True)


def _row(event: VmEvent, name: str) -> str:
    at = time.strftime("%H:%M:%S", time.localtime(event.time))
    return _ROW.format(
        f"{at}.{int(event.time * 1000) % 1000:03}",
        event.event,
        _known(event.pid),
        _known(event.parent),
        "-" if event.start is None else f"{event.start:x}-{event.end or 0:x}",
        _pages(event),
        name,
    )


def _known(number: int | None) -> str:
    return "-" if number is None else str(number)


def _pages(event: VmEvent) -> str:
    if event.offset is None or not event.pages:
        return "-"
    first = event.offset // PAGE_SIZE
    return f"{first}-{first + event.pages - 1}"
