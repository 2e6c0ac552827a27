"""Zipf's law: how often the k-th page comes, and where the hot ones are."""

import numpy as np
import pytest

from zipf import zipf_pages

PAGES, COUNT, EXPONENT = 10_000, 200_000, 0.99


@pytest.fixture(scope="module")
def frequencies() -> list[int]:
    """How often each page was drawn, the most frequent first."""
    drawn = zipf_pages(PAGES, COUNT, EXPONENT, seed=1)
    return sorted(np.bincount(drawn, minlength=PAGES).tolist(), reverse=True)


def test_a_rank_is_drawn_as_often_as_the_law_says(frequencies: list[int]) -> None:
    total = sum(rank**-EXPONENT for rank in range(1, PAGES + 1))
    for rank in (1, 2, 5, 10):
        expected = COUNT * rank**-EXPONENT / total
        assert frequencies[rank - 1] == pytest.approx(expected, rel=0.08)


def test_a_quarter_of_the_pages_gets_most_of_the_visits(frequencies: list[int]) -> None:
    ranks = np.arange(1, PAGES + 1) ** -EXPONENT
    expected = ranks[: PAGES // 4].sum() / ranks.sum()
    assert sum(frequencies[: PAGES // 4]) / COUNT == pytest.approx(expected, abs=0.03)


def test_every_process_has_the_same_hot_pages_and_visits_of_its_own() -> None:
    first, second = (zipf_pages(PAGES, COUNT, EXPONENT, seed) for seed in (1, 2))
    hot = [set(np.argsort(np.bincount(drawn))[-5:].tolist()) for drawn in (first, second)]
    assert hot[0] == hot[1]
    assert (first != second).any()


def test_hot_pages_are_no_neighbours() -> None:
    hot = np.argsort(np.bincount(zipf_pages(PAGES, COUNT, EXPONENT, seed=1)))[-10:]
    assert np.diff(np.sort(hot)).min() > 1


def test_there_may_be_one_page() -> None:
    assert zipf_pages(1, 5, EXPONENT, seed=0).tolist() == [0] * 5
