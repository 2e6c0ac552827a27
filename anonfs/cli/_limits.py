"""The limits of a mount, as the command line takes them and as ``anonfs stat`` shows them.

Each limit is an option of the same name for `anonfs mount`, for the daemon, and here.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Annotated

import typer

from anonfs.limits import LimitInfo
from anonfs.units import PAGE_SIZE, format_size

__all__ = [
    "LimitOptions",
    "MaxFilesPerUserOption",
    "MaxLockedPerUserOption",
    "MaxPerUserOption",
    "MaxSegmentOption",
    "SizeOption",
    "limit_rows",
    "user_rows",
]

SizeOption = Annotated[
    str | None, typer.Option(metavar="SIZE", help="What all files together may have.")
]
MaxSegmentOption = Annotated[
    str | None, typer.Option(metavar="SIZE", help="What one file may have.")
]
MaxPerUserOption = Annotated[
    str | None, typer.Option(metavar="SIZE", help="What all files of a user may have.")
]
MaxFilesPerUserOption = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="How many files a user may have.")
]
MaxLockedPerUserOption = Annotated[
    str | None, typer.Option(metavar="SIZE", help="What a user may lock in core.")
]


@dataclass(frozen=True, slots=True)
class LimitOptions:
    """The limits in the daemon's words; None is left to the daemon."""

    size: str | None = None
    max_segment: str | None = None
    max_per_user: str | None = None
    max_files_per_user: int | None = None
    max_locked_per_user: str | None = None

    @property
    def sizes(self) -> list[str]:
        """Those given that are sizes."""
        return [value for _, value in self._given() if isinstance(value, str)]

    def words(self) -> list[str]:
        """The options of the daemon's command line."""
        return [word for name, value in self._given() for word in (name, str(value))]

    def _given(self) -> Iterator[tuple[str, str | int]]:
        for field in fields(self):
            value: str | int | None = getattr(self, field.name)
            if value is not None:
                yield f"--{field.name.replace('_', '-')}", value


def limit_rows(info: LimitInfo) -> list[tuple[str, str]]:
    """The limits that are set, in two columns."""
    limits = info.limits
    sizes = [
        ("size", limits.size),
        ("max segment", limits.segment),
        ("max per user", limits.per_user),
        ("max locked per user", limits.locked_per_user),
    ]
    rows = [(name, format_size(size)) for name, size in sizes if size is not None]
    if limits.files_per_user is not None:
        rows.append(("max files per user", str(limits.files_per_user)))
    return rows


def user_rows(info: LimitInfo) -> list[tuple[str, str, str, str]]:
    """What each user has, in four columns."""
    return [
        (
            f"uid {uid}",
            format_size(used.pages * PAGE_SIZE),
            f"files {used.files}",
            f"locked {format_size(used.locked * PAGE_SIZE)}",
        )
        for uid, used in sorted(info.users.items())
    ]
