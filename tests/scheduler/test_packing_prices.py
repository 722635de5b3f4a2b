"""The packing LP and its price tables: dual to brute force, scarce means dear, ample means free, stable and
quick.
"""

from __future__ import annotations

import random
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ortools.linear_solver import pywraplp

from dra.catalog import models, whole_gpu_model
from dra.mig import geometry
from scheduler.packing import prices
from scheduler.packing.mix import DemandMix, uniform
from scheduler.packing.prices import FleetSummary, unsolved


def flat(model):
    return 2.0


def solve_prices(fleet, mix, gpu_hour, previous=None, seconds=60.0):
    """The solve as shipped, but with time enough on whatever machine."""
    return prices.solve_prices(fleet, mix, gpu_hour, previous, seconds)


def as_counted(**counts):
    return DemandMix(
        {name.replace("_", ":", 1).replace("_", "."): count for name, count in counts.items()}, None
    )


def fillings(model, mask, names):
    """Every multiset of profiles that fits the free units of one GPU, found by trying all placements."""
    found = set()

    def extend(occupied, taken, media):
        found.add(tuple(sorted(taken)))
        for placement in geometry(model).placements:
            profile = model.profile(placement.profile)
            if (
                f"mig:{placement.profile}" in names
                and not placement.bits & occupied
                and not (media and profile.media)
            ):
                extend(
                    occupied | placement.bits, [*taken, f"mig:{placement.profile}"], media or profile.media
                )

    extend(mask, [], False)
    return found


def optimum_by_enumeration(model, states, free_gpus, demand, value):
    """The LP with every filling of every state written out; free GPUs are single-GPU nodes here."""
    solver = pywraplp.Solver.CreateSolver("GLOP")
    rows = {name: solver.Constraint(0.0, count) for name, count in demand.items()}
    solver.Objective().SetMaximization()
    for mask, count in [*states.items(), (0, free_gpus)]:
        supply = solver.Constraint(0.0, count)
        options = fillings(model, mask, demand.keys())
        if mask == 0 and "whole:1" in demand:
            options |= {("whole:1",)}
        for filling in options:
            column = solver.NumVar(0.0, solver.infinity(), "")
            supply.SetCoefficient(column, 1.0)
            for name in set(filling):
                rows[name].SetCoefficient(column, filling.count(name))
            solver.Objective().SetCoefficient(column, sum(value[name] for name in filling))
    assert solver.Solve() == pywraplp.Solver.OPTIMAL
    return solver.Objective().Value()


@settings(max_examples=40, deadline=None)
@given(
    states=st.dictionaries(st.integers(1, 14), st.integers(1, 5), max_size=5),
    free=st.integers(0, 4),
    demand=st.dictionaries(
        st.sampled_from(["mig:1g.6gb", "mig:1g.6gb+me", "mig:2g.12gb", "mig:4g.24gb", "whole:1"]),
        st.integers(1, 9).map(float),
        min_size=1,
    ),
)
def test_column_generation_reaches_the_optimum_over_all_fillings_and_the_duals_prove_it(states, free, demand):
    model = models()["A30-24GB"]
    summary = FleetSummary(
        {model.name: model}, {(model.name, mask): n for mask, n in states.items()}, {(model.name, 1): free}
    )
    tables = solve_prices(summary, DemandMix(demand, None), flat)
    share = dict.fromkeys(demand, 1.0) | {
        f"mig:{p.name}": p.size / model.units for p in model.profiles if f"mig:{p.name}" in demand
    }
    value = {name: 2.0 * share[name] for name in demand}
    expected = optimum_by_enumeration(model, states, free, tables.demand, value)
    assert tables.converged
    assert tables.objective == pytest.approx(expected, abs=1e-6)
    assert tables.bound == pytest.approx(tables.objective, abs=1e-5)


def a100(gpu_states=(), free_nodes=()):
    model = models()["A100-80GB"]
    return FleetSummary(
        {model.name: model},
        {(model.name, mask): count for mask, count in gpu_states},
        {(model.name, free): count for free, count in free_nodes},
    )


def test_prices_are_zero_where_supply_is_ample_and_demand_is_not_scaled():
    tables = solve_prices(a100(free_nodes=[(8, 100)]), as_counted(mig_1g_10gb=3.0, whole_1=2.0), flat)
    assert tables.class_price == pytest.approx({"mig:1g.10gb": 0.0, "whole:1": 0.0}, abs=1e-9)
    assert not tables.gpu_value["A100-80GB"].any()


def test_scaling_keeps_prices_informative_in_the_same_empty_cluster():
    tables = solve_prices(a100(free_nodes=[(8, 100)]), DemandMix({"mig:1g.10gb": 3.0, "whole:1": 2.0}), flat)
    assert tables.gpu_value["A100-80GB"][0] > 0.0


def test_prices_are_positive_under_scarcity_and_never_above_the_value_of_a_request():
    tables = solve_prices(a100([(0b1111, 2)]), as_counted(mig_3g_40gb=9.0, mig_1g_10gb=9.0), flat)
    assert 0.0 < tables.class_price["mig:3g.40gb"] <= 1.0 + 1e-9
    assert 0.0 < tables.gpu_value["A100-80GB"][0b1111] < 1.0


def test_destroying_the_last_window_of_a_scarce_profile_costs_its_price():
    scarce = as_counted(mig_3g_40gb=50.0, mig_1g_10gb=2.0)
    values = solve_prices(a100([(0b1000_0000, 10)]), scarce, flat).gpu_value["A100-80GB"]
    low, high = 0b1000_0001, 0b1001_0000
    assert values[0b1000_0000] - values[low] > values[0b1000_0000] - values[high]


def test_dearer_models_are_dearer_to_destroy():
    h100, a = models()["H100-80GB"], models()["A100-80GB"]
    summary = FleetSummary({h100.name: h100, a.name: a}, {}, {(h100.name, 8): 2, (a.name, 8): 2})
    tables = solve_prices(
        summary, DemandMix({"whole:1": 1.0}), lambda name: 4.0 if name == h100.name else 2.0
    )
    assert tables.gpu_value[h100.name][0] > tables.gpu_value[a.name][0]


def test_a_node_of_eight_free_gpus_is_worth_more_than_its_halves_when_eight_are_asked_for():
    node = solve_prices(a100(free_nodes=[(8, 1), (4, 2)]), DemandMix({"whole:8": 9.0, "whole:1": 1.0}), flat)
    value = node.node_value["A100-80GB"]
    assert value[8] > 2 * value[4]


def test_a_model_restriction_makes_only_that_model_dear():
    h100, a = models()["H100-80GB"], models()["A100-80GB"]
    summary = FleetSummary({h100.name: h100, a.name: a}, {}, {(h100.name, 1): 4, (a.name, 1): 4})
    tables = solve_prices(summary, DemandMix({"whole:1@H100-80GB": 50.0, "whole:1": 1.0}, None), flat)
    assert tables.gpu_value[h100.name][0] == pytest.approx(2.0)
    assert tables.gpu_value[a.name][0] == pytest.approx(0.0)


@pytest.mark.parametrize("mix", [DemandMix(), DemandMix({"mig:9g.999gb": 4.0}), DemandMix({"nonsense": 1.0})])
def test_an_empty_or_unknown_mix_falls_back_to_the_uniform_one(mix):
    summary = a100([(0b1, 4)], [(8, 2)])
    expected = solve_prices(summary, uniform(summary.models.values()), flat)
    assert solve_prices(summary, mix, flat).class_price == pytest.approx(dict(expected.class_price))


def test_fixed_layouts_and_uncut_gpus_serve_only_what_they_can():
    model = models()["A100-80GB"]
    summary = FleetSummary(
        {model.name: model},
        whole_nodes={(model.name, 2): 1},
        static_instances={(model.name, "1g.10gb"): 5},
    )
    tables = solve_prices(summary, DemandMix({"mig:1g.10gb": 100.0, "whole:1": 100.0}, None), flat)
    assert tables.objective == pytest.approx(2 * 2.0 + 5 * 2.0 / 8)
    assert tables.whole_value[model.name][:3].tolist() == pytest.approx([0.0, 2.0, 4.0])


def test_a_model_without_mig_has_a_value_when_free_and_none_when_taken():
    model = whole_gpu_model("Some-New-GPU", 48_000)
    summary = FleetSummary({model.name: model}, {(model.name, 1): 3}, {(model.name, 4): 2})
    tables = solve_prices(summary, DemandMix(), flat)
    assert tables.gpu_value[model.name].shape == (2,)
    assert tables.gpu_value[model.name][0] > 0.0
    assert tables.gpu_value[model.name][1] == 0.0


def test_an_empty_fleet_gives_empty_tables():
    tables = solve_prices(FleetSummary({}), DemandMix({"whole:1": 1.0}), flat)
    assert dict(tables.gpu_value) == {}
    assert tables.converged


def test_a_full_cluster_still_prices_the_space_that_will_come_free():
    tables = solve_prices(a100([(0xFF, 80)]), DemandMix({"whole:1": 5.0, "mig:1g.10gb": 5.0}), flat)
    assert tables.gpu_value["A100-80GB"][0] > 0.0


def test_versions_count_up_and_tables_cannot_be_written():
    summary = a100(free_nodes=[(8, 1)])
    first = solve_prices(summary, DemandMix(), flat, unsolved())
    second = solve_prices(summary, DemandMix(), flat, first)
    assert (first.version, second.version) == (1, 2)
    with pytest.raises(ValueError, match="read-only"):
        first.gpu_value["A100-80GB"][0] = 1.0


def reference_fleet(nodes=1213, seed=7):
    rng = random.Random(seed)
    names = ["A100-80GB", "H100-80GB", "A30-24GB", "B200-180GB", "L40S-48GB", "T4-16GB"]
    states, free_nodes = {}, {}
    for _ in range(nodes):
        name = rng.choice(names)
        placements = geometry(models()[name]).placements
        free = 0
        for _ in range(8):
            if rng.random() < 0.25:
                free += 1
                continue
            mask = 0 if placements else 1
            for placement in rng.sample(placements, min(4, len(placements))):
                mask |= 0 if placement.bits & mask else placement.bits
            states[name, mask] = states.get((name, mask), 0) + 1
        if free:
            free_nodes[name, free] = free_nodes.get((name, free), 0) + 1
    return FleetSummary({name: models()[name] for name in names}, states, free_nodes)


REFERENCE_MIX = DemandMix(
    {
        "mig:1g.10gb": 400.0,
        "mig:1g.20gb": 30.0,
        "mig:2g.20gb": 100.0,
        "mig:3g.40gb": 150.0,
        "mig:7g.80gb": 20.0,
        "mig:1g.6gb": 30.0,
        "mig:2g.12gb": 10.0,
        "mig:1g.23gb": 100.0,
        "mig:1g.10gb+me": 5.0,
        "whole:1": 300.0,
        "whole:2": 40.0,
        "whole:4": 20.0,
        "whole:8": 30.0,
        "whole:1@H100-80GB": 50.0,
    }
)  # fmt: skip


def test_an_update_at_the_size_of_the_reference_trace_takes_seconds_at_most():
    summary = reference_fleet()
    started = time.process_time()
    tables = solve_prices(summary, REFERENCE_MIX, flat)
    assert time.process_time() - started <= 5.0
    assert tables.converged
    assert tables.bound == pytest.approx(tables.objective, rel=1e-6)


def test_solving_again_gives_the_same_prices_with_or_without_the_old_columns():
    summary = reference_fleet(nodes=200)
    first = solve_prices(summary, REFERENCE_MIX, flat)
    assert dict(solve_prices(summary, REFERENCE_MIX, flat).class_price) == dict(first.class_price)
    warm = solve_prices(summary, REFERENCE_MIX, flat, first)
    assert warm.class_price == pytest.approx(dict(first.class_price), abs=1e-6)
    assert warm.rounds < first.rounds


def test_one_arrival_moves_the_prices_little():
    """Without the perturbation and the averaging a single GPU more or less can swing a dual from 0 to its
    full value.
    """
    summary = reference_fleet(nodes=300)
    moved = dict(summary.free_nodes)
    moved["A100-80GB", 1] = moved.get(("A100-80GB", 1), 0) + 1
    before = solve_prices(summary, REFERENCE_MIX, flat)
    after = solve_prices(FleetSummary(summary.models, summary.gpu_states, moved), REFERENCE_MIX, flat, before)
    v_before, v_after = before.gpu_value["A100-80GB"], after.gpu_value["A100-80GB"]
    assert np.abs(v_before - v_after).max() <= 0.25 * v_before.max()


def test_an_exhausted_time_limit_still_gives_usable_tables():
    tables = solve_prices(reference_fleet(nodes=50), REFERENCE_MIX, flat, None, 0.0)
    assert not tables.converged
    values = tables.gpu_value["A100-80GB"]
    assert values[0] > 0.0
    assert (values[np.arange(256) | 1] <= values + 1e-9).all()
