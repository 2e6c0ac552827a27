"""Ranges against a set of numbers."""

import random

from anonfs.mm._ranges import Ranges

_ALL = 40


def test_ranges_are_the_numbers_in_them() -> None:
    dice = random.Random(5)
    for _ in range(60):
        ranges, model = Ranges(), set[int]()
        for _ in range(20):
            first, end = dice.randrange(_ALL), dice.randrange(_ALL)
            if dice.random() < 0.2:
                ranges.cut(end)
                model = {number for number in model if number < end}
            elif dice.random() < 0.3:
                others = Ranges()
                others.add(first, end)
                others.add(first + 5, end + 5)
                ranges.remove_all(others)
                model -= {*range(first, end), *range(first + 5, end + 5)}
            else:
                copy = ranges.copy()
                ranges.add(first, end)
                assert copy.count(0, _ALL) == len(model)
                model.update(range(first, end))
            ranges.check_invariants()
            assert bool(ranges) is bool(model)
            first, end = sorted((first, end))
            expected = [number for number in sorted(model) if first <= number < end]
            within = [number for part in ranges.within(first, end) for number in range(*part)]
            assert within == expected
            assert ranges.count(first, end) == len(expected)
