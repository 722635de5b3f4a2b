"""The study of when an order is published anew."""

from __future__ import annotations

import pytest

from benchmarks.order_writes import measure, play
from dra.catalog import models
from dra.device_order import order_table
from scheduler.packing.mig_values import mask_values

H100 = models()["H100-80GB"]
SHARES = {"1g.10gb": 0.5, "3g.40gb": 0.5}
WORTH = mask_values(H100, {name: 1000.0 * share for name, share in SHARES.items()}).tolist()


def test_where_every_place_costs_the_same_nothing_is_ever_written():
    flat = order_table([8.0 - mask.bit_count() for mask in range(256)], SHARES)
    found = play(H100, SHARES, flat, gpus=2, load=0.9, jobs=150, seed=1)
    assert [writes for _, writes in found.values()] == [0.0, 0.0]


def test_both_see_the_same_arrivals_and_the_bound_writes_less():
    table = order_table(WORTH, SHARES)
    one, other = (play(H100, SHARES, table, gpus=2, load=0.9, jobs=150, seed=2) for _ in range(2))
    assert one == other
    assert one[True][1] < one[False][1]
    assert all(0.0 < accepted <= 100.0 for accepted, _ in one.values())


def test_with_room_for_everybody_everybody_is_accepted():
    found = play(H100, SHARES, order_table(WORTH, SHARES), gpus=4, load=0.01, jobs=50, seed=3)
    assert [accepted for accepted, _ in found.values()] == [100.0, 100.0]


def test_the_difference_is_of_pairs():
    found = measure("H100-80GB", "1g:35,3g:25", gpus=2, load=0.9, jobs=60, seeds=3)
    accepted = found["accepted_percent"]
    mean = found["accepted_difference"]["mean"]
    assert mean == pytest.approx(accepted["bounded"] - accepted["always"])
    low, high = found["accepted_difference"]["ci95"]
    assert low <= mean <= high
