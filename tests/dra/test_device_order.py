"""The order devices are published in: complete, best first, the same for every reader of one table."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dra.catalog import models
from dra.device_order import (
    SCALE,
    OrderRefused,
    OrderTable,
    device_order,
    order_table,
    parse_tables,
    render_tables,
    same_order,
)
from dra.mig import geometry

H100 = models()["H100-80GB"]
MIG_MODELS = [model for model in models().values() if model.profiles]

grids = st.sampled_from([model for model in MIG_MODELS if model.units <= 8])


@st.composite
def tables(draw):
    model = draw(grids)
    seed = draw(st.lists(st.integers(0, 1000), min_size=model.units, max_size=model.units))
    # The worth of what is free, so more free space is never worth less.
    worth = [
        sum(w for unit, w in enumerate(seed) if not mask >> unit & 1) for mask in range(1 << model.units)
    ]
    return model, order_table([float(value) for value in worth])


@settings(deadline=None, max_examples=50)
@given(tables(), st.data())
def test_every_placement_is_in_the_order_once_and_what_fits_comes_first(case, data):
    model, table = case
    mask = data.draw(st.integers(0, (1 << model.units) - 1))
    order = device_order(model, mask, table)
    assert sorted(order, key=str) == sorted(geometry(model).placements, key=str)
    fits = [not placement.bits & mask for placement in order]
    assert fits == sorted(fits, reverse=True)
    lost = [table.worth[mask] - table.worth[mask | p.bits] for p in order if not p.bits & mask]
    assert lost == sorted(lost)


@settings(deadline=None, max_examples=25)
@given(tables(), tables())
def test_tables_survive_the_config_map(one, other):
    written = {one[0].name: one[1], other[0].name: other[1]}
    assert dict(parse_tables(render_tables(written))) == written


@pytest.mark.parametrize("model", MIG_MODELS, ids=lambda m: m.name)
def test_without_a_table_the_order_does_least_harm(model):
    for mask in (0, 1, 3):
        assert device_order(model, mask, None) == geometry(model).least_harm_order(mask, {})


def test_a_table_for_another_grid_counts_as_none():
    assert device_order(H100, 1, OrderTable((4, 2, 1, 0))) == device_order(H100, 1, None)


def test_equal_losses_go_to_the_low_start():
    flat = order_table([8.0 - mask.bit_count() for mask in range(256)])
    starts = [p.start for p in device_order(H100, 0, flat) if p.profile == "1g.10gb"]
    assert starts == sorted(starts)


def test_an_empty_gpu_counts_the_scale_and_the_least_worth_nothing():
    table = order_table([3.0, 2.0, 2.5, 1.0])
    assert table == OrderTable((SCALE, SCALE // 2, 3 * SCALE // 4, 0))
    assert table.units == 2
    assert order_table([1.0, 1.0]) == OrderTable((0, 0))


def test_a_change_that_no_pod_can_tell_is_the_same_order():
    flat = [8.0 - mask.bit_count() for mask in range(256)]
    low_end_dear = [value - 2.0 * (mask & 1) for mask, value in enumerate(flat)]
    assert same_order(H100, order_table(flat), order_table([2.0 * value + 1.0 for value in flat]))
    assert not same_order(H100, order_table(flat), order_table(low_end_dear))


@pytest.mark.parametrize("count", [0, 3, 100])
def test_worths_must_be_one_for_each_mask(count):
    with pytest.raises(OrderRefused, match=f"got {count} worths"):
        order_table([1.0] * count)


def test_the_profiles_that_are_expected_are_told_where_they_are_known():
    told = order_table([1.0, 0.0], ["3g.40gb", "1g.10gb"])
    assert parse_tables(render_tables({"X": told}))["X"].expected == {"1g.10gb", "3g.40gb"}
    assert parse_tables(render_tables({"X": order_table([1.0, 0.0])}))["X"].expected is None
    assert parse_tables(render_tables({"X": order_table([1.0, 0.0], [])}))["X"].expected == frozenset()


def test_worths_must_be_finite():
    with pytest.raises(OrderRefused, match="not finite"):
        order_table([1.0, float("nan")])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ("[]", "got version 'list', expected 1"),
        ('{"version": 2, "tables": {}}', "got version 2, expected 1"),
        ('{"version": 1}', "tables: got NoneType"),
        ('{"version": 1, "tables": {"X": 3}}', r"tables\['X'\]: got int"),
        ('{"version": 1, "tables": {"X": {"units": 99, "worth": []}}}', "units: got 99"),
        ('{"version": 1, "tables": {"X": {"units": 1, "worth": [1]}}}', "worth: got 1, expected 2 numbers"),
        ('{"version": 1, "tables": {"X": {"units": 1, "worth": [1, 0.5]}}}', "whole numbers only"),
        (json.dumps({"version": 1, "tables": {"X": {"units": 1, "worth": [1, True]}}}), "whole numbers only"),
        (
            json.dumps({"version": 1, "tables": {"X": {"units": 1, "worth": [1, 0], "expected": "1g"}}}),
            r"\['X'\].expected: got '1g', expected a list",
        ),
    ],
)
def test_text_that_is_no_order_is_refused_with_what_and_where(text, words):
    with pytest.raises(OrderRefused, match=words):
        parse_tables(text)
