"""Slices stored once per kind of hardware give the same inventories as slices kept whole."""

from __future__ import annotations

import msgspec
import pytest

from dra.inventory import from_slices
from dra.slices import nvidia_slices, to_slices
from scheduler.slice_store import LeanSlice, SliceStore, lean
from tests.scheduler.fleet_objects import inventory, slices


@pytest.mark.parametrize("ours", [True, False])
def test_inventory_is_that_of_the_slices_themselves(ours: bool):
    store = SliceStore()
    for name in ("a", "b"):
        whole = slices(name, gpus=4, ours=ours)
        facts = [store.fact(lean(item)) for item in whole]
        assert store.inventory(name, facts, {}) == from_slices(name, whole, {})


@pytest.mark.parametrize("ours", [True, False])
def test_nodes_of_one_kind_are_stored_once(ours: bool):
    store = SliceStore()
    for name in ("a", "b", "c"):
        made = inventory(name, ours=ours)
        published = to_slices(made, (0,) * 2, {}, version="1.35+") if ours else nvidia_slices(made)
        for item in published:
            store.fact(msgspec.json.decode(msgspec.json.encode(item), type=LeanSlice))
    assert len(store) == len(published)


def test_uuids_are_those_of_the_node():
    store = SliceStore()
    for name in ("a", "b"):
        found = store.inventory(name, [store.fact(lean(item)) for item in slices(name)], {})
        assert found is not None
        assert [gpu.uuid for gpu in found.gpus] == [f"GPU-{name}-0", f"GPU-{name}-1"]


def test_old_generations_and_missing_slices_count_as_the_driver_means_them():
    store = SliceStore()
    facts = [store.fact(lean(item)) for item in slices("a")]
    assert store.inventory("a", facts[:-1], {}) is None
    newer = msgspec.structs.replace(facts[0].pool, generation=facts[0].pool.generation + 1)
    stale = [facts[0].__class__(f.name, f.node, f.driver, newer, f.digest, f.uuids) for f in facts[:1]]
    assert store.inventory("a", [*stale, *facts[1:]], {}) is None
    assert store.inventory("a", facts, {}) is not None


def test_devices_of_an_unexpected_form_make_the_pool_incomplete():
    store = SliceStore()
    broken = LeanSlice(
        spec=msgspec.structs.replace(lean(slices("a")[1]).spec, devices=msgspec.Raw(b'{"no":"list"}'))
    )
    facts = [store.fact(lean(slices("a")[0])), store.fact(broken)]
    assert store.inventory("a", facts, {}) is None


def test_unused_devices_are_forgotten():
    store = SliceStore()
    facts = [store.fact(lean(item)) for item in slices("a")]
    store.forget_unused({facts[0].digest})
    assert len(store) == 1
