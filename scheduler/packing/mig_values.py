"""What the free space of one MIG card is worth, by what is occupied: the table that places MIG instances.

    value[state] = h[state] + κ·S·(free / cells)²     (compute slices; S = those of a card)

- h is the relative value of an average-reward Markov decision process of one card (Howard 1960; relative
  value iteration, White 1963): instances of profile p arrive at rate λ_p, take the best legal placement if
  one is left, earn S·(slices / S)^``REWARD_EXPONENT``, and end at random. λ is the demand's shares at an
  offered load of ``LOAD``; a profile that waits arrives ``WAITING_FACTOR`` times as often, because the next
  free place of its kind is taken at once. So h knows the queue.
- The exponent is above 1 because the process sees one card only: what finds no room on it may find room on
  another, a small instance nearly always, a large one seldom. So turning a large one away costs more than its
  slices. A reward of 1 an instance, which is what acceptance counts, does worse on several cards even when
  acceptance is what counts.
- κ makes free space worth more in one piece than spread over cards, for the same reason: it keeps empty
  cards for the largest profiles.

Exponent and κ were settled by simulation (docs/mig.md). A placement costs value[before] − value[after]; the
cheapest start on the cheapest card is taken. Only costs of one profile compare: adding the same amount for
every free cell changes none of these choices, and ``mask_values`` adds it to get a table worth money.

Who uses it: the price tables (``mig_tables``: ``mask_values`` times the worth of a free GPU); through them
the controller, which tells drivers the order to publish placements in (``dra.device_order``); the planner,
for whose turn it is among waiting pods (``mig_order``, ``planner.order``); the simulator.

Pure: the same demand gives the same table. A table takes about 15 ms for a demand not seen before (723
layouts: 100 ms); ``lru_cache`` keeps it, and shares are rounded to 5 % so that small drift changes nothing.
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
REWARD_EXPONENT = 1.5
CONVEXITY = 0.2  # κ
SHARE_STEP = 0.05

_TOLERANCE = 1e-2  # compute slices per mean run
_MOST_ROUNDS = 2000


def rounded_shares(counts: Mapping[str, float], profiles: Iterable[str]) -> tuple[float, ...]:
    """Shares of the profiles in steps of 5 %, at least one step each, so that small drift keeps the table.

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

    ``shares``: of the space's profiles among arrivals, summing to 1; ``waiting``: indices of profiles of
    which some instance waits. States that nothing leads to hold −inf. The result is cached and read-only.
    Raises ValueError when the shares are not one for each profile.
    """
    if len(shares) != len(space.profiles):
        raise ValueError(f"got {len(shares)} shares, expected one for each of {', '.join(space.profiles)}")
    values = _relative_values(space, shares, waiting)
    slices = float(space.model.compute_slices)
    for state in space.states:
        values[state] += CONVEXITY * slices * (space.free[state] / space.card_cells) ** 2
    values -= values[0]
    values.setflags(write=False)
    return values


def mask_values(
    model: GpuModel, counts: Mapping[str, float], waiting: Iterable[str] = (), *, empty_worth: float = 1.0
) -> Floats:
    """float64[2 ** units]: worth of one partitionable GPU by occupied mask, ``empty_worth`` (money per hour)
    when empty, 0 when full; less free space is never worth more.

    ``counts``: expected arrivals by profile; profiles that the model does not have, or that are not plain,
    are passed over. ``waiting``: profiles of which some pod waits. A mask that only an unexpected profile
    leads to is worth as much as the best expected one that contains it.
    """
    plain = tuple(p.name for p in model.profiles if p.plain)
    profiles = tuple(name for name in plain if counts.get(name, 0.0) > 0.0) or plain
    space = memory_space(model, profiles)
    held = set(waiting)
    values = card_values(
        space,
        rounded_shares(counts, profiles),
        frozenset(index for index, name in enumerate(profiles) if name in held),
    )
    worth = _priced_cells(space, values)
    full = space.n_states - 1
    worth -= worth[full] if np.isfinite(worth[full]) else worth[list(space.states)].min()
    for unit in range(space.card_cells):
        masks = np.flatnonzero((np.arange(space.n_states) >> unit & 1) == 0)
        worth[masks] = np.maximum(worth[masks], worth[masks | 1 << unit])
    worth = np.maximum(worth, 0.0)
    return worth * (empty_worth / worth[0]) if worth[0] > 0.0 else worth


def _priced_cells(space: CardSpace, values: Floats) -> Floats:
    """The values plus the least amount a free cell that makes them monotone: then no reachable state is worth
    less than one that contains it. The full card stands for 0.
    """
    states = np.array(space.states)
    free = np.array(space.free, dtype=np.float64)[states]
    known = values[states]
    inside = (states[:, None] & states[None, :]) == states[:, None]  # [small, large]: small ⊆ large
    cells = free[:, None] - free[None, :]
    gap = known[None, :] - known[:, None]
    apart = inside & (cells > 0)
    amount = max(0.0, float((gap[apart] / cells[apart]).max(initial=0.0)))
    result = np.full(space.n_states, -np.inf)
    result[states] = known + amount * free
    return result


def _relative_values(space: CardSpace, shares: tuple[float, ...], waiting: frozenset[int]) -> Floats:
    """h by state, in compute slices; mean over the layouts that make up a state. Unit of time: a mean run."""
    numbers = np.array(space.compute_slices, dtype=np.float64)
    slices = space.model.compute_slices
    rewards = slices * (numbers / slices) ** REWARD_EXPONENT
    per_card = LOAD * slices / float(numbers @ np.array(shares))
    rates = np.array(
        [share * per_card * (WAITING_FACTOR if p in waiting else 1.0) for p, share in enumerate(shares)]
    )
    walk = walk_of(space)
    clock = float(rates.sum()) + walk.most_running
    h = np.zeros(len(walk.state))
    for _ in range(_MOST_ROUNDS):
        # One step of the uniformised chain: an end, an arrival, or nothing.
        new = h + (np.append(h, 0.0)[walk.before].sum(axis=0) - walk.running * h) / clock
        padded = np.append(h, -np.inf)
        for profile, rate in enumerate(rates.tolist()):
            best = padded[walk.after[profile]].max(axis=0)
            taken = np.isfinite(best)
            new[taken] += rate / clock * (rewards[profile] + best[taken] - h[taken])
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


class Walk:
    """The layouts of a card as arrays, layout n standing for none: ``after[profile][place, layout]`` once an
    instance is placed, ``before[instance, layout]`` once one has ended.
    """

    __slots__ = ("after", "before", "most_running", "running", "state")

    def __init__(self, space: CardSpace) -> None:
        found = layouts(space)
        index = {layout: position for position, layout in enumerate(found)}
        n = len(found)
        self.state = np.array([sum(number for _, number in layout) for layout in found])
        self.running = np.array([float(len(layout)) for layout in found])
        self.most_running = float(self.running.max())
        self.before = np.full((int(self.most_running), n), n)
        self.after = [np.full((max(1, len(steps[0])), n), n) for steps in space.steps]
        for position, layout in enumerate(found):
            for gone in range(len(layout)):
                self.before[gone, position] = index[layout[:gone] + layout[gone + 1 :]]
            for profile, steps in enumerate(space.steps):
                for place, (_, number) in enumerate(steps[int(self.state[position])]):
                    longer = tuple(sorted((*layout, (profile, number))))
                    self.after[profile][place, position] = index[longer]


@lru_cache(maxsize=64)
def walk_of(space: CardSpace) -> Walk:
    """The layouts of the card, laid out once for all tables of it."""
    return Walk(space)
