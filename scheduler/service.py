"""The extender put together: fleet, price loop, carbon board, decider and web application, over any source of
state.

``from_snapshot`` fills the fleet from a file and serves it with no cluster; ``scheduler.live`` fills it from
watches. Everything the process reads from outside comes in through ``Sources``; the parts themselves are
given functions.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from starlette.types import ASGIApp

from cluster.periodic import Gate
from cluster.policy import ClusterPolicy, PolicyRefused, Problem, load_cluster_policy
from cluster.version import installed_version
from metrics.carbon.board import CarbonBoard
from metrics.carbon.build import CarbonMisconfigured, build
from metrics.carbon.intensity import CarbonProvider, Intensity
from metrics.exposition import Exposition
from metrics.interference import NOTHING_LEARNED, Estimate, Pair
from metrics.samples import NoData
from scheduler.arrivals import ArrivalBook
from scheduler.conditions import read_conditions
from scheduler.decider import Decider
from scheduler.extender.app import create_app
from scheduler.extender.verbs import Binder, Preemptor
from scheduler.fleet import Fleet
from scheduler.interference_loop import InterferenceLoop, Source
from scheduler.node_classes import classifier_of
from scheduler.packing.forecast import Forecast
from scheduler.packing.prices import PriceTables
from scheduler.price_loop import PriceLoop, Round
from scheduler.scoring.interference import concerns
from scheduler.snapshot import Snapshot, load

log = logging.getLogger(__name__)

COMPONENT = "slicewise-scheduler"
STOP_SECONDS = 10.0
_OFFLINE_PROVIDERS = frozenset({"static", "file"})


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the state comes from. ``parts``: what /readyz waits for besides the prices, by name; all of them
    must hold before the fleet is judged. ``age_seconds``: since the state was last confirmed, None before the
    first time. ``forecast``: requests on their way by class name, empty where nobody foresees any.
    """

    policy: Callable[[], ClusterPolicy]
    parts: Callable[[], Mapping[str, bool]]
    age_seconds: Callable[[], float | None]
    carbon: Mapping[str, Intensity]
    forecast: Callable[[], Mapping[str, Forecast]] = dict


class Service:
    """All parts of one process. ``start`` the threads, serve ``web``, ``stop`` the threads."""

    def __init__(
        self,
        fleet: Fleet,
        sources: Sources,
        *,
        provider: CarbonProvider | None,
        exposition: Exposition | None = None,
        price_period_seconds: float = 5.0,
        prometheus: Source | None = None,
    ) -> None:
        """``prometheus``: where slowdowns between neighbours are learned from; None leaves the declared
        ones.
        """
        self.fleet = fleet
        self.exposition = exposition or Exposition(COMPONENT, installed_version())
        self._sources = sources
        self.other_zones: set[str] = set()  # grid zones where nodes may come to stand
        self.board = CarbonBoard(
            provider,
            lambda: {*fleet.zones_in_use(), *tuple(self.other_zones)},
            time.time,
            observer=self._saw_intensity,
        )
        arrivals = ArrivalBook()
        self.prices = PriceLoop(
            lambda: read_conditions(fleet, sources.policy(), sources.forecast(), time.time(), arrivals),
            clock=time.monotonic,
            published=self._published,
            finished=self._finished,
            period_seconds=price_period_seconds,
        )
        self._learning = (
            InterferenceLoop(fleet, sources.policy, prometheus, clock=time.time, published=self._slowed)
            if prometheus is not None
            else None
        )
        self.decider = Decider(
            fleet, sources.policy, self.prices.current, self.carbon, time.time, self._slowdowns
        )
        self.preemptor: Preemptor | None = None
        self._expose()

    def yield_to(self, gate: Gate) -> None:
        """Learn slowdowns only while ``gate`` is open. Before ``start``."""
        if self._learning is not None:
            self._learning.yield_to(gate)

    def web(self, draining: Callable[[], bool], binder: Binder | None = None) -> ASGIApp:
        """The extender's web application; ``draining`` turns true when the process is about to stop."""
        return create_app(
            self.decider,
            exposition=self.exposition,
            ready=self.ready,
            synced=self.synced,
            max_body_bytes=lambda: self._sources.policy().extender.max_body_bytes,
            draining=draining,
            binder=binder,
            preemptor=self.preemptor,
        )

    def synced(self) -> bool:
        """Whether the fleet may be judged."""
        return all(self._sources.parts().values())

    def ready(self) -> Mapping[str, bool]:
        """What /readyz waits for, by name."""
        return {**self._sources.parts(), "prices": self.prices.priced()}

    def prepare(self) -> None:
        """Compute prices once, now: all that a single question needs."""
        self.fleet.classify(classifier_of(self._sources.policy()))
        self.board.refresh()
        self.prices.step()

    def start(self) -> None:
        """Start pricing. The first prices are computed before this returns, so that no pod is judged
        without.
        """
        self.prepare()
        self.board.start()
        self.prices.start()
        if self._learning is not None:
            self._learning.start()

    def stop(self) -> None:
        """Stop the threads."""
        if self._learning is not None:
            self._learning.stop(STOP_SECONDS)
        self.prices.stop(STOP_SECONDS)
        self.board.stop()

    def policy_changed(self, policy: ClusterPolicy) -> None:
        """Let a new policy take effect at once, off the request path."""
        self.fleet.classify(classifier_of(policy))
        self.fleet.watch_neighbours(concerns(policy, self._slowdowns()))
        self.prices.nudge()
        self.decider.refresh()

    def carbon(self) -> Mapping[str, Intensity]:
        fixed = self._sources.carbon
        return {**fixed, **self.board.current()} if fixed else self.board.current()

    def _slowdowns(self) -> Mapping[Pair, float]:
        return NOTHING_LEARNED if self._learning is None else self._learning.learned()

    def _slowed(self, estimates: Mapping[Pair, Estimate]) -> None:
        gauge = self.exposition.prices.interference_slowdown_ratio
        gauge.clear()
        for pair, estimate in estimates.items():
            gauge.labels(*pair).set(estimate.slowdown)
        self.fleet.watch_neighbours(concerns(self._sources.policy(), self._slowdowns()))
        self.decider.refresh()

    def _published(self, tables: PriceTables) -> None:
        self.decider.refresh()

    def _finished(self, done: Round) -> None:
        prices = self.exposition.prices
        prices.solves.labels(done.status).inc()
        prices.solve_duration_seconds.observe(done.duration_seconds)
        self.fleet.expire(time.time())

    def _saw_intensity(self, zone: str, answer: Intensity | NoData) -> None:
        sources = self.exposition.sources
        if isinstance(answer, NoData):
            sources.carbon_fetches.labels(answer.cause).inc()
            return
        sources.carbon_fetches.labels("data").inc()
        sources.carbon_intensity.labels(zone, answer.source, answer.kind).set(answer.grams_per_kwh)

    def _expose(self) -> None:
        exposition, fleet = self.exposition, self.fleet
        exposition.prices.age_seconds.set_function(lambda: _or_nan(self.prices.age_seconds()))
        exposition.fleet.snapshot_age_seconds.set_function(lambda: _or_nan(self._sources.age_seconds()))
        exposition.fleet.nodes.set_function(lambda: float((fleet.view().gpu_count > 0).sum()))
        exposition.fleet.reservations.set_function(lambda: float(len(fleet.facts.reservations)))


def from_snapshot(snapshot: Snapshot, where: str) -> Service:
    """A service over a snapshot, with no cluster. Raises SnapshotRefused, PolicyRefused."""
    policy = load_cluster_policy(snapshot.policy, where) if snapshot.policy.strip() else ClusterPolicy()
    # A replay asks no web service: what was not recorded, and is no file or table, is absent.
    provider = carbon_provider(policy, where) if policy.carbon.provider in _OFFLINE_PROVIDERS else None
    fleet = Fleet()
    load(snapshot, fleet, where)
    loaded_at = time.monotonic()
    sources = Sources(
        policy=lambda: policy,
        parts=lambda: {"fleet": True, "policy": True},
        age_seconds=lambda: time.monotonic() - loaded_at,
        carbon=snapshot.carbon,
    )
    return Service(fleet, sources, provider=provider)


def carbon_provider(
    policy: ClusterPolicy, where: str, started_at_seconds: float | None = None
) -> CarbonProvider | None:
    """The provider that a policy names. Raises PolicyRefused."""
    try:
        return build(policy.carbon, started_at_seconds)
    except CarbonMisconfigured as error:
        problem = Problem("carbon", policy.carbon.provider, "a provider that can be built", str(error))
        raise PolicyRefused(where, [problem]) from error


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
