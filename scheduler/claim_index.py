"""Resource claims by where they are allocated and by which pods they are for. Pure; see
``scheduler.facts``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from dra.resource_api import ResourceClaim
from scheduler.demand import ClaimKey

EXTENDED_CLAIM_ANNOTATION = "resource.kubernetes.io/extended-resource-claim"

K = TypeVar("K")
V = TypeVar("V")


class ClaimIndex:
    """All claims, with two ways in: (driver, pool) of an allocated device, and the UID of a pod."""

    def __init__(self) -> None:
        self.claims: dict[ClaimKey, ResourceClaim] = {}
        self._by_pool: dict[tuple[str, str], set[ClaimKey]] = {}
        self._of_pod: dict[str, set[ClaimKey]] = {}

    def put(self, key: ClaimKey, claim: ResourceClaim) -> ResourceClaim | None:
        """Take a claim in; return the one it replaces."""
        old = self.drop(key)
        self.claims[key] = claim
        for pool in allocated_pools(claim):
            self._by_pool.setdefault(pool, set()).add(key)
        for uid in consumer_uids(claim):
            self._of_pod.setdefault(uid, set()).add(key)
        return old

    def drop(self, key: ClaimKey) -> ResourceClaim | None:
        """Forget a claim; return it."""
        old = self.claims.pop(key, None)
        if old is not None:
            unlink(self._by_pool, allocated_pools(old), key)
            unlink(self._of_pod, consumer_uids(old), key)
        return old

    def in_pool(self, driver: str, pool: str) -> list[ClaimKey]:
        """The claims with devices of the pool."""
        return sorted(self._by_pool.get((driver, pool), ()))

    def of_pod(self, uid: str) -> set[ClaimKey]:
        """The claims that the pod owns or is allowed to use."""
        return set(self._of_pod.get(uid, ()))

    def is_allocated(self, key: ClaimKey) -> bool:
        """Whether the claim is known and allocated."""
        claim = self.claims.get(key)
        return claim is not None and claim.status.allocation is not None

    def allocated_for(self, uid: str) -> bool:
        """Whether any claim is allocated for the pod."""
        return any(self.is_allocated(key) for key in self._of_pod.get(uid, ()))

    def extended_for(self, uid: str) -> bool:
        """Whether the claim that the scheduler makes for the pod's extended resources is allocated."""
        keys = self._of_pod.get(uid, ())
        return any(self.is_allocated(key) and is_extended_claim(self.claims[key]) for key in keys)


def is_extended_claim(claim: ResourceClaim) -> bool:
    """Whether the scheduler made the claim for extended resources (KEP-5004)."""
    return claim.metadata.annotations.get(EXTENDED_CLAIM_ANNOTATION) == "true"


def allocated_pools(claim: ResourceClaim | None) -> set[tuple[str, str]]:
    """(driver, pool) of every allocated device."""
    if claim is None or claim.status.allocation is None:
        return set()
    return {(result.driver, result.pool) for result in claim.status.allocation.devices.results}


def consumer_uids(claim: ResourceClaim) -> set[str]:
    """UIDs of the pods that own the claim or may use it."""
    uids = {owner.uid for owner in claim.metadata.owner_references if owner.kind == "Pod"}
    return uids | {consumer.uid for consumer in claim.status.reserved_for if consumer.resource == "pods"}


def unlink(index: dict[K, set[V]], keys: Iterable[K], value: V) -> None:
    """Take a value out of the sets of an index; sets left empty go."""
    for key in keys:
        members = index.get(key)
        if members is not None:
            members.discard(value)
            if not members:
                del index[key]
