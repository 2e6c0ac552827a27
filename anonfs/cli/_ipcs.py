"""``anonfs ipcs``: the System V segments of a mount, as its namesake of util-linux shows them.

What only anonfs knows is added: where the pages are, and who is attached. A dash stands for what
this user may not know.
"""

import grp
import pwd
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from anonfs.cli._errors import CommandError
from anonfs.cli._output import JsonOption, console, print_columns, print_json
from anonfs.shm.sysv import (
    IPC_INFO,
    SHM_DEST,
    SHM_INFO,
    SHM_LOCKED,
    IpcPerm,
    Namespace,
    SegmentView,
)
from anonfs.units import PAGE_SIZE

__all__ = ["ipcs"]

_PIDS = 8

_Segments = Annotated[bool, typer.Option("--shmems", "-m", help="Segments; there is nothing else.")]
_Id = Annotated[int | None, typer.Option("--id", "-i", metavar="ID", help="One segment in detail.")]
_Time = Annotated[bool, typer.Option("--time", "-t", help="Show times.")]
_Pid = Annotated[bool, typer.Option("--pid", "-p", help="Show PIDs of creator and last operator.")]
_Creator = Annotated[bool, typer.Option("--creator", "-c", help="Show creator and owner.")]
_Limits = Annotated[bool, typer.Option("--limits", "-l", help="Show limits.")]
_Summary = Annotated[bool, typer.Option("--summary", "-u", help="Show what all segments take.")]


def ipcs(
    segments: _Segments = True,
    shmid: _Id = None,
    times: _Time = False,
    pids: _Pid = False,
    creators: _Creator = False,
    limits: _Limits = False,
    summary: _Summary = False,
    as_json: JsonOption = False,
) -> None:
    """Show the System V shared memory segments of the mount."""
    del segments
    namespace = Namespace()
    if limits:
        _show_limits(namespace, as_json=as_json)
        return
    if summary:
        _show_summary(namespace, as_json=as_json)
        return
    found = namespace.segments()
    if shmid is not None:
        found = [one for one in found if one.ds.shmid == shmid]
        if not found or not shmid:
            raise CommandError(f"id {shmid} not found")
    if as_json:
        print_json([_document(one) for one in found])
    elif shmid is not None:
        _show_one(found[0])
    else:
        table = _TIMES if times else _PIDS_TABLE if pids else _CREATORS if creators else _SEGMENTS
        _show_table(found, *table)


def _show_table(
    found: Sequence[SegmentView],
    title: str,
    titles: Sequence[str],
    row: Callable[[SegmentView], Sequence[str]],
) -> None:
    console().print(f"\n------ {title} --------")
    print_columns([row(one) for one in found], titles)
    console().print()


def _segment_row(one: SegmentView) -> Sequence[str]:
    ds, perm, pages = one.ds, one.ds.shm_perm, one.pages
    states = [name for name, bit in (("dest", SHM_DEST), ("locked", SHM_LOCKED)) if perm.mode & bit]
    if not ds.shm_segsz:
        states.append("new")
    return (
        _key(perm),
        _id(one),
        _user(perm.uid),
        f"{perm.mode & 0o777:o}",
        str(ds.shm_segsz),
        "-" if one.holders is None else str(ds.shm_nattch),
        ",".join(states),
        "-" if pages is None else str(pages.in_core),
        "-" if pages is None else str(pages.on_swap),
        _pids(one.holders),
    )


def _times_row(one: SegmentView) -> Sequence[str]:
    ds = one.ds
    times = (_time(when, "%b %d %T") for when in (ds.shm_atime, ds.shm_dtime, ds.shm_ctime))
    return (_id(one), _user(ds.shm_perm.uid), *times)


def _pids_row(one: SegmentView) -> Sequence[str]:
    ds = one.ds
    return (_id(one), _user(ds.shm_perm.uid), str(ds.shm_cpid), str(ds.shm_lpid))


def _creators_row(one: SegmentView) -> Sequence[str]:
    perm = one.ds.shm_perm
    names = _user(perm.cuid), _group(perm.cgid), _user(perm.uid), _group(perm.gid)
    return (_id(one), f"{perm.mode & 0o777:o}", *names)


_SEGMENTS = (
    "Shared Memory Segments",
    (
        *("key", "shmid", "owner", "perms", "bytes", "nattch", "status"),
        *("in core", "on swap", "holders"),
    ),
    _segment_row,
)
_TIMES = (
    "Shared Memory Attach/Detach/Change Times",
    ("shmid", "owner", "attached", "detached", "changed"),
    _times_row,
)
_PIDS_TABLE = (
    "Shared Memory Creator/Last-op PIDs",
    ("shmid", "owner", "cpid", "lpid"),
    _pids_row,
)
_CREATORS = (
    "Shared Memory Segment Creators/Owners",
    ("shmid", "perms", "cuid", "cgid", "uid", "gid"),
    _creators_row,
)


def _show_one(one: SegmentView) -> None:
    ds, perm, pages = one.ds, one.ds.shm_perm, one.pages
    lines = [
        f"\nShared memory Segment shmid={ds.shmid}",
        f"uid={perm.uid}\tgid={perm.gid}\tcuid={perm.cuid}\tcgid={perm.cgid}",
        f"mode=0{perm.mode:o}\taccess_perms=0{perm.mode & 0o777:o}",
        f"bytes={ds.shm_segsz}\tlpid={ds.shm_lpid}\tcpid={ds.shm_cpid}\tnattch={ds.shm_nattch}",
        f"att_time={_time(ds.shm_atime)}",
        f"det_time={_time(ds.shm_dtime)}",
        f"change_time={_time(ds.shm_ctime)}",
    ]
    if pages is not None:
        counts = f"in_core={pages.in_core}\ton_swap={pages.on_swap}\tnot_allocated={pages.none}"
        lines += [f"pages={pages.total}\t{counts}", f"holders={_pids(one.holders, None)}"]
    for line in lines:
        typer.echo(line)
    typer.echo()


def _show_limits(namespace: Namespace, *, as_json: bool) -> None:
    info = namespace.shmctl(0, IPC_INFO)
    if as_json:
        print_json(asdict(info))
        return
    console().print("\n------ Shared Memory Limits --------")
    console().print(f"max number of segments = {info.shmmni}")
    console().print(f"max seg size (kbytes) = {info.shmmax // 1024}")
    console().print(f"max total shared memory (kbytes) = {info.shmall * (PAGE_SIZE // 1024)}")
    console().print(f"min seg size (bytes) = {info.shmmin}\n")


def _show_summary(namespace: Namespace, *, as_json: bool) -> None:
    info = namespace.shmctl(0, SHM_INFO)
    if as_json:
        print_json(asdict(info))
        return
    console().print("\n------ Shared Memory Status --------")
    console().print(f"segments allocated {info.used_ids}")
    console().print(f"pages allocated {info.shm_tot}")
    console().print(f"pages resident  {info.shm_rss}")
    console().print(f"pages swapped   {info.shm_swp}\n")


def _document(one: SegmentView) -> dict[str, object]:
    pages = None if one.pages is None else asdict(one.pages)
    return asdict(one.ds) | {"pages": pages, "holders": one.holders}


def _key(perm: IpcPerm) -> str:
    return f"{perm.key % (1 << 32):#010x}"


def _id(one: SegmentView) -> str:
    return str(one.ds.shmid or "-")


def _pids(holders: list[int] | None, most: int | None = _PIDS) -> str:
    if holders is None:
        return "-"
    shown = [str(pid) for pid in holders[:most]]
    more = len(holders) - len(shown)
    return ",".join([*shown, f"+{more}"] if more else shown)


def _time(when: int, form: str = "%a %b %d %T %Y") -> str:
    return time.strftime(form, time.localtime(when)) if when else "Not set"


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
