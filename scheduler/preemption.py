"""Which pods of lower priority to evict on a node, for the extender's preempt verb.

kube-scheduler proposes victims by counts of resources. Counts do not say whether what goes free is one
placement (MIG units in a row, GPUs joined by NVLink), nor what is lost. For each node proposed, among its
pods of lower priority:

    the set of least loss after whose leaving the pod's placement is free, CPU and memory included

    loss = (disruption budgets broken, highest priority, how many, GPUs they hold, seconds they ran)

in this order; kube-scheduler then compares nodes by the same first three. A node is dropped where even
everyone's leaving would not help. The proposal stands where GPUs are not what the pod lacks, where the pod
needs other pods near or far (we cannot see what that takes), and for what is not understood.

Resource claims: kube-scheduler up to 1.37 does not take claims of victims as freed (KEP-5690), so it proposes
no victims for pods that lack devices of a claim and this verb is not called; see ``repack.preemptClaims``.

Pure: values in, values out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cluster.disruption import BudgetKey
from scheduler.demand import Demand
from scheduler.repack.holding import Holding
from scheduler.repack.resources import Resources
from scheduler.repack.victims import victim_sets

MOST_SETS = 64


@dataclass(frozen=True, slots=True)
class Lower:
    """A pod that may be a victim: its priority, budgets, GPUs held, resources and start (Unix seconds)."""

    uid: str
    priority: int
    budgets: tuple[BudgetKey, ...]
    gpus: float
    resources: Resources
    started_seconds: float


@dataclass(frozen=True, slots=True)
class Victims:
    """Who is to leave, and how many budgets that breaks."""

    uids: tuple[str, ...]
    violations: int


@dataclass(frozen=True, slots=True)
class Keep:
    """The proposal stands."""


@dataclass(frozen=True, slots=True)
class Drop:
    """No eviction on this node helps."""


def choose(
    holding: Holding,
    demand: Demand,
    wanted: Resources,
    free: Resources,
    lower: Mapping[str, Lower],
    proposed: Iterable[str],
    allowed: Mapping[BudgetKey, int],
    *,
    linked: bool,
    may_deviate: bool = True,
    others: tuple[Lower, ...] = (),
) -> Victims | Keep | Drop:
    """Choose victims on one node.

    ``wanted`` and ``free``: CPU, memory and slots of the pod and left on the node; ``lower``: pods of lower
    priority there that ask for GPUs, by UID; ``proposed``: kube-scheduler's victims; ``others``: those of
    them without GPUs, who leave only if their CPU or memory is needed.
    """
    proposal = frozenset(proposed)
    if holding.settle(holding.room(), demand, linked=linked) is not None:
        return Keep()  # GPUs are free: it lacks something else, which we do not weigh
    if holding.settle(holding.room(frozenset(lower)), demand, linked=linked) is None:
        return Drop()
    helps = holding.settle(holding.room(proposal), demand, linked=linked) is not None
    if helps and not may_deviate:
        return Keep()
    latest = max((one.started_seconds for one in lower.values()), default=0.0)

    def loss(uids: frozenset[str]) -> tuple[float, ...]:
        return _loss([lower[uid] for uid in uids], allowed, latest)

    found: frozenset[str] | None = None
    for uids in _first(victim_sets(holding, demand, lower.__contains__, loss, linked=linked)):
        enough = _covers(free, [lower[uid] for uid in uids], wanted)
        if enough and may_deviate:
            found = uids
            break
        # What the proposal frees besides GPUs it may free for a reason.
        joined = uids | (proposal & lower.keys())
        if found is None and _covers(free, [*(lower[uid] for uid in joined), *others], wanted):
            found = joined
    if found is None:
        return Keep() if helps else Drop()
    if helps and proposal <= lower.keys() and loss(proposal) <= loss(found):
        return Keep()
    victims = [lower[uid] for uid in found]
    if not _covers(free, victims, wanted):
        victims += others
    victims.sort(key=lambda one: (-one.priority, one.started_seconds, one.uid))
    return Victims(tuple(one.uid for one in victims), _violations(victims, allowed))


def _loss(victims: list[Lower], allowed: Mapping[BudgetKey, int], latest: float) -> tuple[float, ...]:
    return (
        _violations(victims, allowed),
        max((one.priority for one in victims), default=-(2**31)),
        len(victims),
        round(sum(one.gpus for one in victims), 9),
        sum(latest - one.started_seconds for one in victims),
    )


def _violations(victims: list[Lower], allowed: Mapping[BudgetKey, int]) -> int:
    """Victims whose eviction one of their budgets does not allow, as kube-scheduler counts them."""
    spent: Counter[BudgetKey] = Counter()
    broken = 0
    for one in victims:
        spent.update(one.budgets)
        broken += any(spent[key] > allowed.get(key, 0) for key in one.budgets)
    return broken


def _covers(free: Resources, victims: list[Lower], wanted: Resources) -> bool:
    for one in victims:
        free = free + one.resources
    return free.covers(wanted)


def _first(sets: Iterable[frozenset[str]]) -> Iterable[frozenset[str]]:
    for number, uids in enumerate(sets):
        if number >= MOST_SETS:
            return
        if uids:
            yield uids
