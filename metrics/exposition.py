"""The metrics page of one process: the groups that it touches, in a registry of their own.

A process exposes only the groups it touches, so that an extender never shows an autoscaler's zeros.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.process_collector import ProcessCollector

from metrics import process_names
from metrics.autoscaler_group import AutoscalerMetrics
from metrics.groups import (
    BatchMetrics,
    DeviceOrderMetrics,
    DoorMetrics,
    ExtenderMetrics,
    FleetMetrics,
    LeaderMetrics,
    NodeAdviceMetrics,
    NodeMetrics,
    PlannerMetrics,
    PolicyMetrics,
    PriceMetrics,
    RepackMetrics,
    SourceMetrics,
    WarmMetrics,
    WatchMetrics,
)
from metrics.instruments import gauge

_Group = TypeVar("_Group")


class Exposition:
    """The metrics of one process. Touch the groups it has (``exposition.extender``, ...) while composing it;
    ``render`` gives the page for ``/metrics``. Safe to use from several threads.
    """

    def __init__(self, component: str, version: str, revision: str = "unknown") -> None:
        self.registry = CollectorRegistry()
        self._lock = threading.Lock()
        self._groups: dict[type, object] = {}
        gauge(self.registry, process_names.BUILD_INFO).labels(component, version, revision).set(1)
        ProcessCollector(registry=self.registry)

    def _group(self, make: Callable[[CollectorRegistry], _Group]) -> _Group:
        kind: type = make  # type: ignore[assignment]
        with self._lock:
            group = self._groups.get(kind)
            if group is None:
                group = self._groups[kind] = make(self.registry)
            return group  # type: ignore[return-value]

    @property
    def extender(self) -> ExtenderMetrics:
        return self._group(ExtenderMetrics)

    @property
    def fleet(self) -> FleetMetrics:
        return self._group(FleetMetrics)

    @property
    def prices(self) -> PriceMetrics:
        return self._group(PriceMetrics)

    @property
    def watches(self) -> WatchMetrics:
        return self._group(WatchMetrics)

    @property
    def policy(self) -> PolicyMetrics:
        return self._group(PolicyMetrics)

    @property
    def leader(self) -> LeaderMetrics:
        return self._group(LeaderMetrics)

    @property
    def planner(self) -> PlannerMetrics:
        return self._group(PlannerMetrics)

    @property
    def repack(self) -> RepackMetrics:
        return self._group(RepackMetrics)

    @property
    def device_order(self) -> DeviceOrderMetrics:
        return self._group(DeviceOrderMetrics)

    @property
    def batch(self) -> BatchMetrics:
        return self._group(BatchMetrics)

    @property
    def doors(self) -> DoorMetrics:
        return self._group(DoorMetrics)

    @property
    def node_advice(self) -> NodeAdviceMetrics:
        return self._group(NodeAdviceMetrics)

    @property
    def warm(self) -> WarmMetrics:
        return self._group(WarmMetrics)

    @property
    def node(self) -> NodeMetrics:
        return self._group(NodeMetrics)

    @property
    def autoscaler(self) -> AutoscalerMetrics:
        return self._group(AutoscalerMetrics)

    @property
    def sources(self) -> SourceMetrics:
        return self._group(SourceMetrics)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The page and its content type. ``accept`` is the scraper's Accept header (OpenMetrics when it asks
        for it).
        """
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type
