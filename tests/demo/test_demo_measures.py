from __future__ import annotations

import json
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.demo.arrivals import Arrival
from deploy.demo.fleet import capacity, demo_fleet, node_labels, node_manifest, topology_of
from deploy.demo.llm_server import Output, ServedRecord
from deploy.demo.llm_service import LoadSample
from deploy.demo.mapping import Request
from deploy.demo.measure import (
    FleetSample,
    PodRecord,
    expected_mix,
    fleet_sample,
    nvlink_share,
    percentile,
    served_seconds,
    stranded,
    time_average,
)
from deploy.demo.plan import make_plan
from deploy.demo.publishing import device_classes, hardware, published, slices
from deploy.demo.report import LINES, document, latencies, table, verdict
from deploy.demo.scheduler_metrics import ALGORITHM, Histogram, read_histogram
from deploy.demo.side import SideResult
from deploy.demo.workload import GRAMS_PER_KWH
from dra.catalog import models

H100 = models()["H100-80GB"]
MIX = {"1g.10gb": 0.25, "3g.40gb": 0.75}


def arrival(
    profile: str | None = "3g.40gb", count: int = 1, at: float = 1.0, leaves: float = 11.0
) -> Arrival:
    resource = "nvidia.com/gpu" if profile is None else f"nvidia.com/mig-{profile}"
    pool = "whole" if profile is None else "mig-80gb"
    return Arrival(
        "pod-0", at, leaves, Request(resource, count, profile, pool, count * (4 if profile else 1)), 100, 100
    )


def test_an_empty_and_a_full_gpu_strand_nothing() -> None:
    assert stranded(H100, 0, MIX) == (0.0, 0)
    assert stranded(H100, 0xFF, MIX) == (0.0, 0)


def test_free_units_are_stranded_for_the_profiles_that_do_not_fit() -> None:
    # One instance in each half: no 3g fits any more, 1g still does.
    assert stranded(H100, 0b0001_0001, MIX) == pytest.approx((0.75 * 6, 0))
    # Only the last unit is free: nothing of the mix reaches it.
    assert stranded(H100, 0b0111_1111, MIX) == pytest.approx((1.0, 1))


@given(mask=st.integers(0, 255))
def test_stranded_lies_between_the_unusable_and_the_free_units(mask: int) -> None:
    lost, unusable = stranded(H100, mask, MIX)
    assert unusable - 1e-9 <= lost <= 8 - mask.bit_count() + 1e-9


def test_emissions_are_watts_times_intensity_and_never_below_idle() -> None:
    nodes = demo_fleet()
    idle = fleet_sample(nodes, {}, {}, GRAMS_PER_KWH, at_seconds=0.0, waiting_pods=0)
    assert idle.grams_per_hour == pytest.approx(idle.idle_grams_per_hour)
    node = next(node for node in nodes if node.shape.prefix == "hgx")
    busy = fleet_sample(nodes, {node.name: (0xFF,) * 8}, {}, GRAMS_PER_KWH, at_seconds=0.0, waiting_pods=0)
    watts = 8 * (node.model.peak_watts - node.model.idle_watts)
    more = busy.grams_per_hour - idle.grams_per_hour
    assert more == pytest.approx(watts / 1000 * GRAMS_PER_KWH[node.zone.grid])
    assert busy.busy_gpus == 8


def test_nvlink_share_is_that_of_the_devices() -> None:
    by_shape = {node.shape.prefix: node for node in demo_fleet()}
    pcie, hgx, l40s = by_shape["pcie"], by_shape["hgx"], by_shape["l40s"]
    assert nvlink_share(topology_of(pcie), pcie.model, 0b0011) == 1.0
    assert nvlink_share(topology_of(pcie), pcie.model, 0b0110) == pytest.approx(64 / 600)
    assert nvlink_share(topology_of(hgx), hgx.model, 0xFF) == 1.0
    assert nvlink_share(topology_of(l40s), l40s.model, 0b11) == pytest.approx(64 / 600)
    assert nvlink_share(topology_of(hgx), hgx.model, 0b1) is None


def test_a_pod_is_served_from_its_binding_until_it_leaves() -> None:
    record = PodRecord(arrival(), "planned", 1.0, 4.0, None)
    assert served_seconds(record, 100.0) == (7.0, 10.0)
    assert served_seconds(record, 6.0) == (2.0, 5.0)
    assert served_seconds(PodRecord(arrival(), "planned", 1.0, None, None), 100.0) == (0.0, 10.0)


def test_the_mix_is_shares_of_units() -> None:
    mix = expected_mix([arrival("1g.10gb"), arrival("3g.40gb")], {"mig-80gb": {"3g.40gb": 8.0}})
    assert sum(mix["mig-80gb"].values()) == pytest.approx(1.0)
    assert mix["mig-80gb"]["3g.40gb"] == pytest.approx(12 / 16)


def test_percentiles_and_averages_of_nothing_are_not_numbers() -> None:
    assert percentile([], 0.95) is nan or str(percentile([], 0.95)) == "nan"
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.0
    assert percentile([3.0], 0.99) == 3.0
    samples = [sample(0.0), sample(1.0), sample(3.0)]
    assert time_average(samples, {0.0: 3.0, 1.0: 6.0, 3.0: 100.0}) == pytest.approx((3 + 12) / 3)


def test_scheduler_histograms_are_read_subtracted_and_interpolated() -> None:
    def text(counts: tuple[int, int, int], total: float) -> str:
        return (
            f"# TYPE {ALGORITHM} histogram\n"
            f'{ALGORITHM}_bucket{{le="0.001"}} {counts[0]}\n{ALGORITHM}_bucket{{le="0.002"}} {counts[1]}\n'
            f'{ALGORITHM}_bucket{{le="+Inf"}} {counts[2]}\n{ALGORITHM}_sum {total}\n'
            f"{ALGORITHM}_count {counts[2]}\n"
        )

    found = read_histogram(text((12, 30, 30), 0.06), ALGORITHM).since(
        read_histogram(text((2, 10, 10), 0.01), ALGORITHM)
    )
    assert (found.bounds, found.counts, found.count) == ((0.001, 0.002, inf), (10, 20, 20), 20)
    assert found.mean == pytest.approx(0.0025)
    assert found.quantile(0.75) == pytest.approx(0.0015)
    assert str(read_histogram("", ALGORITHM).mean) == "nan"


@pytest.mark.parametrize("side", ["plain", "slicewise"])
def test_both_sides_publish_every_placement_of_the_hardware(side: str) -> None:
    for node in demo_fleet():
        inventory = hardware(node, side, {})  # type: ignore[arg-type]
        documents = slices(inventory, [0] * len(inventory.gpus), {}, side)  # type: ignore[arg-type]
        seen = published(node, documents)
        offered = {(seen.gpus[ref.gpu].index, ref.placement) for ref in seen.devices.values()}
        assert offered == {
            (inventory.gpus[ref.gpu].index, ref.placement) for ref in inventory.devices.values()
        }
        assert seen.topology.links == topology_of(node).links


def test_both_sides_answer_for_the_same_resource_names() -> None:
    names = [
        {item["spec"]["extendedResourceName"] for item in device_classes(demo_fleet(), side)}
        for side in ("plain", "slicewise")
    ]
    assert names[0] == names[1]
    assert {arrival.request.resource for arrival in make_plan(1).arrivals} <= names[0]


def test_the_fleet_is_what_its_table_says() -> None:
    nodes = demo_fleet()
    assert len({node.name for node in nodes}) == len(nodes) == 57
    assert capacity(nodes) == {"mig-80gb": 192.0, "mig-24gb": 48.0, "whole": 126.0}
    assert {node_labels(node)["topology.kubernetes.io/region"] for node in nodes} == {
        node.zone.region for node in nodes
    }
    assert all("nvidia.com/gpu" not in node_manifest(node)["status"]["allocatable"] for node in nodes)


def sample(at: float, stranded_units: float = 20.0) -> FleetSample:
    return FleetSample(at, 240, 200, stranded_units, 3, 90.0, 9000.0, 3000.0, 4)


def result(side: str, stranded_units: float = 20.0, served: bool = True) -> SideResult:
    pods = (
        PodRecord(arrival(), "planned", 1.0, 1.2, None),
        PodRecord(arrival(None, 4), "webhook", 1.0, 1.5, 0.5),
        PodRecord(arrival(None, 8), "webhook", 1.0, None, None),
    )
    records = [ServedRecord(1.0, 0.2, 3.0)] if served else []
    return SideResult(
        side=side,  # type: ignore[arg-type]
        samples=(sample(0.0, stranded_units), sample(1.0, stranded_units)),
        pods=pods,
        algorithm=Histogram((0.001, inf), (5.0, 5.0), 0.004, 5.0),
        llm=Output(1, 0, records, [LoadSample(1.0, 8, 5, 0)]),
        llm_replicas=8 if side == "plain" else None,
        setup_seconds=9.0,
        slices_republished=0,
        nominations={},
        problems=(),
    )


def test_the_document_holds_every_line_with_both_sides_and_a_verdict() -> None:
    found = document(make_plan(1), result("plain"), result("slicewise", stranded_units=5.0))
    again = json.loads(json.dumps(found, allow_nan=False))
    assert again["schema"] == 1
    assert [line["key"] for line in again["lines"]] == [line.key for line in LINES]
    by_key = {line["key"]: line for line in again["lines"]}
    assert by_key["stranded_mig_share"]["verdict"] == "slicewise"
    assert by_key["nvlink_share"]["plain"] == pytest.approx(50.0)
    assert by_key["pods_placed"]["plain"] == 2
    assert by_key["multi_gpu_pods_placed"]["verdict"] == "level"
    for side in ("plain", "slicewise"):
        assert len(again["sides"][side]["series"]["at_seconds"]) == 2


def test_what_was_not_measured_is_null_and_not_a_number_in_the_table() -> None:
    found = document(make_plan(1), result("plain", served=False), result("slicewise"))
    by_key = {line["key"]: line for line in found["lines"]}
    assert by_key["llm_e2e_p95_seconds"]["plain"] is None
    assert by_key["llm_e2e_p95_seconds"]["verdict"] is None
    text = table(found)
    assert "nan" not in text
    assert len(text.splitlines()) == len(LINES) + 2


@pytest.mark.parametrize(
    ("plain", "slicewise", "better", "expected"),
    [
        (10.0, 5.0, "lower", "slicewise"),
        (10.0, 5.0, "higher", "plain"),
        (10.0, 10.05, "lower", "level"),
        (0.0, 0.0, "higher", "level"),
        (nan, 1.0, "higher", None),
        (1.0, 2.0, None, None),
    ],
)
def test_verdicts(plain: float, slicewise: float, better: str | None, expected: str | None) -> None:
    assert verdict(plain, slicewise, better) == expected  # type: ignore[arg-type]


def test_a_pod_that_never_got_a_node_counts_with_the_time_it_waited() -> None:
    pods = [PodRecord(arrival(), "planned", 1.0, 1.5, None), PodRecord(arrival(), "planned", 1.0, None, None)]
    found = latencies(pods, end_seconds=100.0)
    assert found["planned_pods"] == 1
    assert found["planned_p99_seconds"] == pytest.approx(10.0)
    assert latencies(pods, end_seconds=5.0)["planned_p99_seconds"] == pytest.approx(4.0)
