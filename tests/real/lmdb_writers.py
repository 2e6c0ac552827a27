"""Processes that write to and read from one LMDB environment at the same time.

``python -m tests.real.lmdb_writers DIRECTORY WRITEMAP`` makes it, starts the writers, reads beside
them, and checks what it holds in the end. Its locks are robust mutexes in a mapped file, its pages
are written through another mapping, or by write(2) where WRITEMAP is 0.
"""

import subprocess
import sys

import lmdb

from tests.support.programs import python, tied_to_us

__all__: list[str] = []

_WRITERS = 3
_TRANSACTIONS, _KEYS = 12, 30
_SIZE = 32 << 20
_SECONDS = 60.0
_MODULE = "tests.real.lmdb_writers"


def _open(path: str, writemap: str) -> lmdb.Environment:
    return lmdb.open(path, map_size=_SIZE, writemap=writemap == "1", max_dbs=2)


def _value(writer: int, turn: int, key: int) -> bytes:
    return b"%d %d %d " % (writer, turn, key) * 3000


def _write(path: str, writemap: str, writer: int) -> None:
    with _open(path, writemap) as environment:
        for turn in range(_TRANSACTIONS):
            with environment.begin(write=True) as transaction:
                for key in range(_KEYS):
                    transaction.put(b"%d/%d" % (writer, key), _value(writer, turn, key))
                total = int(transaction.get(b"total", b"0"))
                transaction.put(b"total", b"%d" % (total + 1))


def _read(environment: lmdb.Environment) -> None:
    """What one sees of a writer is of one transaction."""
    with environment.begin() as transaction:
        for writer in range(_WRITERS):
            seen = [transaction.get(b"%d/%d" % (writer, key)) for key in range(_KEYS)]
            if seen[0] is not None:
                turn = int(seen[0].split(b" ", 2)[1])
                assert seen == [_value(writer, turn, key) for key in range(_KEYS)]


def _main(path: str, writemap: str) -> None:
    with _open(path, writemap) as environment:
        writers = [
            subprocess.Popen(tied_to_us(python("-m", _MODULE, path, writemap, number)))
            for number in range(_WRITERS)
        ]
        while any(writer.poll() is None for writer in writers):
            _read(environment)
        assert [writer.wait(_SECONDS) for writer in writers] == [0] * _WRITERS
        with environment.begin() as transaction:
            assert transaction.get(b"total") == b"%d" % (_WRITERS * _TRANSACTIONS)
            for writer in range(_WRITERS):
                for key in range(_KEYS):
                    value = transaction.get(b"%d/%d" % (writer, key))
                    assert value == _value(writer, _TRANSACTIONS - 1, key)
    sys.stdout.write("done\n")


if __name__ == "__main__":
    path, writemap, *writer = sys.argv[1:]
    if writer:
        _write(path, writemap, int(writer[0]))
    else:
        _main(path, writemap)
