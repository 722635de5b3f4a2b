"""The tables of the device order, as the controller last wrote them; a refused text changes nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from cluster.wire import ConfigMap
from dra.device_order import KEY, OrderRefused, OrderTable, parse_tables

log = logging.getLogger(__name__)


class OrderTables:
    """A reflector's handler for one ConfigMap. ``changed`` is called when other tables are in force."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self.current: Mapping[str, OrderTable] = {}
        self._changed = changed

    def replaced(self, items: Sequence[ConfigMap]) -> None:
        """Take what is there now."""
        if items:
            self._take(items[0])

    def changed(self, kind: str, item: ConfigMap) -> None:
        """Take one change; a deleted ConfigMap leaves the last tables in force."""
        if kind != "DELETED":
            self._take(item)

    def _take(self, item: ConfigMap) -> None:
        try:
            tables = parse_tables((item.data or {}).get(KEY, ""))
        except OrderRefused as problem:
            log.warning("device order kept as it was: %s", problem)
            return
        if tables != self.current:
            self.current = tables
            self._changed()
