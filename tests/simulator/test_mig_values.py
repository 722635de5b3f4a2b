"""The value tables of MIG cards: monotone in money, the same choices as in the study, what they prefer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dra.catalog import models
from dra.device_order import device_order, order_table
from dra.mig import geometry
from scheduler.packing.mig_order import PATIENCE_SECONDS, urgency
from scheduler.packing.mig_space import layouts, memory_space
from scheduler.packing.mig_values import card_values, mask_values, rounded_shares

H100 = models()["H100-80GB"]
MIX = {"1g.10gb": 35.0, "2g.20gb": 25.0, "3g.40gb": 25.0, "7g.80gb": 5.0}
MIG_MODELS = sorted(name for name, model in models().items() if model.profiles)


@st.composite
def demands(draw):
    model = models()[draw(st.sampled_from(MIG_MODELS))]
    plain = [p.name for p in model.profiles if p.plain]
    counts = {name: draw(st.floats(0.0, 100.0)) for name in plain}
    waiting = draw(st.sets(st.sampled_from(plain)))
    return model, counts, frozenset(waiting)


@given(demands())
@settings(max_examples=25, deadline=None)
def test_less_free_space_is_never_worth_more(demand):
    model, counts, waiting = demand
    worth = mask_values(model, counts, waiting, empty_worth=2.5)
    assert worth.shape == (1 << model.units,)
    assert worth[0] == pytest.approx(2.5)
    assert worth[-1] == 0.0
    masks = np.arange(len(worth))
    for unit in range(model.units):
        without = masks[(masks >> unit & 1) == 0]
        assert (worth[without] >= worth[without | 1 << unit] - 1e-9).all()


@given(demands())
@settings(max_examples=10, deadline=None)
def test_the_table_in_money_makes_the_choices_of_the_study(demand):
    model, counts, waiting = demand
    profiles = tuple(p.name for p in model.profiles if p.plain and counts.get(p.name, 0.0) > 0.0)
    profiles = profiles or tuple(p.name for p in model.profiles if p.plain)
    space = memory_space(model, profiles)
    held = frozenset(i for i, name in enumerate(profiles) if name in waiting)
    values = card_values(space, rounded_shares(counts, profiles), held)
    worth = mask_values(model, counts, waiting)
    for steps in space.steps:
        costs = [
            (values[state] - values[state + number], worth[state] - worth[state + number])
            for state in space.states
            for _, number in steps[state]
        ]
        study, money = (np.array(column) for column in zip(*costs, strict=True))
        scale = np.polyfit(study, money, 1) if np.ptp(study) > 1e-9 else (0.0, money.mean())
        assert np.allclose(money, np.polyval(scale, study), atol=1e-9)
        assert scale[0] >= -1e-12


def test_the_window_that_wastes_no_compute_is_kept_for_the_profile_that_needs_it():
    # 3g@4 takes the half with three slices, 3g@0 wastes one of four: small instances go low, 3g high.
    first = device_order(H100, 0, order_table(mask_values(H100, MIX).tolist()))
    assert next(p.start for p in first if p.profile == "3g.40gb") == 4
    assert next(p.start for p in first if p.profile == "1g.10gb") in (0, 1, 2, 3)
    assert next(p.start for p in first if p.profile == "2g.20gb") in (0, 2)


def test_free_space_in_one_piece_is_worth_more_than_the_same_on_two_cards():
    worth = mask_values(H100, MIX)
    half, other = 0b00001111, 0b11110000
    assert worth[0] + worth[255] > worth[half] + worth[other]


def test_waiting_profiles_change_the_table():
    assert not np.allclose(mask_values(H100, MIX), mask_values(H100, MIX, ["3g.40gb", "7g.80gb"]))


def test_a_demand_without_known_profiles_counts_all_alike():
    assert np.array_equal(mask_values(H100, {"5g.50gb": 3.0}), mask_values(H100, {}))


def test_shares_are_rounded_so_that_drift_keeps_the_table():
    names = ("a", "b", "c")
    assert rounded_shares({"a": 100, "b": 99, "c": 1}, names) == rounded_shares({"a": 102, "b": 101}, names)
    assert sum(rounded_shares({"a": 1, "b": 2, "c": 3}, names)) == pytest.approx(1.0)
    assert rounded_shares({}, names) == pytest.approx((1 / 3, 1 / 3, 1 / 3))


def test_a_share_for_each_profile_is_asked_for():
    with pytest.raises(ValueError, match=r"expected one for each of 1g\.10gb"):
        card_values(memory_space(H100, ("1g.10gb",)), (0.5, 0.5), frozenset())


def test_a_profile_with_a_suffix_is_refused():
    with pytest.raises(ValueError, match=r"1g\.10gb\+me"):
        memory_space(H100, ("1g.10gb+me",))


def test_the_layouts_of_a_card_are_those_the_geometry_counts():
    plain = tuple(p.name for p in H100.profiles if p.plain)
    assert len(layouts(memory_space(H100, plain))) == geometry(H100).state_count() == 723


@given(st.integers(1, 7), st.floats(0.0, 7.0), st.floats(0.0, 1e5), st.floats(0.0, 1e5))
def test_urgency_grows_with_waiting_and_falls_with_what_is_lost(slices, lost, waited, more):
    assert urgency(slices, lost, waited + more) >= urgency(slices, lost, waited)
    assert urgency(slices, lost + 1.0, waited) < urgency(slices, lost, waited)


def test_large_pods_are_not_starved_for_ever():
    fresh_small = urgency(1, 0.0, 0.0)
    assert urgency(7, 14.0, 15 * PATIENCE_SECONDS) > fresh_small
    with pytest.raises(ValueError, match="expected more than 0"):
        urgency(0, 0.0, 0.0)
