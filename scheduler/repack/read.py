"""The scene as it is now: fleet, census, budgets, policy and prices, read into values.

Nodes are read under the fleet's lock a few at a time, since decisions wait for that lock; what a node holds
is kept by the generation of its row, so that a later round reads only what changed. Whoever carries a plan
out checks each move once more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from cluster.disruption import Budgets
from cluster.policy import ClusterPolicy
from cluster.wire import Node
from scheduler.decider import Decider
from scheduler.demand import Demand
from scheduler.feasibility import interruptible
from scheduler.fleet import Fleet
from scheduler.kept_objects import PodFact
from scheduler.on_demand import Kept
from scheduler.planner.admission import Constraints, admits
from scheduler.prediction import site_of
from scheduler.repack.census import Census, Resident
from scheduler.repack.holding import Holding, holding
from scheduler.repack.rules import is_protected, seconds_of, why_not
from scheduler.repack.scene import Mover, Scene, Waiter
from scheduler.scoring.nvlink import link_need

_BATCH = 64
_NOBODY: Mapping[str, str] = MappingProxyType({})
MOST_PRICED = 200


class SceneReader:
    """Reads scenes of one fleet."""

    def __init__(self, decider: Decider, census: Census, budgets: Budgets) -> None:
        self._decider = decider
        self._fleet: Fleet = decider.fleet
        self._census = census
        self._budgets = budgets
        self._known: dict[str, tuple[int, Holding]] = {}

    def holdings(self) -> dict[str, Holding]:
        """What every GPU node holds."""
        fleet = self._fleet
        with fleet.lock:
            names = sorted(fleet.rows)
        found: dict[str, Holding] = {}
        for start in range(0, len(names), _BATCH):
            with fleet.lock:
                for name in names[start : start + _BATCH]:
                    self._read(name, found)
        self._known = {name: self._known[name] for name in found}
        return found

    def holding(self, node: str) -> Holding | None:
        """What one node holds now."""
        found: dict[str, Holding] = {}
        with self._fleet.lock:
            self._read(node, found)
        return found.get(node)

    def scene(
        self,
        policy: ClusterPolicy,
        now: float,
        *,
        paused: Mapping[str, str] = _NOBODY,
        leave_out: frozenset[str] = frozenset(),
        leaving: frozenset[str] = frozenset(),
    ) -> Scene:
        """Read the moment. ``now``: Unix seconds; ``paused``: pods that may not be moved now, each with the
        reason; ``leave_out``: waiting pods that are being helped already; ``leaving``: pods that were
        evicted, whether or not the watch shows it.
        """
        holdings = self.holdings()
        taken_away = self._interruptible()
        with self._fleet.lock:
            names = tuple(self._fleet.names)
            facts = dict(self._fleet.facts.pods)
        residents = self._census.residents()
        kept = _kept(residents, taken_away, leaving)
        waiters = tuple(
            waiter
            for one in residents
            if _waits(one)
            and one.uid not in leave_out
            and now - seconds_of(one.created) >= policy.repack.waiting_seconds
            and (fact := facts.get(one.uid)) is not None
            and (waiter := self._waiter(one, fact, policy, kept)) is not None
        )
        movers: dict[str, Mover] = {}
        if waiters or policy.repack.savings:
            movers = self._movers(residents, facts, holdings, policy, now, paused)
        return Scene(
            names=names,
            holdings=holdings,
            free=self._census.free(),
            movers=movers,
            waiters=waiters,
            prices=_Prices(self._decider, len(names)),
            admitted=_Admitted(self._census.all_nodes(), names),
            allowed=self._budgets.allowed(),
            stay=self._stay(movers) if policy.repack.savings else {},
            interruptible=taken_away,
            kept=kept,
        )

    def keeps_floor(self, pod: Resident, target: str, leaving: frozenset[str] = frozenset()) -> bool:
        """Whether the pod may go to ``target`` ("": to no place that is known) as its workload stands now."""
        taken_away = self._interruptible()
        found = _kept(self._census.of_owner(_owner(pod)), taken_away, leaving).get(_owner(pod))
        if pod.floor is None or found is None or (target and target not in taken_away):
            return True
        # Without a new place one that stands nowhere lasting is no loss to the floor.
        stands = pod.node not in taken_away
        return not ((stands or target) and found.without(stands).short)

    def _interruptible(self) -> frozenset[str]:
        """The nodes that may be taken away, by their class."""
        fleet = self._fleet
        with fleet.lock:
            rows = np.flatnonzero(interruptible(self._decider.world().policy, fleet.view())).tolist()
            return frozenset(fleet.names[row] for row in rows)

    def _read(self, name: str, found: dict[str, Holding]) -> None:
        fleet = self._fleet
        row = fleet.rows.get(name)
        inventory = fleet.inventory(name)
        if row is None or inventory is None:
            return
        changed = int(fleet.columns.changed_at[row])
        known = self._known.get(name)
        if known is None or known[0] != changed or not known[1].bound <= self._fleet.facts.pods.keys():
            allowed = np.ones(fleet.columns.gpus, dtype=np.bool_)
            site = site_of(fleet.columns, row, allowed, fleet.hardware, fleet.profiles)
            known = self._known[name] = (changed, holding(inventory, site, fleet.facts))
        found[name] = known[1]

    def _movers(
        self,
        residents: list[Resident],
        facts: Mapping[str, PodFact],
        holdings: Mapping[str, Holding],
        policy: ClusterPolicy,
        now: float,
        paused: Mapping[str, str],
    ) -> dict[str, Mover]:
        prices, repack = policy.prices, policy.repack
        cold_hours = _cold_start_seconds(policy) / 3600.0
        held: dict[str, dict[str, dict[str, float]]] = {}
        movers: dict[str, Mover] = {}
        for pod in residents:
            at, fact = holdings.get(pod.node), facts.get(pod.uid)
            if at is None or fact is None or fact.demand is None or pod.uid not in at.bound:
                continue
            demand = fact.demand
            why = why_not(pod, now, repack.min_pod_age_seconds) or paused.get(pod.uid)
            if why is None and not demand.understood:
                why = "asks for GPUs in a way that is not understood"
            if pod.node not in held:
                held[pod.node] = at.equivalents()
            hourly = sum(
                amount * prices.gpu_hour_by_model.get(model, prices.gpu_hour)
                for model, amount in held[pod.node].get(pod.uid, {}).items()
            )
            movers[pod.uid] = Mover(
                uid=pod.uid,
                namespace=pod.namespace,
                name=pod.name,
                node=pod.node,
                priority=pod.priority,
                demand=demand,
                resources=pod.resources,
                constraints=pod.constraints,
                cost=repack.eviction_cost + hourly * cold_hours,
                owner=_owner(pod),
                budgets=self._budgets.of(pod.namespace, pod.labels),
                why_not=why,
                protected=is_protected(pod),
                linked=link_need(demand, policy) == "required",
                floored=pod.floor is not None,
            )
        return movers

    def _waiter(
        self, pod: Resident, fact: PodFact, policy: ClusterPolicy, kept: Mapping[str, Kept]
    ) -> Waiter | None:
        demand = fact.demand
        if demand is None or not demand.understood or pod.constraints.depends_on_pods:
            return None
        if pod.floor is not None and (own := kept.get(_owner(pod))) is not None and own.short:
            demand = replace(demand, on_demand=True)
        return Waiter(
            uid=pod.uid,
            namespace=pod.namespace,
            name=pod.name,
            priority=pod.priority,
            demand=demand,
            resources=pod.resources,
            constraints=pod.constraints,
            value_per_hour=self._worth(demand, policy),
            created=pod.created,
            preempts=pod.preempts,
            linked=link_need(demand, policy) == "required",
        )

    def _worth(self, demand: Demand, policy: ClusterPolicy) -> float:
        """Money per hour of the GPUs asked for, on the model of the fleet where they are worth least."""
        prices = policy.prices
        with self._fleet.lock:
            models = [
                model
                for model in self._fleet.hardware.models
                if demand.models is None or model.name in demand.models
            ]
        offers = []
        for model in models:
            amount = 0.0
            for request in demand.requests:
                spec = model.profile(request.profile or "") if request.kind == "mig" else None
                if request.kind == "mig" and spec is None:
                    break
                amount += request.count * (1.0 if spec is None else spec.size / model.units)
            else:
                offers.append(amount * prices.gpu_hour_by_model.get(model.name, prices.gpu_hour))
        return min(offers, default=0.0)

    def _stay(self, movers: Mapping[str, Mover]) -> dict[str, float]:
        """Prices where pods stand, for at most ``MOST_PRICED`` movable ones: those on the emptiest nodes, as
        there is most to gain by leaving them.
        """
        fleet = self._fleet
        with fleet.lock:
            columns = fleet.view()
            exists = columns.full * (columns.model_id >= 0)
            taken = np.bitwise_count(columns.occupied & exists).sum(axis=1)
            share = taken / np.maximum(np.bitwise_count(exists).sum(axis=1), 1)
            emptiness = {name: float(share[row]) for name, row in fleet.rows.items()}
        able = sorted(
            (mover for mover in movers.values() if mover.why_not is None),
            key=lambda mover: (emptiness.get(mover.node, 1.0), mover.node, mover.full_name),
        )
        found: dict[str, float] = {}
        for mover in able[:MOST_PRICED]:
            price = self._decider.price_without(mover.uid, mover.demand, mover.node)
            if price is not None:
                found[mover.uid] = price
        return found


class _Prices:
    """Price vectors, each read once."""

    def __init__(self, decider: Decider, rows: int) -> None:
        self._decider, self._rows = decider, rows
        self._known: dict[Demand, NDArray[np.float64]] = {}

    def __call__(self, demand: Demand) -> NDArray[np.float64]:
        if demand not in self._known:
            prices = self._decider.prices(demand)[: self._rows]
            short = self._rows - len(prices)
            self._known[demand] = np.append(prices, np.full(short, np.inf)) if short else prices
        return self._known[demand]


class _Admitted:
    """Masks of admissible nodes, each computed once."""

    def __init__(self, nodes: Mapping[str, Node], names: tuple[str, ...]) -> None:
        self._nodes, self._names = nodes, names
        self._known: dict[Constraints, NDArray[np.bool_]] = {}

    def __call__(self, constraints: Constraints) -> NDArray[np.bool_]:
        if constraints not in self._known:
            self._known[constraints] = np.array(
                [
                    (node := self._nodes.get(name)) is not None and admits(node, constraints)
                    for name in self._names
                ],
                dtype=np.bool_,
            )
        return self._known[constraints]


def _owner(pod: Resident) -> str:
    return pod.owner.uid if pod.owner is not None else pod.uid


def _kept(
    residents: Iterable[Resident], taken_away: frozenset[str], leaving: frozenset[str]
) -> dict[str, Kept]:
    """How the on-demand floor of each workload stands. Whoever leaves is still one of the workload, for there
    will be another, but stands nowhere.
    """
    members: dict[str, list[Resident]] = {}
    for pod in residents:
        if pod.floor is not None and pod.owner is not None:
            members.setdefault(pod.owner.uid, []).append(pod)
    return {
        owner: Kept(
            max(pod.floor.of(len(pods)) for pod in pods if pod.floor is not None),
            sum(
                bool(pod.node)
                and pod.node not in taken_away
                and not pod.terminating
                and pod.uid not in leaving
                for pod in pods
            ),
        )
        for owner, pods in members.items()
    }


def _waits(pod: Resident) -> bool:
    """Whether room may be made for the pod. Not for one of a gang: the others would still be missing."""
    return not (pod.node or pod.terminating or pod.gated or pod.gang or pod.nominated or pod.room_on)


def _cold_start_seconds(policy: ClusterPolicy) -> float:
    return policy.locality.weights_load_seconds + policy.locality.image_pull_seconds
