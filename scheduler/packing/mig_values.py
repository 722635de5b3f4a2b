"""What the free space of one MIG card is worth, by what is occupied: the table that places MIG instances.

    value[state] = h[state] + κ·S·(free / cells)² − β·S·stranded / free        (compute slices; S = those of a card)

- h is the relative value of an average-reward Markov decision process of one card (Howard 1960; relative value
  iteration, White 1963): instances of profile p arrive at rate λ_p, take the best legal placement if one is
  left, earn their compute slices, and end at random. λ is the demand's shares at an offered load of
  ``LOAD``; a profile that waits arrives ``WAITING_FACTOR`` times as often, because the next free place of its
  kind is taken at once. So h knows the queue.
- κ makes free space worth more in one piece than spread over cards: it keeps empty cards for the largest
  profiles, which h, seeing one card only, cannot know.
- β charges for free cells that no set of the profiles can cover.

κ and β were settled by simulation (docs/mig.md). A placement costs value[before] − value[after]; the cheapest
start on the cheapest card is taken. ``scheduler.packing.prices`` may use the table in place of the LP's V for a
partitionable GPU: multiply by money per hour of a GPU / S (``in_money``).

Pure: the same demand gives the same table. ``card_values`` takes 10 to 100 ms for a demand it has not seen
(``lru_cache`` keeps the rest), so it is called off the request path, and again when the set of waiting
profiles or a share (rounded to 5 %) changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dra.catalog import GpuModel
from scheduler.packing.mig_space import CardSpace, layouts, memory_space

Floats = NDArray[np.float64]

LOAD = 1.0
WAITING_FACTOR = 3.0
CONVEXITY = 0.18
STRANDED_COST = 0.043
SHARE_STEP = 0.05

_TOLERANCE = 1e-3  # compute slices; placements differ by more or not at all
_MOST_ROUNDS = 2000


def rounded_shares(counts: Mapping[str, float], profiles: Iterable[str]) -> tuple[float, ...]:
    """Shares of the profiles in steps of 5 % (at least one step each), so that small drift keeps the table.

    ``counts``: expected arrivals by profile in any unit. All equal where nothing is expected.
    """
    names = tuple(profiles)
    total = sum(max(0.0, counts.get(name, 0.0)) for name in names)
    if total <= 0.0:
        return tuple(1.0 / len(names) for _ in names)
    steps = [max(1, round(max(0.0, counts.get(name, 0.0)) / total / SHARE_STEP)) for name in names]
    return tuple(step / sum(steps) for step in steps)


@lru_cache(maxsize=1024)
def card_values(space: CardSpace, shares: tuple[float, ...], waiting: frozenset[int]) -> Floats:
    """float64[n_states], in compute slices: what a card in each state is worth; 0 is the empty card.

    ``shares``: of the space's profiles among arrivals, summing to 1; ``waiting``: indices of profiles of which
    some instance waits. States that nothing leads to hold −inf. The result is cached and read-only.
    """
    if len(shares) != len(space.profiles):
        raise ValueError(f"got {len(shares)} shares for {len(space.profiles)} profiles: {space.profiles}")
    values = _relative_values(space, shares, waiting)
    slices = float(space.model.compute_slices)
    for state in space.states:
        free = space.free[state]
        if free:
            values[state] += CONVEXITY * slices * (free / space.card_cells) ** 2
            values[state] -= STRANDED_COST * slices * space.stranded(state) / free
    values -= values[0]
    values.setflags(write=False)
    return values


def mask_values(
    model: GpuModel, counts: Mapping[str, float], waiting: Iterable[str] = (), *, gpu_hour: float
) -> Floats:
    """float64[2 ** units], money per hour: V of one partitionable GPU by occupied mask, for the price tables.

    ``counts``: expected arrivals by profile; profiles that the model does not have, or that are not plain, are
    passed over. ``waiting``: profiles of which some pod waits. A mask that no plain instances lead to (an
    instance of an unexpected profile) is worth what its cheapest reachable superset is. Never negative, and
    less free space is never worth more.
    """
    plain = tuple(p.name for p in model.profiles if p.plain)
    profiles = tuple(name for name in plain if counts.get(name, 0.0) > 0.0) or plain
    space = memory_space(model, profiles)
    shares = rounded_shares(counts, profiles)
    held = frozenset(index for index, name in enumerate(profiles) if name in set(waiting))
    return in_money(space, monotone(space, card_values(space, shares, held)), gpu_hour)


def in_money(space: CardSpace, values: Floats, gpu_hour: float) -> Floats:
    """Compute slices to money per hour, the full card at 0."""
    known = values[list(space.states)]
    return (values - known.min()) * (gpu_hour / space.model.compute_slices)


def monotone(space: CardSpace, values: Floats) -> Floats:
    """The values over all masks of the memory grid, such that a superset of occupied units is never worth
    more: each mask gets the best of the reachable states it is part of.
    """
    result = np.array(values)
    masks = np.arange(space.n_states)
    for unit in range(space.card_cells):
        without = masks[(masks >> unit & 1) == 0]
        result[without] = np.maximum(result[without], result[without | 1 << unit])
    return result


def _relative_values(space: CardSpace, shares: tuple[float, ...], waiting: frozenset[int]) -> Floats:
    """h by state, in compute slices; mean over the layouts that make up a state. Unit of time: a mean run."""
    numbers = np.array(space.compute_slices, dtype=np.float64)
    slices = space.model.compute_slices
    per_card = LOAD * slices / float(numbers @ np.array(shares))
    rates = np.array(
        [share * per_card * (WAITING_FACTOR if p in waiting else 1.0) for p, share in enumerate(shares)]
    )
    walk = _walk(space)
    clock = float(rates.sum()) + walk.most_running
    h = np.zeros(len(walk.state))
    for _ in range(_MOST_ROUNDS):
        # One step of the uniformised chain: an end, an arrival, or nothing.
        new = h + (walk.ends @ h - walk.running * h) / clock
        padded = np.append(h, -np.inf)
        for profile, rate in enumerate(rates.tolist()):
            best = padded[walk.after[profile]].max(axis=0)
            taken = np.isfinite(best)
            new[taken] += rate / clock * (numbers[profile] + best[taken] - h[taken])
        step = new - h
        h = new - new[0]
        if float(step.max() - step.min()) * clock < _TOLERANCE:
            break
    values = np.full(space.n_states, -np.inf)
    totals = np.bincount(walk.state, weights=h, minlength=space.n_states)
    counts = np.bincount(walk.state, minlength=space.n_states)
    met = counts > 0
    values[met] = totals[met] / counts[met]
    return values


class _Walk:
    """The layouts of a card as arrays: ``after[profile][start, layout]`` (n = none), ``ends[layout, layout]``
    counts the instances whose end leads there.
    """

    __slots__ = ("after", "ends", "most_running", "running", "state")

    def __init__(self, space: CardSpace) -> None:
        found = layouts(space)
        index = {layout: position for position, layout in enumerate(found)}
        n = len(found)
        self.state = np.array([sum(number for _, number in layout) for layout in found])
        self.running = np.array([float(len(layout)) for layout in found])
        self.most_running = float(self.running.max())
        self.ends = np.zeros((n, n))
        self.after = [np.full((max(1, len(steps[0])), n), n) for steps in space.steps]
        for position, layout in enumerate(found):
            for gone in range(len(layout)):
                self.ends[position, index[layout[:gone] + layout[gone + 1 :]]] += 1.0
            for profile, steps in enumerate(space.steps):
                for place, (_, number) in enumerate(steps[int(self.state[position])]):
                    longer = tuple(sorted((*layout, (profile, number))))
                    self.after[profile][place, position] = index[longer]


@lru_cache(maxsize=64)
def _walk(space: CardSpace) -> _Walk:
    return _Walk(space)
