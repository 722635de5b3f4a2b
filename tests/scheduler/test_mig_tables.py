"""MIG cards in the price tables: the LP's worth of a free GPU, spread over its states by the value table."""

import numpy as np
import pytest

from dra.catalog import models
from scheduler.packing.mig_tables import linear_gradient, mig_demand
from scheduler.packing.mig_values import mask_values
from scheduler.packing.mix import DemandMix, parse_class
from scheduler.packing.prices import solve_prices
from scheduler.packing.supply import FleetSummary, HostPool

H100, A100, L40S = (models()[name] for name in ("H100-80GB", "A100-80GB", "L40S-48GB"))
MIX = {"mig:1g.10gb": 350.0, "mig:2g.20gb": 250.0, "mig:3g.40gb": 250.0, "mig:7g.80gb": 50.0}


def classes(counts):
    return [(parse_class(name), count) for name, count in counts.items()]


def profiles(counts):
    return {name.removeprefix("mig:"): count for name, count in counts.items()}


def free(*found):
    return FleetSummary({m.name: m for m in found}, {}, {(m.name, 4): 2 for m in found})


def hour(model):
    return 2.0


def test_states_are_worth_the_free_gpu_by_the_value_table():
    tables = solve_prices(free(H100), DemandMix(MIX), hour)
    shape = mask_values(H100, profiles(MIX))
    assert tables.mig[H100.name] == pytest.approx(shape)
    assert tables.gpu_value[H100.name] == pytest.approx(shape * tables.node_value[H100.name][1])


def test_what_waits_changes_the_values():
    idle = solve_prices(free(H100), DemandMix(MIX), hour)
    queue = solve_prices(free(H100), DemandMix(MIX), hour, waiting=["mig:3g.40gb"])
    assert not np.allclose(idle.gpu_value[H100.name], queue.gpu_value[H100.name])
    assert queue.mig[H100.name] == pytest.approx(mask_values(H100, profiles(MIX), ["3g.40gb"]))


def test_a_model_that_no_instance_is_expected_on_is_left_to_the_lp():
    demand = {"mig:3g.40gb@H100-80GB": 9.0, "whole:1": 9.0}
    tables = solve_prices(free(H100, A100, L40S), DemandMix(demand), hour)
    assert set(tables.mig) == {H100.name}
    assert not tables.gpu_value[A100.name][1:].any()


def test_whole_gpus_count_as_the_profile_that_takes_the_card():
    found = mig_demand([H100], classes({"mig:1g.10gb": 300.0, "whole:1": 100.0, "whole:2": 200.0}))[H100.name]
    assert found.shape(H100) == pytest.approx(mask_values(H100, {"1g.10gb": 3.0, "7g.80gb": 5.0}))


def test_a_profile_with_a_suffix_counts_as_the_plain_one_of_its_size():
    found = mig_demand([H100], classes({"mig:1g.10gb+me": 300.0, "mig:3g.40gb": 100.0}))[H100.name]
    assert found.shape(H100) == pytest.approx(mask_values(H100, {"1g.10gb": 3.0, "3g.40gb": 1.0}))
    assert found.asked == {"1g.10gb", "1g.10gb+me", "3g.40gb"}


def test_the_profiles_that_the_tables_expect_are_told_with_them():
    tables = solve_prices(free(H100, L40S), DemandMix(MIX), hour)
    assert tables.mig_asked == {H100.name: {"1g.10gb", "2g.20gb", "3g.40gb", "7g.80gb"}}


def test_a_profile_that_waits_is_expected_even_where_none_was_counted():
    waits = [parse_class("mig:7g.80gb")]
    found = mig_demand([H100], classes({"mig:1g.10gb": 900.0}), waits)[H100.name]
    assert found.shape(H100) == pytest.approx(
        mask_values(H100, {"1g.10gb": 900.0, "7g.80gb": 1.0}, ["7g.80gb"])
    )


def test_before_much_has_come_every_profile_is_thought_possible():
    found = mig_demand([H100], classes({"mig:1g.10gb": 1.0}))[H100.name]
    every = {p.name: 4 / 6 for p in H100.profiles if p.plain}
    assert found.shape(H100) == pytest.approx(mask_values(H100, {**every, "1g.10gb": 1.0 + 4 / 6}))


def test_the_gradient_keeps_its_ends_and_no_opinion_between_them():
    shape = np.linspace(0.9, 0.0, 256)
    straight = linear_gradient(H100, np.stack([shape, 2 * shape]))
    assert straight[:, 0] == pytest.approx([0.9, 1.8])
    assert straight[:, 255] == pytest.approx([0.0, 0.0])
    by_free = {mask.bit_count(): straight[0, mask] for mask in range(256)}
    assert straight[0] == pytest.approx([by_free[mask.bit_count()] for mask in range(256)])


def test_a_node_with_cpu_enough_is_worth_its_value_at_no_cpu_price():
    demand = {"mig:1g.10gb/4000m/8192Mi": 35.0, "mig:3g.40gb/16000m/65536Mi": 25.0}
    pool = HostPool({}, {(H100.name, 4): 2}, {}, {}, 64_000.0, 512_000.0)
    summary = FleetSummary({H100.name: H100}, {}, {(H100.name, 4): 2}, hosts=(pool,))
    hosts = solve_prices(summary, DemandMix(demand), hour).hosts
    assert hosts is not None
    worth, need = hosts.gpu[H100.name], hosts.gpu_need[H100.name]
    # At need, no level may be tighter than level 0 (a partly used GPU counts by its masks, a free one by W).
    bought = need @ hosts.price.T
    assert (worth[1:] + bought[1:] >= worth[1:, :1] - 1e-9).all()
    assert worth[0] == pytest.approx(hosts.node[H100.name][1])


def test_shares_of_arrivals_count_and_not_what_runs_and_waits():
    waiting_7g = {**MIX, "mig:7g.80gb": 400.0}
    tables = solve_prices(free(H100), DemandMix(waiting_7g), hour, arrivals=MIX)
    assert tables.mig[H100.name] == pytest.approx(mask_values(H100, profiles(MIX)))


def test_what_runs_and_has_not_come_for_long_keeps_a_trace():
    tables = solve_prices(free(H100), DemandMix(MIX), hour, arrivals={"whole:1": 90.0})
    assert H100.name in tables.mig
