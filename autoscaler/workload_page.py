"""What the autoscaler makes of each workload, for people: ConfigMap ``slicewise-workloads``.

There is no custom resource that could carry a status, and a target's own status belongs to its controller; so
the leader keeps one JSON text, ``workloads.json``, which ``kubectl slicewise workloads`` prints:

    {"writtenAt": "2026-11-21T19:00:00Z", "workloads": [{"namespace", "kind", "name", "current", ...}]}

Of more than some thousand workloads it goes on in ``slicewise-workloads-1`` and so on
(``cluster.spread_texts``), each a text of that form with workloads of its own and without the time.

Written when something but the wording of a reason has changed, every ``LONGEST_SECONDS`` all the same (so
that its age shows whether anybody leads), and never more often than every ``PERIOD_SECONDS``. Of many
workloads some row always changes, and etcd keeps each version for a while: a large page is therefore written
less often, ``BYTES_A_SECOND`` in the mean up to a thousand workloads. Every ``HEALING_SECONDS`` all of its
ConfigMaps are, changed or not, in case somebody deleted one. Sentences are cut. A failed write is told once
and tried again; nothing depends on the page.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from autoscaler.placeable import NodeRequest
from autoscaler.view import View
from cluster.client import Api
from cluster.numbered_maps import Found
from cluster.periodic import Periodic
from cluster.spread_texts import Form, SpreadTexts
from cluster.times import rfc3339
from metrics.samples import NoData

CONFIG_MAP: Final = "slicewise-workloads"
KEY: Final = "workloads.json"
PERIOD_SECONDS: Final = 5.0
LONGEST_SECONDS: Final = 60.0
HEALING_SECONDS: Final = 600.0
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
    """Workloads, and when that was: of all, or those of one ConfigMap, of which the first has the time."""

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
    return tuple(sorted(found, key=_place))


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
        self._texts = SpreadTexts(
            api, namespace, CONFIG_MAP, _FORM, "autoscaler", "the page of the workloads grows old"
        )
        self._current, self._active, self._clock = current, active, clock
        self._last: tuple[float, tuple[Row, ...]] | None = None
        self._read = False
        self._tried_at = self._not_before = self._heal_at = 0.0
        super().__init__(
            "workload-page",
            self.step,
            PERIOD_SECONDS,
            if_failed="the page of the workloads was not written; it is tried again",
        )

    def step(self) -> None:
        """Write the page if it is due."""
        if not self._active():
            self._last, self._read, self._not_before = None, False, 0.0
            return
        now = self._clock()
        if self._tried_at <= now < self._not_before:
            return
        found = self._current()
        if self._last is not None and now - self._last[0] < LONGEST_SECONDS and _same(self._last[1], found):
            return
        if not self._read:  # how many ConfigMaps it has: whoever led before may have made more of them
            self._read = self._texts.read() is not None
            if not self._read:
                return
            self._heal_at = now
        if now >= self._heal_at:
            self._texts.forget_written()
            self._texts.read_rest()
            self._heal_at = now + HEALING_SECONDS
        if self._texts.write(texts_of(rfc3339(now), found)):
            self._last = (now, found)
        self._tried_at = now
        self._not_before = now + min(LONGEST_SECONDS, self._texts.written_bytes // BYTES_A_SECOND)


def texts_of(written_at: str, found: Sequence[Row]) -> dict[str, str]:
    """What is spread over the ConfigMaps: a text a row, and the time under the empty name."""
    texts = {_name(row): msgspec.json.encode(row).decode() for row in found}
    return {"": written_at, **texts}


def page_of(found: Found) -> Page:
    """The page of all ConfigMaps together. Raises msgspec.DecodeError, a ValueError."""
    pages = [msgspec.json.decode(data.get(KEY, ""), type=Page) for _, data in sorted(found.data.items())]
    # Where a row is found twice, a change of their number was broken off: the later has the newer one.
    every = {_name(row): row for page in pages for row in page.workloads}
    written_at = max((page.written_at for page in pages), default="")
    return Page(written_at, tuple(sorted(every.values(), key=_place)))


def _pack(texts: Mapping[str, str]) -> bytes:
    page: dict[str, object] = {"writtenAt": texts[""]} if "" in texts else {}
    page["workloads"] = [msgspec.Raw(text.encode()) for name, text in texts.items() if name]
    return msgspec.json.encode(page)


def _unpack(text: str) -> dict[str, str]:
    page = msgspec.json.decode(text, type=Page)
    texts = {_name(row): msgspec.json.encode(row).decode() for row in page.workloads}
    return {"": page.written_at, **texts} if page.written_at else texts


_FORM: Final = Form(KEY, _pack, _unpack)


def _name(row: Row) -> str:
    return f"{row.namespace}/{row.api_version}/{row.kind}/{row.name}"


def _place(row: Row) -> tuple[str, str, str]:
    return row.namespace, row.kind, row.name


def _same(before: Sequence[Row], now: Sequence[Row]) -> bool:
    """Whether nothing but the wording of reasons has changed."""

    def bare(found: Sequence[Row]) -> list[Row]:
        return [msgspec.structs.replace(row, sentence="", headroom=round(row.headroom, 1)) for row in found]

    return bare(before) == bare(now)


def _cut(sentence: str) -> str:
    return sentence if len(sentence) <= _LONGEST_SENTENCE else f"{sentence[: _LONGEST_SENTENCE - 1]}…"
