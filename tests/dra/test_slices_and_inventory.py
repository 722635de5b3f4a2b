"""Slices say what the inventory holds and can be read back; foreign and broken ones are no inventory."""

import dataclasses
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dra.catalog import models
from dra.inventory import DeviceRef, from_labels, from_slices, profile_of_resource
from dra.mig import Placement, geometry
from dra.nvlink import bridges, clique, cube_mesh, nvswitch
from dra.resource_api import ResourceSlice, slices_from_json
from dra.slices import counter_totals, device_name, nvidia_slices, to_slices
from tests.dra.fleet_of_one import PROFILES, node, nvidias, ours, read_back

MIG_MODELS = [model for model in models().values() if model.profiles]
some_model = st.sampled_from([model.name for model in models().values()])


@settings(max_examples=60, deadline=None)
@given(some_model, st.integers(1, 16), st.data())
def test_slices_read_back_give_the_same_inventory_and_the_same_slices(model, gpus, data):
    inventory = node(model=model, gpus=gpus)
    units = inventory.gpus[0].model.units
    masks = [data.draw(st.integers(0, (1 << units) - 1)) for _ in range(gpus)]
    published = to_slices(inventory, masks, {})
    read = read_back(slices_from_json(json.loads(json.dumps(published))))
    assert read.gpus == inventory.gpus
    assert read.topology == inventory.topology
    assert [set(order) for order in read.orders] == [set(order) for order in inventory.orders]
    for position, gpu in enumerate(read.gpus):
        if gpu.partitionable:
            best = geometry(gpu.model).least_harm_order(masks[position], {})
            for profile in gpu.model.profiles:
                own = [p for p in read.orders[position] if p.profile == profile.name]
                assert own == [p for p in best if p.profile == profile.name]
    assert not read.turns
    assert to_slices(read, masks, {}) == published


@settings(max_examples=40, deadline=None)
@given(some_model, st.integers(1, 16))
def test_nvidias_slices_read_back_give_the_same_gpus(model, gpus):
    inventory = node(model=model, gpus=gpus)
    read = read_back(nvidias(inventory))
    assert read.regime == "nvidia"
    # Sorted by slice name, which follows the order of the GPUs.
    assert read.gpus == inventory.gpus
    for order, own in zip(read.orders, inventory.orders, strict=True):
        assert set(order) == set(own)


@settings(max_examples=60, deadline=None)
@given(some_model, st.integers(1, 16), st.sampled_from(["1.34", "1.35+"]), st.booleans())
def test_the_limits_of_the_api_are_kept(model, gpus, version, as_nvidia):
    inventory = node(model=model, gpus=gpus)
    make = nvidia_slices if as_nvidia else lambda inv, **o: to_slices(inv, [0] * gpus, {}, **o)
    objects = make(inventory, version=version)
    names = [o["metadata"]["name"] for o in objects]
    assert names == sorted(names)
    assert len(set(names)) == len(names)
    for item in slices_from_json(objects):
        spec = item.spec
        assert spec.pool.resource_slice_count == len(objects)
        assert len(spec.shared_counters) <= 8
        if version == "1.35+":
            assert bool(spec.devices) != bool(spec.shared_counters)
        assert len(spec.devices) <= 64
        assert all(len(counters.counters) <= 32 for counters in spec.shared_counters)
        for device in spec.devices:
            assert len(device.consumes_counters) <= 2
            assert all(len(c.counters) <= 32 for c in device.consumes_counters)
            assert len(device.attributes) + len(device.capacity) <= 32
            assert "." not in device.name
            assert len(device.name) <= 63
            assert all((a.string or "").__len__() <= 64 for a in device.attributes.values())


def test_more_than_eight_gpus_need_two_counter_slices():
    sets = [len(item.spec.shared_counters) for item in ours(node(gpus=10))]
    assert sets[:3] == [8, 2, 0]


def test_in_1_34_counters_stand_with_the_devices_that_use_them():
    (item,) = ours(node(gpus=1), version="1.34")
    assert len(item.spec.shared_counters) == 1
    assert len(item.spec.devices) == 26
    assert from_slices("n1", [item]) is not None


def test_the_whole_gpu_consumes_every_counter_and_comes_last():
    counters, *parts = ours(node(gpus=1))
    whole = parts[-1].spec.devices[-1]
    assert whole.name == "gpu-0"
    (held,) = counters.spec.shared_counters
    assert whole.consumes_counters[0].counters == held.counters
    assert sum(name.startswith("memory-slice-") for name in held.counters) == 8


def test_a_seven_slice_layout_leaves_the_eighth_memory_slice_to_whom_it_belongs():
    devices = {d.name: d for item in ours(node(gpus=1)) for d in item.spec.devices}

    def units(name):
        return {
            int(c.rsplit("-", 1)[1])
            for c in devices[name].consumes_counters[0].counters
            if c.startswith("memory-slice-")
        }

    assert units("gpu-0-3g20gb-4") == {4, 5, 6, 7}
    assert units("gpu-0-4g20gb-0") == {0, 1, 2, 3}
    assert units("gpu-0-7g40gb-0") == set(range(8))
    assert not any(7 in units(f"gpu-0-1g5gb-{start}") for start in range(7))


@pytest.mark.parametrize("model", MIG_MODELS, ids=lambda m: m.name)
def test_engine_counters_never_forbid_a_layout_of_plain_profiles_that_fits(model):
    totals = counter_totals(model)
    for layout in geometry(model).maximal_layouts():
        for counter, total in totals.items():
            used = sum(dict(model.profile(p.profile).capacities)[counter] for p in layout)
            assert used <= total, (counter, layout)


@pytest.mark.parametrize("model", MIG_MODELS, ids=lambda m: m.name)
def test_the_media_extension_is_counted_once_for_each_gpu(model):
    media = [p for p in model.profiles if p.media]
    assert media
    totals = counter_totals(model)
    for profile in media:
        assert dict(profile.capacities)["ofa-engines"] == totals["ofa-engines"] == 1


def test_device_names_differ_for_every_placement_of_every_model():
    for model in MIG_MODELS:
        gpu = node(model=model.name, gpus=1).gpus[0]
        names = [device_name(gpu, p) for p in geometry(model).placements]
        assert len(set(names)) == len(names)
    assert device_name(gpu, Placement("1g.24gb+me", 3, 3)) == "gpu-0-1g24gb-me-3"
    assert device_name(gpu, Placement("1g.24gb-me", 3, 3)) == "gpu-0-1g24gb-nome-3"


def test_nvidias_names_and_order_are_those_of_its_driver():
    names = [d.name for d in nvidias(node(model="H100-80GB", gpus=1))[1].spec.devices]
    assert names == sorted(names)
    assert names[:2] == ["gpu-0", "gpu-0-mig-1g10gb-19-0"]
    assert "gpu-0-mig-1g10gb-me-20-6" in names
    assert names[-1] == "gpu-0-mig-7g80gb-0-0"
    assert len(names) == 26


@pytest.mark.parametrize(
    "topology",
    [
        bridges(models()["A100-40GB"], 8),
        nvswitch(models()["A100-40GB"], 8),
        clique(models()["A100-40GB"], 8, "u.3"),
    ],
    ids=lambda t: t.kind + (t.clique or ""),
)
def test_links_and_cliques_survive_the_slices(topology):
    read = read_back(ours(node(gpus=8, topology=topology)))
    assert read.topology == topology


def test_gpus_listed_in_another_order_keep_their_own_links():
    order = (0, 3, 1, 2, 4, 7, 5, 6)
    inventory = node(model="V100-32GB", gpus=8, topology=cube_mesh(models()["V100-32GB"]))
    listed = dataclasses.replace(
        inventory,
        gpus=tuple(inventory.gpus[i] for i in order),
        topology=inventory.topology.reordered(order),
    )
    read = read_back(ours(listed))
    assert [gpu.index for gpu in read.gpus] == list(order)
    assert read.topology == listed.topology
    islands = [d.attributes["nvlinkIsland"].int_ for s in ours(listed) for d in s.spec.devices]
    assert islands == [0, 0, 0, 0, 4, 4, 4, 4]


def test_every_device_name_leads_to_its_gpu_and_units():
    read = read_back(ours(node(gpus=2)))
    assert read.devices["gpu-1"] == DeviceRef(1, None)
    assert read.devices["gpu-1-3g20gb-4"] == DeviceRef(1, Placement("3g.20gb", 4, 4))
    assert read.whole_mask(1) == 0xFF


def test_an_older_generation_does_not_count_and_an_incomplete_pool_is_none():
    old, new = ours(node(gpus=1)), ours(node(gpus=2), generation=2)
    assert len(read_back([*old, *new]).gpus) == 2
    assert from_slices("n1", [*old, *new[:-1]]) is None
    assert from_slices("n1", old[1:]) is None


def test_other_nodes_and_other_drivers_are_ignored():
    other = msgspec.convert(
        {"spec": {"driver": "dra.net", "nodeName": "n1", "pool": {"name": "n1", "resourceSliceCount": 1}}},
        ResourceSlice,
    )
    assert from_slices("n1", [other, *ours(node("n2"))]) is None
    assert read_back([other, *ours(node("n1"))]).node == "n1"


def test_placements_that_the_catalogue_lacks_are_learned_from_the_driver():
    """An H200 whose driver publishes the layout of an H100 under its own names."""
    text = json.dumps(nvidia_slices(node(model="H100-80GB", gpus=2)))
    for old, new in (("80GB-HBM3", "H200x"), ("NVIDIA-H100-H200x", "NVIDIA-H200"), ("1g.10gb", "1g.18gb")):
        text = text.replace(old, new)
    read = read_back(slices_from_json(json.loads(text)))
    model = read.gpus[0].model
    assert model.name == "H200-141GB"
    assert model.units == 8
    assert model.profile("1g.18gb").starts == (0, 1, 2, 3, 4, 5, 6)
    assert model.profile("1g.18gb").profile_id == 19
    assert model.profile("1g.18gb+me").max_instances == 1
    assert "learned" in model.placement_status
    assert read.gpus[1].model is model
    assert geometry(model).state_count() == 723


def test_instances_made_beforehand_are_offered_as_they_are_and_the_gpu_is_not():
    devices = [
        {
            "name": f"gpu-0-mig-3g20gb-9-{start}",
            "attributes": {
                "type": {"string": "mig"},
                "parentUUID": {"string": "GPU-x"},
                "profile": {"string": "3g.20gb"},
                "productName": {"string": "NVIDIA A100-SXM4-40GB"},
            },
            "capacity": {f"memorySlice{unit}": {"value": "1"} for unit in range(start, start + 4)},
        }
        for start in (0, 4)
    ]
    pool = {"name": "n1", "generation": 1, "resourceSliceCount": 1}
    spec = {"driver": "gpu.nvidia.com", "nodeName": "n1", "pool": pool, "devices": devices}
    read = read_back(slices_from_json([{"metadata": {"name": "s"}, "spec": spec}]))
    (gpu,) = read.gpus
    assert (gpu.uuid, gpu.partitionable, gpu.whole, gpu.model.name) == ("GPU-x", False, False, "A100-40GB")
    assert read.orders == ((Placement("3g.20gb", 0, 4), Placement("3g.20gb", 4, 4)),)


def test_masks_must_be_one_for_each_gpu():
    with pytest.raises(ValueError, match="node n1: got 1 occupied masks for 2 GPUs"):
        to_slices(node(gpus=2), [0], {})


def test_a_very_long_node_name_still_gives_legal_distinct_object_names():
    names = [item["metadata"]["name"] for item in to_slices(node("n" * 253), [0, 0], {})]
    assert all(len(name) <= 253 for name in names)
    assert names == sorted(set(names))


def plugin_node(labels, allocatable) -> Any:
    return from_labels("n1", labels, allocatable)


LABELS = {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB", "nvidia.com/gpu.memory": "81920"}


def test_labels_and_allocatable_describe_a_device_plugin_node():
    read = plugin_node(LABELS, {"nvidia.com/gpu": "8", "cpu": "96"})
    assert (read.regime, len(read.gpus), read.topology.kind) == ("device-plugin", 8, "nvswitch")
    assert read.gpus[0].model.name == "A100-80GB"
    assert read.orders == ((),) * 8


def test_mig_counts_of_a_device_plugin_are_kept_by_profile():
    read = plugin_node(
        LABELS,
        {"nvidia.com/gpu": "6", "nvidia.com/mig-1g.10gb": "7", "nvidia.com/mig-1g.10gb.me": "1"},
    )
    assert read.static == {"1g.10gb": 7, "1g.10gb+me": 1}
    assert read.static_model.name == "A100-80GB"
    assert len(read.gpus) == 6


def test_with_a_single_mig_strategy_the_gpu_count_is_a_count_of_instances():
    labels = {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb"}
    read = plugin_node(labels, {"nvidia.com/gpu": "14"})
    assert (read.static, read.gpus) == ({"1g.10gb": 14}, ())


def test_time_sliced_gpus_are_shares_whether_renamed_or_not():
    renamed = plugin_node(LABELS, {"nvidia.com/gpu.shared": "16"})
    plain = plugin_node({**LABELS, "nvidia.com/gpu.replicas": "4"}, {"nvidia.com/gpu": "16"})
    for read in (renamed, plain):
        assert (read.shared_replicas, read.gpus) == (16, ())


def test_a_node_without_gpus_or_with_garbage_has_no_inventory():
    assert plugin_node({}, {"cpu": "4"}) is None
    assert plugin_node({}, {"nvidia.com/gpu": "many"}) is None
    unlabelled = plugin_node({}, {"nvidia.com/gpu": "1"})
    assert unlabelled.gpus[0].model.units == 1


@pytest.mark.parametrize("profile", PROFILES)
def test_resource_names_of_all_profiles_are_understood(profile):
    assert profile_of_resource(f"nvidia.com/mig-{profile.replace('+', '.')}") == profile


def test_other_resource_names_are_not_profiles():
    assert profile_of_resource("nvidia.com/gpu") is None
    assert profile_of_resource("nvidia.com/mig-1g") is None
    assert profile_of_resource("amd.com/mig-1g.10gb") is None
