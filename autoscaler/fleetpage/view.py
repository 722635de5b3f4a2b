"""What the fleet page shows: every node, GPU and MIG instance with its use, as plain values.

Decides how a GPU's memory units divide into spans: instances named by the claims that hold them, whole GPUs,
units that are occupied by something no claim names (``used``: another regime, another owner), free units, and
stranded ones. A free unit is *stranded* when no plain MIG profile that still fits on the GPU covers it:
memory that is paid for and cannot be asked for until a neighbour leaves.

Pure: inventories, claims and masks in, ``FleetView`` out. Prices of pods are asked for separately (``page``);
how the masks come about is ``dra.claims`` and ``scheduler.fleet``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from dra.catalog import GpuModel
from dra.inventory import DeviceRef, NodeInventory
from dra.mig import geometry
from dra.nvlink import Topology, islands
from dra.resource_api import ResourceClaim
from metrics.samples import NoData

SpanKind = Literal["free", "mig", "whole", "used", "stranded"]

_NO_CARBON = NoData("no carbon data")
_TOPOLOGY_NAMES = {
    "nvswitch": "NVSwitch",
    "bridges": "NVLink pairs",
    "cube-mesh": "NVLink cube mesh",
    "pcie": "PCIe only",
    "direct": "NVLink direct",
}


@dataclass(frozen=True, slots=True)
class SpanView:
    """``size`` memory units from ``start``; ``pods`` are "namespace/name"."""

    start: int
    size: int
    kind: SpanKind
    profile: str | None
    pods: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GpuView:
    """One GPU; its spans cover all ``units``. ``partitionable``: MIG instances are made on demand."""

    index: int
    uuid: str
    model: str
    memory_gib: int
    units: int
    partitionable: bool
    spans: tuple[SpanView, ...]


@dataclass(frozen=True, slots=True)
class NodeView:
    """One node. ``grams_per_kwh`` is None where the intensity is unknown, and ``carbon_note`` says why.

    ``islands``: sizes of the sets of GPUs that NVLink joins; ``slices``: ResourceSlices that tell of it.
    """

    name: str
    regime: str
    region: str
    zone: str
    grams_per_kwh: float | None
    carbon_note: str
    gpu_hour: float | None
    topology: str
    free_share: float
    gpus: tuple[GpuView, ...]
    islands: tuple[int, ...] = ()
    slices: int = 0


@dataclass(frozen=True, slots=True)
class PodView:
    """A GPU pod: waiting when ``node`` is empty."""

    namespace: str
    name: str
    node: str
    request: str


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts over the fleet; ``units`` are memory units, of which a GPU without MIG has one."""

    nodes: int
    gpus: int
    units: int
    used_units: int
    stranded_units: int
    waiting_pods: int


@dataclass(frozen=True, slots=True)
class FleetView:
    """Everything the page draws. ``generation`` counts changes of the state it was made from."""

    generation: int
    currency: str
    totals: Totals
    nodes: tuple[NodeView, ...]
    pods: tuple[PodView, ...]


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What is known of a node besides its claims; ``masks`` are the occupied units of each GPU, by
    position.
    """

    inventory: NodeInventory
    masks: tuple[int, ...]
    region: str = ""
    zone: str = ""
    grams_per_kwh: float | NoData = _NO_CARBON
    gpu_hour: float | None = None
    slices: int = 0


def build_view(
    nodes: Iterable[NodeFacts],
    claims: Iterable[ResourceClaim],
    pods: Sequence[PodView],
    *,
    generation: int,
    currency: str,
) -> FleetView:
    """The view of the whole fleet, nodes ordered by name."""
    held = _held_devices(claims)
    made = tuple(sorted((_node_view(facts, held) for facts in nodes), key=lambda node: node.name))
    gpus = [gpu for node in made for gpu in node.gpus]
    spans = [span for gpu in gpus for span in gpu.spans]
    totals = Totals(
        nodes=len(made),
        gpus=len(gpus),
        units=sum(gpu.units for gpu in gpus),
        used_units=sum(span.size for span in spans if span.kind in ("mig", "whole", "used")),
        stranded_units=sum(span.size for span in spans if span.kind == "stranded"),
        waiting_pods=sum(1 for pod in pods if not pod.node),
    )
    ordered = tuple(sorted(pods, key=lambda pod: (pod.namespace, pod.name)))
    return FleetView(generation, currency, totals, made, ordered)


def gpu_spans(
    model: GpuModel, mask: int, occupants: Iterable[tuple[DeviceRef, tuple[str, ...]]]
) -> tuple[SpanView, ...]:
    """Spans of one GPU in order, covering every unit once.

    ``mask`` is the occupied units; ``occupants`` are the devices that claims name, with their pods. An
    occupant that overlaps an earlier one is left out: two claims on one unit is the API server's error, not a
    picture.
    """
    full = (1 << model.units) - 1
    spans: list[SpanView] = []
    named = 0
    for ref, pods in occupants:
        bits = full if ref.placement is None else ref.placement.bits
        if bits & named:
            continue
        named |= bits
        if ref.placement is None:
            spans.append(SpanView(0, model.units, "whole", None, pods))
        else:
            spans.append(
                SpanView(ref.placement.start, ref.placement.size, "mig", ref.placement.profile, pods)
            )
    occupied = (mask | named) & full
    spans.extend(_runs(occupied & ~named, "used"))
    reachable = _reachable(model, occupied)
    spans.extend(_runs(full & ~occupied & reachable, "free"))
    spans.extend(_runs(full & ~occupied & ~reachable, "stranded"))
    return tuple(sorted(spans, key=lambda span: span.start))


def _reachable(model: GpuModel, occupied: int) -> int:
    """Free units that some plain profile which fits now would cover; all of them on a GPU without MIG."""
    if not model.profiles:
        return (1 << model.units) - 1
    covered = 0
    for placement in geometry(model).placements:
        profile = model.profile(placement.profile)
        if profile is not None and profile.plain and not placement.bits & occupied:
            covered |= placement.bits
    return covered


def _runs(bits: int, kind: SpanKind) -> list[SpanView]:
    """One span for each run of set bits."""
    spans: list[SpanView] = []
    start = 0
    while bits >> start:
        if not bits >> start & 1:
            start += 1
            continue
        size = 1
        while bits >> (start + size) & 1:
            size += 1
        spans.append(SpanView(start, size, kind, None, ()))
        start += size
    return spans


def _held_devices(claims: Iterable[ResourceClaim]) -> Mapping[tuple[str, str, str], tuple[str, ...]]:
    """(driver, pool, device) -> the pods that hold it; a claim that nothing reserves counts under its own
    name.
    """
    held: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for claim in claims:
        if claim.status.allocation is None:
            continue
        owners = [
            f"{claim.metadata.namespace}/{consumer.name}"
            for consumer in claim.status.reserved_for
            if consumer.resource == "pods"
        ] or [f"{claim.metadata.namespace}/{claim.metadata.name} (claim)"]
        for result in claim.status.allocation.devices.results:
            if not result.admin_access:
                held[result.driver, result.pool, result.device].extend(owners)
    return {device: tuple(dict.fromkeys(pods)) for device, pods in held.items()}


def _node_view(facts: NodeFacts, held: Mapping[tuple[str, str, str], tuple[str, ...]]) -> NodeView:
    inventory = facts.inventory
    occupants: dict[int, list[tuple[DeviceRef, tuple[str, ...]]]] = defaultdict(list)
    for device, ref in inventory.devices.items():
        pods = held.get((inventory.driver or "", inventory.pool or "", device))
        if pods is not None:
            occupants[ref.gpu].append((ref, pods))
    gpus = []
    for position, gpu in enumerate(inventory.gpus):
        mask = facts.masks[position] if position < len(facts.masks) else 0
        spans = gpu_spans(gpu.model, mask, occupants.get(position, ()))
        memory_gib = round(gpu.model.memory_mib / 1024)
        gpus.append(
            GpuView(
                gpu.index, gpu.uuid, gpu.model.name, memory_gib, gpu.model.units, gpu.partitionable, spans
            )
        )
    units = sum(gpu.units for gpu in gpus)
    free = sum(span.size for gpu in gpus for span in gpu.spans if span.kind == "free")
    grams = facts.grams_per_kwh
    return NodeView(
        name=inventory.node,
        regime=inventory.regime,
        region=facts.region,
        zone=facts.zone,
        grams_per_kwh=None if isinstance(grams, NoData) else grams,
        carbon_note=grams.reason if isinstance(grams, NoData) else "",
        gpu_hour=facts.gpu_hour,
        topology=_topology_name(inventory.topology),
        free_share=free / units if units else 0.0,
        gpus=tuple(sorted(gpus, key=lambda gpu: gpu.index)),
        islands=tuple(island.bit_count() for island in islands(inventory.topology)),
        slices=facts.slices,
    )


def _topology_name(topology: Topology) -> str:
    if topology.gpus <= 1:
        return "one GPU"
    return _TOPOLOGY_NAMES[topology.kind]
