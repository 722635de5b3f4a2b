"""What the autoscaler foresees, as the scheduler reads it: the ConfigMap ``slicewise-forecast``, watched.

Text and meaning are those of ``packing.forecast``. Absent (no controller, or an older one), ended or
unreadable means NoData: prices then rest on what runs and waits. Nothing waits for this watch: a scheduler
without forecasts is ready.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence

from cluster.client import Api
from cluster.reflector import Reflector
from cluster.wire import ConfigMap
from metrics.samples import NoData
from scheduler.packing.forecast import (
    FORECAST_CONFIG_MAP,
    VALID_UNTIL_ANNOTATION,
    Forecast,
    read_forecasts,
    still_valid,
)

log = logging.getLogger(__name__)

_ABSENT = NoData(f"no ConfigMap {FORECAST_CONFIG_MAP}: the controller has written no forecast", "empty")


class ForecastBook:
    """The last forecasts told; a handler for the reflector of one ConfigMap."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """``clock``: Unix seconds."""
        self._clock = clock
        self._told: tuple[Mapping[str, Forecast], str | None] | None = None

    def current(self) -> Mapping[str, Forecast] | NoData:
        """Requests on their way by class name."""
        told = self._told
        if told is None:
            return _ABSENT
        found, valid_until = told
        return still_valid(valid_until, self._clock()) or found

    def known(self) -> Mapping[str, Forecast]:
        """The same, nothing where there is no data."""
        found = self.current()
        return {} if isinstance(found, NoData) else found

    def replaced(self, items: Sequence[ConfigMap]) -> None:
        """The complete state (called by the reflector)."""
        self._told = None
        for item in items:
            self._take(item)

    def changed(self, kind: str, item: ConfigMap) -> None:
        """One change (called by the reflector)."""
        if kind == "DELETED":
            self._told = None
        else:
            self._take(item)

    def _take(self, item: ConfigMap) -> None:
        found, problems = read_forecasts(item.data)
        for problem in problems[:3]:
            log.warning("ConfigMap %s: %s; left out", item.metadata.name, problem)
        self._told = (found, item.metadata.annotations.get(VALID_UNTIL_ANNOTATION))


def forecast_reflector(api: Api, namespace: str, book: ForecastBook) -> Reflector[ConfigMap]:
    """The watch that keeps ``book`` true; to be started and stopped by the caller."""
    return Reflector(
        api,
        f"/api/v1/namespaces/{namespace}/configmaps",
        ConfigMap,
        book,
        field_selector=f"metadata.name={FORECAST_CONFIG_MAP}",
    )
