"""How much of one node is taken, computed from the facts.

Two answers: ``certain`` holds what facts say, ``expected`` adds what first-fit is expected to take for pods
whose claims are not seen yet, nominations and reservations.

- DRA (ours or NVIDIA's): allocated claims name the exact devices, and how much they have of shared ones.
  Bound pods without an allocated claim are only expected.
- Device plugin: the API does not say which GPU a pod got. Where the node reports it
  (``scheduler.reported_devices``), that is what the pod has. Other bound pods are replayed oldest first, each
  by first-fit (several whole GPUs: the best-linked free set, as the plugin's preferred allocation does):
  counts are right, indices may not be.

A pod that no longer fits (stale labels, a GPU gone) takes what is left of its kind. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from dra.claims import claim_masks, claim_parts
from dra.inventory import NodeInventory
from dra.nvlink import best_set
from dra.resource_api import ResourceClaim
from dra.shared_gpus import NOTHING, plus, taken
from scheduler.demand import ClaimKey, GpuRequest
from scheduler.facts import Facts
from scheduler.first_fit import Room, Site, first_fit
from scheduler.kept_objects import Tenant


@dataclass(frozen=True, slots=True)
class Occupied:
    """Room taken on a node by facts, and by facts and expectations."""

    certain: Room
    expected: Room


@dataclass(frozen=True, slots=True)
class Holding:
    """What one claim or pod holds on a node: units by GPU, and counts under the device plugin. ``pod``: UID
    of the pod (one of them, where pods share a claim), None where no pod is known; ``interference``: the
    class that it states.
    """

    pod: str | None
    interference: str | None
    masks: tuple[int, ...]
    static: tuple[tuple[str, int], ...] = ()
    shared: int = 0


def occupied(
    inventory: NodeInventory,
    site: Site,
    facts: Facts,
    without: str | None = None,
    holdings: list[Holding] | None = None,
) -> Occupied:
    """Compute a node's occupancy; ``without`` leaves one pod out (UID). ``holdings``: a list to which who
    holds what is added, where somebody wants to know.
    """
    node = inventory.node
    room = Room((0,) * len(inventory.gpus))
    if inventory.driver is not None and inventory.pool is not None:
        keys = facts.claims_in_pool(inventory.driver, inventory.pool)
        if without is not None:
            keys = [key for key in keys if not facts.only_for(key, without)]
        for key in keys:
            if holdings is None:
                break
            owner = facts.pod_of_claim(key)
            stated = None if owner is None else owner.shape.interference
            one = claimed(inventory, (facts.claims[key],))
            uid = None if owner is None else owner.uid
            holdings.append(Holding(uid, stated, one.masks, shared=one.shared))
        room = claimed(inventory, (facts.claims[key] for key in keys))
        certain = room
        unmet: list[Tenant] = []
        promised = [0] * len(room.masks)
        for tenant in facts.tenants(node, without):
            before, room = room, _take(inventory, site, room, tenant, holdings)
            if room is before:
                unmet.append(tenant)
            elif not tenant.bound and _is_noted(facts, tenant):
                for gpu, (old, new) in enumerate(zip(before.masks, room.masks, strict=True)):
                    promised[gpu] |= new & ~old
        if any(promised) and _may_be_taken(site, certain, room, promised):
            return Occupied(certain, site.full)
        return Occupied(certain, _fenced(inventory, site, facts, room, unmet))
    tenants = facts.tenants(node, without)
    reported = facts.reported.whole(node, len(inventory.gpus))
    replayed: list[Tenant] = []
    for tenant in tenants:
        if tenant.bound:
            after = _as_reported(site, room, tenant, facts, reported)
            if after is None:
                replayed.append(tenant)
            else:
                _note(holdings, tenant, room, after)
                room = after
    for tenant in replayed:
        room = _take(inventory, site, room, tenant, holdings)
    certain, unmet = room, []
    for tenant in tenants:
        if not tenant.bound:
            before, room = room, _take(inventory, site, room, tenant, holdings)
            if room is before:
                unmet.append(tenant)
    return Occupied(certain, _fenced(inventory, site, facts, room, unmet))


def claimed(inventory: NodeInventory, claims: Iterable[ResourceClaim]) -> Room:
    """What allocated claims hold on a node."""
    masks = [0] * len(inventory.gpus)
    parts = [NOTHING] * len(inventory.shared)
    for claim in claims:
        for gpu, mask in enumerate(claim_masks(claim, inventory)):
            masks[gpu] |= mask
        for gpu, part in enumerate(claim_parts(claim, inventory)):
            parts[gpu] = plus(parts[gpu], part)
    return Room(tuple(masks), shared=sum(taken(part) for part in parts), parts=tuple(parts))


def _fenced(inventory: NodeInventory, site: Site, facts: Facts, room: Room, unmet: list[Tenant]) -> Room:
    """The expected room; all of the node where somebody waits there for pods that are leaving, or that the
    repacker has noted it will evict, or has just come to the room that was made.

    A nominated pod that fits only once they are gone has nothing to hold yet, and whoever came meanwhile
    would be given the very units it waits for by first-fit. So the node is priced full until they are gone.
    ``_may_be_taken`` and ``scheduler.fences`` say what follows then.
    """
    full = site.full
    if facts.standing.fences.closed(inventory.node):
        return full
    if not unmet:
        return room
    if any(_is_noted(facts, tenant) for tenant in unmet):
        return full
    leaving = facts.leaving(inventory.node)
    keys: list[ClaimKey] = []
    if inventory.driver is not None and inventory.pool is not None:
        keys = facts.claims_in_pool(inventory.driver, inventory.pool)
    staying = claimed(inventory, (facts.claims[key] for key in keys if not facts.outlived(key, leaving)))
    for tenant in facts.tenants(inventory.node):
        if tenant.bound and tenant.uid not in leaving:
            staying = with_tenant(inventory, site, staying, tenant)
    if all(with_tenant(inventory, site, staying, tenant) is staying for tenant in unmet):
        return room
    return full


def _may_be_taken(site: Site, certain: Room, room: Room, promised: list[int]) -> bool:
    """Whether anybody who fits beside the pods that room was made for would be given their units.

    The room is there and they are counted in it, but the allocator knows allocated claims only: it walks the
    devices as if nobody waited, and a pod whose attempts have failed may be tried seconds later than one that
    has just come.
    """
    profiles = sorted({one.profile for order in site.orders for one in order})
    for request in (GpuRequest("whole", None, 1), *(GpuRequest("mig", name, 1) for name in profiles)):
        seen, beside = certain, room
        while isinstance(beside_next := first_fit(site, beside, (request,)), Room):
            seen_next = first_fit(site, seen, (request,))
            if not isinstance(seen_next, Room):
                break
            pairs = zip(seen.masks, seen_next.masks, promised, strict=True)
            if any(new & ~old & units for old, new, units in pairs):
                return True
            seen, beside = seen_next, beside_next
    return False


def _is_noted(facts: Facts, tenant: Tenant) -> bool:
    pod = facts.pods.get(tenant.uid)
    return pod is not None and pod.noted


def _take(
    inventory: NodeInventory, site: Site, room: Room, tenant: Tenant, holdings: list[Holding] | None
) -> Room:
    after = with_tenant(inventory, site, room, tenant)
    _note(holdings, tenant, room, after)
    return after


def _note(holdings: list[Holding] | None, tenant: Tenant, room: Room, after: Room) -> None:
    if holdings is not None and after is not room:
        before = dict(room.static)
        counts = ((profile, count - before.get(profile, 0)) for profile, count in after.static)
        holdings.append(
            Holding(
                tenant.uid,
                tenant.demand.interference,
                tuple(new & ~old for new, old in zip(after.masks, room.masks, strict=True)),
                tuple((profile, count) for profile, count in counts if count),
                after.shared - room.shared,
            )
        )


def _as_reported(
    site: Site, room: Room, tenant: Tenant, facts: Facts, reported: Mapping[str, int]
) -> Room | None:
    """The room after the pod has the GPUs that its node reports; None where that does not fit together."""
    pod = facts.pods.get(tenant.uid)
    bits = 0 if pod is None else reported.get(f"{pod.namespace}/{pod.name}", 0)
    if not bits or any(request.kind != "whole" for request in tenant.requests) or site.whole_as is not None:
        return None
    if bits.bit_count() != sum(request.count for request in tenant.requests):
        return None
    chosen = [gpu for gpu in range(len(room.masks)) if bits >> gpu & 1]
    if any(room.masks[gpu] for gpu in chosen):
        return None
    masks = tuple(site.fulls[gpu] if gpu in chosen else mask for gpu, mask in enumerate(room.masks))
    return Room(masks, room.static, room.shared)


def with_tenant(inventory: NodeInventory, site: Site, room: Room, tenant: Tenant) -> Room:
    """The room after first-fit has served one more pod; unchanged for an unbound one that does not fit."""
    models = tenant.demand.models
    if models is not None:
        site = site.with_allowed(tuple(gpu.model.name in models for gpu in inventory.gpus))
    if inventory.regime == "device-plugin" and len(tenant.requests) == 1:
        linked = _linked(inventory, site, room, tenant.requests[0])
        if linked is not None:
            return linked
    found = first_fit(site, room, tenant.requests)
    if isinstance(found, Room):
        return found
    # Not enough left: a nomination or reservation that cannot come true takes nothing, a bound pod what
    # there is.
    return _partly(site, room, tenant.requests) if tenant.bound else room


def _linked(inventory: NodeInventory, site: Site, room: Room, request: GpuRequest) -> Room | None:
    if request.kind != "whole" or request.count < 2 or site.whole_as is not None:
        return None
    free = sum(1 << i for i, mask in enumerate(room.masks) if mask == 0 and site.whole_ok(i))
    chosen = best_set(inventory.topology, free, request.count)
    if chosen is None:
        return None
    masks = tuple(site.fulls[i] if chosen >> i & 1 else mask for i, mask in enumerate(room.masks))
    return Room(masks, room.static, room.shared)


def _partly(site: Site, room: Room, requests: tuple[GpuRequest, ...]) -> Room:
    for request in requests:
        for _ in range(request.count):
            found = first_fit(site, room, (replace(request, count=1),))
            if not isinstance(found, Room):
                break
            room = found
    return room
