"""MIG geometry: the tables agree with overlap of intervals and with counts worked out by other means."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dra.catalog import models, whole_gpu_model
from dra.mig import WHOLE, Geometry, Placement, geometry

MIG_MODELS = [model for model in models().values() if model.profiles]
SEVEN_SLICE = [model for model in MIG_MODELS if model.units == 8]

any_geometry = st.sampled_from(MIG_MODELS).map(geometry)


@st.composite
def geometry_and_mask(draw):
    grid = draw(any_geometry)
    return grid, draw(st.integers(0, grid.n_states - 1))


def without_double_memory(model):
    return dataclasses.replace(
        model, profiles=tuple(p for p in model.profiles if not (p.compute_slices == 1 and p.size == 2))
    )


@pytest.mark.parametrize("model", SEVEN_SLICE, ids=lambda m: m.name)
def test_a_seven_slice_gpu_has_723_states_and_78_maximal_layouts(model):
    grid = geometry(model)
    layouts = grid.maximal_layouts()
    assert grid.state_count() == 723
    assert len(layouts) == 78
    assert len({tuple(sorted(p.profile for p in layout)) for layout in layouts}) == 38


@pytest.mark.parametrize("model", SEVEN_SLICE, ids=lambda m: m.name)
def test_without_the_double_memory_profile_it_has_298_states_and_19_maximal_layouts(model):
    grid = geometry(without_double_memory(model))
    assert grid.state_count() == 298
    assert len(grid.maximal_layouts()) == 19


@pytest.mark.parametrize("name", ["A30-24GB", "RTX-PRO-6000-Blackwell-96GB"])
def test_a_four_slice_gpu_has_26_states_and_5_maximal_layouts(name):
    grid = geometry(models()[name])
    assert grid.state_count() == 26
    assert len(grid.maximal_layouts()) == 5


@settings(deadline=None)
@given(geometry_and_mask())
def test_a_placement_fits_exactly_when_no_unit_overlaps(case):
    grid, mask = case
    occupied = {unit for unit in range(grid.model.units) if mask >> unit & 1}
    for index, placement in enumerate(grid.placements):
        units = set(range(placement.start, placement.start + placement.size))
        assert bool(grid.fits[index, mask]) == units.isdisjoint(occupied)
        assert (placement.start in grid.free_starts(placement.profile, mask)) == units.isdisjoint(occupied)


@pytest.mark.parametrize("model", MIG_MODELS, ids=lambda m: m.name)
def test_reachable_masks_are_those_that_sets_of_instances_occupy(model):
    grid = geometry(model)
    masks = {0}
    for placement in [*grid.placements] * model.units:
        masks |= {mask | placement.bits for mask in masks if not mask & placement.bits}
    assert {mask for mask in range(grid.n_states) if grid.reachable[mask]} == masks | {grid.full_mask}


@settings(deadline=None)
@given(geometry_and_mask(), st.data())
def test_occupied_units_only_grow_and_never_exceed_the_gpu(case, data):
    grid, mask = case
    for _ in range(grid.model.units):
        fitting = [p for i, p in enumerate(grid.placements) if grid.fits[i, mask]]
        if not fitting:
            break
        placement = data.draw(st.sampled_from(fitting))
        after = mask | placement.bits
        assert after.bit_count() == mask.bit_count() + placement.size
        assert after <= grid.full_mask
        mask = after


@settings(deadline=None)
@given(geometry_and_mask())
def test_the_least_harm_order_is_complete_and_puts_what_fits_first(case):
    grid, mask = case
    order = grid.least_harm_order(mask, {})
    assert sorted(order, key=repr) == sorted(grid.placements, key=repr)
    fits = [not placement.bits & mask for placement in order]
    assert fits == sorted(fits, reverse=True)
    harms = [grid.lost(mask, p, {}) for p, ok in zip(order, fits, strict=True) if ok]
    assert harms == sorted(harms)


@settings(deadline=None)
@given(geometry_and_mask(), st.data())
def test_first_start_is_the_first_listed_start_that_is_free(case, data):
    grid, mask = case
    order = tuple(data.draw(st.permutations(grid.placements)))
    profile = data.draw(st.sampled_from(grid.model.profiles)).name
    expected = next((p.start for p in order if p.profile == profile and not p.bits & mask), -1)
    assert grid.first_start(order, profile)[mask] == expected


def test_on_an_empty_gpu_small_instances_go_where_nothing_big_can_start():
    grid = geometry(models()["A100-40GB"])
    first: dict[str, int] = {}
    for placement in grid.least_harm_order(0, {}):
        first.setdefault(placement.profile, placement.start)
    assert first["1g.5gb"] == 6
    assert first["2g.10gb"] == 4
    assert first["3g.20gb"] == 4


def test_ties_go_to_high_starts():
    grid = geometry(models()["A30-24GB"])
    starts = [p.start for p in grid.least_harm_order(0, {}) if p.profile == "1g.6gb"]
    assert starts == [3, 2, 1, 0]


def test_weights_turn_the_order_towards_the_expected_mix():
    grid = geometry(models()["A100-40GB"])
    for_3g = [p.start for p in grid.least_harm_order(0b1, {"3g.20gb": 1.0}) if p.profile == "1g.5gb"]
    assert for_3g[:3] == [3, 2, 1]
    assert grid.lost(0, Placement("1g.5gb", 6, 1), {"4g.20gb": 1.0}) == 0.0
    assert grid.lost(0, Placement("1g.5gb", 0, 1), {"4g.20gb": 1.0}) == 4.0
    assert grid.lost(0, Placement("1g.5gb", 0, 1), {WHOLE: 1.0}) == 8.0
    assert grid.lost(0b1000000, Placement("1g.5gb", 0, 1), {WHOLE: 1.0}) == 0.0


def test_the_eighth_unit_is_reached_only_by_double_memory_3g_and_7g():
    grid = geometry(models()["H100-80GB"])
    reach = {(p.profile, p.start) for p in grid.placements if p.bits & 0b10000000}
    assert reach == {("1g.20gb", 6), ("3g.40gb", 4), ("7g.80gb", 0)}


@pytest.mark.parametrize(
    ("mask", "stranded"),
    [(0, 0), (0b01000000, 1), (0b00000001, 0), (0b11111111, 0), (0b01111111, 1), (0b00001111, 0)],
)
def test_units_that_no_instance_can_cover_are_stranded(mask, stranded):
    assert geometry(models()["H100-80GB"]).stranded_units(mask) == stranded


@settings(deadline=None)
@given(geometry_and_mask())
def test_stranded_units_are_the_free_ones_beyond_the_best_filling(case):
    grid, mask = case
    plain = [p for p in grid.placements if grid.model.profile(p.profile).plain]

    def best(occupied, position):
        most = 0
        for index in range(position, len(plain)):
            if not plain[index].bits & occupied:
                most = max(most, plain[index].size + best(occupied | plain[index].bits, index + 1))
        return most

    if mask.bit_count() >= grid.model.units // 2:  # keeps the search small
        assert grid.stranded_units(mask) == grid.model.units - mask.bit_count() - best(mask, 0)


def test_a_whole_gpu_model_has_one_unit_and_no_placements():
    grid = geometry(whole_gpu_model("Some GPU", 1000))
    assert isinstance(grid, Geometry)
    assert (grid.n_states, grid.placements, grid.full_mask) == (2, (), 1)
    assert list(grid.reachable) == [True, True]
    assert grid.free_starts(WHOLE, 0) == (0,)
    assert grid.free_starts(WHOLE, 1) == ()
    assert grid.least_harm_order(0, {}) == ()
    assert grid.stranded_units(0) == 0


def test_the_whole_gpu_starts_at_zero_only_when_empty():
    grid = geometry(models()["A100-40GB"])
    starts = grid.first_start(grid.placements, WHOLE)
    assert starts[0] == 0
    assert set(starts[1:]) == {-1}


def test_a_grid_too_large_for_tables_is_refused_with_numbers():
    with pytest.raises(ValueError, match="20 memory units, expected 1 to 16"):
        geometry(dataclasses.replace(models()["A100-40GB"], units=20))
