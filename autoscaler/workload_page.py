"""What the autoscaler makes of each workload, for people: ConfigMap ``slicewise-workloads``.

There is no custom resource that could carry a status, and a target's own status belongs to its controller; so
the leader keeps one JSON text, ``workloads.json``, which ``kubectl slicewise workloads`` prints:

    {"writtenAt": "2026-11-21T19:00:00Z", "workloads": [{"namespace", "kind", "name", "current", ...}]}

Written when something but the wording of a reason has changed, every ``LONGEST_SECONDS`` all the same (so
that its age shows whether anybody leads), and never more often than every ``PERIOD_SECONDS``. Of many
workloads some row always changes, and etcd keeps each version for a while: a large page is therefore written
less often, ``BYTES_A_SECOND`` in the mean. Sentences are cut, so that 1,000 workloads stay far below the API
server's limit of 1 MiB. A failed write is told once and tried again; nothing depends on the page.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from autoscaler.placeable import NodeRequest
from autoscaler.view import View
from cluster.client import Api
from cluster.kept_map import Keeper, KeptMap
from cluster.periodic import Periodic
from cluster.times import rfc3339
from metrics.samples import NoData

CONFIG_MAP: Final = "slicewise-workloads"
KEY: Final = "workloads.json"
PERIOD_SECONDS: Final = 5.0
LONGEST_SECONDS: Final = 60.0
BYTES_A_SECOND: Final = 16 * 2**10
_LONGEST_SENTENCE: Final = 240


class Row(msgspec.Struct, rename="camel", frozen=True):
    """One workload. ``placeable`` is None where nobody asked or could tell; ``unplaceable`` replicas are
    wanted and find no room; ``headroom`` is the spare share that the load was given.
    """

    namespace: str
    api_version: str
    kind: str
    name: str
    current: int
    desired: int
    ready: int
    placeable: int | None = None
    unplaceable: int = 0
    headroom: float = 0.0
    reason: str = ""
    sentence: str = ""


class Page(msgspec.Struct, rename="camel", frozen=True):
    """All workloads, and when that was."""

    written_at: str = ""
    workloads: tuple[Row, ...] = ()


def rows(views: Sequence[View], requests: Sequence[NodeRequest]) -> tuple[Row, ...]:
    """The rows of the page, by namespace, kind and name."""
    lacking = {request.target: request.replicas for request in requests}
    found = []
    for view in views:
        target, seen, first = view.target, view.signals, view.decision.reasons[0]
        found.append(
            Row(
                namespace=target.namespace,
                api_version=target.api_version,
                kind=target.kind,
                name=target.name,
                current=seen.current,
                desired=view.decision.replicas,
                ready=seen.ready,
                placeable=None if isinstance(seen.placeable, NoData) else seen.placeable,
                unplaceable=lacking.get(target, 0),
                headroom=round(view.decision.state.headroom, 2),
                reason=first.code,
                sentence=_cut(first.sentence),
            )
        )
    return tuple(sorted(found, key=lambda row: (row.namespace, row.kind, row.name)))


class WorkloadPage(Periodic):
    """Keeps the ConfigMap while this process leads."""

    def __init__(
        self,
        api: Api,
        namespace: str,
        current: Callable[[], tuple[Row, ...]],
        *,
        active: Callable[[], bool],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``current``: the rows as they are now; ``active``: whether to write at all; ``clock``: Unix
        time.
        """
        kept = KeptMap(api, namespace, CONFIG_MAP, "autoscaler")
        self._keeper = Keeper(kept, "the page of the workloads grows old")
        self._current, self._active, self._clock = current, active, clock
        self._last: tuple[float, tuple[Row, ...]] | None = None
        self._not_before = 0.0
        super().__init__(
            "workload-page",
            self.step,
            PERIOD_SECONDS,
            if_failed="the page of the workloads was not written; it is tried again",
        )

    def step(self) -> None:
        """Write the page if it is due."""
        if not self._active():
            self._last = None
            return
        now = self._clock()
        if self._last is not None and self._last[0] <= now < self._not_before:
            return
        found = self._current()
        if self._last is not None and now - self._last[0] < LONGEST_SECONDS and _same(self._last[1], found):
            return
        written = rfc3339(now)
        text = msgspec.json.encode(Page(written, found)).decode()
        if self._keeper.write({KEY: text}):
            self._last = (now, found)
            self._not_before = now + min(LONGEST_SECONDS, len(text) // BYTES_A_SECOND)


def _same(before: Sequence[Row], now: Sequence[Row]) -> bool:
    """Whether nothing but the wording of reasons has changed."""

    def bare(found: Sequence[Row]) -> list[Row]:
        return [msgspec.structs.replace(row, sentence="", headroom=round(row.headroom, 1)) for row in found]

    return bare(before) == bare(now)


def _cut(sentence: str) -> str:
    return sentence if len(sentence) <= _LONGEST_SENTENCE else f"{sentence[: _LONGEST_SENTENCE - 1]}…"
