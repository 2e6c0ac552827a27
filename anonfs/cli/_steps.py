"""The steps of the tour: what anonfs does, shown with real processes on a real mount.

Every line that it prints about pages and areas is read back from the mount at that moment, and
every byte that it reads back is checked.
"""

import ctypes
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from anonfs.cli._actors import Actor
from anonfs.cli._errors import CommandError
from anonfs.cli._picture import picture
from anonfs.client import Client, Mapping
from anonfs.units import PAGE_SIZE, format_size

__all__ = ["Tour"]

_CHUNK = 4 << 20
_LARGEST = 4 << 30
_FAMILY_PAGES = 32
_SETTLE_SECONDS = 5
_PAGE_OF_A = 8


class Tour:
    """Shows it on the mount of ``client``, and tells of it on ``out``."""

    def __init__(self, client: Client, out: Console) -> None:
        self._client = client
        self._out = out
        self._steps = 0

    def run(self) -> None:
        """Take every step. Raises CommandError: something came out wrong."""
        before = _free_pages(self._client)
        with ExitStack() as stack:
            large = self._outgrow(stack)
            family = stack.enter_context(self._client.anonymous(_FAMILY_PAGES * PAGE_SIZE))
            children = self._fork(stack, family, large.memory)
            self._seed_steps(family, children[0])
            self._unmap_a_hole(family, children[1])
            self._swap_out(large, family, children)
        self._step("everything exits")
        after = self._settled(before)
        self._say(f"free pages before the tour {before}, after it {after}")
        if after != before:
            raise CommandError(f"{before - after} pages were not given back")
        self._say("every frame and slot came back, and every byte read was right")

    def _settled(self, expected: int) -> int:
        """The free pages, once they are as ``expected`` or do not become so in a while.

        The kernel tells the daemon of a last close after the call that caused it has returned.
        """
        deadline = time.monotonic() + _SETTLE_SECONDS
        while _free_pages(self._client) != expected and time.monotonic() < deadline:
            time.sleep(0.01)
        return _free_pages(self._client)

    # -- the steps -------------------------------------------------------------------------

    def _outgrow(self, stack: ExitStack) -> "_Numbered":
        self._step("a mapping larger than the memory budget")
        size = min(_free_pages(self._client) * PAGE_SIZE * 3 // 4, _LARGEST) & -_CHUNK
        memory = stack.enter_context(self._client.anonymous(size))
        large = _Numbered(memory)
        for _ in large.fill():
            if memory.inspect().pages.on_swap:
                break
        self._say(f"{format_size(large.written)} of {format_size(size)} written, then some swapped")
        self._show_pages(memory)
        return large

    def _fork(self, stack: ExitStack, family: Mapping, large: Mapping) -> list[Actor]:
        self._step("three children share a nameless mapping across fork")
        children = []
        for number in range(1, 4):
            skills: dict[str, Callable[..., Any]] = {
                "write": lambda page, text: _write(family, page, text),
                "read": lambda page: _read(family, page),
                "unmap": lambda first, count: _unmap(family, first, count),
                "verify": lambda written: _Numbered(large, written).verify(),
            }
            children.append(stack.enter_context(Actor(f"child {number}", **skills)))
        for number, child in enumerate(children):
            child.do("write", number, f"from pid {child.pid}")
        for reader in children:
            for number, writer in enumerate(children):
                _expect(reader.do("read", number), f"from pid {writer.pid}")
        self._say("each wrote a page and read the pages of the others")
        self._show_ring(family)
        return children

    def _seed_steps(self, family: Mapping, b: Actor) -> None:
        self._step("a page is read before another process writes it")
        self._say(f"A is pid {os.getpid()}, its child B pid {b.pid}")
        _expect(_read(family, _PAGE_OF_A), "")
        self._say(f"A reads page {_PAGE_OF_A}, which nobody has touched: zeros")
        b.do("write", _PAGE_OF_A, "B was here")
        self._say("B writes to it")
        _expect(_read(family, _PAGE_OF_A), "B was here")
        self._say("A reads again: 'B was here'; there is one page and nothing to be fixed up")

    def _unmap_a_hole(self, family: Mapping, child: Actor) -> None:
        self._step(f"{child.name} unmaps pages 10 to 19 out of the middle of its mapping")
        child.do("unmap", 10, 10)
        self._show_ring(family)
        areas = [area for area in family.inspect().areas if area.pid == child.pid]
        _expect([area.offset for area in areas], [0, 20 * PAGE_SIZE])
        self._say(f"pid {child.pid} now has two areas, the second at offset {20 * PAGE_SIZE}")

    def _swap_out(self, large: "_Numbered", family: Mapping, children: list[Actor]) -> None:
        self._step("everything is swapped out under the live mappings")
        family.swap_out()
        large.memory.swap_out()
        self._show_pages(large.memory)
        _expect(large.memory.inspect().pages.in_core, 0)
        _expect(_read(family, _PAGE_OF_A), "B was here")
        children[2].do("verify", large.written)
        large.verify()
        self._say("it was read back and verified, by this process and by a child")

    # -- showing ---------------------------------------------------------------------------

    def _step(self, title: str) -> None:
        self._steps += 1
        self._out.print(f"\n{self._steps}. {title}", style="bold", soft_wrap=True)

    def _say(self, line: str) -> None:
        self._out.print(f"   {line}", soft_wrap=True)

    def _show_pages(self, memory: Mapping) -> None:
        memory.flush()
        seen = memory.inspect()
        drawn = picture(seen.pages, seen.runs, complete=seen.complete)
        self._say(f"{seen.pages.render()} ({drawn.cell} a cell)")
        for line in (*drawn.lines, drawn.legend):
            self._out.print(line, soft_wrap=True)

    def _show_ring(self, memory: Mapping) -> None:
        seen = memory.inspect()
        self._say(f"ring of {seen.counts.areas} areas, {seen.counts.dentry} references:")
        for area in seen.areas:
            self._say(f"  {area.render()}")


class _Numbered:
    """A mapping whose pages tell their own numbers, of which ``written`` bytes are filled."""

    def __init__(self, memory: Mapping, written: int = 0) -> None:
        self.memory = memory
        self.written = written

    def fill(self) -> Iterator[int]:
        """Write a chunk at a time to the end; yields the bytes written by then."""
        while self.written < len(self.memory):
            with self._words(self.written) as words:
                words[:] = _expected(self.written)
            self.memory.flush(self.written, _CHUNK)
            self.written += _CHUNK
            yield self.written

    def verify(self) -> None:
        """Read all that was written."""
        for offset in range(0, self.written, _CHUNK):
            with self._words(offset) as words:
                if not np.array_equal(words, _expected(offset)):
                    raise CommandError(f"wrong bytes in the 4 MiB at {offset}")

    @contextmanager
    def _words(self, offset: int) -> Iterator[npt.NDArray[np.uint64]]:
        """A chunk as words, in a view that is gone before the mapping is closed."""
        with memoryview(self.memory) as view, view[offset : offset + _CHUNK] as chunk:
            words = np.frombuffer(chunk, np.uint64)
            yield words
            del words


def _expected(offset: int) -> npt.NDArray[np.uint64]:
    first = offset // 8
    return np.arange(first, first + _CHUNK // 8, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)


def _free_pages(client: Client) -> int:
    return os.statvfs(client.mount).f_bfree


def _write(memory: Mapping, page: int, text: str) -> None:
    start = page * PAGE_SIZE
    memory[start : start + PAGE_SIZE] = text.encode().ljust(PAGE_SIZE, b"\0")


def _read(memory: Mapping, page: int) -> str:
    start = page * PAGE_SIZE
    return memory[start : start + PAGE_SIZE].rstrip(b"\0").decode()


def _unmap(memory: Mapping, first: int, count: int) -> None:
    """munmap(2) a part, which mmap objects have no call for; the process never touches it again."""
    libc = ctypes.CDLL(None, use_errno=True)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    start = ctypes.c_void_p(base + first * PAGE_SIZE)
    if libc.munmap(start, ctypes.c_size_t(count * PAGE_SIZE)):
        raise OSError(ctypes.get_errno(), "munmap")


def _expect(found: object, expected: object) -> None:
    if found != expected:
        raise CommandError(f"the tour expected {expected!r} and found {found!r}")
