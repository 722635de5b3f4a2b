"""``slicewise…``: the product's own tables (``scheduler.packing.mig_values``) decide card and start.

The demand is learned from the arrivals seen so far, starting from all profiles alike; a profile waits when a
job of it does, other than the one being placed. Of equals the first card and the lowest number.

- ``slicewise``: with the planner, which also chooses who goes first (``scheduler.planner.order``). Another
  queue discipline than the baselines'.
- ``slicewise-webhook``: placement only, any card, arrival order. What the rule gives when the card can be
  chosen.
- ``slicewise-node``: the same where the scheduler chooses the node only; on it the in-tree allocator takes
  the first GPU, in the order of the published slices, on which the profile fits. One slice a GPU, as
  ``dra.slices`` publishes.
"""

from __future__ import annotations

from scheduler.packing.mig_order import urgency
from scheduler.packing.mig_space import CardSpace
from scheduler.packing.mig_values import Floats, card_values, rounded_shares
from simulator.mig_policy import Choice, Fleet

_PRIOR_JOBS = 4.0  # of all kinds alike, until arrivals tell
_ROUND = 1e-6  # compute slices; closer values are a tie


class Slicewise:
    """Least value lost over all cards."""

    def __init__(self) -> None:
        self._shares: tuple[float, ...] = ()
        self._learned = -1
        self._cheapest: dict[tuple[frozenset[int], int, int], tuple[int, int] | None] = {}

    def choose(self, fleet: Fleet, profile: int) -> Choice | None:
        waiting = self._waiting(fleet, profile)
        best: tuple[int, int, int] | None = None
        for card in self._cards(fleet, profile):
            found = self._of_state(fleet, waiting, profile, fleet.states[card])
            if found is not None and (best is None or found[0] < best[0]):
                best = (found[0], card, found[1])
        return best and (best[1], best[2])

    def _cards(self, fleet: Fleet, profile: int) -> range | list[int]:
        del profile
        return range(len(fleet.states))

    def _waiting(self, fleet: Fleet, profile: int) -> frozenset[int]:
        self._learn(fleet)
        return frozenset(p for p, count in enumerate(fleet.waiting) if count > (p == profile))

    def _of_state(
        self, fleet: Fleet, waiting: frozenset[int], profile: int, state: int
    ) -> tuple[int, int] | None:
        """(value lost, in units of ``_ROUND``; number) of the best placement from a state."""
        key = (waiting, profile, state)
        if key not in self._cheapest:
            steps = fleet.space.steps[profile][state]
            values = card_values(fleet.space, self._shares, waiting)
            self._cheapest[key] = min(
                ((_lost(values, state, number), number) for _, number in steps), default=None
            )
        return self._cheapest[key]

    def _learn(self, fleet: Fleet) -> None:
        arrived = sum(fleet.arrived)
        # Early arrivals move the shares, later ones hardly: look again after each half more.
        if self._learned >= 0 and arrived < self._learned * 1.5 + 5:
            return
        self._learned = arrived
        shares = learned_shares(fleet.space, fleet.arrived)
        if shares != self._shares:
            self._shares = shares
            self._cheapest.clear()


class SlicewiseNode(Slicewise):
    """As above, on the first card of each node that has room."""

    def _cards(self, fleet: Fleet, profile: int) -> range | list[int]:
        steps = fleet.space.steps[profile]
        first: dict[int, int] = {}
        for card, state in enumerate(fleet.states):
            if steps[state]:
                first.setdefault(fleet.node[card], card)
        return list(first.values())


class SlicewisePlan(Slicewise):
    """As above, any card, and of the jobs that could start the most urgent goes first."""

    def pick(self, fleet: Fleet, candidates: dict[int, float]) -> int:
        """The profile to place next. ``candidates``: profile → seconds its oldest job has waited."""
        best: tuple[float, int] | None = None
        for profile, waited in candidates.items():
            waiting = self._waiting(fleet, profile)
            lost = min(
                found[0]
                for state in fleet.states
                if (found := self._of_state(fleet, waiting, profile, state)) is not None
            )
            ranked = (urgency(fleet.space.compute_slices[profile], lost * _ROUND, waited), -profile)
            best = ranked if best is None or ranked > best else best
        return -best[1] if best is not None else next(iter(candidates))


def learned_shares(space: CardSpace, arrived: list[int]) -> tuple[float, ...]:
    """Shares of the profiles among the arrivals so far, with a prior of ``_PRIOR_JOBS`` alike."""
    prior = _PRIOR_JOBS / len(space.profiles)
    counts = {name: prior + count for name, count in zip(space.profiles, arrived, strict=True)}
    return rounded_shares(counts, space.profiles)


def _lost(values: Floats, state: int, number: int) -> int:
    return round(float(values[state] - values[state + number]) / _ROUND)
