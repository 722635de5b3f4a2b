"""``kubectl slicewise repack``: which pods the repacker would move now, and why; nothing is ever written.

The plan is made here, from one reading of the cluster (or a snapshot), by the controller's own pure code
under the cluster's policy, whatever its mode. What the controller alone knows is not seen: evictions of the
last hour, pods left alone after a refusal, volumes that tie a pod to its node.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from cluster.disruption import Budgets, PodDisruptionBudget
from cluster.envelopes import object_decoder
from cluster.policy import ClusterPolicy
from cluster.wire import Node, Pod
from kubectl_slicewise.tables import table
from scheduler.repack.census import Census
from scheduler.repack.plan import plan
from scheduler.repack.read import SceneReader
from scheduler.repack.scene import Limits, Move, RepackPlan
from scheduler.repack.words import as_json
from scheduler.service import Service
from scheduler.snapshot import Snapshot

__all__ = ["as_json", "as_table", "made_from"]


def made_from(
    service: Service,
    snapshot: Snapshot,
    budgets: Iterable[PodDisruptionBudget],
    policy: ClusterPolicy,
) -> RepackPlan:
    """The plan for what a snapshot shows; ages count from when it was taken."""
    census = Census()
    nodes, pods = object_decoder(Node), object_decoder(Pod)
    census.replace_nodes(nodes.decode(raw) for raw in snapshot.nodes)
    census.replace_pods([pods.decode(raw) for raw in snapshot.pods])
    reader = SceneReader(service.decider, census, Budgets(budgets))
    now = datetime.fromisoformat(snapshot.taken_at).timestamp()
    repack = policy.repack
    limits = Limits(
        repack.max_evictions_per_hour, repack.max_concurrent, repack.horizon_hours, repack.preempt_claims
    )
    return plan(reader.scene(policy, now), limits)


def as_table(made: RepackPlan, policy: ClusterPolicy) -> str:
    """The plan as text."""
    currency = policy.currency
    lines = [f"Repack (repack.mode is {policy.repack.mode}): what would be moved now", ""]
    if made.moves:
        header = ["POD", "FROM", "TO", "WHY", f"COST {currency}", f"GAIN {currency}/H"]
        rows = [_row(move) for move in made.moves]
        lines.append(table(header, rows, right=frozenset({4, 5})))
    else:
        lines.append("Nothing: no move helps a waiting pod or pays for itself.")
    lines.append("")
    for relief in made.reliefs:
        lines.append(f"{relief.waiter.full_name} then fits on {relief.node}.")
    lines += [f"{one.waiter.full_name} stays waiting: {one.reason}." for one in made.unmet]
    return "\n".join(lines).rstrip()


def _row(move: Move) -> list[str]:
    after = f" (after wave {move.wave - 1})" if move.wave else ""
    return [
        move.pod.full_name,
        move.source,
        (move.target or "-") + after,
        move.why,
        f"{move.cost:.2f}",
        f"{move.gain_per_hour:.2f}",
    ]
