"""The replay takes what the in-tree allocator would take: its order, its checks, its errors."""

from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dra.allocator import Allocation, DeviceId, Unsatisfiable, allocate
from dra.catalog import models
from dra.claims import occupancy
from dra.mig import geometry
from dra.nvlink import bridges
from dra.resource_api import ResourceClaim, ResourceSlice
from tests.dra.fleet_of_one import (
    cel,
    claim,
    classes,
    exactly,
    node,
    nvidia_mig,
    nvidias,
    our_mig,
    ours,
    read_back,
)

CLASSES = classes()
MIG_MODELS = [model for model in models().values() if model.profiles]


def got(result):
    assert isinstance(result, Allocation), result
    return [device.device for device in result.devices]


def run(claims, slices, allocated=frozenset(), **options) -> Any:
    return allocate(claims, slices, allocated, CLASSES, options.pop("node", "n1"), **options)


def one_by_one(claims, slices):
    """Each claim in a pod of its own, one after the other; None where one did not fit."""
    held: set[DeviceId] = set()
    names: list[str | None] = []
    for device_claim in claims:
        result = run([device_claim], slices, held)
        names.append(got(result)[0] if isinstance(result, Allocation) else None)
        held |= set(result.devices) if isinstance(result, Allocation) else set()
    return names


def edited(slices, edit):
    """The slices with ``edit(plain dictionary)`` applied to each."""
    objects = msgspec.to_builtins(slices)
    for item in objects:
        edit(item)
    return msgspec.convert(objects, tuple[ResourceSlice, ...])


def test_the_published_order_decides_whether_1g_4g_4g_fit_on_two_gpus():
    """Small instances from low starts destroy the only home of 4g; from high starts all three fit."""
    ascending = one_by_one([nvidia_mig(p) for p in ("1g.5gb", "4g.20gb", "4g.20gb")], nvidias(node()))
    assert ascending == ["gpu-0-mig-1g5gb-19-0", "gpu-1-mig-4g20gb-5-0", None]
    least_harm = one_by_one([our_mig(p) for p in ("1g.5gb", "4g.20gb", "4g.20gb")], ours(node()))
    assert least_harm == ["gpu-0-1g5gb-6", "gpu-0-4g20gb-0", "gpu-1-4g20gb-0"]


def test_claims_of_one_pod_backtrack_until_all_fit():
    """1g alone would take the first GPU's low start; with the 4g claims behind it the search steps back."""
    claims = [nvidia_mig(p) for p in ("1g.5gb", "4g.20gb", "4g.20gb")]
    assert got(run(claims, nvidias(node()))) == [
        "gpu-0-mig-1g5gb-19-4",
        "gpu-0-mig-4g20gb-5-0",
        "gpu-1-mig-4g20gb-5-0",
    ]


@settings(deadline=None, max_examples=80)
@given(st.sampled_from(MIG_MODELS), st.booleans(), st.data())
def test_first_start_and_replay_agree_for_one_mig_claim_on_any_occupancy(model, as_nvidia, data):
    slices = nvidias(node(model=model.name)) if as_nvidia else ours(node(model=model.name))
    inventory = read_back(slices)
    held: set[DeviceId] = set()
    masks = [0, 0]
    plain = [p.name for p in model.profiles if p.plain]
    fillable = {n: r for n, r in inventory.devices.items() if r.placement and r.placement.profile in plain}
    for name in data.draw(st.lists(st.sampled_from(sorted(fillable)), max_size=8)):
        ref = fillable[name]
        if not masks[ref.gpu] & ref.placement.bits:
            masks[ref.gpu] |= ref.placement.bits
            held.add(DeviceId(inventory.driver, inventory.pool, name))
    profile = data.draw(st.sampled_from(plain))
    expected = None
    for gpu, mask in enumerate(masks):
        start = int(geometry(model).first_start(inventory.orders[gpu], profile)[mask])
        if start >= 0:
            expected = (gpu, profile, start)
            break
    result = run([nvidia_mig(profile) if as_nvidia else our_mig(profile)], slices, held)
    if expected is None:
        assert isinstance(result, Unsatisfiable)
        assert result.kind == "no-fit"
    else:
        ref = inventory.devices[got(result)[0]]
        assert (ref.gpu, ref.placement.profile, ref.placement.start) == expected


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(MIG_MODELS), st.booleans(), st.data())
def test_no_sequence_of_claims_ever_takes_a_unit_or_a_media_extension_twice(model, as_nvidia, data):
    slices = nvidias(node(model=model.name)) if as_nvidia else ours(node(model=model.name))
    inventory = read_back(slices)
    wanted = data.draw(st.lists(st.sampled_from([*(p.name for p in model.profiles), "whole"]), max_size=12))
    held: set[DeviceId] = set()
    taken, media = [0, 0], [0, 0]
    for profile in wanted:
        if profile == "whole":
            request = claim("gpu.nvidia.com" if as_nvidia else "gpu.slicewise.io")
        else:
            request = nvidia_mig(profile) if as_nvidia else our_mig(profile)
        result = run([request], slices, held)
        if isinstance(result, Unsatisfiable):
            assert result.kind == "no-fit"
            continue
        ref = inventory.devices[result.devices[0].device]
        bits = inventory.whole_mask(ref.gpu) if ref.placement is None else ref.placement.bits
        assert taken[ref.gpu] & bits == 0
        taken[ref.gpu] |= bits
        media[ref.gpu] += ref.placement is None or model.profile(ref.placement.profile).media
        assert media[ref.gpu] <= 1
        held |= set(result.devices)
    results = [{"driver": d.driver, "pool": d.pool, "device": d.device, "request": "r"} for d in sorted(held)]
    status = {"status": {"allocation": {"devices": {"results": results}}}}
    assert occupancy([msgspec.convert(status, ResourceClaim)], {"n1": inventory}) == {"n1": tuple(taken)}


@settings(deadline=None, max_examples=40)
@given(st.permutations(range(9)))
def test_the_order_in_which_slices_arrive_does_not_matter_when_sorted(order):
    slices = ours(node(gpus=8))
    shuffled = [slices[i] for i in order]
    assert got(run([our_mig("1g.5gb")], shuffled)) == ["gpu-0-1g5gb-6"]


def test_without_sorting_the_first_listed_slice_wins():
    first, second = ours(node(model="L40S-48GB"))
    assert got(run([claim("gpu.slicewise.io")], [second, first], version="1.35")) == ["gpu-1"]
    assert got(run([claim("gpu.slicewise.io")], [second, first])) == ["gpu-0"]


def test_whole_gpus_are_taken_only_when_nothing_of_them_is_used():
    slices = ours(node())
    held = {DeviceId("gpu.slicewise.io", "n1", "gpu-0-1g5gb-6")}
    assert got(run([claim("gpu.slicewise.io")], slices, held)) == ["gpu-1"]
    held.add(DeviceId("gpu.slicewise.io", "n1", "gpu-1-1g5gb-6"))
    assert run([claim("gpu.slicewise.io")], slices, held).kind == "no-fit"


def test_a_count_takes_increasing_positions():
    slices = ours(node(gpus=4))
    assert got(run([claim(exactly("gpu.slicewise.io", count=3))], slices)) == ["gpu-0", "gpu-1", "gpu-2"]
    assert isinstance(run([claim(exactly("gpu.slicewise.io", count=5))], slices), Unsatisfiable)


def test_match_attribute_keeps_gpus_on_one_island_first_fit():
    slices = ours(node(gpus=4, topology=bridges(models()["A100-40GB"], 4)))
    held = {DeviceId("gpu.slicewise.io", "n1", "gpu-0")}
    two = exactly("gpu.slicewise.io", count=2)
    assert got(run([claim(two)], slices, held)) == ["gpu-1", "gpu-2"]
    tied = claim(two, constraints=[{"matchAttribute": "gpu.slicewise.io/nvlinkIsland"}])
    assert got(run([tied], slices, held)) == ["gpu-2", "gpu-3"]
    absent = claim(two, constraints=[{"matchAttribute": "gpu.slicewise.io/nothing"}])
    assert isinstance(run([absent], slices, held), Unsatisfiable)


def test_distinct_attribute_spreads_instances_over_gpus():
    small = exactly("mig-1g.5gb.slicewise.io")
    apart = claim(small, small, constraints=[{"distinctAttribute": "gpu.slicewise.io/parentUUID"}])
    assert got(run([apart], ours(node()))) == ["gpu-0-1g5gb-6", "gpu-1-1g5gb-6"]


def test_first_available_takes_the_first_alternative_that_fits():
    alternatives = claim(
        {
            "firstAvailable": [
                {"name": "big", "deviceClassName": "gpu.slicewise.io", "count": 3},
                {"name": "half", "deviceClassName": "mig-3g.20gb.slicewise.io"},
            ]
        }
    )
    result = run([alternatives], ours(node()))
    assert [(r.request, r.device.device) for r in result.claims[0]] == [("r0/half", "gpu-0-3g20gb-4")]


def test_all_takes_every_matching_device_or_none():
    every = claim(exactly("gpu.slicewise.io", allocationMode="All"))
    slices = ours(node(gpus=3))
    assert got(run([every], slices)) == ["gpu-0", "gpu-1", "gpu-2"]
    held = {DeviceId("gpu.slicewise.io", "n1", "gpu-1-1g5gb-6")}
    assert run([every], slices, held).kind == "no-fit"
    assert run([claim(exactly("gpu.nvidia.com", allocationMode="All"))], slices).kind == "no-fit"


def test_all_over_a_pool_that_is_being_updated_is_an_error():
    *slices, _ = every = ours(node(gpus=3))
    result = run([claim(exactly("gpu.slicewise.io", allocationMode="All"))], slices)
    assert result.kind == "aborted"
    assert f"{len(slices)} of {len(every)} slices" in result.reason
    assert run([claim("gpu.slicewise.io")], slices).kind == "no-fit"


def test_more_than_32_devices_in_one_claim_never_fit():
    slices = ours(node(gpus=6))
    small = exactly("mig-1g.5gb.slicewise.io", count=32)
    assert len(got(run([claim(small)], slices))) == 32
    assert isinstance(run([claim(exactly("mig-1g.5gb.slicewise.io", count=33))], slices), Unsatisfiable)


def test_taints_keep_requests_away_unless_tolerated():
    def taint(item):
        for device in item["spec"]["devices"]:
            if device["name"] == "gpu-0":
                device["taints"] = [{"key": "broken", "value": "yes", "effect": "NoSchedule"}]

    slices = edited(ours(node()), taint)
    assert got(run([claim("gpu.slicewise.io")], slices)) == ["gpu-1"]
    for toleration in ({"key": "broken", "operator": "Exists"}, {"key": "broken", "value": "yes"}):
        tolerant = claim(exactly("gpu.slicewise.io", tolerations=[toleration]))
        assert got(run([tolerant], slices)) == ["gpu-0"]
    wrong = claim(exactly("gpu.slicewise.io", tolerations=[{"key": "broken", "value": "no"}]))
    assert got(run([wrong], slices)) == ["gpu-1"]


def test_an_informing_taint_changes_nothing():
    def taint(item):
        for device in item["spec"]["devices"]:
            device["taints"] = [{"key": "note", "effect": "None"}]

    assert got(run([claim("gpu.slicewise.io")], edited(ours(node()), taint))) == ["gpu-0"]


def test_an_unknown_field_in_a_selector_aborts_as_it_does_in_the_scheduler():
    broken = claim(exactly("gpu.slicewise.io", selectors=cel("device.attributes['gpu.slicewise.io'].x == 1")))
    result = run([broken], ours(node()))
    assert (result.kind, result.reason) == ("aborted", "no such key: x")


def test_a_selector_outside_the_subset_says_that_nothing_is_known():
    odd = claim(exactly("gpu.slicewise.io", selectors=cel("device.?driver.hasValue()")))
    assert run([odd], ours(node())).kind == "unsupported"


def test_a_missing_class_and_an_empty_constraint_abort():
    assert "'nope' does not exist" in run([claim("nope")], ours(node())).reason
    assert run([claim("gpu.slicewise.io", constraints=[{}])], ours(node())).kind == "aborted"


def test_admin_access_sees_devices_in_use_and_takes_nothing():
    held = {DeviceId("gpu.slicewise.io", "n1", f"gpu-{i}") for i in range(2)}
    mixed = ours(node(model="L40S-48GB"))
    admin = claim(exactly("gpu.slicewise.io", adminAccess=True))
    assert got(run([admin], mixed, held)) == ["gpu-0"]
    assert got(run([admin, admin], mixed, held)) == ["gpu-0", "gpu-0"]


def test_devices_of_other_nodes_are_never_taken():
    slices = [*ours(node("n1")), *ours(node("n2"))]
    result = run([our_mig("1g.5gb")], slices, node="n2")
    assert result.devices == (DeviceId("gpu.slicewise.io", "n2", "gpu-0-1g5gb-6"),)
    assert run([our_mig("1g.5gb")], slices, node="n3").kind == "no-fit"


def test_drivers_go_in_name_order():
    slices = [*ours(node()), *nvidias(node())]
    expression = "device.driver in ['gpu.nvidia.com', 'gpu.slicewise.io']"
    either = {
        **CLASSES,
        "any": msgspec.convert({"spec": {"selectors": cel(expression)}}, type(CLASSES["gpu.nvidia.com"])),
    }
    result: Any = allocate([claim("any")], slices, set(), either, "n1")
    assert result.devices[0].driver == "gpu.nvidia.com"


def test_pools_with_binding_conditions_come_last():
    def bind(item):
        if item["spec"]["driver"] == "gpu.nvidia.com":
            for device in item["spec"]["devices"]:
                device["bindingConditions"] = ["ready"]

    slices = edited([*ours(node()), *nvidias(node())], bind)
    expression = "device.driver in ['gpu.nvidia.com', 'gpu.slicewise.io']"
    either = {
        **CLASSES,
        "any": msgspec.convert({"spec": {"selectors": cel(expression)}}, type(CLASSES["gpu.nvidia.com"])),
    }
    result: Any = allocate([claim("any")], slices, set(), either, "n1")
    assert result.devices[0].driver == "gpu.slicewise.io"


def test_a_pool_with_a_duplicate_device_is_left_out_and_named():
    def rename(item):
        for device in item["spec"]["devices"]:
            device["name"] = device["name"].replace("gpu-1", "gpu-0")

    result = run([our_mig("1g.5gb")], edited(ours(node()), rename))
    assert result.kind == "no-fit"
    assert "gpu-0-1g5gb-6 is there twice" in result.reason


def test_a_pool_whose_counters_are_missing_is_left_out_and_named():
    def forget(item):
        for counters in item["spec"]["sharedCounters"]:
            counters["counters"].pop("memory-slice-7")

    assert "memory-slice-7 of gpu-0" in run([our_mig("1g.5gb")], edited(ours(node()), forget)).reason


def test_a_newer_generation_hides_the_older():
    slices = [*ours(node(gpus=2)), *ours(node(gpus=1), generation=2)]
    assert len(got(run([claim(exactly("gpu.slicewise.io", allocationMode="All"))], slices))) == 1


def test_shares_of_one_gpu_add_up_to_its_capacity():
    def share(item):
        for device in item["spec"]["devices"]:
            device["allowMultipleAllocations"] = True
            device["capacity"] = {
                "memory": {
                    "value": "40Gi",
                    "requestPolicy": {"default": "10Gi", "validRange": {"min": "5Gi", "step": "5Gi"}},
                }
            }

    slices = edited(ours(node(model="L40S-48GB")), share)

    def part(size):
        return claim(exactly("gpu.slicewise.io", capacity={"requests": {"memory": size}}))

    result = run([part("18Gi"), part("20Gi"), part("1Gi")], slices)
    gib = 1 << 30
    assert [(r.device.device, r.share) for c in result.claims for r in c] == [
        ("gpu-0", (("memory", Fraction(20 * gib)),)),
        ("gpu-0", (("memory", Fraction(20 * gib)),)),
        ("gpu-1", (("memory", Fraction(5 * gib)),)),
    ]
    shares = {DeviceId("gpu.slicewise.io", "n1", "gpu-0"): {"memory": Fraction(35 * gib)}}
    assert got(run([claim("gpu.slicewise.io")], slices, shares=shares)) == ["gpu-1"]
    assert isinstance(run([part("41Gi")], slices), Unsatisfiable)
    no_such = claim(exactly("gpu.slicewise.io", capacity={"requests": {"tflops": "1"}}))
    assert isinstance(run([no_such], slices), Unsatisfiable)


@pytest.mark.parametrize(
    ("operator", "values", "fits"),
    [
        ("In", ["a"], True),
        ("In", ["b"], False),
        ("NotIn", ["b"], True),
        ("Exists", [], True),
        ("Gt", ["1"], False),
    ],
)
def test_slices_may_select_nodes_by_label(operator, values, fits):
    def select(item):
        item["spec"].pop("node_name", None)
        item["spec"].pop("nodeName", None)
        expression = {"key": "zone", "operator": operator, "values": values}
        item["spec"]["nodeSelector"] = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}

    slices = edited(ours(node(model="L40S-48GB")), select)
    result = run([claim("gpu.slicewise.io")], slices, node_labels={"zone": "a"})
    assert isinstance(result, Allocation) is fits


def test_a_search_without_end_is_given_up_and_says_so():
    claims = [our_mig("1g.5gb")] * 14 + [claim("gpu.slicewise.io")]
    result = run(claims, ours(node()), most_steps=5000)
    assert (result.kind, result.reason) == ("unsupported", "no answer after trying 5000 devices")
