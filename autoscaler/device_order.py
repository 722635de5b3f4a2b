"""Tells the nodes' drivers which MIG placement to publish first: ConfigMap ``slicewise-device-order``.

The price loop's value tables (``PriceTables.mig``) are written as ``dra.device_order`` has them. A write
makes every driver look at its GPUs again, so there is one at most every ``PERIOD_SECONDS``, and only when the
order of the places that fit changes for some state of some card, or a profile is newly expected. What a model
was told last stays when no demand for it is left: a stale order is better than none. Works only while this
process leads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from cluster.api_errors import ApiError
from cluster.client import Api
from cluster.kept_map import KeptMap
from cluster.periodic import Periodic
from dra.catalog import GpuModel, models
from dra.device_order import (
    CONFIG_MAP,
    KEY,
    OrderRefused,
    OrderTable,
    order_table,
    parse_tables,
    render_tables,
    same_order,
)
from scheduler.packing.prices import PriceTables

log = logging.getLogger(__name__)

PERIOD_SECONDS = 30.0


class OrderObserver(Protocol):
    """What the writer tells the outside; metrics and Events hang here."""

    def written(self, changed: tuple[str, ...]) -> None:
        """The ConfigMap was written because the order of these models changed."""

    def refused(self, problem: str) -> None:
        """It could not be read or written; tried again a period later."""


class DeviceOrderWriter(Periodic):
    """Owns the thread; ``turn`` is called by it, and by tests."""

    def __init__(
        self,
        api: Api,
        namespace: str,
        tables: Callable[[], PriceTables],
        *,
        active: Callable[[], bool],
        observer: OrderObserver,
        period_seconds: float = PERIOD_SECONDS,
        catalogue: Mapping[str, GpuModel] | None = None,
    ) -> None:
        """``namespace``: where the ConfigMap is; ``tables``: those in force."""
        super().__init__("device-order", self.turn, period_seconds, if_failed="device order: a turn failed")
        self._kept = KeptMap(api, namespace, CONFIG_MAP, "device-order")
        self._tables, self._active, self._observer = tables, active, observer
        self._models = models() if catalogue is None else catalogue
        self._known: Mapping[str, OrderTable] | None = None
        self._version = 0

    def turn(self) -> None:
        """Write if the order has changed since the ConfigMap was written."""
        if not self._active():
            self._known = None
            return
        tables = self._tables()
        if self._known is not None and tables.version == self._version:
            return
        wanted = {
            name: order_table(shape.tolist(), tables.mig_asked.get(name))
            for name, shape in tables.mig.items()
        }
        try:
            known = self._read() if self._known is None else self._known
            changed = tuple(
                name for name, table in sorted(wanted.items()) if self._differs(name, known.get(name), table)
            )
            if changed:
                self._write({**known, **{name: wanted[name] for name in changed}})
                known = {**known, **{name: wanted[name] for name in changed}}
        except ApiError as problem:
            # Who knows what is there now.
            self._known = None
            self._observer.refused(str(problem))
            return
        self._known, self._version = known, tables.version
        if changed:
            self._observer.written(changed)

    def _differs(self, name: str, known: OrderTable | None, wanted: OrderTable) -> bool:
        model = self._models.get(name)
        if known is None or model is None or not same_order(model, known, wanted):
            return True
        return wanted.expected is not None and not wanted.expected <= (known.expected or frozenset())

    def _read(self) -> Mapping[str, OrderTable]:
        data = self._kept.read()
        if data is None:
            return {}
        try:
            return parse_tables(data.get(KEY, ""))
        except OrderRefused as problem:
            log.warning("device order: %s; it is written anew", problem)
            return {}

    def _write(self, tables: Mapping[str, OrderTable]) -> None:
        self._kept.write({KEY: render_tables(tables)})
