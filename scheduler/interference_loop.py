"""Learn slowdowns between interference classes in the background and publish them by swapping one mapping.

Once a minute: ask Prometheus, read off the fleet who stands beside whom (one node at a time under its lock,
so that requests get through), add the samples, let old ones fade, publish the estimates. A new mapping makes
every cached price stale, so it is published only when a slowdown has moved noticeably. Whatever fails leaves
the last estimates in force; without Prometheus the declared slowdowns stand. Nothing is stored: after a
restart the declared ones hold until enough was seen again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from cluster.periodic import Periodic
from cluster.policy import ClusterPolicy
from metrics.interference import NOTHING_LEARNED, Estimate, Pair, Slowdowns
from metrics.samples import NoData, Vector
from metrics.servers import EVERYTHING, Scope
from metrics.servers.detect import detection_query, present
from scheduler.fleet import Fleet
from scheduler.interference_learning import Standing, queries, samples, standings
from scheduler.neighbours import UNSTATED
from scheduler.occupancy import Holding, occupied
from scheduler.scoring.interference import declared, slowdowns

log = logging.getLogger(__name__)

PERIOD_SECONDS: Final = 60.0
HALF_LIFE_SECONDS: Final = 6 * 3600.0
_NOTICEABLE: Final = 0.01
_SERVERS: Final = "servers"


class Source(Protocol):
    """What is needed of Prometheus."""

    def query_many(self, queries: Mapping[str, str], at: float) -> dict[str, Vector | NoData]:
        """Answer all queries at the same instant, each with a vector or with why there is none."""


class InterferenceLoop(Periodic):
    """The thread, and the slowdowns it last published (``learned``)."""

    def __init__(
        self,
        fleet: Fleet,
        policy: Callable[[], ClusterPolicy],
        source: Source,
        *,
        clock: Callable[[], float],
        published: Callable[[Mapping[Pair, Estimate]], None] = lambda estimates: None,
        scope: Scope = EVERYTHING,
        period_seconds: float = PERIOD_SECONDS,
    ) -> None:
        """``clock``: Unix time. ``published`` is called with the estimates each time they have changed."""
        super().__init__(
            "interference-loop", self.step, period_seconds, if_failed="interference: this round failed"
        )
        self._fleet, self._policy, self._source, self._clock = fleet, policy, source, clock
        self._published = published
        self._scope = scope
        self._sums = Slowdowns()
        self._learned: Mapping[Pair, float] = NOTHING_LEARNED

    def learned(self) -> Mapping[Pair, float]:
        """The slowdowns in force by (what is shared, class, neighbour's class); the same object until they
        change.
        """
        return self._learned

    def step(self) -> None:
        """One round. Never raises."""
        try:
            self._learn()
        except Exception:
            log.exception("interference: this round failed; the last estimates stay in force")

    def _learn(self) -> None:
        policy = self._policy()
        rules = policy.interference
        if not rules.learning.enabled or policy.terms.interference == 0.0:
            self._publish({})
            return
        self.give_way(fresh=True)
        now = self._clock()
        # Sixteen kinds of server are known and one or two run: ask only for those that do.
        marks = self._source.query_many({_SERVERS: detection_query(self._scope)}, now)
        presets = present(marks[_SERVERS], self._scope)
        self.give_way(fresh=True)
        answers = self._source.query_many(queries(self._scope, presets), now)
        self.give_way(fresh=True)
        found = samples(self._standings(policy), answers, self._scope, presets)
        self._sums.decay(0.5 ** (self._period_seconds / HALF_LIFE_SECONDS))
        self._sums.add(found)
        stated = declared(rules)
        learning = rules.learning
        estimates = self._sums.estimates(
            stated, prior_spread=learning.prior_spread, min_samples=learning.min_samples
        )
        places = {where for where, _, _ in stated}
        self._publish({pair: found for pair, found in estimates.items() if not places or pair[0] in places})

    def _standings(self, policy: ClusterPolicy) -> list[Standing]:
        rules, fleet = policy.interference, self._fleet
        places = frozenset(rules.slowdown.declared())
        known = slowdowns(rules, NOTHING_LEARNED)

        def class_of(stated: str | None) -> str:
            if isinstance(known, NoData):
                return stated or rules.default_class or UNSTATED
            return known.class_of(stated)

        found: list[Standing] = []
        for name in list(fleet.rows):
            with fleet.lock:
                layout = fleet.layout(name)
                if layout is None:
                    continue
                holdings: list[Holding] = []
                occupied(layout.inventory, layout.site, fleet.facts, holdings=holdings)
                found += standings(
                    layout.inventory, holdings, layout.shared_gpus, fleet.facts, class_of, places
                )
        return found

    def _publish(self, estimates: Mapping[Pair, Estimate]) -> None:
        fresh = {pair: estimate.slowdown for pair, estimate in estimates.items()}
        old = self._learned
        if fresh.keys() == old.keys() and all(abs(fresh[p] - old[p]) < _NOTICEABLE for p in fresh):
            return
        self._learned = fresh
        self._published(estimates)
