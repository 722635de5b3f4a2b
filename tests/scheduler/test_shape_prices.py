"""Vectors of prices kept up to date row by row, content by content: the same as priced from nothing."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.feasibility import Reason
from scheduler.fleet import Fleet
from scheduler.pricing import priced
from scheduler.row_contents import RowContents
from scheduler.shape_prices import teller
from tests.scheduler.fleet_objects import Setting, node, pod, policy, slices

GPU, CUT = "nvidia.com/gpu", "nvidia.com/mig-1g.10gb"
ASKED = ({GPU: 1}, {GPU: 2}, {CUT: 1}, {CUT: 3})
NODES = 6


def fleet_of(nodes: int) -> Fleet:
    fleet = Fleet()
    for number in range(nodes):
        if number % 2:
            fleet.apply_node(node(f"n{number}", allocatable={GPU: "4"}))
        else:
            fleet.apply_node(node(f"n{number}"))
            for item in slices(f"n{number}"):
                fleet.apply_slice(item)
    return fleet


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["bind", "end", "reserve", "release", "node goes", "node comes"]),
        st.integers(0, NODES - 1),
        st.integers(0, len(ASKED) - 1),
        st.integers(0, 4),
        st.booleans(),
    ),
    max_size=25,
)


@settings(max_examples=20, deadline=None)
@given(CHANGES)
def test_prices_and_refusals_are_those_of_pricing_every_row_anew(changes):
    fleet = fleet_of(NODES)
    setting = Setting(fleet)
    decider = setting.decider
    demands = [demand for wanted in ASKED if (demand := decider.demand(pod("p", wanted))) is not None]
    for what, where, kind, which, ask in [*changes, ("end", 0, 0, 0, True)]:
        name = f"n{where}"
        if what == "bind" and name in fleet.rows:
            fleet.apply_pod(pod(f"b{which}", ASKED[kind], on=name))
        elif what == "end":
            fleet.delete_pod(f"uid-b{which}")
        elif what == "reserve" and name in fleet.rows:
            fleet.reserve(f"r{which}", fleet.rows[name], demands[kind], 1e9)
        elif what == "release":
            fleet.release(f"r{which}")
        elif what == "node goes":
            fleet.delete_node(name)
        elif what == "node comes":
            fleet.apply_node(node(name, allocatable={GPU: "4"}))
        if not ask:
            continue
        for demand in demands:
            told = [Reason("", False)]
            expected = priced(demand, decider.world(), fleet.view(), teller(told, {}))
            assert decider.prices(demand).tolist() == pytest.approx(expected.total.tolist(), abs=1e-12)
            found, texts = decider.shapes.refusals(demand, np.arange(fleet.size))
            assert [texts[number] for number in found] == [told[number] for number in expected.reasons]


def test_equal_nodes_are_priced_once_for_a_demand():
    fleet = fleet_of(0)
    for number in range(50):
        fleet.apply_node(node(f"n{number}", allocatable={GPU: "4"}))
    decider = Setting(fleet).decider
    demand = decider.demand(pod("p", {GPU: 1}))
    assert demand is not None
    assert len(set(decider.prices(demand).tolist())) == 1
    assert decider.shapes.rows_repriced == 1
    for number in range(30):
        fleet.apply_pod(pod(f"p{number}", {GPU: 1}, on=f"n{number}"))
    decider.prices(demand)
    assert decider.shapes.rows_repriced == 2
    for number in range(30):
        fleet.delete_pod(f"uid-p{number}")
    decider.prices(demand)
    assert decider.shapes.rows_repriced == 2


def test_contents_that_are_too_many_are_numbered_anew():
    fleet = fleet_of(2)
    contents = RowContents(fleet)
    contents.of_rows()
    before = contents.stamp
    fleet.ids_renewed += 1
    assert contents.of_rows()[:2].tolist() == [0, 1]
    assert contents.stamp == before + 1


def test_prices_of_contents_in_use_outlive_the_forgetting_of_others(monkeypatch):
    monkeypatch.setattr("scheduler.row_contents._FEWEST_KEPT", 8)
    fleet = fleet_of(NODES)
    decider = Setting(fleet).decider
    demands = [demand for wanted in ASKED if (demand := decider.demand(pod("p", wanted))) is not None]
    draw = random.Random(1)
    for step in range(80):
        fleet.reserve(f"r{step}", step % NODES, draw.choice(demands), 1e9)
        if step >= 8:
            fleet.release(f"r{step - draw.randrange(1, 8)}")
        decider.refresh(demands[:1])
        for demand in demands:
            expected = priced(demand, decider.world(), fleet.view(), teller([Reason("", False)], {}))
            assert decider.prices(demand).tolist() == pytest.approx(expected.total.tolist(), abs=1e-12)
    assert decider.shapes._contents.stamp > 3
    # Only the first look at each demand priced on request; what changed later was priced ahead.
    assert decider.shapes.rows_repriced <= len(demands) * NODES
    assert decider.shapes.pairs_priced > 0


@settings(max_examples=25, deadline=None)
@given(CHANGES, st.integers(0, 2))
def test_what_is_priced_ahead_is_what_a_request_would_have_priced(changes, carbon):
    fleet = fleet_of(NODES)
    extended = {"terms": {"carbon": float(carbon)}}
    decider = Setting(fleet, policy(**extended)).decider
    models = {"slicewise.io/gpu-model": "A100-80GB"}
    loaded = {"slicewise.io/weights": "w"}
    asked = [
        *(pod("p", wanted) for wanted in ASKED),
        pod("p", {GPU: 2}, annotations=models),
        pod("p", {CUT: 1}, annotations=loaded),
        pod("p", {GPU: 3}, annotations={"slicewise.io/nvlink-weight": "1"}),
    ]
    demands = [demand for one in asked if (demand := decider.demand(one)) is not None]
    for demand in demands:
        decider.prices(demand)
    seen = decider.shapes.rows_repriced
    for what, where, kind, which, _ in changes:
        name = f"n{where}"
        if what == "bind":
            fleet.apply_pod(pod(f"b{which}", ASKED[kind], on=name))
        elif what == "end":
            fleet.delete_pod(f"uid-b{which}")
        elif what == "reserve":
            fleet.reserve(f"r{which}", fleet.rows[name], demands[kind], 1e9)
        elif what == "release":
            fleet.release(f"r{which}")
        decider.refresh([])
        for demand in demands:
            told = [Reason("", False)]
            expected = priced(demand, decider.world(), fleet.view(), teller(told, {}))
            assert decider.prices(demand).tolist() == pytest.approx(expected.total.tolist(), abs=1e-12)
            found, texts = decider.shapes.refusals(demand, np.arange(fleet.size))
            assert [texts[number] for number in found] == [told[number] for number in expected.reasons]
    assert decider.shapes.rows_repriced == seen
