"""Which GPU and MIG instance of a node is whose, as one JSON document that node and scheduler share.

Under a device plugin the API server knows how many devices a pod has, never which. The kubelet does, in its
podresources socket, by device id; NVIDIA's plugin (v0.18, strategy ``uuid``, its default) uses the GPU's or
MIG instance's UUID, followed by ``::N`` for the shares of a device that is time-sliced or under MPS. Joined
with what NVML shows (where on which GPU an instance lies) this is the node's exact state.

The document is the value of ``devices.json`` in a ConfigMap ``slicewise-devices-<node>``. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

import msgspec

from dra.cards import Card

VERSION = 1
KEY = "devices.json"
LABEL = "slicewise.io/node-devices"
DEFAULT_NAMESPACE = "slicewise-nodes"
_NAME_PREFIX = "slicewise-devices-"
RESOURCE_PREFIX = "nvidia.com/"

_Count = Annotated[int, msgspec.Meta(ge=0)]


class ReportedInstance(msgspec.Struct, frozen=True):
    """A MIG instance. ``start`` and ``size`` in memory units; ``held``: "namespace/pod", sorted."""

    uuid: str
    profile: str
    start: _Count
    size: _Count
    held: tuple[str, ...] = ()


class ReportedGpu(msgspec.Struct, frozen=True, omit_defaults=True):
    """A GPU in NVML's order. ``held``: who has it whole (or shares of it)."""

    index: _Count
    uuid: str
    product: str
    held: tuple[str, ...] = ()
    instances: tuple[ReportedInstance, ...] = ()
    mig: bool = False


class DeviceReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """One node. ``unknown``: who holds device ids that no GPU or instance of the node has."""

    node: str
    gpus: tuple[ReportedGpu, ...]
    unknown: Mapping[str, tuple[str, ...]] = {}
    version: int = VERSION


class ReportRefused(ValueError):
    """A document is not a report that can be read here; the message says why."""


def config_map_name(node: str) -> str:
    """The ConfigMap in which a node's report stands."""
    return f"{_NAME_PREFIX}{node}"


def encode(report: DeviceReport) -> str:
    """The document; equal reports give equal text."""
    return msgspec.json.encode(report, order="deterministic").decode()


def decode(text: str) -> DeviceReport:
    """Read a document. Raises ReportRefused."""
    try:
        report = msgspec.json.decode(text, type=DeviceReport)
    except msgspec.DecodeError as problem:
        raise ReportRefused(f"{KEY}: {problem}") from problem
    if report.version != VERSION:
        raise ReportRefused(f"{KEY}: got version {report.version}, expected {VERSION}")
    return report


def device_of(device_id: str) -> str:
    """The GPU's or instance's UUID in a device id of NVIDIA's plugin: without the number of a share."""
    return device_id.partition("::")[0]


def build_report(
    node: str, cards: Sequence[Card], held: Iterable[tuple[str, str, Sequence[str]]]
) -> DeviceReport:
    """Join what the kubelet gave away with what the cards are.

    ``held``: pod ("namespace/name"), resource, device ids. Resources other than NVIDIA's are passed over.
    """
    owners: dict[str, set[str]] = {}
    for pod, resource, device_ids in held:
        if resource.startswith(RESOURCE_PREFIX):
            for device_id in device_ids:
                owners.setdefault(device_of(device_id), set()).add(pod)

    def owned(uuid: str | None) -> tuple[str, ...]:
        return tuple(sorted(owners.pop(uuid, ()))) if uuid else ()

    gpus = tuple(
        ReportedGpu(
            index=card.index,
            uuid=card.uuid,
            product=card.product,
            held=owned(card.uuid),
            instances=tuple(
                ReportedInstance(
                    uuid=live.mig_uuid or "",
                    profile=profile.name if (profile := card.profile(live.profile_id)) else "",
                    start=live.start,
                    size=live.size,
                    held=owned(live.mig_uuid),
                )
                for live in sorted(card.live, key=lambda live: live.start)
            ),
            mig=bool(card.mig_enabled),
        )
        for card in cards
    )
    unknown = {device: tuple(sorted(pods)) for device, pods in sorted(owners.items())}
    return DeviceReport(node=node, gpus=gpus, unknown=unknown)
