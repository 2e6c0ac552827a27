"""The attributes of an inode, read and written through the os module."""

import errno
import os
from pathlib import Path

import pytest

from anonfs.client import (
    ClientError,
    DaemonGoneError,
    NotAnonfsError,
    areas,
    connect,
    inspect,
    page_counts,
    page_runs,
    reap,
    reap_policy,
    swap_out,
)
from anonfs.inspection import NEVER, Area, Counts, PageCounts, PageRun, Parent, Reserved


@pytest.mark.usefixtures("attributes")
def test_every_attribute_is_typed(fake_mount: Path) -> None:
    seen = inspect(fake_mount / "x")
    assert seen.kind == "shared"
    assert seen.pages == PageCounts(4, 1, 2, 1)
    assert seen.runs == [PageRun(0, 1, "in_core"), PageRun(2, 2, "on_swap"), PageRun(3, 3, "none")]
    assert seen.complete
    assert seen.areas == [Area(7, 0x1000, 0x3000, 4096, "rw-s"), Area(8, None, None, 0, "r--s")]
    assert not seen.areas_complete
    assert seen.counts == Counts(3, 2, 0, 1, 5)
    assert seen.reserved == Reserved(4)
    assert seen.reap == NEVER
    assert seen.parent == Parent(7)


@pytest.mark.usefixtures("attributes")
def test_one_attribute_is_asked_for_alone(fake_mount: Path) -> None:
    seen, path = inspect(fake_mount / "x"), fake_mount / "x"
    assert page_counts(path) == seen.pages
    assert page_runs(path) == (seen.runs, True)
    assert areas(path) == (seen.areas, False)
    assert reap_policy(path) == seen.reap


@pytest.mark.usefixtures("attributes")
def test_all_that_stands_for_a_file_will_do(fake_mount: Path) -> None:
    client = connect(fake_mount)
    with client.create("x", 4096) as file, file.map() as shared:
        seen = inspect(str(file.path))
        for target in (file.path, file.fileno(), file, shared):
            assert inspect(target) == client.inspect(target) == seen
        assert shared.inspect() == file.inspect() == seen


@pytest.mark.parametrize(
    ("span", "order"),
    [
        ((), "all"),
        ((1,), "1-3"),
        ((None, 2), "0-2"),
        ((1, 2), "1-2"),
        ((2, 2), "2-2"),
        ((4,), None),
    ],
)
def test_swap_out_names_its_pages(
    fake_mount: Path,
    attributes: dict[str, str],
    span: tuple[int | None, ...],
    order: str | None,
) -> None:
    with connect(fake_mount).map("x", 4 * 4096) as shared:
        shared.swap_out(*span)
    assert attributes.get("user.anonfs.swapout") == order


@pytest.mark.parametrize("span", [(-1, 2), (3, 2), (-5, None)])
def test_what_is_no_range_is_refused(fake_mount: Path, span: tuple[int, int | None]) -> None:
    (fake_mount / "x").write_bytes(b"x")
    with pytest.raises(ClientError, match="are not a range"):
        swap_out(fake_mount / "x", *span)


def refuse(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def getxattr(_file: object, _name: str) -> bytes:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "getxattr", getxattr)


@pytest.mark.usefixtures("fake_mount")
def test_another_file_system_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, errno.ENODATA)
    with pytest.raises(NotAnonfsError, match="is not in an anonfs mount"):
        inspect(tmp_path)


def test_what_has_no_pages_is_told(fake_mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, errno.ENODATA)
    with pytest.raises(NotAnonfsError, match="has no pages to look at"):
        inspect(fake_mount)


def test_a_dead_daemon_is_told(fake_mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, errno.ENOTCONN)
    with pytest.raises(DaemonGoneError, match=f"the daemon of {fake_mount} is gone"):
        inspect(fake_mount / "x")


def test_other_errors_pass_through() -> None:
    with pytest.raises(FileNotFoundError):
        inspect("/nowhere")


def test_reap_is_set_and_read(fake_mount: Path, attributes: dict[str, str]) -> None:
    client = connect(fake_mount)
    with client.create("x", 4096, reap="last-area") as file:
        assert attributes["user.anonfs.reap"] == file.reap == "last-area"
        file.reap = "never"
        assert inspect(file).reap == NEVER
        client.reap("x", "last-attach 7")
        assert file.reap == "last-attach 7"
        with pytest.raises(ClientError, match="not never, last-area"):
            reap(file, "soon")
