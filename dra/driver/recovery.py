"""What to put right when the driver starts: after a crash, a kill, a reboot, or a rolling upgrade.

- A claim that was half made or half given back is undone. The kubelet asks for it again if a pod still wants
  it, and has then forgotten nothing: it keeps its own list of claims to give back.
- After a reboot no instance of before exists. Prepared claims are kept, without ids, so that their devices
  stay held; the kubelet's next request makes the instances anew at the same places.
  MIG mode that was switched on demand is off then, or an operator's: no card is ours to switch back.
- Foreign instances are not touched: they are in no record.

Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from dra.driver.checkpoint import Checkpoint, ClaimRecord
from dra.driver.ownership import NEVER


@dataclass(frozen=True, slots=True)
class Recovery:
    """``checkpoint``: to be written first. ``undo``: claims to give back then."""

    checkpoint: Checkpoint
    undo: tuple[ClaimRecord, ...]


def recover(checkpoint: Checkpoint, boot_id: str) -> Recovery:
    """What to do at the start, from what was remembered."""
    if checkpoint.boot_id != boot_id:
        kept = checkpoint.claims if checkpoint.boot_id else {}
        claims = {uid: _void(record) for uid, record in kept.items() if record.stage == "prepared"}
        checkpoint = msgspec.structs.replace(
            checkpoint, boot_id=boot_id, claims=claims, leftovers=(), switched=()
        )
    undo = tuple(record for record in checkpoint.claims.values() if record.stage != "prepared")
    return Recovery(checkpoint, undo)


def _void(record: ClaimRecord) -> ClaimRecord:
    devices = tuple(
        msgspec.structs.replace(
            device, gpu_instance_id=NEVER, compute_instance_id=None, mig_uuid=None, seen=()
        )
        if device.profile_id is not None
        else device
        for device in record.devices
    )
    return msgspec.structs.replace(record, devices=devices)
