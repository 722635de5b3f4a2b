"""Which pods to delete first when a workload is lowered: the pod-deletion costs that say so.

Starting before running: a replica that serves nobody yet loses nobody. Among running ones the idlest, by
requests in flight, since those have to finish elsewhere or be waited for. Among equally idle ones the one
whose going heals most fragmentation (``healing``: by how much the unusable share of the cluster's GPUs
falls). The ReplicaSet controller deletes the pod with the lowest
``controller.kubernetes.io/pod-deletion-cost`` first, but only after not-ready and pending pods, so the order
here never contradicts its own (KEP-2255).

Pure; writing the annotations is another module's business. A pod that does not report counts as busy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from metrics.samples import NoData

# The annotation is an int32; gaps leave room for a person's own costs in between.
COST_STEP: Final = 10


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pod that could go: ``name``, whether it serves, what it has in flight, what its going heals."""

    name: str
    ready: bool
    in_flight: float | NoData = 0.0
    healing: float = 0.0


def order_of_going(pods: Sequence[Candidate]) -> tuple[str, ...]:
    """Return the names of ``pods``, the first to go first; ties by name, so that the order is stable."""
    return tuple(pod.name for pod in sorted(pods, key=_rank))


def deletion_costs(pods: Sequence[Candidate]) -> dict[str, int]:
    """Return the deletion cost of every pod: ascending from 0 in the order of going."""
    return {name: place * COST_STEP for place, name in enumerate(order_of_going(pods))}


def _rank(pod: Candidate) -> tuple[bool, float, float, str]:
    load = float("inf") if isinstance(pod.in_flight, NoData) else pod.in_flight
    # A starting pod has no load worth the name, whatever it reports.
    return pod.ready, load if pod.ready else 0.0, -pod.healing, pod.name
