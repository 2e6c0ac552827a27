"""doctor: how the report of the probes is shown."""

import importlib.util
import json
import subprocess
from typing import Any

import pytest

from tests.cli.conftest import Run

MISSING = {
    "name": "fusermount3",
    "ok": False,
    "detail": "not found",
    "advice": "install the package fuse3",
    "tier": "basic",
}
FOUND = {"name": "kernel", "ok": True, "detail": "6.1", "advice": "", "tier": "basic"}


def reported(monkeypatch: pytest.MonkeyPatch, stdout: str, stderr: str = "") -> None:
    def ran(*_arguments: object, **_options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], 0, stdout, stderr)

    monkeypatch.setattr(subprocess, "run", ran)


def document(tier: str, *probes: dict[str, Any]) -> str:
    return json.dumps(
        {"tier": tier, "meaning": "so it is", "can_mount": tier != "none", "probes": probes}
    )


def test_what_is_missing_gets_a_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    reported(monkeypatch, document("none", FOUND, MISSING))
    ran = run("doctor")
    assert ran.status == 2
    lines = ran.out.splitlines()
    assert lines[1].split() == ["ok", "kernel", "6.1", "basic"]
    assert "fusermount3: install the package fuse3 (gives tier basic)" in lines
    assert lines[-1] == "tier none: so it is"


def test_json_is_passed_through(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    reported(monkeypatch, document("basic", FOUND))
    ran = run("doctor", "--json")
    assert ran.status == 0
    assert json.loads(ran.out)["probes"] == [FOUND]


def test_probes_that_fall_over_are_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    reported(monkeypatch, "", "Traceback\nImportError: no module\n")
    ran = run("doctor")
    assert (ran.status, ran.err) == (2, "anonfs: the probes failed: ImportError: no module\n")


def test_the_probes_run_as_a_program_of_their_own(run: Run) -> None:
    if importlib.util.find_spec("anonfsd") is None:
        pytest.skip("the daemon's package is not on the path")
    ran = run("doctor", "--json")
    assert ran.status == (0 if json.loads(ran.out)["can_mount"] else 2)
