"""Several processes that write to one SQLite database in WAL mode at the same time.

``python -m tests.real.sqlite_writers FILE`` fills it and prints a line for each writer;
``... FILE check`` checks what it holds, in a process that has not seen it before.
"""

import hashlib
import random
import sqlite3
import subprocess
import sys

from tests.support.programs import python, tied_to_us

__all__ = ["ROWS", "WRITERS"]

WRITERS = 4
ROWS = 250
_BATCH = 10
_BUSY_SECONDS = 60.0
_END_SECONDS = 60.0


def _connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA wal_autocheckpoint = 100")
    return connection


def _fill(path: str) -> None:
    """Make the table, start the writers and wait for them."""
    connection = _connect(path)
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    assert mode == "wal", mode
    connection.execute("CREATE TABLE kept (writer INT, row INT, data BLOB, digest TEXT)")
    connection.execute("CREATE INDEX by_digest ON kept (digest)")
    connection.execute("CREATE INDEX by_row ON kept (writer, row)")
    module = "tests.real.sqlite_writers"
    writers = [
        subprocess.Popen(tied_to_us(python("-m", module, path, number)))
        for number in range(WRITERS)
    ]
    statuses = [writer.wait(_END_SECONDS) for writer in writers]
    assert statuses == [0] * WRITERS, statuses


def _write(path: str, writer: int) -> None:
    """What one writer does: batches of rows, a part of them updated and deleted again."""
    dice = random.Random(writer)
    connection = _connect(path)
    for start in range(0, ROWS, _BATCH):
        connection.execute("BEGIN IMMEDIATE")
        for row in range(start, start + _BATCH):
            data = dice.randbytes(dice.randrange(10, 20_000))
            digest = hashlib.sha256(data).hexdigest()
            connection.execute("INSERT INTO kept VALUES (?, ?, ?, '')", (writer, row, data))
            connection.execute("INSERT INTO kept VALUES (?, -1, ?, '')", (writer, data))
            connection.execute(
                "UPDATE kept SET digest = ? WHERE writer = ? AND row = ?", (digest, writer, row)
            )
        connection.execute("DELETE FROM kept WHERE writer = ? AND row < 0", (writer,))
        connection.execute("COMMIT")
    connection.close()


def _check(path: str) -> None:
    connection = _connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    counts = connection.execute("SELECT writer, count(*) FROM kept GROUP BY writer ORDER BY 1")
    assert counts.fetchall() == [(writer, ROWS) for writer in range(WRITERS)]
    for data, digest in connection.execute("SELECT data, digest FROM kept"):
        assert hashlib.sha256(data).hexdigest() == digest


def _main() -> None:
    match sys.argv[1:]:
        case [path]:
            _fill(path)
        case [path, "check"]:
            _check(path)
        case [path, number]:
            _write(path, int(number))
    sys.stdout.write("done\n")


if __name__ == "__main__":
    _main()
