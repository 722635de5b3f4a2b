"""``kubectl slicewise repack``: which pods the repacker would move now, and why; nothing is ever written.

The plan is made here, from one reading of the cluster (or a snapshot), by the controller's own pure code
under the cluster's policy, whatever its mode. What the controller alone knows is not seen: evictions of the
last hour, pods left alone after a refusal, volumes that tie a pod to its node.
"""

from __future__ import annotations

from collections.abc import Iterable

from cluster.disruption import PodDisruptionBudget
from cluster.policy import ClusterPolicy
from kubectl_slicewise.seen import nodes_of, pods_of, reader_of, taken_at
from kubectl_slicewise.tables import table
from scheduler.repack.plan import plan
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
    reader = reader_of(service, nodes_of(snapshot).values(), pods_of(snapshot), budgets)
    repack = policy.repack
    limits = Limits(
        repack.max_evictions_per_hour, repack.max_concurrent, repack.horizon_hours, repack.preempt_claims
    )
    return plan(reader.scene(policy, taken_at(snapshot)), limits)


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
