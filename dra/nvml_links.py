"""NVLink, fabric and topology as NVML shows them for one card.

For each link: is it up, what is at the far end. Behind an NVSwitch the far end's bus id is the switch's, so
it is compared with the node's GPUs only where the far end is a GPU or of unknown type.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dra.cards import Card, CardRefused, Fabric, Link, LinkKind
from dra.nvml_library import Handle, Library, by_reference, fabric_versions
from dra.nvml_names import NVLINK_GENERATIONS
from dra.nvml_system import kernel_address

MOST_LINKS = 64
"""More than any card has; the loop ends where NVML says that there is no such link."""

_REMOTE_GPU, _REMOTE_SWITCH = 0, 2
_P2P_NVLINK, _P2P_OK = 2, 0
_FIELD_MEGABYTES_PER_SECOND = 90
_FABRIC_COMPLETED = 3


@dataclass(frozen=True, slots=True)
class Wires:
    """The links of one card. ``down``: links that exist and are not active; None where none are told."""

    links: tuple[Link, ...]
    down: int | None
    generation: int | None
    megabytes_per_second: int | None


def read_wires(library: Library, handle: Handle, by_address: Mapping[str, int]) -> Wires:
    """``by_address``: the node's GPU indices by the kernel's PCI address. Raises CardRefused when lost."""
    found: Counter[tuple[int | None, LinkKind]] = Counter()
    down: int | None = None
    generation = None
    for link in range(MOST_LINKS):
        try:
            active = library.call("nvmlDeviceGetNvLinkState", handle, link)
        except CardRefused as refusal:
            if refusal.kind == "lost":
                raise
            if refusal.kind == "invalid" or (refusal.kind == "not-supported" and link == 0):
                break
            continue
        down = (down or 0) + (not active)
        if not active:
            continue
        found[_far_end(library, handle, link, by_address)] += 1
        if generation is None:
            version = library.ask("nvmlDeviceGetNvLinkVersion", handle, link)
            generation = NVLINK_GENERATIONS.get(version) if version is not None else None
    links = tuple(
        Link(peer, kind, count)
        for (peer, kind), count in sorted(found.items(), key=lambda item: (item[0][1], item[0][0] or 0))
    )
    return Wires(links, down, generation, _speed(library, handle) if links else None)


def _far_end(
    library: Library, handle: Handle, link: int, by_address: Mapping[str, int]
) -> tuple[int | None, LinkKind]:
    kind = library.ask("nvmlDeviceGetNvLinkRemoteDeviceType", handle, link)
    if kind == _REMOTE_SWITCH:
        return None, "switch"
    if kind not in (_REMOTE_GPU, None):
        return None, "other"
    remote = library.ask("nvmlDeviceGetNvLinkRemotePciInfo", handle, link)
    peer = by_address.get(kernel_address(_text(remote.busId))) if remote is not None else None
    return peer, "gpu" if peer is not None or kind == _REMOTE_GPU else "other"


def _speed(library: Library, handle: Handle) -> int | None:
    values = library.ask("nvmlDeviceGetFieldValues", handle, [_FIELD_MEGABYTES_PER_SECOND])
    if not values or values[0].nvmlReturn != 0:
        return None
    return int(values[0].value.uiVal) or None


def read_peers(library: Library, handle: Handle, others: Mapping[int, Handle]) -> tuple[int, ...] | None:
    """Indices of GPUs that NVLink reaches; None where no pair's status is told."""
    told = {
        index: status
        for index, other in others.items()
        if (status := library.ask("nvmlDeviceGetP2PStatus", handle, other, _P2P_NVLINK)) is not None
    }
    if others and not told:
        return None
    return tuple(index for index, status in sorted(told.items()) if status == _P2P_OK)


def peers_by_links(card: Card, cards: Iterable[Card]) -> tuple[int, ...]:
    """The GPUs that NVLink reaches as far as the links themselves tell: their ends, or a switch in common."""
    if card.mig_enabled:
        return ()
    ends = {link.peer_gpu for link in card.links if link.kind == "gpu"}
    switched = _switched(card)
    return tuple(
        other.index
        for other in cards
        if other.index != card.index
        and not other.mig_enabled
        and (other.index in ends or (switched and _switched(other)))
    )


def _switched(card: Card) -> bool:
    return any(link.kind == "switch" for link in card.links)


def read_ancestors(
    library: Library, handle: Handle, others: Mapping[int, Handle]
) -> tuple[tuple[int, int], ...]:
    """(GPU index, NVML topology level) for each other GPU where it is told."""
    levels = (
        (index, library.ask("nvmlDeviceGetTopologyCommonAncestor", handle, other))
        for index, other in sorted(others.items())
    )
    return tuple((index, int(level)) for index, level in levels if level is not None)


def read_fabric(library: Library, handle: Handle) -> tuple[Fabric | None, int | None]:
    """The rack-scale domain and NVML's health summary of it (None where not told).

    A completed fabric with a cluster of zeros is the NVSwitch of one node: no domain beyond it.
    """
    for information in fabric_versions():
        if library.ask("nvmlDeviceGetGpuFabricInfoV", handle, by_reference(information)) is None:
            continue
        summary = getattr(information, "healthSummary", None)
        cluster = bytes(information.clusterUuid)
        if information.state != _FABRIC_COMPLETED or information.status != 0 or not any(cluster):
            return None, summary
        return Fabric(str(uuid.UUID(bytes=cluster)), int(information.cliqueId)), summary
    return None, None


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
