"""The node as the driver sees it at one moment, and which units of its GPUs are taken in it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dra.cards import LiveInstance
from dra.driver.checkpoint import Checkpoint
from dra.driver.hardware import Hardware


@dataclass(frozen=True, slots=True)
class View:
    """What is offered, what claims hold, and which live instances are not ours."""

    hardware: Hardware
    checkpoint: Checkpoint
    foreign: tuple[LiveInstance, ...]


def occupied(view: View, claimed: Mapping[str, int]) -> dict[str, int]:
    """Units taken on each GPU by UUID: by prepared claims, by ``claimed`` ones, and by foreign instances."""
    masks = dict(claimed)
    for gpu in view.hardware.gpus:
        mask = masks.get(gpu.card.uuid, 0) | gpu.withheld
        for record in view.checkpoint.claims.values():
            for device in record.devices:
                if device.gpu_uuid == gpu.card.uuid and not device.admin:
                    mask |= device.bits or gpu.full_mask
        for device in view.checkpoint.leftovers:
            mask |= device.bits if device.gpu_uuid == gpu.card.uuid else 0
        masks[gpu.card.uuid] = mask
    return masks
