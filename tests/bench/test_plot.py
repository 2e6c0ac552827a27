"""The picture is a PNG, whatever there is to draw."""

from pathlib import Path

import pytest

from measure import Better, Metric, Readings
from plot import Panel, draw

MACHINE = {"kernel": "6.1", "processor": "a processor", "cores": 2, "memory": 1 << 30}
RATED = Readings(Metric("read", "MiB/s", Better.HIGHER, target=5.0), [10.0, 12.0], [2.0, 2.0])
PLAIN = Readings(Metric("other", "ns"), [1.0, 2.0], [1.0, 2.0])
BOUND = Readings(Metric("memory", "bytes", bound=12.0), [5.0])
ALONE = Readings(Metric("time", "s"), [5.0])


@pytest.mark.parametrize(
    "panels",
    [
        [Panel("a", "peer", [RATED, PLAIN, BOUND]), Panel("b", "", [BOUND, ALONE])],
        [Panel("b", "", [ALONE])],
        [],
    ],
    ids=["all", "nothing to draw", "nothing"],
)
def test_it_is_a_png(tmp_path: Path, panels: list[Panel]) -> None:
    draw(panels, MACHINE, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG\r\n")
