"""Preemption for pods that ask by resource claim, which kube-scheduler does not preempt for.

kube-scheduler's dry run of a preemption takes the claims of a victim as still allocated (its DynamicResources
plugin has no PreFilterExtensions; KEP-5690 is to change that), so it finds no victims and asks no extender.
Where the policy allows it, the repacker does it instead, when no plan of moves helps: on nodes of a DRA
driver, among pods of strictly lower priority,

    the set of least (highest priority, how many, money lost) after whose leaving the pod fits

Evictions go through the Eviction API as all others, so disruption budgets hold even here, unlike in
kube-scheduler's own preemption; and so do on-demand floors. Pure.
"""

from __future__ import annotations

import numpy as np

from scheduler.repack.overlay import Overlay
from scheduler.repack.scene import Limits, Move, Relief, Waiter
from scheduler.repack.victims import victim_sets


def preempt(overlay: Overlay, waiter: Waiter, limits: Limits) -> tuple[Relief, Overlay] | None:
    """The relief of least loss and the overlay after it; None where nobody of lower priority is in the
    way.
    """
    scene = overlay.scene
    movers = scene.movers
    most = min(overlay.evictions, limits.concurrent)

    def may_leave(uid: str) -> bool:
        mover = movers.get(uid)
        return (
            mover is not None
            and mover.priority < waiter.priority
            and not mover.protected
            and uid not in overlay.moved
        )

    def loss(uids: frozenset[str]) -> tuple[float, ...]:
        return (
            max((movers[uid].priority for uid in uids), default=-(2**31)),
            len(uids),
            round(sum(movers[uid].cost for uid in uids), 9),
        )

    best: tuple[tuple[float, ...], str, frozenset[str]] | None = None
    for row in np.flatnonzero(overlay.usable(waiter)).tolist():
        holding = scene.holdings.get(scene.names[row])
        if holding is None or holding.inventory.driver is None or most < 1:
            continue
        node = holding.node
        for uids in victim_sets(holding, waiter.demand, may_leave, loss, linked=waiter.linked, most=most):
            if best is not None and (loss(uids), node) >= best[:2]:
                break
            spared = overlay.spared(movers[uid] for uid in uids if movers[uid].budgets)
            spared = spared and overlay.keeps_floors(movers[uid] for uid in uids)
            fits = overlay.place_later(node, waiter.demand, waiter.resources, uids, linked=waiter.linked)
            if uids and spared and fits is not None:
                best = (loss(uids), node, uids)
                break
    if best is None:
        return None
    _, node, uids = best
    after = overlay.fork()
    room = after.place_later(node, waiter.demand, waiter.resources, uids, linked=waiter.linked)
    if room is None:
        return None
    after.take(node, room, waiter.resources)
    victims = sorted((movers[uid] for uid in uids), key=lambda one: one.full_name)
    for mover in victims:
        after.evict(mover)
    moves = tuple(
        Move(
            pod=mover,
            target="",
            wave=0,
            cost=mover.cost,
            gain_per_hour=waiter.value_per_hour / len(victims),
            why=f"is preempted for {waiter.full_name} ({waiter.demand}), priority {waiter.priority} over "
            f"{mover.priority}",
            waiter=waiter,
        )
        for mover in victims
    )
    return Relief(waiter, node, moves), after
