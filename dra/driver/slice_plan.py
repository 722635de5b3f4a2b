"""Which ResourceSlices there should be, and which writes lead there from those that are.

Names start with five hex digits, as the in-tree allocator reads slices in name order. From Kubernetes 1.35
on: counters from 00000; MIG devices by model and profile from 00020 (``mig_slices``); GPUs that are offered
whole beside their parts from 000e0; any other GPU with number n at 00100 + n, so that one that comes or goes
renames no other. In 1.34 counters must be in the slice of the devices that use them: all devices of the GPU
with number n at 00100 + n, its counters with them.

Consumers use the highest generation of a pool and nothing while it is incomplete. So when the set of
devices or their meaning changes, every slice is written with a new generation; when only the order of devices
or their taints changed, the slices concerned are written as they are, each write leaving the pool whole. Two
digests in an annotation tell after a restart what was written, whatever the API server made of its spelling.

The pool is not named as the node alone: Kubernetes 1.36 counts free counters by pool name, and another driver
on the node may call its pool so. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from dra.driver.devices import (
    Circumstances,
    Wiring,
    body,
    body_depends_on,
    counter_sets,
    device_depends_on,
    parted,
    whole,
    wiring,
)
from dra.driver.hardware import Hardware, OfferedGpu
from dra.driver.mig_slices import MigSlices
from dra.slice_parts import MOST_COUNTER_SETS, MOST_DEVICES, SLICEWISE_DRIVER, Json, Version, slice_name

CONTENTS_ANNOTATION = "gpu.slicewise.io/contents"
FIRST_MIG_SLICE = 0x20
FIRST_EITHER_SLICE = 0xE0
FIRST_GPU_SLICE = 0x100

_MOST_POOL = 253


@dataclass(frozen=True, slots=True)
class Wanted:
    """The contents of one slice (``devices`` and ``sharedCounters``), with digests of all and of the set."""

    contents: Json
    digest: str
    set_digest: str


@dataclass(frozen=True, slots=True)
class Kept:
    """A slice that the API server has. ``mine``: it is of the right pool, driver and node; ``digests``: of
    the annotation.
    """

    resource_version: str
    generation: int
    slice_count: int
    digests: str
    mine: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """Writes in the order to do them: deletions, replacements, creations; bodies are complete objects."""

    deletes: tuple[str, ...]
    replaces: tuple[Json, ...]
    creates: tuple[Json, ...]

    @property
    def empty(self) -> bool:
        """Nothing to do."""
        return not (self.deletes or self.replaces or self.creates)


def pool_name(node: str) -> str:
    """The name of our pool on a node."""
    name = f"slicewise/{node}"
    if len(name) <= _MOST_POOL:
        return name
    return f"slicewise/{hashlib.sha256(node.encode()).hexdigest()[:32]}"


def wanted(node_name: str, node: Hardware, now: Circumstances, version: Version) -> dict[str, Wanted]:
    """The slices that there should be, by object name."""
    return SliceBuilder(node_name).wanted(node, now, version)


class SliceBuilder:
    """``wanted`` that remembers: what a claim does not change is not built again, and an order that still
    holds (``dra.node_order``) is kept as it is published. For one thread.
    """

    def __init__(self, node_name: str) -> None:
        self._node_name = node_name
        self._node: Hardware | None = None
        self._known: dict[int, tuple[object, Wanted | None]] = {}
        self._wires = Wiring("pcie", {})
        self._counters: list[Json | None] = []
        self._mig = MigSlices()
        self._last: tuple[Circumstances, Version, dict[str, Wanted]] | None = None

    def wanted(self, node: Hardware, now: Circumstances, version: Version) -> dict[str, Wanted]:
        """The slices that there should be, by object name."""
        # A claim that is prepared or given back changes nothing here: its allocation has been told before.
        if self._last is None or node is not self._node or (now, version) != self._last[:2]:
            self._last = now, version, self._build(node, now, version)
        return dict(self._last[2])

    def _build(self, node: Hardware, now: Circumstances, version: Version) -> dict[str, Wanted]:
        if node is not self._node:
            self._node, self._known = node, {}
            self._wires, self._counters = wiring(node), counter_sets(node)
            self._mig.forget_devices()
        wires = self._wires
        counters = [
            own
            for gpu, own in zip(node.gpus, self._counters, strict=True)
            if own is not None and parted(gpu, now)
        ]
        found: dict[int, Wanted] = {}
        if version == "1.34":
            for gpu, own in zip(node.gpus, self._counters, strict=True):
                basis = version, body_depends_on(node, gpu, now, wires)
                make = partial(_combined, node, gpu, now, wires, own)
                self._put(found, FIRST_GPU_SLICE + gpu.number, basis, make)
        else:
            for index, first in enumerate(range(0, len(counters), MOST_COUNTER_SETS)):
                sets = counters[first : first + MOST_COUNTER_SETS]
                names = tuple(str(own["name"]) for own in sets)
                self._put(found, index, (version, names), partial(_counted, sets))
            for index, (run_basis, make_devices) in enumerate(self._mig.slices(node, now, wires)):
                self._put(
                    found, FIRST_MIG_SLICE + index, (version, run_basis), partial(_listed, make_devices)
                )
            beside = [gpu for gpu in node.gpus if parted(gpu, now)]
            for index, first in enumerate(range(0, len(beside), MOST_DEVICES)):
                gpus = beside[first : first + MOST_DEVICES]
                self._put_wholes(found, FIRST_EITHER_SLICE + index, node, gpus, now, wires)
            for gpu in node.gpus:
                if not parted(gpu, now):
                    self._put_wholes(found, FIRST_GPU_SLICE + gpu.number, node, [gpu], now, wires)
        named = {index: slice_name(index, SLICEWISE_DRIVER, self._node_name) for index in sorted(found)}
        return {name: found[index] for index, name in named.items()}

    def _put_wholes(
        self,
        found: dict[int, Wanted],
        index: int,
        node: Hardware,
        gpus: Sequence[OfferedGpu],
        now: Circumstances,
        wires: Wiring,
    ) -> None:
        basis = tuple(device_depends_on(node, gpu, now, wires) for gpu in gpus)
        self._put(found, index, ("1.35+", basis), partial(_wholes, gpus, now, wires))

    def _put(self, found: dict[int, Wanted], index: int, basis: object, make: Callable[[], Json]) -> None:
        known = self._known.get(index)
        if known is None or known[0] != basis:
            contents = make()
            # A slice without devices would say nothing.
            new = _digested(contents, known and known[1]) if any(contents.values()) else None
            known = self._known[index] = basis, new
        if known[1] is not None:
            found[index] = known[1]


def _combined(
    node: Hardware, gpu: OfferedGpu, now: Circumstances, wires: Wiring, counters: Json | None
) -> Json:
    inside = {"sharedCounters": [counters]} if counters is not None else {}
    return {**inside, "devices": body(node, gpu, now, wires)}


def _counted(sets: list[Json]) -> Json:
    return {"sharedCounters": sets}


def _listed(devices: Callable[[], list[Json]]) -> Json:
    return {"devices": devices()}


def _wholes(gpus: Sequence[OfferedGpu], now: Circumstances, wires: Wiring) -> Json:
    return {"devices": [device for gpu in gpus if (device := whole(gpu, now, wires)) is not None]}


def kept(document: Mapping[str, Any], node: str, pool: str) -> Kept:
    """What matters of a slice as the API server tells it."""
    metadata, spec = document.get("metadata", {}), document.get("spec", {})
    own_pool = spec.get("pool", {})
    return Kept(
        resource_version=str(metadata.get("resourceVersion", "")),
        generation=int(own_pool.get("generation", 0)),
        slice_count=int(own_pool.get("resourceSliceCount", 0)),
        digests=str(metadata.get("annotations", {}).get(CONTENTS_ANNOTATION, "")),
        mine=(own_pool.get("name"), spec.get("nodeName"), spec.get("driver"))
        == (pool, node, SLICEWISE_DRIVER),
    )


def plan(
    want: Mapping[str, Wanted],
    have: Mapping[str, Kept],
    *,
    node: str,
    pool: str,
    owner: Mapping[str, Any] | None,
    floor: int = 0,
) -> Plan:
    """The writes from ``have`` to ``want``. ``owner``: owner reference to the Node. ``floor``: the highest
    generation that was ever used, where the slices themselves may be gone.
    """
    usable = {name: slice_ for name, slice_ in have.items() if slice_.mine}
    same_set = (
        set(usable) == set(want)
        and len({slice_.generation for slice_ in usable.values()}) <= 1
        and all(
            slice_.slice_count == len(want) and slice_.digests.partition(".")[0] == want[name].set_digest
            for name, slice_ in usable.items()
        )
    )
    highest = max((slice_.generation for slice_ in have.values()), default=0)
    generation = highest if same_set else max(highest, floor) + 1
    replaces: list[Json] = []
    creates: list[Json] = []
    for name, slice_ in want.items():
        old = usable.get(name)
        if same_set and old is not None and old.digests == _digests(slice_):
            continue
        version = old.resource_version if old is not None else None
        body = _document(name, slice_, node, pool, generation, len(want), owner, version)
        (creates if old is None else replaces).append(body)
    gone = tuple(name for name in have if name not in want or name not in usable)
    return Plan(gone, tuple(replaces), tuple(creates))


def _document(
    name: str,
    slice_: Wanted,
    node: str,
    pool: str,
    generation: int,
    count: int,
    owner: Mapping[str, Any] | None,
    resource_version: str | None,
) -> Json:
    metadata: Json = {"name": name, "annotations": {CONTENTS_ANNOTATION: _digests(slice_)}}
    if owner is not None:
        metadata["ownerReferences"] = [dict(owner)]
    if resource_version is not None:
        metadata["resourceVersion"] = resource_version
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": metadata,
        "spec": {
            "driver": SLICEWISE_DRIVER,
            "nodeName": node,
            "pool": {"name": pool, "generation": generation, "resourceSliceCount": count},
            **slice_.contents,
        },
    }


def _digests(slice_: Wanted) -> str:
    return f"{slice_.set_digest}.{slice_.digest}"


def _digested(contents: Json, before: Wanted | None = None) -> Wanted:
    """``before``: what the slice was. Of the very same devices in another order the set is the same."""
    if before is not None and _only_reordered(contents, before.contents):
        return Wanted(contents, _digest(contents), before.set_digest)
    devices = sorted(contents.get("devices", ()), key=lambda device: str(device["name"]))
    unordered = [{key: value for key, value in device.items() if key != "taints"} for device in devices]
    return Wanted(contents, _digest(contents), _digest({**contents, "devices": unordered}))


def _only_reordered(one: Json, other: Json) -> bool:
    return set(one) == set(other) == {"devices"} and (
        sorted(map(id, one["devices"])) == sorted(map(id, other["devices"]))
    )


def _digest(value: object) -> str:
    # Not sorted by key: contents are built in one order, and devices' order is what is told apart here.
    return hashlib.sha256(msgspec.json.encode(value)).hexdigest()[:20]
