"""Facts to columns: whatever the order of events, the state is that of a rebuild from scratch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dra.resource_api import ResourceSlice
from scheduler.columns import BEYOND, Columns
from scheduler.demand import Demand, GpuRequest
from scheduler.fleet import Fleet
from tests.scheduler.fleet_objects import H100, Setting, claim, node, pod, slices, template

ONE_GPU = Demand((GpuRequest("whole", None, 1),))


def plugin(name: str = "n", gpus: int = 4, more: Mapping[str, str] | None = None) -> Fleet:
    fleet = Fleet(capacity=1)
    fleet.apply_node(node(name, allocatable={"nvidia.com/gpu": str(gpus), **(more or {})}))
    return fleet


def masks(fleet: Fleet, name: str = "n") -> list[int]:
    row = fleet.rows[name]
    found: list[int] = fleet.columns.occupied[row, : fleet.columns.gpu_count[row]].tolist()
    return found


def dra(gpus: int = 2) -> Fleet:
    fleet = Fleet()
    fleet.apply_node(node("n"))
    for item in slices("n", gpus=gpus):
        fleet.apply_slice(item)
    return fleet


def test_positions_beyond_the_node_are_never_free():
    fleet = plugin(gpus=2)
    row = fleet.rows["n"]
    assert fleet.columns.occupied[row, 2:].tolist() == [BEYOND] * (fleet.columns.gpus - 2)
    assert fleet.columns.certain[row, 2:].tolist() == [BEYOND] * (fleet.columns.gpus - 2)


def test_columns_grow_for_many_nodes_and_wide_nodes():
    fleet = Fleet(capacity=1)
    for index in range(20):
        fleet.apply_node(node(f"n{index}", allocatable={"nvidia.com/gpu": "1"}))
    fleet.apply_node(node("wide", allocatable={"nvidia.com/gpu": "16"}))
    assert len(fleet.rows) == 21
    assert masks(fleet, "wide") == [0] * 16
    assert masks(fleet, "n7") == [0]


def test_bound_pods_take_whole_gpus_from_the_lowest_index():
    fleet = plugin()
    fleet.apply_pod(pod("a", {"nvidia.com/gpu": 1}, on="n"))
    fleet.apply_pod(pod("b", {"nvidia.com/gpu": 2}, on="n"))
    assert [mask != 0 for mask in masks(fleet)] == [True, True, True, False]
    fleet.delete_pod("uid-a")
    assert [mask != 0 for mask in masks(fleet)] == [True, True, False, False]


def test_finished_pods_free_their_gpus():
    fleet = plugin()
    fleet.apply_pod(pod("a", {"nvidia.com/gpu": 4}, on="n", phase="Running"))
    fleet.apply_pod(pod("a", {"nvidia.com/gpu": 4}, on="n", phase="Succeeded"))
    assert masks(fleet) == [0, 0, 0, 0]


def test_fixed_mig_instances_and_shares_are_counted():
    fleet = plugin(more={"nvidia.com/mig-1g.10gb": "7"})
    fleet.apply_pod(pod("a", {"nvidia.com/mig-1g.10gb": 3}, on="n"))
    row, column = fleet.rows["n"], fleet.profiles.find("1g.10gb")
    assert fleet.columns.static_total[row, column] == 7
    assert fleet.columns.static_used[row, column] == 3
    shared = Fleet()
    shared.apply_node(node("s", allocatable={"nvidia.com/gpu.shared": "8"}))
    shared.apply_pod(pod("b", {"nvidia.com/gpu.shared": 2}, on="s"))
    assert shared.columns.shared_used[0] == 2


def test_strategy_single_serves_plain_gpus_with_mig_instances():
    fleet = Fleet()
    fleet.apply_node(node("n", product=f"{H100}-MIG-1g.10gb", allocatable={"nvidia.com/gpu": "14"}))
    fleet.apply_pod(pod("a", {"nvidia.com/gpu": 1}, on="n"))
    assert fleet.columns.static_used[0, fleet.profiles.find("1g.10gb")] == 1
    outcome = Setting(fleet).decider.filter(pod("b", {"nvidia.com/gpu": 1}), ["n"])
    assert outcome.passed == [0]


def test_allocated_claims_occupy_their_exact_units():
    fleet = dra()
    fleet.apply_claim(claim("c", devices=["gpu-1-mig-3g40gb-9-4"], on="n"))
    assert masks(fleet) == [0, 0b11110000]
    fleet.apply_claim(claim("c", profile="3g.40gb"))
    assert masks(fleet) == [0, 0]


def test_bound_pod_counts_by_prediction_until_its_claim_is_seen():
    fleet = dra()
    fleet.apply_template(template("t", "3g.40gb"))
    bound = pod("p", templates={"g": "t"}, generated={"g": "p-g"}, on="n")
    fleet.apply_pod(bound)
    row = fleet.rows["n"]
    assert sum(int(m).bit_count() for m in masks(fleet)) == 4
    assert fleet.columns.certain[row, :2].tolist() == [0, 0]
    fleet.apply_claim(claim("p-g", profile="3g.40gb", devices=["gpu-1-mig-3g40gb-9-0"], on="n", owner="p"))
    assert masks(fleet) == [0, 0b1111]
    assert fleet.columns.certain[row, :2].tolist() == [0, 0b1111]


def test_extended_resources_are_replaced_by_the_claim_the_scheduler_made():
    fleet = dra()
    fleet.apply_pod(pod("p", {"nvidia.com/gpu": 1}, on="n"))
    assert masks(fleet) == [0xFF, 0]
    fleet.apply_claim(claim("x", devices=["gpu-1"], on="n", owner="p", extended=True))
    assert masks(fleet) == [0, 0xFF]


def test_nominated_pods_hold_their_room_but_veto_nothing():
    fleet = plugin(gpus=1)
    fleet.apply_pod(pod("a", {"nvidia.com/gpu": 1}, nominated="n"))
    assert masks(fleet) == [0xFF]
    assert fleet.columns.certain[0, 0] == 0


def test_reservation_ends_with_the_binding_and_is_not_counted_twice():
    fleet = plugin(gpus=2)
    fleet.reserve("uid-a", fleet.rows["n"], ONE_GPU, until=10.0)
    assert masks(fleet) == [0xFF, 0]
    fleet.apply_pod(pod("a", {"nvidia.com/gpu": 1}))
    assert masks(fleet) == [0xFF, 0]
    fleet.apply_pod(pod("a", {"nvidia.com/gpu": 1}, on="n"))
    assert masks(fleet) == [0xFF, 0]
    assert not fleet.facts.reservations
    fleet.expire(now=11.0)
    assert masks(fleet) == [0xFF, 0]


def test_reservation_expires_and_moves():
    fleet = plugin(gpus=1)
    fleet.apply_node(node("m", allocatable={"nvidia.com/gpu": "1"}))
    fleet.reserve("u", fleet.rows["n"], ONE_GPU, until=10.0)
    fleet.reserve("u", fleet.rows["m"], ONE_GPU, until=10.0)
    assert (masks(fleet), masks(fleet, "m")) == ([0], [0xFF])
    fleet.expire(now=9.0)
    assert masks(fleet, "m") == [0xFF]
    fleet.expire(now=10.0)
    assert masks(fleet, "m") == [0]


def test_reservation_ends_when_the_pods_claim_is_allocated():
    fleet = dra()
    fleet.reserve("uid-p", fleet.rows["n"], Demand((GpuRequest("mig", "1g.10gb", 1),)), until=10.0)
    assert sum(int(m).bit_count() for m in masks(fleet)) == 1
    fleet.apply_claim(claim("c", profile="1g.10gb", devices=["gpu-0-mig-1g10gb-19-6"], on="n", owner="p"))
    assert masks(fleet) == [1 << 6, 0]


def test_deleting_a_node_drops_its_row_and_the_row_is_used_again():
    fleet = plugin()
    fleet.apply_pod(pod("a", {"nvidia.com/gpu": 1}, on="n"))
    row = fleet.rows["n"]
    fleet.delete_node("n")
    assert "n" not in fleet.rows
    assert not fleet.columns.valid[row]
    fleet.apply_node(node("other", allocatable={"nvidia.com/gpu": "2"}))
    assert fleet.rows["other"] == row
    assert masks(fleet, "other") == [0, 0]


def test_heartbeats_change_no_generation():
    fleet = plugin()
    before = fleet.generation
    fleet.apply_node(node("n", allocatable={"nvidia.com/gpu": "4"}))
    assert fleet.generation == before
    assert fleet.changes_since(before).tolist() == []


def test_changes_name_the_rows_touched():
    fleet = plugin()
    fleet.apply_node(node("m", allocatable={"nvidia.com/gpu": "1"}))
    before = fleet.generation
    fleet.apply_pod(pod("a", {"nvidia.com/gpu": 1}, on="m"))
    assert fleet.changes_since(before).tolist() == [fleet.rows["m"]]


def test_incomplete_pool_offers_nothing():
    fleet = Fleet()
    fleet.apply_node(node("n"))
    for item in slices("n")[:-1]:
        fleet.apply_slice(item)
    assert fleet.inventory("n") is None
    fleet.apply_slice(slices("n")[-1])
    assert fleet.inventory("n") is not None


@pytest.mark.parametrize("kind", ["orders", "assets"])
def test_sweeping_forgotten_values_changes_no_row(kind: str):
    fleet = dra()
    fleet.apply_node(node("n", images=["a:1", "b:2"]))
    fleet.apply_node(node("gone", images=["c:3"]))
    fleet.delete_node("gone")
    before = fingerprint(fleet)
    fleet._sweep_orders() if kind == "orders" else fleet._sweep_assets()
    assert fingerprint(fleet) == before
    assert fleet.assets.find("docker.io/library/c:3") is None or kind == "orders"


# --- any order of events ----------------------------------------------------------------------------------


def fingerprint(fleet: Fleet) -> dict[str, object]:
    """Every node's row with ids replaced by what they stand for."""
    found: dict[str, object] = {}
    for name, row in fleet.rows.items():
        columns: Columns = fleet.view(np.array([row]))
        count = int(columns.gpu_count[0])
        values = {
            field.name: getattr(columns, field.name)[0, :count].tolist()
            for field in dataclasses.fields(columns)
            if field.name in ("occupied", "certain", "full", "whole")
        }
        found[name] = (
            values,
            [fleet.hardware.models[m].name for m in columns.model_id[0, :count]],
            [fleet.hardware.orders.values[o][1] for o in columns.order_id[0, :count]],
            {
                p: int(columns.static_used[0, i])
                for i, p in enumerate(fleet.profiles.values)
                if columns.static_total[0, i]
            },
            int(columns.shared_used[0]),
            sorted(fleet.assets.values[i] for i in columns.image_ids[0] if i >= 0),
        )
    return found


Event = Callable[[Fleet], None]


def plug_of(size: str) -> Event:
    return lambda fleet: fleet.apply_node(node("plug", allocatable={"nvidia.com/gpu": size}))


def slice_event(item: ResourceSlice) -> Event:
    return lambda fleet: fleet.apply_slice(item)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Event], list[Event]]:
    """Events per object, in their own order, merged at random; and the last event of each object."""
    objects: list[list[Event]] = []
    sizes = draw(st.lists(st.sampled_from(["2", "4"]), min_size=1, max_size=2))
    objects.append([plug_of(size) for size in sizes])
    objects.append([lambda f: f.apply_node(node("dra", images=["a:1"]))])
    objects.extend([slice_event(item)] for item in slices("dra"))
    objects.append([lambda f: f.apply_template(template("t", "1g.10gb"))])
    for index in range(draw(st.integers(1, 4))):
        objects.append(draw(pod_history(f"p{index}", index)))
    for index in range(draw(st.integers(0, 3))):
        objects.append(draw(claim_history(index)))
    order = draw(st.permutations([i for i, events in enumerate(objects) for _ in events]))
    position = [0] * len(objects)
    merged: list[Event] = []
    for index in order:
        merged.append(objects[index][position[index]])
        position[index] += 1
    return merged, [events[-1] for events in objects]


@st.composite
def pod_history(draw: st.DrawFn, name: str, index: int) -> list[Event]:
    target = draw(st.sampled_from(["dra", "plug"]))
    kind = draw(st.sampled_from(["gpu", "claim", "template"]))
    resources = {"nvidia.com/gpu": draw(st.integers(1, 2))} if kind == "gpu" else None

    def at(on: str = "", nominated: str = "", phase: str = "Running") -> Event:
        made = pod(
            name,
            resources,
            on=on,
            nominated=nominated,
            phase=phase,
            claims={"g": f"c{index}"} if kind == "claim" else None,
            templates={"g": "t"} if kind == "template" else None,
            generated={"g": f"c{index}"} if kind == "template" and on else None,
        )
        return lambda f: f.apply_pod(made)

    stages = [at(), at(nominated=target), at(on=target), at(on=target, phase="Succeeded")]
    return stages[: draw(st.integers(1, 4))]


@st.composite
def claim_history(draw: st.DrawFn, index: int) -> list[Event]:
    gpu, start = index % 2, draw(st.sampled_from([0, 3, 6]))
    open_claim = claim(f"c{index}", profile="1g.10gb", owner=f"p{index}")
    taken = claim(
        f"c{index}",
        profile="1g.10gb",
        owner=f"p{index}",
        devices=[f"gpu-{gpu}-mig-1g10gb-19-{start}"],
        on="dra",
        extended=draw(st.booleans()),
    )
    stages: list[Event] = [
        lambda f: f.apply_claim(open_claim),
        lambda f: f.apply_claim(taken),
        lambda f: f.delete_claim("default", f"c{index}"),
    ]
    return stages[: draw(st.integers(1, 3))]


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(histories())
def test_any_order_of_events_ends_in_the_state_built_from_scratch(history: tuple[list[Event], list[Event]]):
    events, last = history
    lived, fresh = Fleet(), Fleet()
    for event in events:
        event(lived)
    for event in last:
        event(fresh)
    for name in list(fresh.rows):
        fresh.rebuild_row(name)
    assert fingerprint(lived) == fingerprint(fresh)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(histories())
def test_prices_kept_up_to_date_are_those_computed_anew(history: tuple[list[Event], list[Event]]):
    events, _ = history
    fleet = Fleet()
    setting = Setting(fleet)
    wanted = [
        pod("one", {"nvidia.com/gpu": 1}),
        pod("two", {"nvidia.com/gpu": 2}),
        pod("mig", {"nvidia.com/mig-1g.10gb": 2}),
    ]
    demands = [setting.decider.demand(item) for item in wanted]
    for event in events:
        event(fleet)
        for demand in demands:
            assert demand is not None
            kept = setting.decider.prices(demand)
            fresh = Setting(fleet)
            fresh.tables = setting.tables
            np.testing.assert_allclose(kept, fresh.decider.prices(demand))
