"""The devices that the driver publishes, JSON-ready: attributes, capacities, counters, taints, order.

``body`` has all devices of one GPU, MIG placements in the order that makes first-fit take the best
(``dra.device_order``), for what is occupied now; ``part`` and ``whole`` have one each, for slices that hold
devices of several GPUs. Attributes are those of ``dra.slices`` and, where
the card tells them, by the standard names ``resource.kubernetes.io/pcieRoot`` and ``.../pciBusID``, also
numaNode, cudaComputeCapability, driverVersion. nvlinkTopology, nvlinkIsland (the lowest number of the GPUs
that NVLink reaches) and clique (rack-scale domain) are on whole GPUs only, as MIG instances have no NVLink.

A GPU that is offered whole and in parts has both consume its counters, the whole GPU all of them, and the
whole GPU stands last. A shared GPU is of type "shared", so that nobody who asks for a whole GPU gets a part
of one. It allows several allocations: capacity ``share`` in steps of 1 and ``memory`` in equal parts. An
unhealthy GPU's devices are tainted. ``Features`` says what becomes of each where the API server does not know
it. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from dra.cards import Card, DriverVersions
from dra.device_order import OrderTable, device_order
from dra.driver.hardware import Hardware, OfferedGpu
from dra.placement import Placement
from dra.quantity import mebibytes
from dra.slice_parts import (
    MOST_DEVICES,
    Json,
    counter_set,
    memory_mib,
    name_of,
    partition_use,
    profile_of,
    whole_use,
)

UNHEALTHY_TAINT = "gpu.slicewise.io/unhealthy"

_MOST_STRING = 64


@dataclass(frozen=True, slots=True)
class Features:
    """What the API server keeps of a ResourceSlice: each hangs on a feature gate (all on from 1.36).

    ``counters``: KEP-4815; without them overlapping MIG devices could be allocated together, so none are
    offered. ``shares``: KEP-5075; without them a GPU that is to be shared is offered whole. ``taints``:
    KEP-5055; without them the devices of an unhealthy GPU are left out unless a claim holds them.
    """

    counters: bool = True
    shares: bool = True
    taints: bool = True


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What besides the hardware decides how devices look.

    ``occupied``: units taken, by GPU UUID (all units: taken whole). ``held``: device names that claims hold;
    they stay published whatever happens. ``tables``: of the device order by model. ``unhealthy_since``: RFC
    3339 times by GPU UUID. ``effect``: of the taint.
    """

    occupied: Mapping[str, int]
    held: Collection[str]
    tables: Mapping[str, OrderTable]
    unhealthy_since: Mapping[str, str]
    versions: DriverVersions
    features: Features = Features()
    effect: str = "NoSchedule"


@dataclass(frozen=True, slots=True)
class Wiring:
    """NVLink on the node. ``kind`` in the words of ``dra.nvlink``; ``islands``: by GPU number the lowest
    number that NVLink reaches, without those whose links are not told.
    """

    kind: str
    islands: Mapping[int, int]


def bodies(node: Hardware, now: Circumstances) -> list[list[Json]]:
    """The devices of each GPU, in published order; a GPU that offers nothing has an empty body."""
    wires = wiring(node)
    return [body(node, gpu, now, wires) for gpu in node.gpus]


def counter_sets(node: Hardware) -> list[Json | None]:
    """The counters of each GPU; None for one that is not partitionable."""
    return [
        counter_set(gpu.model, name_of(gpu.number), zeros=False) if gpu.cut else None for gpu in node.gpus
    ]


def body_depends_on(node: Hardware, gpu: OfferedGpu, now: Circumstances, wires: Wiring) -> object:
    """A value that is equal only where ``body`` would be, quick to compare."""
    return (
        device_depends_on(node, gpu, now, wires),
        now.occupied.get(gpu.card.uuid, 0),
        now.tables.get(gpu.model.name),
    )


def device_depends_on(node: Hardware, gpu: OfferedGpu, now: Circumstances, wires: Wiring) -> object:
    """A value that is equal only where ``part`` and ``whole`` would be, quick to compare."""
    uuid = gpu.card.uuid
    troubled = gpu.withheld or gpu.card.health.state == "unhealthy"
    return (
        id(gpu),  # of one ``Hardware``, which the caller keeps
        frozenset(name for name in now.held if name in node.targets) if troubled else None,
        now.unhealthy_since.get(uuid),
        now.versions,
        now.features,
        now.effect,
        wires.kind,
        wires.islands.get(gpu.number),
    )


def body(node: Hardware, gpu: OfferedGpu, now: Circumstances, wires: Wiring) -> list[Json]:
    """The devices of one GPU, in published order."""
    last = whole(gpu, now, wires)
    most = MOST_DEVICES - (last is not None)
    order = (
        device_order(gpu.model, taken(gpu, now), now.tables.get(gpu.model.name)) if parted(gpu, now) else ()
    )
    named = [placement for placement in order if name_of(gpu.number, placement) in node.targets]
    parts = [part(node, gpu, placement, now) for placement in named[:most]]
    return [device for device in (*parts, last) if device is not None]


def parted(gpu: OfferedGpu, now: Circumstances) -> bool:
    """Whether MIG devices of the GPU are offered."""
    return gpu.cut and now.features.counters


def taken(gpu: OfferedGpu, now: Circumstances) -> int:
    """The units of the GPU that nobody else can have."""
    return (now.occupied.get(gpu.card.uuid, 0) | gpu.withheld) & gpu.full_mask


def part(node: Hardware, gpu: OfferedGpu, placement: Placement, now: Circumstances) -> Json | None:
    """The MIG device at a placement, None where it is not offered."""
    name = name_of(gpu.number, placement)
    if name not in node.targets or _withdrawn(gpu, name, placement.bits, now):
        return None
    return _named(name, gpu, _partition(gpu, placement, now), now)


def whole(gpu: OfferedGpu, now: Circumstances, wires: Wiring) -> Json | None:
    """The device that stands for the GPU itself, whole or shared, None where it is not offered."""
    name = name_of(gpu.number)
    if gpu.kind == "mig" or _withdrawn(gpu, name, gpu.full_mask, now):
        return None
    return _named(name, gpu, _whole(gpu, wires, now), now)


def _withdrawn(gpu: OfferedGpu, name: str, units: int, now: Circumstances) -> bool:
    sick = gpu.card.health.state == "unhealthy"
    return name not in now.held and bool(units & gpu.withheld or (sick and not now.features.taints))


def _named(name: str, gpu: OfferedGpu, device: Json, now: Circumstances) -> Json:
    if gpu.card.health.state == "unhealthy" and now.features.taints:
        device["taints"] = [_taint(gpu.card, now)]
    return {"name": name, **device}


def _whole(gpu: OfferedGpu, wires: Wiring, now: Circumstances) -> Json:
    card = gpu.card
    shared = gpu.shared if now.features.shares else None
    attributes = {
        "type": {"string": "gpu" if shared is None else "shared"},
        **_common(gpu, now),
        "uuid": {"string": _cut(card.uuid)},
    }
    if gpu.number in wires.islands:
        attributes["nvlinkTopology"] = {"string": wires.kind}
        attributes["nvlinkIsland"] = {"int": wires.islands[gpu.number]}
    if card.fabric is not None:
        attributes["clique"] = {"string": _cut(card.fabric.clique)}
    total = card.memory_mib or gpu.model.memory_mib
    device: Json = {"attributes": attributes, "capacity": {"memory": {"value": mebibytes(total)}}}
    if gpu.cut and now.features.counters:
        used = whole_use(gpu.model, zeros=False)
        device["consumesCounters"] = [{"counterSet": name_of(gpu.number), "counters": used}]
    if shared is not None:
        shares, part = shared.shares, total // shared.shares
        device["allowMultipleAllocations"] = True
        attributes["sharing"] = {"string": shared.mode}
        one = {"default": "1", "validRange": {"min": "1", "max": str(shares), "step": "1"}}
        device["capacity"]["share"] = {"value": str(shares), "requestPolicy": one}
        # The value is a multiple of the step, or the last share could not be had.
        most, step = mebibytes(part * shares), mebibytes(part)
        by_memory = {"default": step, "validRange": {"min": step, "max": most, "step": step}}
        device["capacity"]["memory"] = {"value": most, "requestPolicy": by_memory}
    return device


def _partition(gpu: OfferedGpu, placement: Placement, now: Circumstances) -> Json:
    use = partition_use(gpu.model, placement, zeros=False)
    return {
        "attributes": {
            "type": {"string": "mig"},
            **_common(gpu, now),
            "parentUUID": {"string": _cut(gpu.card.uuid)},
            "profile": {"string": placement.profile},
            "placementStart": {"int": placement.start},
        },
        "capacity": {"memory": {"value": mebibytes(memory_mib(profile_of(gpu.model, placement)))}},
        "consumesCounters": [{"counterSet": name_of(gpu.number), "counters": use}],
    }


def _common(gpu: OfferedGpu, now: Circumstances) -> Json:
    card = gpu.card
    told: list[tuple[str, str, str | int | None]] = [
        ("model", "string", gpu.model.name),
        ("index", "int", gpu.number),
        ("productName", "string", card.product or None),
        ("architecture", "string", card.architecture or gpu.model.architecture or None),
        ("resource.kubernetes.io/pcieRoot", "string", card.pcie_root),
        ("resource.kubernetes.io/pciBusID", "string", card.pci_bus_id),
        ("numaNode", "int", card.numa_node),
        ("cudaComputeCapability", "version", _semantic(card.compute_capability)),
        ("driverVersion", "version", _semantic(_numbers(now.versions.driver))),
    ]
    return {
        name: {kind: _cut(value) if isinstance(value, str) else value}
        for name, kind, value in told
        if value is not None
    }


def _islands(node: Hardware) -> dict[int, int]:
    by_index = {gpu.card.index: gpu for gpu in node.gpus}
    found: dict[int, int] = {}
    for gpu in node.gpus:
        if gpu.card.nvlink_peers is None or gpu.number in found:
            continue
        members, todo = {gpu.number}, [gpu]
        while todo:
            for index in todo.pop().card.nvlink_peers or ():
                peer = by_index.get(index)
                if peer is not None and peer.number not in members:
                    members.add(peer.number)
                    todo.append(peer)
        found |= dict.fromkeys(members, min(members))
    return found


def wiring(node: Hardware) -> Wiring:
    """How NVLink connects the node's GPUs."""
    return Wiring(_kind(node), _islands(node))


def _kind(node: Hardware) -> str:
    kinds = {link.kind for gpu in node.gpus for link in gpu.card.links}
    if "switch" in kinds:
        return "nvswitch"
    peers = [len(gpu.card.nvlink_peers or ()) for gpu in node.gpus]
    if not any(peers):
        return "pcie"
    if max(peers) == 1:
        return "bridges"
    everywhere = all(count == len(node.gpus) - 1 for count in peers)
    return "direct" if everywhere else "cube-mesh"


def _taint(card: Card, now: Circumstances) -> Json:
    taint = {"key": UNHEALTHY_TAINT, "value": _label(card.health.reasons), "effect": now.effect}
    since = now.unhealthy_since.get(card.uuid)
    return taint | ({"timeAdded": since} if since is not None else {})


def _label(reasons: Sequence[str]) -> str:
    """A taint's value follows the rules of label values."""
    text = "-".join("".join(c if c.isalnum() else "-" for c in " ".join(reasons)).split("-"))
    text = "-".join(part for part in text.split("-") if part.isascii() and part)
    return text[:63].strip("-")


def _numbers(version: str | None) -> tuple[int, ...] | None:
    parts = (version or "").split(".")
    return tuple(int(part) for part in parts) if all(p.isascii() and p.isdecimal() for p in parts) else None


def _semantic(version: tuple[int, ...] | None) -> str | None:
    """Three numbers without leading zeros, as semantic versions want: "580.65.06" is 580.65.6."""
    return None if version is None else ".".join(str(n) for n in (*version, 0, 0)[:3])


def _cut(text: str) -> str:
    return text[:_MOST_STRING]
