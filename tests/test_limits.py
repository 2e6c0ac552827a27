"""The limits read back as what they were written from."""

from hypothesis import given
from hypothesis import strategies as st

from anonfs.limits import LimitInfo, Limits, Usage

numbers = st.integers(0, 1 << 63)
sizes = st.none() | st.integers(0, 1 << 53).map(lambda kilobytes: kilobytes * 1024)
limits = st.builds(
    Limits,
    size=sizes,
    segment=sizes,
    per_user=sizes,
    locked_per_user=sizes,
    files_per_user=st.none() | numbers,
)
usages = st.builds(Usage, numbers, numbers, numbers)
infos = st.builds(LimitInfo, limits, st.dictionaries(st.integers(0, 1 << 32), usages))


@given(infos)
def test_they_read_back(info: LimitInfo) -> None:
    assert LimitInfo.parse(info.render()) == info


@given(usages, usages)
def test_more_and_less(used: Usage, more: Usage) -> None:
    assert used.plus(more).minus(more) == used


def test_what_it_looks_like() -> None:
    info = LimitInfo(Limits(size=1 << 30, files_per_user=100), {1000: Usage(17, 3)})
    assert info.render().splitlines() == [
        "Size:               1048576 kB",
        "MaxFilesPerUser:        100",
        "uid 1000: pages=17 files=3 locked=0",
    ]
    assert LimitInfo.parse("Unknown: 3\nuid x: pages=1 files=1 locked=1\n") == LimitInfo()
