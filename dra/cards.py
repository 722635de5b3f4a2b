"""What a node's GPUs are and can be asked to do, in words that know no driver library.

``Cards`` is what the driver programs against: ``dra.nvml`` implements it over NVML, a test over nothing.
None always means that the card or its driver does not tell; it is never 0. Units of ``starts`` and ``size``
are those of the card's MIG memory grid, as NVML gives them (``nvmlGpuInstancePlacement_t``).

Pure: no clock, no library, no decision. Source of the notions: NVIDIA Management Library reference (MIG,
NVLink, events).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

LinkKind = Literal["gpu", "switch", "other"]
RefusalKind = Literal[
    "in-use",
    "no-permission",
    "insufficient-resources",
    "lost",
    "not-supported",
    "not-found",
    "invalid",
    "timeout",
    "other",
]
EventKind = Literal["xid", "ecc", "lost", "mig-changed", "other"]


@dataclass(frozen=True, slots=True)
class InstanceProfile:
    """A GPU-instance profile as the card offers it.

    ``name``: the product's spelling ("1g.10gb+me"). ``profile_id``: what ``create`` wants. ``size``: units of
    the memory grid; ``starts``: its legal first units, ascending. ``memory_mib`` as the card reports it.
    """

    name: str
    profile_id: int
    size: int
    starts: tuple[int, ...]
    compute_slices: int
    memory_mib: int
    max_instances: int
    multiprocessors: int | None = None
    copy_engines: int | None = None
    decoders: int | None = None
    encoders: int | None = None
    jpeg_engines: int | None = None
    ofa_engines: int | None = None


@dataclass(frozen=True, slots=True)
class LiveInstance:
    """A GPU instance that exists on a card, with its compute instance when it has just one that fills it.

    ``compute_instance_id`` None: none was made (half-made instance). ``mig_uuid`` None: no compute instance,
    or the driver does not tell. ``others``: ids of further compute instances, made by someone else.
    """

    gpu_uuid: str
    gpu_instance_id: int
    compute_instance_id: int | None
    profile_id: int
    start: int
    size: int
    mig_uuid: str | None
    others: tuple[int, ...] = ()

    @property
    def bits(self) -> int:
        """Bitmask of the memory units that it takes."""
        return ((1 << self.size) - 1) << self.start


@dataclass(frozen=True, slots=True)
class Link:
    """``links`` active NVLinks from a card to one kind of far end; ``peer_gpu`` is an index of this node."""

    peer_gpu: int | None
    kind: LinkKind
    links: int


@dataclass(frozen=True, slots=True)
class Fabric:
    """The rack-scale NVLink domain that a card has joined; cards with equal values reach each other."""

    cluster_uuid: str
    clique_id: int

    @property
    def clique(self) -> str:
        """The spelling of the node label ``nvidia.com/gpu.clique``."""
        return f"{self.cluster_uuid}.{self.clique_id}"


@dataclass(frozen=True, slots=True)
class Health:
    """Whether new work may go to a card; ``reasons`` are for people, one each fault found."""

    state: Literal["healthy", "unhealthy"]
    reasons: tuple[str, ...] = ()


HEALTHY = Health("healthy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One GPU of the node.

    ``minor``: number in ``/dev/nvidia<minor>``. ``pcie_root``: "pciDDDD:BB" of the root complex.
    ``profiles``: empty where the card tells none. ``links``: NVLink by far end.
    ``placements_told`` False: the starts are the catalogue's (the caller may not ask the card).
    ``live_told`` False: what exists is not known (no permission), so nothing may be concluded from ``live``.
    ``common_ancestors``: NVML's topology level to each GPU by index (10 one PCIe switch ... 50 other socket).
    ``links_down``: links that the card has and that are not active; None where it tells of no links.
    ``nvlink_peers``: indices of the node's GPUs that NVLink reaches now, by switch or directly; a GPU in MIG
    mode has none, whatever its wires.
    ``nvlink_megabytes_per_second``: of one link, one direction. ``mig_pending``: mode after the next reset.
    """

    index: int
    uuid: str
    product: str
    minor: int | None = None
    pci_bus_id: str | None = None
    pcie_root: str | None = None
    numa_node: int | None = None
    module_id: int | None = None
    serial: str | None = None
    architecture: str | None = None
    compute_capability: tuple[int, int] | None = None
    memory_mib: int | None = None
    mig_capable: bool = False
    mig_enabled: bool | None = None
    mig_pending: bool | None = None
    profiles: tuple[InstanceProfile, ...] = ()
    placements_told: bool = True
    live: tuple[LiveInstance, ...] = ()
    live_told: bool = True
    links: tuple[Link, ...] = ()
    links_down: int | None = None
    nvlink_peers: tuple[int, ...] | None = None
    nvlink_version: int | None = None
    nvlink_megabytes_per_second: int | None = None
    fabric: Fabric | None = None
    common_ancestors: tuple[tuple[int, int], ...] = ()
    power_watts: float | None = None
    power_limit_watts: float | None = None
    energy_millijoules: int | None = None
    health: Health = HEALTHY

    def profile(self, profile_id: int) -> InstanceProfile | None:
        """The profile with that id, or None."""
        return next((p for p in self.profiles if p.profile_id == profile_id), None)

    def profile_named(self, name: str) -> InstanceProfile | None:
        """The profile with that name, or None."""
        return next((p for p in self.profiles if p.name == name), None)

    @property
    def occupied(self) -> int:
        """Bitmask of the memory units taken by live instances, whoever made them."""
        mask = 0
        for instance in self.live:
            mask |= instance.bits
        return mask


def identified(cards: Iterable[Card]) -> tuple[Card, ...]:
    """The cards that have told who they are: one that was lost before that has no name to be known by."""
    return tuple(card for card in cards if card.uuid)


@dataclass(frozen=True, slots=True)
class DriverVersions:
    """What runs below: the kernel driver, the library, the newest CUDA it serves (major, minor)."""

    driver: str | None
    nvml: str | None
    cuda: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class NoDriver:
    """NVML cannot be used on this node; ``reason`` is for people, ``advice`` says it with what to do."""

    reason: str

    @property
    def advice(self) -> str:
        """The reason, what was expected, and what to look at."""
        return (
            f"{self.reason}. Expected an NVIDIA driver with libnvidia-ml.so.1; run this on a GPU node, or "
            "check that the driver is loaded (nvidia-smi)."
        )


@dataclass(frozen=True, slots=True)
class HealthEvent:
    """Something that a card reported. ``code``: the XID, or 0. ``gpu_instance_id``: the MIG instance meant.

    ``gpu_uuid`` is "" where the library does not say which card.
    """

    gpu_uuid: str
    kind: EventKind
    code: int
    gpu_instance_id: int | None = None


class CardRefused(Exception):
    """A card or its driver refused a call: ``call`` names it, ``kind`` is what a program decides on."""

    def __init__(self, call: str, kind: RefusalKind, detail: str) -> None:
        super().__init__(f"{call}: {kind}: {detail}")
        self.call = call
        self.kind = kind
        self.detail = detail


class Cards(Protocol):
    """The GPUs of this node. Every method may raise ``CardRefused``; all may be called from any thread."""

    def cards(self) -> tuple[Card, ...]:
        """Everything known of every GPU, in NVML's index order; a lost GPU is listed as unhealthy."""

    def live(self, gpu_uuid: str) -> tuple[LiveInstance, ...]:
        """The GPU instances that exist on one card now, by start; read afresh."""

    def create(self, gpu_uuid: str, profile_id: int, start: int) -> LiveInstance:
        """Make a GPU instance at ``start`` and the compute instance that fills it; both or neither."""

    def set_mig_mode(self, gpu_uuid: str, enabled: bool) -> bool:
        """Ask for MIG mode on or off; True when it holds now, False when it waits for a reset of the card."""

    def destroy(self, gpu_uuid: str, gpu_instance_id: int) -> None:
        """Take an instance away, its compute instances first. Refused "not-found" when there is none."""

    def wait_event(self, timeout_seconds: float) -> HealthEvent | None:
        """The next event of any card, or None when ``timeout_seconds`` have passed."""

    def close(self) -> None:
        """Let go of the library; safe to call twice."""
