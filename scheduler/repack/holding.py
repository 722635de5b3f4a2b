"""One node as an evictor sees it: which pods hold which units, and what is free once some have left.

    room(gone) = what all holds take that have an owner who stays

Under DRA an allocated claim names its devices, so a hold is exact. Under the device plugin the API does not
say which GPU a pod has; holds are then replayed by first-fit as everywhere in the fleet
(``scheduler.occupancy``): counts are right, indices may not be, and NVLink sets are an expectation. A claim
shared by several pods goes free when the last of them has left. Pure but for reading the fleet's facts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dra.inventory import NodeInventory
from dra.nvlink import best_set, set_bandwidth
from dra.shared_gpus import NOTHING, Part, plus, taken
from scheduler.claim_index import consumer_uids
from scheduler.demand import Demand
from scheduler.facts import Facts
from scheduler.first_fit import Room, Site, first_fit
from scheduler.kept_objects import Tenant
from scheduler.occupancy import claimed, with_tenant


@dataclass(frozen=True, slots=True)
class Hold:
    """Room that goes free when every owner (pod UID) has left; without owners it stays for ever.

    ``units``: (GPU, mask) pairs; ``static``: fixed MIG instances by profile; ``shared``: replicas,
    ``parts`` of each shared GPU where those are told one by one.
    """

    owners: frozenset[str]
    units: tuple[tuple[int, int], ...]
    static: tuple[tuple[str, int], ...] = ()
    shared: int = 0
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class Holding:
    """A node: its fixed side and who holds what. ``bound``: UIDs of the pods that run here."""

    node: str
    inventory: NodeInventory
    site: Site
    holds: tuple[Hold, ...]
    bound: frozenset[str]

    @property
    def step_mib(self) -> int:
        """Memory of one share of its shared GPUs, 0 where that is not told."""
        return max((gpu.step_mib for gpu in self.site.shared), default=0)

    def room(self, gone: frozenset[str] = frozenset(), added: Iterable[Room] = ()) -> Room:
        """What is taken once the pods ``gone`` have left and ``added`` has come."""
        masks = [0] * len(self.inventory.gpus)
        static: dict[str, int] = {}
        shared = 0
        parts = [NOTHING] * len(self.site.shared)
        for hold in self.holds:
            if hold.owners and hold.owners <= gone:
                continue
            for gpu, mask in hold.units:
                masks[gpu] |= mask
            for profile, count in hold.static:
                static[profile] = static.get(profile, 0) + count
            shared += hold.shared
            parts = _added(parts, hold.parts)
        for room in added:
            masks = [mask | more for mask, more in zip(masks, room.masks, strict=True)]
            for profile, count in room.static:
                static[profile] = static.get(profile, 0) + count
            shared += room.shared
            parts = _added(parts, room.parts)
        if parts:
            shared = sum(taken(part) for part in parts)
        return Room(tuple(masks), tuple(sorted(static.items())), shared, tuple(parts))

    def settle(self, room: Room, demand: Demand, *, linked: bool) -> Room | None:
        """The room that ``demand`` takes where the node's allocator would put it, None where it does not
        fit. ``linked``: its whole GPUs must be joined by NVLink.
        """
        site = self.site
        if demand.models is not None:
            site = site.with_allowed(tuple(gpu.model.name in demand.models for gpu in self.inventory.gpus))
            if not self.inventory.gpus and not self._counted_model_ok(demand.models):
                return None
        after = self._best_linked(site, room, demand) or first_fit(site, room, demand.requests)
        if not isinstance(after, Room):
            return None
        taken = difference(room, after)
        if linked and demand.whole_gpus > 1 and self.inventory.gpus:
            bits = sum(1 << gpu for gpu, mask in enumerate(taken.masks) if mask == site.fulls[gpu])
            if not is_linked(self.inventory, bits):
                return None
        return taken

    def equivalents(self) -> dict[str, dict[str, float]]:
        """GPUs that each pod holds, by model: units over units of the model; instances and replicas by their
        share.
        """
        found: dict[str, dict[str, float]] = {}
        for hold in self.holds:
            for model, amount in self._worth(hold):
                for uid in hold.owners:
                    mine = found.setdefault(uid, {})
                    mine[model] = mine.get(model, 0.0) + amount / len(hold.owners)
        return found

    def _worth(self, hold: Hold) -> Iterable[tuple[str, float]]:
        for gpu, mask in hold.units:
            model = self.inventory.gpus[gpu].model
            yield model.name, mask.bit_count() / model.units
        main = self.inventory.static_model or self.inventory.main_model
        for profile, count in hold.static:
            spec = None if main is None else main.profile(profile)
            if main is not None:
                yield main.name, count * (spec.size if spec is not None else 1) / main.units
        if hold.shared and self.inventory.shared_replicas:
            name = main.name if main is not None else ""
            gpus = len(self.inventory.shared) or max(1, len(self.inventory.gpus))
            yield name, hold.shared * gpus / self.inventory.shared_replicas

    def _counted_model_ok(self, models: frozenset[str]) -> bool:
        main = self.inventory.static_model or self.inventory.main_model
        return main is None or main.name in models

    def _best_linked(self, site: Site, room: Room, demand: Demand) -> Room | None:
        """The device plugin's preferred allocation: the best-linked free set."""
        if self.inventory.regime != "device-plugin" or len(demand.requests) != 1:
            return None
        request = demand.requests[0]
        if request.kind != "whole" or request.count < 2 or site.whole_as is not None:
            return None
        free = sum(1 << i for i, mask in enumerate(room.masks) if mask == 0 and site.whole_ok(i))
        chosen = best_set(self.inventory.topology, free, request.count)
        if chosen is None:
            return None
        masks = tuple(site.fulls[i] if chosen >> i & 1 else mask for i, mask in enumerate(room.masks))
        return Room(masks, room.static, room.shared)


def _added(parts: list[Part], more: tuple[Part, ...]) -> list[Part]:
    return [plus(one, other) for one, other in zip(parts, more, strict=True)] if more else parts


def is_linked(inventory: NodeInventory, bits: int) -> bool:
    """Whether NVLink joins a set of GPUs: its slowest hop beats the host's bus."""
    if bits.bit_count() < 2:
        return True
    topology = inventory.topology
    return set_bandwidth(topology, bits) > topology.pcie_gigabytes_per_second


def difference(before: Room, after: Room) -> Room:
    """What was taken between two rooms of one node."""
    was = dict(before.static)
    return Room(
        tuple(new & ~old for old, new in zip(before.masks, after.masks, strict=True)),
        tuple(
            (profile, count - was.get(profile, 0))
            for profile, count in after.static
            if count != was.get(profile, 0)
        ),
        after.shared - before.shared,
        tuple(
            (new[0] - old[0], new[1] - old[1])
            for new, old in zip(after.parts, before.parts or (NOTHING,) * len(after.parts), strict=True)
        ),
    )


def holding(inventory: NodeInventory, site: Site, facts: Facts) -> Holding:
    """Read one node from the facts."""
    node = inventory.node
    holds: list[Hold] = []
    bound: set[str] = set()
    room = Room((0,) * len(inventory.gpus))
    if inventory.driver is not None and inventory.pool is not None:
        keys = facts.claims_in_pool(inventory.driver, inventory.pool)
        for claim in (facts.claims[key] for key in keys):
            one = claimed(inventory, (claim,))
            owners = frozenset(consumer_uids(claim))
            bound |= {uid for uid in owners if (pod := facts.pods.get(uid)) is not None and pod.node == node}
            holds.append(Hold(owners, _sparse(one.masks), shared=one.shared, parts=one.parts))
        room = claimed(inventory, (facts.claims[key] for key in keys))
    for tenant in _order(facts.tenants(node)):
        after = with_tenant(inventory, site, room, tenant)
        taken_room = difference(room, after)
        room = after
        if tenant.bound:
            bound.add(tenant.uid)
        holds.append(
            Hold(
                frozenset({tenant.uid}),
                _sparse(taken_room.masks),
                taken_room.static,
                taken_room.shared,
                taken_room.parts,
            )
        )
    return Holding(node, inventory, site, tuple(holds), frozenset(bound))


def _order(tenants: list[Tenant]) -> list[Tenant]:
    return [tenant for tenant in tenants if tenant.bound] + [t for t in tenants if not t.bound]


def _sparse(masks: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    return tuple((gpu, mask) for gpu, mask in enumerate(masks) if mask)
