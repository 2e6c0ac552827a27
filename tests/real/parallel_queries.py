"""PostgreSQL, whose parallel workers exchange rows in POSIX shared memory, under pgbench.

``python -m tests.real.parallel_queries BINARIES DIRECTORY`` makes a database in DIRECTORY, asks it
in parallel from several clients, and says ``done`` once each answer was right. As root it is run by
nobody, since PostgreSQL refuses root.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.programs import tied_to_us

__all__: list[str] = []

_ROWS = 100_000  # at pgbench's scale of 1
_SECONDS = 60.0
_CLIENTS, _TRANSACTIONS = "2", "3"
_NOBODY = 65534

_CONFIGURATION = """
listen_addresses = ''
unix_socket_directories = '{directory}'
dynamic_shared_memory_type = posix
shared_buffers = 16MB
fsync = off
max_parallel_workers_per_gather = 3
parallel_leader_participation = off
parallel_setup_cost = 0
parallel_tuple_cost = 0
min_parallel_table_scan_size = 0
min_parallel_index_scan_size = 0
"""

# Each gives 1, or an error that ends the client.
_HASH_JOIN = f"""
SELECT 1 / (count(*) = {_ROWS} AND sum(a.aid) = {_ROWS * (_ROWS + 1) // 2})::int
    FROM pgbench_accounts a JOIN pgbench_accounts b USING (aid);
"""  # noqa: S608  these are numbers of our own
_GROUPS = """
SELECT 1 / (count(*) = 1000 AND min(n) = 100 AND max(n) = 100)::int
    FROM (SELECT count(*) n FROM pgbench_accounts GROUP BY aid % 1000) groups;
"""


class _Server:
    """The programs in ``binaries``, on a database in ``directory``."""

    def __init__(self, binaries: Path, directory: Path) -> None:
        here = {"PGHOST": str(directory), "PGUSER": "postgres", "PGDATABASE": "postgres"}
        self._environment = os.environ | here | {"LC_ALL": "C"}
        self._binaries = binaries
        self._data = directory / "data"
        self._identity: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._identity = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}
        self.run("initdb", "-D", str(self._data), "-U", "postgres", "-A", "trust", "--no-sync")
        configuration = _CONFIGURATION.format(directory=directory)
        (self._data / "postgresql.conf").write_text(configuration, "utf-8")

    def run(self, name: str, *arguments: str, check: bool = True) -> str:
        """What a program says."""
        done: subprocess.CompletedProcess[str] = subprocess.run(
            [str(self._binaries / name), *arguments],
            env=self._environment,
            check=check,
            stdout=subprocess.PIPE,
            text=True,
            timeout=_SECONDS,
            **self._identity,
        )
        return done.stdout

    @contextmanager
    def running(self) -> Iterator[None]:
        """The server runs, and ends well."""
        command = tied_to_us([str(self._binaries / "postgres"), "-D", str(self._data)], "QUIT")
        process = subprocess.Popen(command, env=self._environment, **self._identity)
        try:
            deadline = time.monotonic() + _SECONDS
            while "accepting" not in self.run("pg_isready", check=False):
                assert process.poll() is None, "the server ended"
                assert time.monotonic() < deadline, "the server does not answer"
                time.sleep(0.02)
            yield
        finally:
            process.send_signal(signal.SIGINT)
            status = process.wait(_SECONDS)
        assert status == 0, status


def _main() -> None:
    binaries, directory = Path(sys.argv[1]), Path(sys.argv[2])
    server = _Server(binaries, directory)
    queries = directory / "queries.sql"
    queries.write_text(_HASH_JOIN + _GROUPS, "utf-8")
    with server.running():
        server.run("pgbench", "-i", "-q")
        sys.stdout.write(server.run("psql", "-A", "-t", "-c", f"EXPLAIN ANALYZE {_HASH_JOIN}"))
        segments = list(Path("/dev/shm").glob("PostgreSQL.*"))
        assert segments, "the one that is always there"
        counts = ("-c", _CLIENTS, "-j", _CLIENTS, "-t", _TRANSACTIONS)
        server.run("pgbench", "-n", *counts, "-f", str(queries))
    assert list(Path("/dev/shm").iterdir()) == [], "all of them are gone with it"
    sys.stdout.write("done\n")


if __name__ == "__main__":
    _main()
