"""What the driver publishes of cards: order, taints, shares, withheld units, limits of the API."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dra.cards import Fabric, Health, InstanceProfile, Link
from dra.catalog import models
from dra.device_order import device_order, order_table
from dra.driver.devices import UNHEALTHY_TAINT, Circumstances, Features, bodies, counter_sets
from dra.driver.hardware import assign_numbers, hardware
from dra.driver.sharing import Sharing, SharingRefused, parse_sharing
from dra.driver.slice_plan import pool_name, wanted
from dra.inventory import SLICEWISE_DRIVER as IN_INVENTORY
from dra.inventory import from_slices
from dra.quantity import amount
from dra.resource_api import slices_from_json
from dra.slice_parts import MOST_COUNTER_SETS, MOST_COUNTERS, MOST_DEVICES, SLICEWISE_DRIVER
from tests.dra.memory_cards import VERSIONS, card

MIG_MODELS = sorted(name for name, model in models().items() if model.profiles)
SHARING = parse_sharing(
    {
        "gpus": [
            {"index": 1, "mode": "time-slicing", "shares": 3},
            {"model": "H100-80GB", "mode": "mps", "shares": 4},
        ]
    },
    "test",
)


def offered(*cards, sharing=None, foreign=None):
    return hardware(cards, assign_numbers({}, cards, ()), sharing or Sharing(), foreign or {})


def now(**changes):
    plain = Circumstances(occupied={}, held=(), tables={}, unhealthy_since={}, versions=VERSIONS)
    return dataclasses.replace(plain, **changes)


def names(body):
    return [device["name"] for device in body]


def of_catalogue(index, name, mig=True):
    """A card of any model of the catalogue that has placements."""
    model = models()[name]
    engines = ("multiprocessors", "copy-engines", "decoders", "encoders", "jpeg-engines", "ofa-engines")
    profiles = tuple(
        InstanceProfile(
            p.name,
            number if p.profile_id is None else p.profile_id,
            p.size,
            p.starts,
            p.compute_slices,
            dict(p.capacities).get("memory_mib", p.memory_gb * 1024),
            p.max_instances,
            *(dict(p.capacities).get(engine) for engine in engines),
        )
        for number, p in enumerate(model.profiles, start=100)
    )
    return card(index, mig, product=model.products[0], memory_mib=model.memory_mib, profiles=profiles)


def test_the_drivers_name_is_one():
    assert SLICEWISE_DRIVER == IN_INVENTORY


def test_a_card_in_mig_mode_offers_placements_and_one_out_of_it_the_whole_gpu():
    one, other = bodies(offered(card(0), card(1, mig=False)), now())
    assert len(one) == 7 + 4 + 3 + 2 + 1 + 1
    assert {device["attributes"]["type"]["string"] for device in one} == {"mig"}
    assert names(other) == ["gpu-1"]
    assert "consumesCounters" not in other[0]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(MIG_MODELS), st.data())
def test_placements_stand_in_the_order_for_what_is_occupied(name, data):
    node = offered(of_catalogue(0, name))
    model = node.gpus[0].model
    mask = data.draw(st.integers(0, (1 << model.units) - 1))
    worth = data.draw(st.lists(st.integers(0, 9), min_size=1 << model.units, max_size=1 << model.units))
    for tables in ({}, {model.name: order_table([10, *worth[1:]])}):
        (body,) = bodies(node, now(occupied={"GPU-0": mask}, tables=tables))
        expected = device_order(model, mask, tables.get(model.name))
        assert [
            (d["attributes"]["profile"]["string"], d["attributes"]["placementStart"]["int"]) for d in body
        ] == [(p.profile, p.start) for p in expected]


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(MIG_MODELS), st.integers(1, 16), st.sampled_from(["1.34", "1.35+"]))
def test_sixteen_gpus_of_any_model_stay_inside_the_limits_of_the_api(name, count, version):
    node = offered(*(of_catalogue(i, name) for i in range(count)))
    found = wanted("n" * 200, node, now(), version)
    assert list(found) == sorted(found)
    counters = 0
    for slice_ in found.values():
        contents = slice_.contents
        assert version == "1.34" or len(contents) == 1
        assert len(contents.get("devices", ())) <= MOST_DEVICES
        assert len(contents.get("sharedCounters", ())) <= MOST_COUNTER_SETS
        counters += len(contents.get("sharedCounters", ()))
        totals = {c["name"]: c["counters"] for c in contents.get("sharedCounters", ())}
        assert all(len(c) <= MOST_COUNTERS for c in totals.values())
        for device in contents.get("devices", ()):
            assert len(device["attributes"]) + len(device["capacity"]) <= 32
            assert len(device["name"]) <= 63
            assert all(len(v.get("string", "")) <= 64 for v in device["attributes"].values())
    assert counters == count
    assert len(json.dumps([s.contents for s in found.values()])) < 1_500_000 * len(found)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(MIG_MODELS), st.integers(1, 8))
def test_the_scheduler_side_reads_back_what_is_published(name, count):
    node = offered(*(of_catalogue(i, name) for i in range(count)))
    published = wanted("node-1", node, now(), "1.35+")
    documents = [
        {
            "metadata": {"name": n},
            "spec": {
                "driver": SLICEWISE_DRIVER,
                "nodeName": "node-1",
                "pool": {"name": pool_name("node-1"), "generation": 1, "resourceSliceCount": len(published)},
                **slice_.contents,
            },
        }
        for n, slice_ in published.items()
    ]
    read = from_slices("node-1", slices_from_json(documents))
    assert read is not None
    assert [gpu.model.name for gpu in read.gpus] == [name] * count
    assert set(read.devices) == set(node.targets)
    for device, reference in read.devices.items():
        assert reference.placement == node.targets[device].placement


def test_counters_let_together_what_fits_together():
    node = offered(card(0))
    (totals,) = counter_sets(node)
    (body,) = bodies(node, now())
    uses = {d["name"]: d["consumesCounters"][0]["counters"] for d in body}

    def fits(*devices):
        return all(
            sum(amount(uses[d].get(name, {"value": "0"})["value"]) for d in devices) <= amount(total["value"])
            for name, total in totals["counters"].items()
        )

    assert fits(*(f"gpu-0-1g10gb-{i}" for i in range(7)))
    assert fits("gpu-0-4g40gb-0", "gpu-0-3g40gb-4")
    assert not fits("gpu-0-4g40gb-0", "gpu-0-1g10gb-3")


def test_units_of_foreign_instances_are_not_offered_unless_a_claim_holds_them():
    node = offered(card(0), foreign={"GPU-0": 0b0001})
    (body,) = bodies(node, now())
    assert not {"gpu-0-1g10gb-0", "gpu-0-4g40gb-0", "gpu-0-7g80gb-0"} & set(names(body))
    assert "gpu-0-3g40gb-4" in names(body)
    (body,) = bodies(node, now(held={"gpu-0-1g10gb-0"}))
    assert "gpu-0-1g10gb-0" in names(body)


def test_an_unhealthy_gpu_is_tainted_with_its_reason():
    sick = card(0, health=Health("unhealthy", ("XID 79: GPU has fallen off the bus!", "ECC")))
    body, well = bodies(offered(sick, card(1)), now(unhealthy_since={"GPU-0": "2026-01-01T00:00:00Z"}))
    assert all(
        device["taints"]
        == [
            {
                "key": UNHEALTHY_TAINT,
                "value": "XID-79-GPU-has-fallen-off-the-bus-ECC",
                "effect": "NoSchedule",
                "timeAdded": "2026-01-01T00:00:00Z",
            }
        ]
        for device in body
    )
    assert not any("taints" in device for device in well)


def test_without_taints_an_unhealthy_gpus_devices_are_withdrawn_but_for_held_ones():
    node = offered(card(0, health=Health("unhealthy", ("ECC",))))
    (body,) = bodies(node, now(features=Features(taints=False), held={"gpu-0-1g10gb-6"}))
    assert names(body) == ["gpu-0-1g10gb-6"]
    assert "taints" not in body[0]


def test_without_counters_no_mig_device_is_offered():
    found = wanted("n", offered(card(0), card(1, mig=False)), now(features=Features(counters=False)), "1.35+")
    assert [names(slice_.contents["devices"]) for slice_ in found.values()] == [["gpu-1"]]


def test_a_shared_gpu_is_a_type_of_its_own_with_shares_and_memory():
    node = offered(card(0, False), card(1, False), sharing=SHARING)
    (mps,), (sliced,) = bodies(node, now())
    assert mps["allowMultipleAllocations"] is True
    assert mps["attributes"]["type"] == {"string": "shared"}
    assert mps["attributes"]["sharing"] == {"string": "mps"}
    assert mps["capacity"]["share"] == {
        "value": "4",
        "requestPolicy": {"default": "1", "validRange": {"min": "1", "max": "4", "step": "1"}},
    }
    memory = mps["capacity"]["memory"]
    assert amount(memory["value"]) == 4 * amount(memory["requestPolicy"]["default"])
    assert sliced["attributes"]["sharing"] == {"string": "time-slicing"}
    assert sliced["capacity"]["share"]["value"] == "3"


def test_without_shares_a_gpu_to_be_shared_is_offered_whole():
    (body, _) = bodies(
        offered(card(0, False), card(1), sharing=SHARING), now(features=Features(shares=False))
    )
    assert body[0]["attributes"]["type"] == {"string": "gpu"}
    assert "allowMultipleAllocations" not in body[0]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"gpus": [{"mode": "mps", "shares": 4}]}, "one of index and model"),
        ({"gpus": [{"index": 0, "mode": "mps", "shares": 1}]}, "expected 2 to 128"),
        ({"gpus": [{"index": 0, "mode": "magic", "shares": 2}]}, "magic"),
        ({"gpus": [{"index": 0, "mode": "mps", "shares": 2, "extra": 1}]}, "extra"),
        ({"gpus": [{"index": 0, "mode": "mps", "shares": 2, "pipeDirectory": "x"}]}, "absolute"),
        ([1], "object"),
    ],
)
def test_a_sharing_file_that_cannot_be_used_is_refused_by_name(document, words):
    with pytest.raises(SharingRefused, match=words):
        parse_sharing(document, "sharing.yaml")


def test_nvlink_is_told_as_islands_of_the_present_gpus():
    pairs = [card(i, mig=False, nvlink_peers=(i ^ 1,), links=(Link(i ^ 1, "gpu", 12),)) for i in range(4)]
    found = bodies(offered(*pairs), now())
    assert [body[0]["attributes"]["nvlinkIsland"]["int"] for body in found] == [0, 0, 2, 2]
    assert {body[0]["attributes"]["nvlinkTopology"]["string"] for body in found} == {"bridges"}
    rack = [
        card(
            i,
            mig=False,
            nvlink_peers=tuple(j for j in range(4) if j != i),
            links=(Link(None, "switch", 18),),
            fabric=Fabric("c0ffee", 7),
        )
        for i in range(4)
    ]
    (first, *_) = bodies(offered(*rack), now())
    assert first[0]["attributes"]["nvlinkTopology"] == {"string": "nvswitch"}
    assert first[0]["attributes"]["clique"] == {"string": "c0ffee.7"}
    untold = bodies(offered(card(0, mig=False, nvlink_peers=None)), now())
    assert "nvlinkIsland" not in untold[0][0]["attributes"]


def test_standard_attributes_and_versions():
    ((device,),) = bodies(offered(card(0, mig=False)), now())
    attributes = device["attributes"]
    assert attributes["resource.kubernetes.io/pcieRoot"] == {"string": "pci0000:00"}
    assert attributes["resource.kubernetes.io/pciBusID"] == {"string": "0000:00:00.0"}
    assert attributes["cudaComputeCapability"] == {"version": "9.0.0"}
    assert attributes["driverVersion"] == {"version": "580.65.6"}
    assert attributes["numaNode"] == {"int": 0}


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(st.sampled_from([f"GPU-{i}" for i in range(6)]), st.integers(0, 8)),
    st.lists(st.integers(0, 5), unique=True),
    st.sets(st.sampled_from([f"GPU-{i}" for i in range(6)])),
)
def test_numbers_are_kept_and_never_shared(known, present, held):
    known = dict(zip(known, dict.fromkeys(known.values()), strict=False))  # distinct to begin with
    cards = [card(position, uuid=f"GPU-{i}") for position, i in enumerate(present)]
    numbers = assign_numbers(known, cards, held)
    assert len(set(numbers.values())) == len(numbers)
    assert {f"GPU-{i}" for i in present} <= set(numbers)
    for uuid, number in known.items():
        assert numbers.get(uuid, number) == number
        assert uuid in numbers or (uuid not in held and uuid not in {f"GPU-{i}" for i in present})
