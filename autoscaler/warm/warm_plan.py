"""What to do about the placeholders of one workload: hand room over, let go, make more.

kube-scheduler preempts placeholders for replicas that ask by device-plugin resources. For replicas that ask
by resource claim its preemption never helps (the DRA plugin of 1.36 has no pre-filter extensions), so a
placeholder with a node is deleted here for each replica of the workload that the scheduler has refused and
nominated nowhere, once a replica. Until those have a node no placeholder may look for one: the scheduler
might try it first, while the replica still sits out its back-off, and the room would be gone. None is made,
and those that wait are let go. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autoscaler.warm.warm_pods import WarmPod, by_age


@dataclass(frozen=True, slots=True)
class Steps:
    """``hand_over``: placeholder and the UID of the replica it gives way to; ``let_go``: no longer wanted;
    ``make``: how many more.
    """

    hand_over: tuple[tuple[WarmPod, str], ...] = ()
    let_go: tuple[WarmPod, ...] = ()
    make: int = 0


def steps(
    wanted: int, existing: Sequence[WarmPod], refused: Sequence[str], *, helped: frozenset[str], paused: bool
) -> Steps:
    """Plan for ``wanted`` placeholders. ``existing``: those that are not leaving; ``refused``: UIDs of the
    workload's replicas that the scheduler refuses; ``helped``: those that were given room before; ``paused``:
    whether some replica, of whatever workload, looks for room that is or was handed to it.
    """
    new = [uid for uid in refused if uid not in helped]
    placed = sorted((pod for pod in existing if pod.node), key=lambda pod: (pod.created, pod.name))
    hand_over = tuple(zip(placed, new, strict=False))
    gone = {pod.uid for pod, _ in hand_over}
    rest = [pod for pod in existing if pod.uid not in gone]
    if refused or paused:
        waiting = sum(not pod.node for pod in rest)
        return Steps(hand_over, tuple(by_age(rest)[: max(waiting, len(rest) - wanted)]))
    return Steps((), tuple(by_age(rest)[: max(0, len(rest) - wanted)]), max(0, wanted - len(rest)))
