"""Replicas of a model's variants: the cheapest that suffice, handed over without a gap."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from autoscaler.variants import KEPT_SECONDS, WORTH_A_CHANGE, Variant, cheapest, handed_over, need_rps


def variant(name, capacity, price, current=0, most=20, *, ready=None, wanted=None, least=0, start=60.0):
    return Variant(
        name,
        capacity,
        price,
        current,
        current if ready is None else ready,
        current if wanted is None else wanted,
        least,
        most,
        start,
    )


def test_requests_in_time_are_bought_where_they_cost_least():
    slow, quick = variant("l40s", 2.0, 1.0), variant("h100", 5.0, 1.9)
    assert quick.price_of_a_million < slow.price_of_a_million
    assert cheapest([slow, quick], 20.0) == {"l40s": 0, "h100": 4}
    # The last bit of load is cheaper on the small one.
    assert cheapest([slow, quick], 21.0) == {"l40s": 1, "h100": 4}


def test_what_cannot_be_placed_is_bought_elsewhere():
    quick = variant("h100", 5.0, 2.0, most=2)
    assert cheapest([variant("l40s", 2.0, 1.0), quick], 20.0) == {"l40s": 5, "h100": 2}


def test_with_too_little_room_everything_is_taken():
    assert cheapest([variant("a", 1.0, 1.0, most=2), variant("b", 1.0, 9.0, most=1)], 50.0) == {
        "a": 2,
        "b": 1,
    }


def test_a_small_gain_does_not_pay_for_a_new_start():
    runs = variant("a100", 2.0, 1.05, current=4)
    other = variant("h100", 2.0, 1.0, start=600.0)
    assert cheapest([runs, other], 8.0) == {"a100": 4, "h100": 0}
    assert cheapest([runs, variant("h100", 2.0, 0.7, start=600.0)], 8.0) == {"a100": 0, "h100": 4}


def test_the_old_ones_stay_until_the_new_ones_are_ready():
    old = variant("a100", 2.0, 2.0, current=4)
    counts = {"a100": 0, "h100": 4}
    asked = handed_over([old, variant("h100", 2.0, 1.0)], counts, 8.0)
    assert asked == {"a100": 4, "h100": 4}
    half = handed_over([old, variant("h100", 2.0, 1.0, current=4, ready=3)], counts, 8.0)
    assert half == {"a100": 1, "h100": 4}
    done = handed_over([old, variant("h100", 2.0, 1.0, current=4)], counts, 8.0)
    assert done == counts


def test_the_dearest_goes_first():
    counts = {"dear": 0, "cheap": 0, "new": 4}
    left = handed_over(
        [
            variant("dear", 2.0, 3.0, current=2),
            variant("cheap", 2.0, 2.0, current=2),
            variant("new", 2.0, 1.0, current=4, ready=2),
        ],
        counts,
        8.0,
    )
    assert left == {"dear": 0, "cheap": 2, "new": 4}


def test_a_price_of_nothing_is_refused():
    with pytest.raises(ValueError, match="variant free: got capacity 1 and price 0"):
        cheapest([variant("free", 1.0, 0.0)], 1.0)


variants = st.lists(
    st.tuples(
        st.sampled_from([0.5, 1.0, 1.7, 3.0, 5.0]),
        st.floats(0.2, 5.0),
        st.integers(0, 4),
        st.integers(0, 4),
        st.integers(0, 4),
    ),
    min_size=1,
    max_size=3,
).map(
    lambda rows: [
        variant(f"v{place}", capacity, price, current, most, ready=min(ready, current), wanted=current)
        for place, (capacity, price, current, most, ready) in enumerate(rows)
    ]
)


@settings(max_examples=150, deadline=None)
@example([variant("small", 0.5, 1.0, 0, 3), variant("large", 3.0, 1.0, 0, 3)], 10.0)
@given(variants, st.floats(0.0, 20.0))
def test_no_other_counts_are_cheaper(found, need):
    def cost(counts):
        return sum(
            one.price
            * (count + max(0, count - one.current) * (one.cold_start_seconds / KEPT_SECONDS + WORTH_A_CHANGE))
            for one, count in zip(found, counts, strict=True)
        )

    answer = cheapest(found, need)
    enough = [
        counts
        for counts in itertools.product(*(range(one.most + 1) for one in found))
        if sum(one.capacity * count for one, count in zip(found, counts, strict=True)) >= need
    ]
    if not enough:
        assert answer == {one.name: one.most for one in found}
        return
    ours = [answer[one.name] for one in found]
    assert sum(one.capacity * count for one, count in zip(found, ours, strict=True)) >= need - 1e-6
    assert cost(ours) <= min(map(cost, enough)) + 1e-4


@settings(max_examples=150, deadline=None)
@given(variants, st.floats(0.0, 20.0))
def test_handing_over_never_gives_up_what_is_needed_and_ready(found, need):
    counts = cheapest(found, need)
    asked = handed_over(found, counts, need)
    serves = sum(one.capacity * min(one.ready, asked[one.name]) for one in found)
    could = sum(one.capacity * one.ready for one in found)
    assert serves >= min(need, could) - 1e-6
    for one in found:
        assert counts[one.name] <= asked[one.name] <= max(counts[one.name], one.current)


def test_the_need_is_what_the_own_decisions_ask_for():
    assert need_rps([variant("a", 2.0, 1.0, wanted=3), variant("b", 0.5, 1.0, wanted=2)]) == 7.0
