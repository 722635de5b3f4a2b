"""``kubectl slicewise nodes --scale-down | --hints | --overlays``: which nodes may go, which kinds to add.

Made here, from one reading of the cluster (or a snapshot), by the controller's own pure code; nothing is
written. What lacks a place is taken from the GPU pods that wait: replicas that the autoscaler wants and has
not asked for, because there is no room, are known to the controller alone (its route ``/nodes/hints``).
What DaemonSets take of a new node is what their pods take of the first node of its kind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from autoscaler.nodes.daemons import daemons_seen
from autoscaler.nodes.hints import Hint, Lacking, Machine, hints, kinds_of
from autoscaler.nodes.node_kinds import NodeKind
from autoscaler.nodes.node_prices import FleetPrices
from autoscaler.nodes.scale_down import NodeAdvice
from autoscaler.nodes.scale_down_loop import advice_for
from autoscaler.nodes.standing import Standing, standing
from cluster.disruption import PodDisruptionBudget
from cluster.policy import ClusterPolicy
from kubectl_slicewise.seen import nodes_of, pods_of, reader_of, taken_at
from kubectl_slicewise.tables import table
from scheduler.demand import Demand
from scheduler.planner.admission import Constraints, admits, constraints_of
from scheduler.service import Service
from scheduler.snapshot import Snapshot

_WORDS = {"may_go": "may go", "keep": "keep", "in_use": "in use"}


def scale_down_from(
    service: Service, snapshot: Snapshot, budgets: Iterable[PodDisruptionBudget], policy: ClusterPolicy
) -> tuple[NodeAdvice, ...]:
    """The advice about what a snapshot shows; ages count from when it was taken."""
    now, nodes = taken_at(snapshot), nodes_of(snapshot)
    return advice_for(
        reader_of(service, nodes.values(), pods_of(snapshot), budgets),
        FleetPrices(service, lambda: policy, lambda: now),
        service.prices.current(),
        nodes,
        policy,
        now,
    )


def hints_from(service: Service, snapshot: Snapshot, policy: ClusterPolicy) -> tuple[Hint, ...]:
    """The kinds of node for the pods of a snapshot that wait and fit nowhere."""
    now = taken_at(snapshot)
    prices, nodes = FleetPrices(service, lambda: policy, lambda: now), nodes_of(snapshot)
    counts: Counter[tuple[Demand, Constraints]] = Counter()
    names, pods = service.fleet.names, pods_of(snapshot)
    for pod in pods:
        demand = None if pod.spec.node_name else service.decider.demand(pod)
        if demand is None or not demand.understood:
            continue
        constraints = constraints_of(pod)
        fits = np.flatnonzero(np.isfinite(service.decider.prices(demand))).tolist()
        if not any(names[row] in nodes and admits(nodes[names[row]], constraints) for row in fits):
            counts[demand, constraints] += 1
    lacking = [Lacking(demand, constraints, count) for (demand, constraints), count in counts.items()]
    return hints(lacking, _kinds(service, snapshot, prices), prices.now())


def standing_from(service: Service, snapshot: Snapshot, policy: ClusterPolicy) -> tuple[Standing, ...]:
    """What a node of each kind of a snapshot costs beyond its list price, whatever waits."""
    now = taken_at(snapshot)
    prices = FleetPrices(service, lambda: policy, lambda: now)
    return standing(_kinds(service, snapshot, prices), prices.now())


def _kinds(service: Service, snapshot: Snapshot, prices: FleetPrices) -> dict[Machine, NodeKind]:
    pods = pods_of(snapshot)
    return kinds_of(
        nodes_of(snapshot).values(),
        tuple(prices.running()),
        lambda node: daemons_seen(node, pods, service.decider.demand),
    )


def advice_table(advice: Iterable[NodeAdvice], policy: ClusterPolicy) -> str:
    """The advice as text."""
    header = ["NODE", "ADVICE", f"{policy.currency}/H", "WHY"]
    rows = [[one.node, _WORDS[one.verdict], f"{one.saves_per_hour:.2f}", one.why] for one in advice]
    if not rows:
        return "No GPU node."
    lines = [
        f"Scale-down (scaleDown.mode is {policy.scale_down.mode})",
        "",
        table(header, rows, right=frozenset({2})),
    ]
    moves = [f"{pod} would go to {to}." for one in advice if one.verdict == "may_go" for pod, to in one.moves]
    return "\n".join([*lines, *([""] if moves else []), *moves])


def hints_table(found: Iterable[Hint], policy: ClusterPolicy) -> str:
    """The hints as text."""
    currency = policy.currency
    header = ["MACHINE", "ZONE", "CAPACITY", "REPLICAS", "NODES", f"{currency}/H A REPLICA", "BILL"]
    rows = [
        [
            hint.machine.instance_type or "-",
            hint.machine.zone or "-",
            hint.machine.capacity[1] or "-",
            str(hint.bill.replicas),
            str(hint.bill.nodes),
            f"{hint.bill.per_replica:.4f}",
            ", ".join(f"{name} {value:+.2f}" for name, value in hint.bill.terms.items()),
        ]
        for hint in found
    ]
    if not rows:
        return "No kind of node that runs here would help: nothing waits for room, or nothing of it fits."
    return table(header, rows, right=frozenset({3, 4, 5}))
