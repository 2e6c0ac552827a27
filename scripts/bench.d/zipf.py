"""Numbers that follow Zipf's law: what programs with a few hot pages and many cold ones touch.

The page of rank k is drawn with a probability proportional to ``k ** -exponent``. Ranks are spread
over the pages by a permutation, or all hot pages would be neighbours and read-ahead would hit.
"""

import numpy as np

from pages import Words

__all__ = ["zipf_pages"]


def zipf_pages(pages: int, count: int, exponent: float, seed: int) -> Words:
    """``count`` page numbers below ``pages``; the ranking is the same for every seed."""
    cumulative = np.cumsum(np.arange(1, pages + 1, dtype=np.float64) ** -exponent)
    drawn = np.random.default_rng(seed).random(count) * cumulative[-1]
    ranks = np.searchsorted(cumulative, drawn, side="right")
    page_of_rank: Words = np.random.default_rng(0).permutation(pages)
    drawn_pages: Words = page_of_rank[np.minimum(ranks, pages - 1)]
    return drawn_pages
