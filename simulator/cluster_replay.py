"""A real cluster's GPU pods, let in again one by one on its empty nodes: what would each way of choosing
nodes have done?

Read from a snapshot (``scheduler.snapshot``). Replayed are the GPU pods in order of creation, bound ones and
waiting ones alike, each by its own node selector, affinity and tolerations. Left where they are: pods without
GPUs (they hold CPU and memory), claims of pods that are not in the snapshot, and GPU pods that cannot be
replayed honestly: those whose demand is not understood, that share a claim, or whose place depends on other
pods.

``slicewise`` is the product's own fleet and decider with prices solved again every few arrivals, at the times
at which the pods were created; pods of one moment, or without a time, count as a second apart, since what is
expected to come is learned over time. The others (``simulator.cluster_rules``) score the same rows. Which
device of the chosen node is taken is first-fit over the published order for all of them; that our own driver
publishes anew after each change is not replayed, which is to our disadvantage. Pods never leave, as in the
cluster's present state: who came and went before is not known. Pure but for the decider's working state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from cluster.envelopes import object_decoder
from cluster.policy import ClusterPolicy, load_cluster_policy
from cluster.times import unix_seconds
from cluster.wire import Node, Pod
from dra.resource_api import ResourceClaimStatus
from scheduler.conditions import read_conditions
from scheduler.decider import Decider
from scheduler.demand import Demand
from scheduler.fleet import Fleet
from scheduler.kept_objects import claim_key, pod_uid
from scheduler.planner.admission import Constraints, admits, constraints_of
from scheduler.price_loop import PriceLoop
from scheduler.service import Service, from_snapshot
from scheduler.snapshot import Snapshot, raws
from simulator.cluster_rules import RULES, Loads, cpu_share, memory_share
from simulator.cluster_usage import Usage, capacity_and_use, fits, usage

SLICEWISE = "slicewise"
POLICIES = (SLICEWISE, *RULES)
RESOLVE_EVERY = 25
"""Arrivals between two solves of the prices."""
SECONDS_APART = 1.0
"""Least time between two arrivals: creation times are whole seconds, and a snapshot may lack them."""

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Arrival:
    """One pod to be replayed; ``at`` in Unix seconds (0 where the API server did not say)."""

    pod: Pod
    demand: Demand
    constraints: Constraints
    at: float


@dataclass(frozen=True, slots=True)
class Cluster:
    """What is replayed on what. ``fleet``: the cluster as it is; ``empty``: its nodes without the replayed
    pods; ``shapes``: the distinct demands; ``kept``: why GPU pods were left where they are, counted.
    """

    where: str
    taken_at: str
    policy: ClusterPolicy
    fleet: Fleet
    empty: Snapshot
    nodes: tuple[Node, ...]
    arrivals: tuple[Arrival, ...]
    shapes: tuple[Demand, ...]
    kept: Counter[str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a way of choosing ended: pods placed, and the fleet's usage."""

    placed: int
    usage: Usage


def read_cluster(snapshot: Snapshot, where: str) -> Cluster:
    """Sort a snapshot's pods. Raises SnapshotRefused, PolicyRefused."""
    now = from_snapshot(snapshot, where)
    facts = now.fleet.facts
    pods = [object_decoder(Pod).decode(raw) for raw in snapshot.pods]
    users = Counter(key for fact in facts.pods.values() for key in fact.claims)
    arrivals: list[Arrival] = []
    kept: Counter[str] = Counter()
    staying: list[Pod] = []
    freed: set[tuple[str, str]] = set()
    for pod in pods:
        demand = now.decider.demand(pod)
        if demand is None:
            staying.append(pod)
            continue
        constraints, claims = constraints_of(pod), facts.claims_of_pod(pod_uid(pod))
        reason = _why_not(demand, constraints, shared=any(users[key] > 1 for key in claims))
        if reason:
            kept[reason] += 1
            staying.append(pod)
            continue
        freed |= claims
        arrivals.append(Arrival(_unbound(pod), demand, constraints, _seconds(pod)))
    arrivals.sort(key=lambda arrival: (arrival.at, arrival.pod.metadata.namespace, arrival.pod.metadata.name))
    claims_left = [
        msgspec.structs.replace(claim, status=ResourceClaimStatus()) if claim_key(claim) in freed else claim
        for claim in facts.claims.values()
    ]
    return Cluster(
        where=where,
        taken_at=snapshot.taken_at,
        policy=load_cluster_policy(snapshot.policy, where) if snapshot.policy.strip() else ClusterPolicy(),
        fleet=now.fleet,
        empty=replace(snapshot, pods=raws(staying), resource_claims=raws(claims_left)),
        nodes=tuple(object_decoder(Node).decode(raw) for raw in snapshot.nodes),
        arrivals=tuple(arrivals),
        shapes=tuple(dict.fromkeys(_size(arrival.demand) for arrival in arrivals)),
        kept=kept,
    )


def present(cluster: Cluster) -> Outcome:
    """What the cluster really has."""
    pods = cluster.fleet.facts.pods
    placed = sum(1 for arrival in cluster.arrivals if pods[pod_uid(arrival.pod)].node)
    return Outcome(placed, usage(cluster.fleet, cluster.policy, cluster.shapes))


def replay(
    cluster: Cluster, policy: str, seed: int = 0, arrived: Callable[[], None] = lambda: None
) -> Outcome:
    """Let the pods arrive under one of ``POLICIES``; ``seed`` breaks the ties of kube-scheduler's rules;
    ``arrived`` is called after each pod.
    """
    service = from_snapshot(cluster.empty, cluster.where)
    fleet, ground = service.fleet, _Ground(service.fleet, cluster.nodes)
    chooser = _Prices(service, cluster.policy) if policy == SLICEWISE else _Rule(fleet, policy, seed)
    placed = 0
    for arrival in cluster.arrivals:
        with fleet.lock:
            row = chooser.choose(arrival, ground.possible(arrival))
            if row is not None:
                placed += 1
                fleet.apply_pod(_bound(arrival.pod, fleet.names[row]))
        arrived()
    return Outcome(placed, usage(fleet, cluster.policy, cluster.shapes))


def most_free_nodes(cluster: Cluster, in_use: float) -> int:
    """A bound: entirely free nodes while ``in_use`` GPU equivalents are taken, whoever places them. No
    packing needs fewer nodes than the largest that hold so much, beside the room on nodes used anyway.
    """
    fleet = from_snapshot(cluster.empty, cluster.where).fleet
    total, used = capacity_and_use(fleet, fleet.view())
    held = used > 0.0
    left = in_use - float(total[held].sum())
    nodes = np.sort(total[(total > 0.0) & ~held])[::-1]
    needed = int(np.searchsorted(np.cumsum(nodes), left - 1e-6)) + 1 if left > 1e-6 else 0
    return max(0, len(nodes) - needed)


class _Ground:
    """Where pods may go and fit on one contender's fleet, brought up to date row by row."""

    def __init__(self, fleet: Fleet, nodes: Sequence[Node]) -> None:
        self._fleet, self._nodes = fleet, nodes
        self._admitted: dict[Constraints, Flags] = {}
        self._fits: dict[Demand, tuple[int, Flags]] = {}

    def possible(self, arrival: Arrival) -> Flags:
        """bool[rows]. Called under the fleet's lock."""
        fleet, size = self._fleet, _size(arrival.demand)
        admitted = self._admitted.get(arrival.constraints)
        if admitted is None:
            admitted = np.zeros(fleet.size, dtype=np.bool_)
            for node in self._nodes:
                admitted[fleet.rows[node.metadata.name]] = admits(node, arrival.constraints)
            self._admitted[arrival.constraints] = admitted
        generation, fitting = self._fits.get(size, (-1, np.zeros(fleet.size, dtype=np.bool_)))
        rows = fleet.changes_since(generation)
        if rows.size:
            fitting[rows] = fits(fleet, fleet.view(rows), size)
        self._fits[size] = (fleet.generation, fitting)
        return admitted & fitting


class _Prices:
    """Slicewise: the cheapest row by the product's own decider."""

    def __init__(self, service: Service, policy: ClusterPolicy) -> None:
        fleet = service.fleet
        self._now, self._until_solve = 0.0, 0
        service.board.refresh()
        self._prices = PriceLoop(lambda: read_conditions(fleet, policy), clock=lambda: self._now)
        self._decider = Decider(
            fleet, lambda: policy, self._prices.current, service.carbon, lambda: self._now
        )

    def choose(self, arrival: Arrival, possible: Flags) -> int | None:
        self._now = max(self._now + SECONDS_APART, arrival.at)
        if self._until_solve == 0:
            self._prices.step()
            self._until_solve = RESOLVE_EVERY
        self._until_solve -= 1
        return self._decider.place(arrival.demand, possible)


class _Rule:
    """A resource rule of kube-scheduler, ties at random."""

    def __init__(self, fleet: Fleet, policy: str, seed: int) -> None:
        self._fleet, self._rule = fleet, RULES[policy]
        self._random = np.random.default_rng(seed)
        facts = fleet.facts.nodes
        self._cpu = np.array([float(facts[name].cpu_milli) for name in fleet.names])
        self._memory = np.array([float(facts[name].memory_mib) for name in fleet.names])

    def choose(self, arrival: Arrival, possible: Flags) -> int | None:
        rows = np.flatnonzero(possible)
        if not rows.size:
            return None
        columns, demand = self._fleet.view(rows), arrival.demand
        total, used = capacity_and_use(self._fleet, columns)
        loads = Loads(
            cpu_share(self._cpu[rows], columns.cpu_free.astype(np.float64), demand.cpu_milli),
            memory_share(self._memory[rows], columns.memory_free.astype(np.float64), demand.memory_mib),
            used / np.maximum(total, 1e-9),
        )
        scores = self._rule(loads)
        best = np.flatnonzero(scores == scores.max())
        return int(rows[best[self._random.integers(best.size)]])


def _why_not(demand: Demand, constraints: Constraints, *, shared: bool) -> str:
    if not demand.understood:
        return "its GPU demand is not understood"
    if shared:
        return "it shares a claim with another pod"
    if constraints.depends_on_pods:
        return "its place depends on other pods (pod affinity)"
    return ""


def _size(demand: Demand) -> Demand:
    """The demand without what never decides whether it fits."""
    return Demand(demand.requests, demand.models, cpu_milli=demand.cpu_milli, memory_mib=demand.memory_mib)


def _unbound(pod: Pod) -> Pod:
    status = msgspec.structs.replace(
        pod.status, nominated_node_name="", extended_resource_claim_status=None, phase="Pending"
    )
    return msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, node_name=""), status=status)


def _bound(pod: Pod, node: str) -> Pod:
    return msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, node_name=node))


def _seconds(pod: Pod) -> float:
    return unix_seconds(pod.metadata.creation_timestamp) or 0.0
