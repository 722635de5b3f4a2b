"""Tells the scheduler which pods are likely to come: ConfigMap ``slicewise-forecast``, read by
``scheduler.forecasts``.

Twice a minute the leader puts what it expects of every workload (``coming_replicas``) into classes of GPU
demand, those of its replicas (``replica_shape``). It writes their sums when one has changed by more than a
tenth of a replica, or they are half out of date; a forecast that nobody renews ends by itself. What a replica
asks for is read once a revision, at most ``MOST_READ`` workloads a turn, so a thousand workloads do not come
down on the API server at once: in rotation, since templates of workloads without pods are read again and
again. What is not read yet is left out, and so is what cannot be counted in pods.

A failure costs foresight and nothing else: it is said once and tried again. Decides nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from autoscaler.coming_replicas import coming_replicas
from autoscaler.controller import Policies
from autoscaler.pod_index import PodIndex
from autoscaler.ports import ScaleReads
from autoscaler.replica_shape import ReplicaShapes
from autoscaler.targets import Target, TargetRefused
from autoscaler.view import View
from cluster.api_errors import ApiError
from cluster.client import Api
from cluster.kept_map import Keeper, KeptMap
from cluster.periodic import Periodic
from metrics.samples import NoData
from scheduler.decider import Decider
from scheduler.packing.forecast import (
    FORECAST_CONFIG_MAP,
    VALID_UNTIL_ANNOTATION,
    Forecast,
    write_forecasts,
)
from scheduler.packing.mix import classes_of

log = logging.getLogger(__name__)

PERIOD_SECONDS: Final = 30.0
VALID_SECONDS: Final = 300.0
MOST_READ: Final = 50
_SAME: Final = 0.1

Forecasts = Mapping[str, Forecast]


class ForecastWriter(Periodic):
    """Owns the thread; ``turn`` is called by it, and by tests."""

    def __init__(
        self,
        api: Api,
        namespace: str,
        policies: Callable[[], Policies],
        views: Callable[[], Iterable[View]],
        scales: ScaleReads,
        pods: PodIndex,
        shapes: ReplicaShapes,
        decider: Decider,
        *,
        active: Callable[[], bool],
        period_seconds: float = PERIOD_SECONDS,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """``views``: the newest decisions; ``active``: whether this process leads and may write."""
        super().__init__("forecast", self.turn, period_seconds, if_failed="forecast: a turn failed")
        kept = KeptMap(api, namespace, FORECAST_CONFIG_MAP, "forecast")
        self._keeper = Keeper(kept, "prices do without what is foreseen")
        self._active = active
        self._policies, self._views, self._scales, self._pods = policies, views, scales, pods
        self._shapes, self._decider, self._wall_clock = shapes, decider, wall_clock
        self._written: Forecasts = {}
        self._until = 0.0
        self._last_read = ""
        self._left_out = 0

    def turn(self) -> None:
        """Write if the forecast has changed, or would soon end."""
        if not self._active():
            self._until = 0.0
            return
        wanted, now = self.expected(), self._wall_clock()
        if self._until - now > VALID_SECONDS / 2.0 and not differ(self._written, wanted):
            return
        until = now + VALID_SECONDS
        data, left_out = write_forecasts(wanted)
        if left_out and not self._left_out:
            log.warning("forecast: no room in ConfigMap %s for %d classes", FORECAST_CONFIG_MAP, left_out)
        self._left_out = left_out
        if self._keeper.replace(data, {VALID_UNTIL_ANNOTATION: f"{until:.0f}"}):
            self._written, self._until = wanted, until

    def expected(self) -> Forecasts:
        """What is coming of all workloads, by class of demand."""
        policies = {Target.of(policy, key[0]): policy for key, policy in self._policies().items()}
        coming: dict[Target, Forecast] = {}
        for view in self._views():
            policy = policies.get(view.target)
            if policy is not None:
                forecast = coming_replicas(policy, view.signals, view.decision)
                if forecast.mean > 0.0 or forecast.spread > 0.0:
                    coming[view.target] = forecast
        self._read_shapes(coming)
        with self._decider.fleet.lock:
            shapes = {target: self._shapes.shape(target) for target in coming}
        found: dict[str, Forecast] = {}
        for target, forecast in coming.items():
            shape = shapes[target]
            if isinstance(shape, NoData):
                continue
            for name, count in classes_of(shape.demand).items():
                more = Forecast(count * forecast.mean, count * forecast.spread)
                found[name] = found.get(name, Forecast(0.0)) + more
        return found

    def _read_shapes(self, targets: Iterable[Target]) -> None:
        due = []
        for target in targets:
            try:
                sight = self._scales.read(target)
            except (TargetRefused, ApiError):
                continue  # the controller says so at each round
            pods = self._pods.staying(target.namespace, sight.selector)
            if self._shapes.wants_reading(sight, pods):
                due.append((str(target), sight, pods))
        # From the one behind the last that was read, round to it again.
        due.sort(key=lambda one: (one[0] <= self._last_read, one[0]))
        for name, sight, pods in due[:MOST_READ]:
            self._shapes.read(sight, pods)
            self._last_read = name


def differ(one: Forecasts, other: Forecasts) -> bool:
    """Whether two forecasts are so far apart that prices could follow: a tenth of a replica."""
    if one.keys() != other.keys():
        return True
    return any(
        abs(one[name].mean - other[name].mean) > _SAME or abs(one[name].spread - other[name].spread) > _SAME
        for name in one
    )
