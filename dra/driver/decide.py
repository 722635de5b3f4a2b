"""What to do when the kubelet wants a claim ready, or given back: decisions only, from three known states.

The states: the checkpoint, the live instances, and the claim's allocation. Nothing is believed of the
scheduler alone: a device that overlaps what another claim holds is refused (schedulers have allocated one
device twice, kubernetes/kubernetes#136269), so is one that overlaps a foreign instance. Asked again for a
claim that is ready, the answer is the same; an instance that vanished meanwhile (a reboot) is made anew at
its place.

Pure. ``driver`` carries the answers out, ``recovery`` decides after a crash.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from dra.driver.checkpoint import Checkpoint, ClaimRecord, HeldDevice
from dra.driver.hardware import Hardware, Target
from dra.driver.ownership import Live, foreign, overlap, owned
from dra.quantity import amount
from dra.resource_api import DeviceRequestAllocationResult


@dataclass(frozen=True, slots=True)
class ClaimToPrepare:
    """A claim as allocated: ``results`` are those of our driver and this node's pool."""

    uid: str
    namespace: str
    name: str
    results: tuple[DeviceRequestAllocationResult, ...]


@dataclass(frozen=True, slots=True)
class Ready:
    """The claim is prepared and all its instances stand."""

    record: ClaimRecord


@dataclass(frozen=True, slots=True)
class Destroy:
    """Take one of our instances away."""

    gpu_uuid: str
    gpu_instance_id: int


@dataclass(frozen=True, slots=True)
class Make:
    """Write ``record``, destroy what ``clear`` names, then make the instances of the devices at ``missing``.

    A new claim's record is in stage preparing. One that was prepared before keeps its stage: a crash must not
    take the instances that its containers use.
    """

    record: ClaimRecord
    missing: tuple[int, ...]
    clear: tuple[Destroy, ...] = ()


@dataclass(frozen=True, slots=True)
class UndoFirst:
    """A record of this claim is half made, or for other devices: give it back, then decide again."""

    record: ClaimRecord


@dataclass(frozen=True, slots=True)
class Refused:
    """Not possible now; ``reason`` goes to the pod's events and the kubelet asks again."""

    reason: str


def decide_prepare(
    checkpoint: Checkpoint, live: Live, node: Hardware, claim: ClaimToPrepare
) -> Ready | Make | UndoFirst | Refused:
    """What a claim needs to be ready."""
    record = checkpoint.claims.get(claim.uid)
    if record is not None:
        if record.stage != "prepared" or not _same_devices(record, claim):
            return UndoFirst(record)
        return _again(checkpoint, live, record)
    devices: list[HeldDevice] = []
    for result in claim.results:
        target = node.targets.get(result.device)
        if target is None:
            return Refused(
                f"device {result.device}: got allocated, but this node has no such device now; expected one "
                "of its published devices. Delete the pod so that it is scheduled anew"
            )
        device = _held(result, target, live)
        problem = _refusal(checkpoint, live, device, devices) or _overbooked(
            checkpoint, device, devices, target
        )
        if problem is not None:
            return Refused(problem)
        devices.append(device)
    made = ClaimRecord(claim.uid, claim.namespace, claim.name, "preparing", tuple(devices))
    missing = tuple(i for i, d in enumerate(devices) if d.profile_id is not None and not d.admin)
    return Make(made, missing)


def decide_unprepare(record: ClaimRecord, live: Live) -> tuple[tuple[Destroy, ...], tuple[HeldDevice, ...]]:
    """(instances to destroy, devices on GPUs that cannot be asked now) of a claim that is given back."""
    destroys: list[Destroy] = []
    unreachable: list[HeldDevice] = []
    for device in record.devices:
        instance = owned(device, live)
        if instance is not None:
            destroys.append(Destroy(device.gpu_uuid, instance.gpu_instance_id))
        elif device.profile_id is not None and not device.admin and device.gpu_uuid not in live:
            unreachable.append(device)
    return tuple(destroys), tuple(unreachable)


def mig_modes(make: Make, node: Hardware) -> dict[str, bool]:
    """MIG mode, on or off, that the devices need, by UUID of those GPUs whose mode we switch."""
    found: dict[str, bool] = {}
    for index, device in enumerate(make.record.devices):
        gpu = node.gpu(device.gpu_uuid)
        needed = (device.profile_id is None or index in make.missing) and not device.admin
        if gpu is not None and gpu.kind == "either" and needed:
            found[device.gpu_uuid] = device.profile_id is not None
    return found


def _same_devices(record: ClaimRecord, claim: ClaimToPrepare) -> bool:
    wanted = [(r.request, r.pool, r.device, r.share_id) for r in claim.results]
    return wanted == [(d.request, d.pool, d.device, d.share_id) for d in record.devices]


def _again(checkpoint: Checkpoint, live: Live, record: ClaimRecord) -> Ready | Make | Refused:
    """A prepared claim is asked for once more."""
    devices = list(record.devices)
    missing: list[int] = []
    clear: list[Destroy] = []
    for index, device in enumerate(devices):
        standing = owned(device, live)
        if device.profile_id is None or device.admin or (standing and device.gpu_instance_id is not None):
            continue
        if device.gpu_uuid not in live:
            return Refused(f"device {device.device}: GPU {device.gpu_uuid} does not answer")
        blocking = _foreign_at(checkpoint, live, device)
        if blocking is not None:
            return Refused(blocking)
        missing.append(index)
        if standing is not None:  # announced, made, and then we died: no container has it yet
            clear.append(Destroy(device.gpu_uuid, standing.gpu_instance_id))
        else:
            devices[index] = _intended(device, live)
    if not missing:
        return Ready(record)
    again = msgspec.structs.replace(record, devices=tuple(devices))
    return Make(again, tuple(missing), tuple(clear))


def _held(result: DeviceRequestAllocationResult, target: Target, live: Live) -> HeldDevice:
    placement = target.placement
    device = HeldDevice(
        request=result.request,
        pool=result.pool,
        device=result.device,
        gpu_uuid=target.gpu.card.uuid,
        start=placement.start if placement is not None else 0,
        size=placement.size if placement is not None else 0,
        profile_id=target.profile_id,
        profile=placement.profile if placement is not None else "",
        share_id=result.share_id,
        consumed={name: str(value) for name, value in result.consumed_capacity.items()},
        admin=bool(result.admin_access),
    )
    if not device.admin:
        return _intended(device, live)
    # For monitoring: what stands there, whoever made it.
    standing = next(
        (
            i
            for i in live.get(device.gpu_uuid, ())
            if (i.profile_id, i.start) == (device.profile_id, device.start)
        ),
        None,
    )
    if standing is None:
        return device
    return msgspec.structs.replace(
        device,
        gpu_instance_id=standing.gpu_instance_id,
        compute_instance_id=standing.compute_instance_id,
        mig_uuid=standing.mig_uuid,
    )


def _intended(device: HeldDevice, live: Live) -> HeldDevice:
    """The announcement of an instance: no ids yet, and whose are there before."""
    seen = tuple(sorted(i.gpu_instance_id for i in live.get(device.gpu_uuid, ())))
    return msgspec.structs.replace(
        device,
        gpu_instance_id=None,
        compute_instance_id=None,
        mig_uuid=None,
        seen=seen if device.profile_id is not None else (),
    )


def _refusal(
    checkpoint: Checkpoint, live: Live, device: HeldDevice, beside: Sequence[HeldDevice]
) -> str | None:
    """Why a device cannot be had, or None."""
    if device.admin:
        if device.profile_id is not None and device.gpu_instance_id is None:
            return f"device {device.device}: admin access needs an instance that exists, and there is none"
        return None
    if device.gpu_uuid not in live:
        return f"device {device.device}: GPU {device.gpu_uuid} does not answer; see the node's events"
    for other in beside:
        if overlap(device, other):
            return f"device {device.device}: the same claim has {other.device}, which overlaps it"
    for record in checkpoint.claims.values():
        for other in record.devices:
            if overlap(device, other):
                return (
                    f"device {device.device}: {other.device} overlaps it and is held by claim "
                    f"{record.namespace}/{record.name} ({record.uid}, {record.stage}) until it is given back"
                )
    for other in checkpoint.leftovers:
        if overlap(device, other):
            return f"device {device.device}: an instance of a former claim ({other.device}) is still there"
    return _foreign_at(checkpoint, live, device)


def _overbooked(
    checkpoint: Checkpoint, device: HeldDevice, beside: Sequence[HeldDevice], target: Target
) -> str | None:
    """Whether the shares of one GPU are more than there are."""
    rule = target.gpu.shared
    if rule is None or device.share_id is None or device.admin:
        return None
    held = [d for record in checkpoint.claims.values() for d in record.devices]
    others = [d for d in (*held, *beside) if d.gpu_uuid == device.gpu_uuid and d.share_id is not None]
    taken = sum(share_part(d) for d in (*others, device))
    if taken <= rule.shares:
        return None
    return f"device {device.device}: {taken} shares would be taken, it has {rule.shares}"


def _foreign_at(checkpoint: Checkpoint, live: Live, device: HeldDevice) -> str | None:
    for instance in foreign(checkpoint, live):
        if instance.gpu_uuid == device.gpu_uuid and (
            device.profile_id is None or instance.bits & device.bits
        ):
            return (
                f"device {device.device}: GPU instance {instance.gpu_instance_id} at units "
                f"{instance.start} to {instance.start + instance.size - 1} was not made by this driver; "
                "remove it (nvidia-smi mig -dgi) or keep pods off this GPU"
            )
    return None


def share_part(device: HeldDevice) -> int:
    """How many shares of its GPU a device takes: 1 where the allocation does not say."""
    return int(amount(device.consumed.get("share", "1")) or 1)
