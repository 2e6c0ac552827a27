import os

import pytest

from anonfsd._tier import tier_in_force, tier_line
from anonfsd.doctor import Tier


@pytest.mark.parametrize(
    ("uid", "events", "exact", "tier"),
    [
        (0, True, True, Tier.EXACT),
        (0, True, False, Tier.FULL),
        (0, False, True, Tier.BASIC),
        (1000, True, True, Tier.BASIC),
    ],
)
def test_a_tier_needs_all_below_it(
    monkeypatch: pytest.MonkeyPatch, uid: int, *, events: bool, exact: bool, tier: Tier
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    assert tier_in_force(events=events, exact=exact) is tier


def test_the_line_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert tier_line(exact=False) == "tier full: rings follow each fork, exec and exit"
    line = tier_line(exact=False, no_events="needs CAP_NET_ADMIN")
    assert line.startswith("tier basic: ")
    assert line.endswith("(no process events: needs CAP_NET_ADMIN)")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert tier_line(exact=False).endswith("(only what uid 1000 may see)")
