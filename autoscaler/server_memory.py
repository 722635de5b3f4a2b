"""Which model server each workload runs, where its policy does not say: recognised once, remembered.

A workload runs what most of its pods show (``metrics.servers.detect``, or their own pages where Prometheus
does not know them); between equals the order of the registry decides. Marks of a proxy count where neither
shows any other: Prometheus may scrape the sidecar of every pod and the server of none. What was recognised
stands until other pods have come and show something else: pods that nobody has scraped yet, and a Prometheus
that is away, change nothing. Pure bookkeeping: no clock, nothing is fetched.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from autoscaler.targets import Target
from metrics.servers import PRESETS, ServerPreset
from metrics.servers.detect import Detected, PodKey

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Known:
    """What a workload runs, and the pods that it was recognised by."""

    preset: ServerPreset
    pods: frozenset[PodKey]


class ServerMemory:
    """Servers by workload."""

    def __init__(self) -> None:
        self._known: dict[Target, _Known] = {}

    def preset_of(self, target: Target) -> ServerPreset | None:
        """The server of ``target``; None while it was not recognised."""
        known = self._known.get(target)
        return None if known is None else known.preset

    def wants(self, target: Target, pods: Sequence[PodKey]) -> bool:
        """Whether ``target`` is to be looked at: it is not known, or by its proxies only, or has pods that
        were not there then.
        """
        known = self._known.get(target)
        if known is None or known.preset.only_the_door:
            return bool(pods)
        return not known.pods.issuperset(pods)

    def look(
        self,
        target: Target,
        pods: Sequence[PodKey],
        found: Mapping[PodKey, Detected],
        on_pages: ServerPreset | None,
    ) -> None:
        """Recognise ``target`` by ``found`` (of all pods of the cluster), else by what its own pages show."""
        votes = Counter(found[pod].server for pod in pods if pod in found)
        inside = Counter({name: count for name, count in votes.items() if not PRESETS[name].only_the_door})
        if not inside and on_pages is not None and not on_pages.only_the_door:
            votes, preset = Counter(), on_pages
        elif votes:
            votes = inside or votes
            most = max(votes.values())
            preset = next(preset for name, preset in PRESETS.items() if votes.get(name) == most)
        elif on_pages is not None:
            preset = on_pages
        else:
            return
        before = self.preset_of(target)
        if before is None or before.name != preset.name:
            log.info("%s runs %s, by what its pods export", target, preset.name)
        seen = pods if not votes else [pod for pod in pods if pod in found]
        self._known[target] = _Known(preset, frozenset(seen))

    def keep(self, targets: Collection[Target]) -> None:
        """Forget all others."""
        self._known = {target: known for target, known in self._known.items() if target in targets}
