"""One run: jobs arrive, a policy places them, they leave; what waited how long and what lay idle.

Queue discipline, the same for every policy and kube-scheduler's own: a job that arrives is tried at once;
when one ends, all that wait are tried in arrival order and whatever fits starts (backfill). None is moved.
Only an ordering policy departs from arrival order. With ``refusing`` there is no queue: a job that finds no
room when it comes is refused.

Measures:

- wait: start − arrival of each job, seconds;
- accepted: jobs that ran, of all that came;
- GPC utilisation: compute slices in use × time / (all compute slices × time), over the arrival window (until
  the last arrival, as MIGBench has it: afterwards the cards only drain) and over the makespan;
- stranded (MIGBench): mean over cards of (free − most that further instances of the mix can cover) / free,
  0 for a full card, averaged over time in the arrival window. ``stranded_cells`` is the plain share:
  stranded cells / all cells. Both count cells of the grid in use.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import inf

from simulator.mig_arrivals import Arrivals
from simulator.mig_policy import Fleet, MigPolicy, OrderingPolicy


class IllegalPlacement(Exception):
    """A policy answered with a placement that the card does not allow; a fault of the policy."""


@dataclass(frozen=True, slots=True)
class MigRun:
    """What one run gave. ``waits``: seconds, by job in arrival order; the rest in percent."""

    waits: tuple[float, ...]
    makespan_seconds: float
    gpc_utilisation_percent: float
    gpc_utilisation_makespan_percent: float
    stranded_percent: float
    stranded_cells_percent: float
    accepted_percent: float = 100.0


def run(fleet: Fleet, arrivals: Arrivals, policy: MigPolicy, *, refusing: bool = False) -> MigRun:
    """Play the arrivals on an empty fleet to the end.

    Raises IllegalPlacement.
    """
    space, states = fleet.space, fleet.states
    ratio = [
        (free - packable) / free if free else 0.0
        for free, packable in zip(space.free, space.packable, strict=True)
    ]
    lost = [free - packable for free, packable in zip(space.free, space.packable, strict=True)]
    at, profile_of, seconds = arrivals.at, arrivals.profile, arrivals.seconds
    queues: list[deque[int]] = [deque() for _ in space.profiles]
    waits = [0.0] * len(at)
    refused: list[int] = []
    endings: list[tuple[float, int, int, int]] = []
    last_arrival = at[-1] if at else 0.0
    position, now, slices = 0, 0.0, 0
    stranded, stranded_cells = len(states) * ratio[0], len(states) * lost[0]
    slice_seconds = strand_seconds = strand_cell_seconds = 0.0
    picks = partial(policy.pick, fleet) if isinstance(policy, OrderingPolicy) else None
    while position < len(at) or endings:
        before = now
        arriving = position < len(at) and (not endings or at[position] <= endings[0][0])
        now = at[position] if arriving else endings[0][0]
        if before < last_arrival:
            span = min(now, last_arrival) - before
            slice_seconds += slices * span
            strand_seconds += stranded * span
            strand_cell_seconds += stranded_cells * span
        fleet.now = now
        if arriving:
            profile = profile_of[position]
            queues[profile].append(position)
            fleet.waiting[profile] += 1
            fleet.oldest[profile] = at[queues[profile][0]]
            fleet.arrived[profile] += 1
            position += 1
            tried: Sequence[int] = (profile,)
        else:
            _, job, card, number = heapq.heappop(endings)
            profile = profile_of[job]
            state = states[card]
            states[card] = state - number
            stranded += ratio[state - number] - ratio[state]
            stranded_cells += lost[state - number] - lost[state]
            slices -= space.compute_slices[profile]
            del fleet.running[card][job]
            fleet.finished[profile] += 1
            fleet.finished_seconds[profile] += seconds[job]
            tried = range(len(queues))
        candidates = [p for p in tried if queues[p] and fleet.fits(p)]
        while candidates:
            if picks is not None and len(candidates) > 1:
                profile = picks({p: now - at[queues[p][0]] for p in candidates})
            else:
                profile = min(candidates, key=lambda p: queues[p][0])
            card, number = _checked(fleet, profile, policy.choose(fleet, profile))
            job = queues[profile].popleft()
            fleet.waiting[profile] -= 1
            fleet.oldest[profile] = at[queues[profile][0]] if queues[profile] else inf
            waits[job] = now - at[job]
            state = states[card]
            states[card] = state + number
            stranded += ratio[state + number] - ratio[state]
            stranded_cells += lost[state + number] - lost[state]
            slices += space.compute_slices[profile]
            fleet.running[card][job] = (profile, now, number)
            heapq.heappush(endings, (now + seconds[job], job, card, number))
            candidates = [p for p in candidates if queues[p] and fleet.fits(p)]
        if refusing and arriving and queues[profile_of[position - 1]]:
            profile = profile_of[position - 1]
            refused.append(queues[profile].popleft())
            fleet.waiting[profile] -= 1
            fleet.oldest[profile] = inf
    cards = len(states)
    work = sum(
        space.compute_slices[profile] * length for profile, length in zip(profile_of, seconds, strict=True)
    ) - sum(space.compute_slices[profile_of[job]] * seconds[job] for job in refused)
    capacity = cards * space.model.compute_slices
    return MigRun(
        waits=tuple(waits),
        makespan_seconds=now,
        gpc_utilisation_makespan_percent=_percent(work, capacity * now),
        gpc_utilisation_percent=_percent(slice_seconds, capacity * last_arrival),
        stranded_percent=_percent(strand_seconds, cards * last_arrival),
        stranded_cells_percent=_percent(strand_cell_seconds, cards * space.card_cells * last_arrival),
        accepted_percent=_percent(len(at) - len(refused), len(at)),
    )


def _checked(fleet: Fleet, profile: int, choice: tuple[int, int] | None) -> tuple[int, int]:
    if choice is not None and any(
        number == choice[1] for _, number in fleet.space.steps[profile][fleet.states[choice[0]]]
    ):
        return choice
    name = fleet.space.profiles[profile]
    raise IllegalPlacement(
        f"profile {name}: got {choice}, expected a legal placement on one of {fleet.states}"
    )


def _percent(part: float, whole: float) -> float:
    return 100.0 * part / whole if whole else 0.0
