"""From prices to the extender's scores 0..10 (MinExtenderPriority, MaxExtenderPriority).

What is sent is the rank of a price among the distinct prices, best = 10: ties are real ties, and the size
of a gap does not matter, because kube-scheduler adds the score to others of no common unit. Prices equal
after rounding to 1e-9 are one. With up to 11 distinct prices each gets its own score, one step apart; with
more, scores are linear in the rank, rounded down, so that only the best price scores 10. An infinite or NaN
price (the pod does not fit) scores 0 and takes no rank.

Prices are ranked in two steps, so that a webhook that is asked about some of the nodes, over and over,
sorts only when a price has changed: ``distinct`` once, then ``rank_of`` for the nodes in question. Pure.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MOST = 10
DECIMALS = 9

Floats = NDArray[np.float64]


def rank(prices: Floats) -> NDArray[np.uint8]:
    """uint8[k] scores of float64[k] prices."""
    codes, count = distinct(prices)
    return rank_of(codes, count)


def distinct(prices: Floats) -> tuple[NDArray[np.int64], int]:
    """int64[k] position of each price among the distinct ones, cheapest 0; -1 where it is infinite or NaN.
    And their number.
    """
    finite = np.isfinite(prices)
    codes = np.full(prices.shape, -1, dtype=np.int64)
    # Adding 0.0 turns -0.0 into 0.0.
    values, inverse = np.unique(np.round(prices[finite], DECIMALS) + 0.0, return_inverse=True)
    codes[finite] = inverse
    return codes, len(values)


def rank_of(codes: NDArray[np.int64], count: int) -> NDArray[np.uint8]:
    """Scores of some nodes, ranked among themselves, from their ``codes`` (-1: does not fit), all below
    ``count``.
    """
    # One slot more, at the end, is where index -1 lands.
    present = np.zeros(count + 1, dtype=np.bool_)
    present[codes] = True
    present[count] = False
    position = np.cumsum(present) - 1
    scores = _scores(int(position[-1]) + 1)
    table = np.zeros(count + 1, dtype=np.uint8)
    table[present] = scores
    return table[codes]


def _scores(levels: int) -> NDArray[np.uint8]:
    """Score of each distinct price, cheapest first."""
    places = np.arange(levels)
    if levels <= MOST + 1:
        return (MOST - places).astype(np.uint8)
    return (MOST * (levels - 1 - places) // (levels - 1)).astype(np.uint8)
