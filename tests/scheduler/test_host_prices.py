"""Prices on nodes that may be short of CPU or memory: less room is never worth more, a starved node's GPUs
are worth less, a solve stops in time, and a warm start gives the same tables.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dra.catalog import models
from scheduler.columns import empty_columns
from scheduler.hardware import Hardware
from scheduler.packing import prices
from scheduler.packing.gradient import thresholds_of
from scheduler.packing.mix import MOST_CLASSES, DemandMix, parse_class
from scheduler.packing.prices import FleetSummary
from scheduler.packing.supply import HostPool
from scheduler.scoring.fragmentation import Room, _host_value
from scheduler.scoring.tables import state_values

A100, L40S = models()["A100-80GB"], models()["L40S-48GB"]
BOTH = {A100.name: A100, L40S.name: L40S}
MIX = {
    "whole:1/8000m/32768Mi": 6.0,
    "whole:1/1000m/4096Mi": 3.0,
    "whole:4/40000m/131072Mi": 1.0,
    "mig:1g.10gb/1000m/8192Mi": 8.0,
    "mig:3g.40gb/6000m/16384Mi": 4.0,
}


def flat(model):
    return 2.0


def solve_prices(fleet, mix, gpu_hour, previous=None, seconds=60.0):
    """The solve as shipped, but with time enough on whatever machine."""
    return prices.solve_prices(fleet, mix, gpu_hour, previous, seconds)


def summary(*pools):
    """One fleet of several pools, with the totals that belong to them."""

    def total(name):
        found = {}
        for pool in pools:
            for key, count in getattr(pool, name).items():
                found[key] = found.get(key, 0) + count
        return found

    names = ("gpu_states", "free_nodes", "whole_nodes", "static_instances")
    return FleetSummary(BOTH, *(total(name) for name in names), hosts=tuple(pools))


def pool(cpu_cores, memory_gib, *, nodes=4, free=8, masks=()):
    return HostPool(
        {(A100.name, mask): nodes for mask in masks},
        {(A100.name, free): nodes},
        {(L40S.name, 4): nodes},
        {(A100.name, "1g.10gb"): nodes},
        cpu_cores * 1000.0 * nodes,
        memory_gib * 1024.0 * nodes,
    )


FLEET = summary(pool(96, 384, masks=(1, 15)), pool(24, 256, free=3), pool(6, 32, free=6))
TABLES = solve_prices(FLEET, DemandMix(MIX), flat)
PROFILES = ("1g.10gb",)


def value(tables, masks, cpu_milli, memory_mib, *, static=0, model=0, cut=True):
    """V of one node of 8 GPUs with these occupied masks."""
    hardware = Hardware()
    ids = [hardware.model_id(A100), hardware.model_id(L40S)]
    values = state_values(tables, hardware.models, 8, PROFILES)
    columns = empty_columns(1, 8, 1, 1, 1)
    columns.valid[:] = True
    columns.model_id[:], columns.row_model[:] = ids[model], ids[model]
    columns.order_id[:] = int(cut)
    occupied = np.array([masks], dtype=np.uint16)
    index = values.offset[columns.model_id] + (occupied & values.keep[columns.model_id])
    room = Room(np.array([cpu_milli]), np.array([memory_mib]), np.array([[float(static)]]))
    assert values.hosts is not None
    return float(_host_value(columns, values.hosts, occupied, index, room)[0])


MASKS = st.lists(st.integers(0, 255), min_size=8, max_size=8)
CPU = st.integers(0, 120_000)
MEMORY = st.integers(0, 600_000)


def test_the_lp_with_hosts_is_solved_to_its_bound():
    assert TABLES.converged
    assert TABLES.hosts is not None
    assert TABLES.objective <= TABLES.bound + 1e-6
    assert TABLES.objective == pytest.approx(TABLES.bound, rel=1e-6)


@given(masks=MASKS, cpu=CPU, memory=MEMORY, gpu=st.integers(0, 7), unit=st.integers(0, 7))
def test_a_node_with_one_more_unit_taken_is_never_worth_more(masks, cpu, memory, gpu, unit):
    fewer = [*masks[:gpu], masks[gpu] | 1 << unit, *masks[gpu + 1 :]]
    assert value(TABLES, fewer, cpu, memory) <= value(TABLES, masks, cpu, memory) + 1e-9


@given(masks=MASKS, cpu=CPU, memory=MEMORY, less=st.integers(0, 50_000), static=st.integers(0, 7))
def test_a_node_with_less_cpu_or_memory_is_never_worth_more_nor_less_than_nothing(
    masks, cpu, memory, less, static
):
    full = value(TABLES, masks, cpu, memory, static=static)
    assert -1e-9 <= value(TABLES, masks, max(0, cpu - less), memory, static=static) <= full + 1e-9
    assert -1e-9 <= value(TABLES, masks, cpu, max(0, memory - less), static=static) <= full + 1e-9
    assert value(TABLES, masks, cpu, memory, static=max(0, static - 1)) <= full + 1e-9


@given(masks=MASKS, cpu=CPU, memory=MEMORY)
def test_looking_at_the_host_only_ever_lowers_the_value_of_the_gpus(masks, cpu, memory):
    blind = value(TABLES, masks, 2**30, 2**30)
    assert value(TABLES, masks, cpu, memory) <= blind + 1e-9
    assert value(TABLES, masks, 10**7, 10**8) == pytest.approx(blind)


def test_the_gpus_of_a_starved_node_are_worth_less():
    free = [0] * 8
    rich, poor, none = (value(TABLES, free, cpu, 384 * 1024) for cpu in (96_000, 8_000, 0))
    assert rich > poor + 0.5
    assert poor > none
    assert none == pytest.approx(0.0, abs=0.05 * rich)
    assert value(TABLES, free, 96_000, 2048) < 0.5 * rich


def test_a_pod_that_takes_the_last_cpu_destroys_more_than_one_that_takes_little():
    before = value(TABLES, [0] * 8, 32_000, 2**30)
    modest = before - value(TABLES, [255] + [0] * 7, 31_000, 2**30)
    greedy = before - value(TABLES, [255] + [0] * 7, 4_000, 2**30)
    assert greedy > modest + 1e-6


def test_without_needs_in_the_mix_or_pools_in_the_fleet_cpu_plays_no_part():
    needless = DemandMix({name.partition("/")[0]: count for name, count in MIX.items()})
    assert solve_prices(FLEET, needless, flat).hosts is None
    blind = FleetSummary(BOTH, FLEET.gpu_states, FLEET.free_nodes, FLEET.whole_nodes, FLEET.static_instances)
    assert solve_prices(blind, DemandMix(MIX), flat).hosts is None


def test_pools_with_plenty_serve_what_gpus_alone_would():
    rich = summary(pool(10**4, 10**5))
    blind = FleetSummary(BOTH, rich.gpu_states, rich.free_nodes, rich.whole_nodes, rich.static_instances)
    seeing, plain = (solve_prices(found, DemandMix(MIX), flat) for found in (rich, blind))
    assert seeing.objective == pytest.approx(plain.objective)
    assert solve_prices(summary(pool(2, 8)), DemandMix(MIX), flat).objective < 0.5 * plain.objective


@given(factor=st.floats(0.1, 1.0))
@settings(max_examples=15, deadline=None)
def test_more_demand_never_lowers_what_space_is_worth(factor):
    def worth(scale):
        mix = DemandMix({name: 20.0 * scale * count for name, count in MIX.items()}, None)
        tables = solve_prices(FLEET, mix, flat)
        return tables.gpu_value[A100.name], tables.node_value[A100.name][:9]

    for less, more in zip(worth(factor), worth(1.0), strict=True):
        assert (less <= more + 1e-2).all()


def test_pods_without_gpus_make_cpu_dearer():
    alone = solve_prices(summary(pool(64, 4096)), DemandMix(MIX), flat)
    crowded = solve_prices(summary(pool(64, 4096)), DemandMix(MIX, without_gpu=(400_000.0, 0.0)), flat)
    assert sum(crowded.class_price.values()) > sum(alone.class_price.values()) + 1e-6


def test_a_warm_start_gives_the_same_tables():
    moved = summary(pool(90, 380, masks=(1, 15)), pool(20, 240, free=2), pool(6, 32, free=6))
    cold, warm = (solve_prices(moved, DemandMix(MIX), flat, previous) for previous in (None, TABLES))
    assert warm.rounds < cold.rounds
    assert warm.hosts is not None
    assert cold.hosts is not None
    for name in BOTH:
        assert warm.hosts.node[name] == pytest.approx(cold.hosts.node[name], abs=1e-3)
        assert warm.hosts.gpu[name] == pytest.approx(cold.hosts.gpu[name], abs=1e-3)


def test_the_time_limit_stops_the_solve_and_what_is_known_is_used():
    many = {f"whole:{1 + i % 4}/{500 + 137 * i}m/{1000 + 911 * i}Mi": 1.0 + i % 7 for i in range(40)}
    pools = [pool(4 + 3 * i, 30 + 20 * i, free=1 + i % 8, masks=(1, 3, 7, 17, 51)) for i in range(30)]
    unhurried = solve_prices(summary(*pools), DemandMix(many), flat)
    tables = solve_prices(summary(*pools), DemandMix(many), flat, None, 0.02)
    assert tables.rounds < unhurried.rounds
    assert tables.version == 1
    assert all(np.isfinite(found).all() for found in tables.gpu_value.values())


def test_many_needs_are_merged_to_their_means_and_no_pod_is_lost():
    counts = {f"whole:1/{100 + 37 * i}m/{512 + 100 * i}Mi": 1.0 + i % 3 for i in range(500)}
    found = DemandMix(counts).expected()
    assert len(found) <= MOST_CLASSES
    assert sum(item.count for item in found) == pytest.approx(sum(counts.values()))
    cpu = sum(item.count * item.cls.cpu_milli for item in found)
    wanted = sum(count * parse_class(name).cpu_milli for name, count in counts.items())
    assert cpu == pytest.approx(wanted, rel=1e-3)


def test_fgds_measure_counts_gpus_that_no_class_has_the_cpu_for():
    steps = TABLES.gradient_steps[A100.name]
    assert len(steps) == len(TABLES.gradient_cpu) + 1
    assert (np.diff(steps, axis=0) <= 1e-12).all()
    assert steps[0][0] == pytest.approx(1.0)
    assert (steps[-1] == TABLES.gradient[A100.name]).all()


def test_thresholds_cover_the_largest_need():
    needs = np.array([0.0, *(100.0 + 211.0 * i for i in range(40))])
    found = thresholds_of(needs, np.ones(41))
    assert len(found) <= 9
    assert found[-1] >= needs.max()
    assert math.isclose(found[0], thresholds_of(needs, np.full(41, 5.0))[0])
