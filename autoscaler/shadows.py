"""Every headroom tried at once: fleets that exist in thought only, each with its own, follow the load.

What is in flight is seen whatever the replica count, so how late and how dear *another* headroom would have
been can be told without trying it: learning with full information ("prediction with expert advice",
Cesa-Bianchi and Lugosi 2006). One fleet a candidate, in deviations (``CANDIDATES``):

    wish     = ceil((floor + deviations * spread) / per replica), within the bounds
    raised   when the load exceeds what it has by the tolerance; serves one lead later
    lowered  to the highest wish of the time since it wished for fewer, when that time is a window long
    queue   += (load - slots of those that serve) / service time * seconds, never below 0
    late     while the wait, queue * service time / slots, exceeds what the objective leaves for it

``chosen`` takes the least headroom whose share of late requests is within ``aim``. It climbs towards it only
while a step is worth its price (``worth``, the policy's ``slo.worth``): misses that no headroom would have
prevented are common to all of them and buy nothing. Before there is evidence a prior speaks for
``PRIOR_SECONDS`` of usual traffic; it asks for the more headroom, the longer a start takes. The late shares
fade over a day. Whole numbers matter: where rounding up gives spare capacity for nothing, the small headrooms
show it.

Pure. A queue before all replicas, first in, first out; knows no single requests and no router.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from autoscaler.replacing import replace

CANDIDATES: Final = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
PRIOR_SECONDS: Final = 3.0 * 3600.0
# The prior's late share without headroom, and the deviations that divide it by ten.
_PRIOR_LATE: Final = 0.1
_PRIOR_DEVIATIONS: Final = 0.3
_PRIOR_PER_ROOT_SECOND: Final = 0.1
_STEP_SECONDS: Final = 10.0
# After a time in which nothing was seen.
_LONGEST_STEP_SECONDS: Final = 60.0
_MEMORY_SECONDS: Final = 86_400.0
_USUAL_SECONDS: Final = 7200.0
_LARGEST_WEIGHT: Final = 3.0
_BLOCKS: Final = 8
_LEADS_UNCOUNTED: Final = 2.0
_LONGEST_WAIT_SECONDS: Final = 60.0

Values = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Conditions:
    """What all the fleets live under; ``patience_seconds`` is how long a request may wait and be in time."""

    per_replica: float
    least: int
    most: int
    raise_tolerance: float
    window_seconds: float
    lead_seconds: float
    patience_seconds: float


@dataclass(frozen=True, slots=True)
class Shadows:
    """One value a candidate in each tuple.

    ``replicas`` are asked for, ``below`` the seconds since fewer were wished for and ``highest`` the most of
    that time; ``fewest`` (of this block of the lead), ``blocks`` (of those before) and ``held`` (their least)
    tell how many serve. ``late`` and ``answered`` are in seconds of usual traffic, ``cost`` in replicas.
    """

    begun_seconds: float
    at_seconds: float
    block_seconds: float
    replicas: Values
    below: Values
    highest: Values
    fewest: Values
    held: Values
    blocks: tuple[Values, ...]
    queue: Values
    late: Values
    cost: Values
    age_seconds: float = 0.0
    answered: float = 0.0
    usual_rps: float = 0.0

    @classmethod
    def begun(cls, replicas: int, now: float) -> Shadows:
        """Fleets that all have what the workload has."""
        there = (float(replicas),) * len(CANDIDATES)
        nothing = (0.0,) * len(CANDIDATES)
        return cls(now, now, now, there, nothing, nothing, there, there, (there,), nothing, nothing, there)

    def recalled(
        self, late: Sequence[float], cost: Sequence[float], answered: float, age_seconds: float
    ) -> Shadows:
        """Return these fleets with the experience of those before a restart."""
        if len(late) != len(CANDIDATES) or len(cost) != len(CANDIDATES):
            return self
        return replace(self, late=tuple(late), cost=tuple(cost), answered=answered, age_seconds=age_seconds)

    def alike(self, replicas: int, now: float) -> Shadows:
        """Return the fleets with their experience, all with what the workload has: they learn nothing now."""
        fresh = Shadows.begun(replicas, now)
        return replace(
            fresh,
            late=self.late,
            cost=self.cost,
            age_seconds=self.age_seconds,
            answered=self.answered,
            usual_rps=self.usual_rps,
        )

    def seen(
        self, floor: float, spread: float, load: float, service_seconds: float, under: Conditions, now: float
    ) -> Shadows:
        """Return the fleets after the time since the last step, with ``load`` in flight all through it.

        ``floor`` and ``spread`` (one deviation) are the forecast's, in requests.
        """
        passed = min(_LONGEST_STEP_SECONDS, now - self.at_seconds)
        if passed < _STEP_SECONDS:
            return self
        slots, most, least = under.per_replica, float(under.most), float(under.least)
        longest, patience = _LONGEST_WAIT_SECONDS, under.patience_seconds
        over, window = 1.0 + under.raise_tolerance, under.window_seconds
        service = max(service_seconds, 0.05)
        arriving = load / service
        usual = arriving if self.usual_rps <= 0.0 else self.usual_rps
        usual += min(1.0, passed / _USUAL_SECONDS) * (arriving - usual)
        weight = passed * min(_LARGEST_WEIGHT, arriving / usual) if usual > 0.0 else 0.0
        if now - self.begun_seconds < _LEADS_UNCOUNTED * under.lead_seconds:
            # What they begin with is not of their own choice, nor is what comes of it.
            weight = 0.0
        fading = math.exp(-passed / _MEMORY_SECONDS)
        share = passed / min(_MEMORY_SECONDS, self.age_seconds + 3600.0)
        fleets: list[Values] = []
        # Comparisons instead of min and max: this is walked through for every workload all the time.
        for deviations, there, below, highest, fewest, held, queue, late, cost in zip(
            CANDIDATES,
            self.replicas,
            self.below,
            self.highest,
            self.fewest,
            self.held,
            self.queue,
            self.late,
            self.cost,
            strict=True,
        ):
            needed = (floor + deviations * spread) / slots
            wish: float = math.ceil(needed - 1e-9)
            if wish <= least:
                wish = least
            elif wish >= most:
                wish = most
            if needed > there * over:
                there, below, highest = wish if wish > there else there, 0.0, 0.0
            elif wish < there:
                below += passed
                if wish > highest:
                    highest = wish
                if below >= window:
                    there, below, highest = highest, 0.0, wish
            else:
                below, highest = 0.0, 0.0
            if there > most:
                there = most
            if there < fewest:
                fewest = there
            least_held = held if held < fewest else fewest
            serving = least_held * slots if least_held > 1.0 else slots
            late *= fading
            queue += (load - serving) * passed / service
            if queue > 0.0:
                if queue > longest * serving / service:
                    queue = longest * serving / service
                if queue * service > patience * serving:
                    late += weight
            else:
                queue = 0.0
            fleets.append((there, below, highest, fewest, queue, late, cost + share * (there - cost)))
        asked, belows, highs, fewests, queues, lates, costs = zip(*fleets, strict=True)
        block, blocks, held_now = self.block_seconds, self.blocks, self.held
        if now - block >= under.lead_seconds / _BLOCKS:
            block, blocks = now, (*blocks, fewests)[-_BLOCKS:]
            held_now = tuple(map(min, zip(*blocks, strict=True)))
            fewests = asked
        return replace(
            self,
            at_seconds=now,
            block_seconds=block,
            replicas=asked,
            below=belows,
            highest=highs,
            fewest=fewests,
            held=held_now,
            blocks=blocks,
            queue=queues,
            late=lates,
            cost=costs,
            age_seconds=self.age_seconds + passed,
            answered=self.answered * fading + weight,
            usual_rps=usual,
        )

    def late_shares(self, cold_start_seconds: float) -> Values:
        """Return the share of late requests of each candidate, the prior's traffic among it."""
        tenfold = _PRIOR_DEVIATIONS + _PRIOR_PER_ROOT_SECOND * math.sqrt(max(0.0, cold_start_seconds))
        prior = _PRIOR_LATE * PRIOR_SECONDS
        answered = self.answered + PRIOR_SECONDS
        return tuple(
            (late + prior * 10.0 ** (-deviations / tenfold)) / answered
            for deviations, late in zip(CANDIDATES, self.late, strict=True)
        )

    def chosen(self, aim: float, cold_start_seconds: float, worth: float) -> float:
        """Return the least deviations that keep the late share within ``aim``, at a fair price: a share of
        late requests fewer is worth ``worth`` times that share of the fleet, and no more.
        """
        late = self.late_shares(cold_start_seconds)
        within = next((place for place, share in enumerate(late) if share <= aim), len(late))
        place = 0
        while place < within:
            here, best, price = max(self.cost[place], 1e-9), place, math.inf
            for other in range(place + 1, len(late)):
                fewer_late = late[place] - late[other]
                if fewer_late > 1e-9 and (self.cost[other] - here) / here / fewer_late < price:
                    best, price = other, (self.cost[other] - here) / here / fewer_late
            if price > worth:
                break
            place = best
        return CANDIDATES[min(place, within)]
