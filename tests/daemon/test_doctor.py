"""The probes, on whatever machine this is: every one answers and none raises."""

import json
import os

import pytest

from anonfsd import doctor


def test_the_probes_never_raise() -> None:
    found = doctor.probes()
    assert len({probe.name for probe in found}) == len(found) > 10
    for probe in found:
        assert probe.detail
        assert bool(probe.advice) != probe.ok
        assert "\n" not in probe.detail + probe.advice


@pytest.mark.parametrize(
    "error", [OSError(1, "not permitted"), ValueError("odd"), KeyError(), RuntimeError()]
)
def test_whatever_a_probe_raises_is_a_no(error: Exception) -> None:
    def look() -> str:
        raise error

    probe = doctor._tried(doctor._Check("it", doctor.Tier.FULL, look, "mend it"))
    assert (probe.ok, probe.advice) == (False, "mend it")
    assert probe.detail


def probed(**tiers: bool) -> list[doctor.Probe]:
    return [
        doctor.Probe(name, ok, "", "", doctor.Tier(name) if name in set(doctor.Tier) else None)
        for name, ok in tiers.items()
    ]


@pytest.mark.parametrize(
    ("found", "tier"),
    [
        (probed(basic=False, full=True, exact=True), "none"),
        (probed(basic=True, full=False, exact=True), "basic"),
        (probed(basic=True, full=True, exact=False), "full"),
        (probed(basic=True, full=True, exact=True, extra=False), "exact"),
    ],
)
def test_a_tier_needs_all_below_it(found: list[doctor.Probe], tier: str) -> None:
    assert doctor.tier_of(found) == tier


def test_an_old_kernel_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    old = os.uname_result(("Linux", "host", "5.14.9-generic", "#1", "x86_64"))
    monkeypatch.setattr(os, "uname", lambda: old)
    with pytest.raises(OSError, match=r"older than 5\.15"):
        doctor._kernel()


def test_the_report_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    status = doctor.main()
    report = json.loads(capsys.readouterr().out)
    assert report["tier"] in set(doctor.Tier)
    assert status == (0 if report["can_mount"] else 2)
