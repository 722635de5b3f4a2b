"""Whose a MIG instance is: the one question that must never be answered wrongly.

An instance is ours when a record names its id and it still stands where the record says, with the same MIG
UUID where both are told; or when a record announced an instance at just that place and the id was not on the
card when the announcement was written (the driver died between making it and noting its id). Everything else
is foreign: made by an administrator, by another driver, or by us in a state folder that was lost. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from dra.cards import LiveInstance
from dra.driver.checkpoint import Checkpoint, HeldDevice

NEVER = -1
"""An instance id that no card has: the instance of before a reboot."""

Live = Mapping[str, tuple[LiveInstance, ...]]
"""Live instances by GPU UUID; a GPU that could not be asked is absent."""


def owned(device: HeldDevice, live: Live) -> LiveInstance | None:
    """The live instance that belongs to a held device, or None."""
    if device.profile_id is None or device.admin:
        return None
    return next((i for i in live.get(device.gpu_uuid, ()) if _is(device, i)), None)


def _is(device: HeldDevice, instance: LiveInstance) -> bool:
    same_place = (instance.profile_id, instance.start, instance.size) == (
        device.profile_id,
        device.start,
        device.size,
    )
    if not same_place:
        return False
    if device.gpu_instance_id is None:
        return instance.gpu_instance_id not in device.seen
    other = None not in (device.mig_uuid, instance.mig_uuid) and device.mig_uuid != instance.mig_uuid
    return instance.gpu_instance_id == device.gpu_instance_id and not other


def held_devices(checkpoint: Checkpoint) -> Iterator[HeldDevice]:
    """Every device that a record or a leftover names, admin access left out."""
    for record in checkpoint.claims.values():
        yield from (device for device in record.devices if not device.admin)
    yield from checkpoint.leftovers


def foreign(checkpoint: Checkpoint, live: Live) -> tuple[LiveInstance, ...]:
    """The live instances that are not ours."""
    ours = {id(instance) for d in held_devices(checkpoint) if (instance := owned(d, live)) is not None}
    return tuple(instance for found in live.values() for instance in found if id(instance) not in ours)


def foreign_bits(instances: Iterable[LiveInstance]) -> dict[str, int]:
    """Units of foreign instances, by GPU UUID."""
    bits: dict[str, int] = {}
    for instance in instances:
        bits[instance.gpu_uuid] = bits.get(instance.gpu_uuid, 0) | instance.bits
    return bits


def overlap(one: HeldDevice, other: HeldDevice) -> bool:
    """Whether two devices cannot be held by two claims at once: the same GPU, and neither shares of it nor
    MIG instances on different units.
    """
    if one.gpu_uuid != other.gpu_uuid or one.admin or other.admin:
        return False
    if one.share_id is not None and other.share_id is not None:
        return one.share_id == other.share_id
    if one.profile_id is not None and other.profile_id is not None:
        return bool(one.bits & other.bits)
    return True
