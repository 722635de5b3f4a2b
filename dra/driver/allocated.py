"""What a claim was allocated on this node: read from the API server's object, or from our own memory.

Refused: a claim that is another one of the same name, is not allocated, names another node's pool, or carries
parameters for this driver, which takes none (ignoring them would be worse). Pure.
"""

from __future__ import annotations

from dra.driver.checkpoint import Checkpoint
from dra.driver.decide import ClaimToPrepare
from dra.plugin.handler import ClaimRef
from dra.resource_api import DeviceRequestAllocationResult, ResourceClaim
from dra.slice_parts import SLICEWISE_DRIVER


class PrepareFailed(Exception):
    """A claim cannot be made ready, or given back, now; the message is for the pod's events."""


def allocated(reference: ClaimRef, claim: ResourceClaim | None, pool: str) -> ClaimToPrepare:
    """The devices of ours that the claim has on this node. Raises PrepareFailed."""
    if claim is None or claim.metadata.uid != reference.uid:
        found = "none" if claim is None else f"one with UID {claim.metadata.uid}"
        raise PrepareFailed(f"got {found} from the API server, expected UID {reference.uid}")
    allocation = claim.status.allocation
    if allocation is None:
        raise PrepareFailed("it is not allocated")
    for config in allocation.devices.config:
        if config.opaque is not None and config.opaque.driver == SLICEWISE_DRIVER:
            where = {"FromClaim": "the claim", "FromClass": "the class"}.get(config.source, "the allocation")
            raise PrepareFailed(
                f"got parameters for {SLICEWISE_DRIVER} in {where}, but it takes no parameters"
            )
    ours = tuple(r for r in allocation.devices.results if r.driver == SLICEWISE_DRIVER)
    for result in ours:
        if result.pool != pool:
            raise PrepareFailed(f"device {result.device} is of pool {result.pool}, this node's is {pool}")
    return ClaimToPrepare(reference.uid, reference.namespace, reference.name, ours)


def remembered(checkpoint: Checkpoint, reference: ClaimRef, problem: str) -> ClaimToPrepare:
    """The same from the checkpoint, for a claim that is ready. Raises PrepareFailed with ``problem``."""
    record = checkpoint.claims.get(reference.uid)
    if record is None or record.stage != "prepared":
        raise PrepareFailed(problem)
    results = tuple(
        DeviceRequestAllocationResult(
            request=d.request, driver=SLICEWISE_DRIVER, pool=d.pool, device=d.device, share_id=d.share_id
        )
        for d in record.devices
    )
    return ClaimToPrepare(record.uid, record.namespace, record.name, results)
