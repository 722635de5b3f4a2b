"""Which pod has which GPU under the device plugin, as the nodes report it (``node.podresources_report``).

Without a report the API server says how many GPUs a pod has and never which, so occupancy replays first-fit:
counts are right, indices may not be, and NVLink is priced for GPUs that may not be the free ones. With one,
the GPUs of a pod that it names are known. A report may lag behind its pods by its period: pods that it does
not name yet are replayed on what is left, pods that are gone are not asked for.

Fixed MIG instances stay counts in prices, as the plugin, not the scheduler, chooses among equal ones; who
holds which is in ``report``. Pure; its owner locks.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from cluster.wire import ConfigMap
from node.podresources_report import KEY, DeviceReport, ReportRefused, config_map_name, decode

log = logging.getLogger(__name__)

_PREFIX = config_map_name("")


class ReportedDevices:
    """The newest report of each node."""

    def __init__(self) -> None:
        self._reports: dict[str, DeviceReport] = {}

    def report(self, node: str) -> DeviceReport | None:
        """What the node said, or None."""
        return self._reports.get(node)

    def nodes(self) -> Iterable[str]:
        """The nodes that report."""
        return self._reports.keys()

    def put(self, item: ConfigMap) -> set[str]:
        """Take a report in; the node when it changed. One that cannot be read counts as none."""
        name = _node_of(item.metadata.name)
        if name is None:
            return set()
        try:
            report = decode((item.data or {}).get(KEY, ""))
            if report.node != name:
                raise ReportRefused(f"{KEY}: got a report of node {report.node!r}, expected {name!r}")
        except ReportRefused as problem:
            log.warning("ConfigMap %s is not used: %s", item.metadata.name, problem)
            return self.drop(item.metadata.name)
        if self._reports.get(name) == report:
            return set()
        self._reports[name] = report
        return {name}

    def replace(self, items: Iterable[ConfigMap]) -> set[str]:
        """Take a complete list in: the other reports are gone; the nodes that changed."""
        listed = {item.metadata.name: item for item in items}
        gone = {config_map_name(node) for node in self._reports} - listed.keys()
        changed = [self.drop(name) for name in gone] + [self.put(item) for item in listed.values()]
        return set().union(*changed)

    def drop(self, config_map: str) -> set[str]:
        """Forget a report by its ConfigMap's name."""
        name = _node_of(config_map)
        return {name} if name is not None and self._reports.pop(name, None) is not None else set()

    def whole(self, node: str, gpus: int) -> Mapping[str, int]:
        """Bits of the GPUs that each pod ("namespace/name") has whole.

        ``gpus``: how many the node offers whole; their positions are those of the GPUs out of MIG mode, in
        index order. Empty where the report counts another number: the plugin leaves out sick GPUs, and which
        position is which GPU is then not known.
        """
        report = self._reports.get(node)
        if report is None:
            return {}
        offered = sorted((gpu for gpu in report.gpus if not gpu.mig), key=lambda gpu: gpu.index)
        if len(offered) != gpus:
            return {}
        bits: dict[str, int] = {}
        for position, gpu in enumerate(offered):
            for pod in gpu.held if len(gpu.held) == 1 else ():
                bits[pod] = bits.get(pod, 0) | 1 << position
        return bits


def _node_of(config_map: str) -> str | None:
    return config_map.removeprefix(_PREFIX) if config_map.startswith(_PREFIX) else None
