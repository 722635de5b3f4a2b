"""Keeps what was learned of grids and jobs over restarts: ConfigMap ``slicewise-batch-memory``.

Two keys of JSON in one text: ``grids`` (``history``) and ``jobs`` (``durations``), with the time up to
which ended jobs have been learned from. Read when this process begins to lead, written at most every ten
minutes, when it has changed and never before it was read. Losing it costs a day of forecasts and some
margins, so no failure here stops a release.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import msgspec

from autoscaler.batch.durations import Durations
from autoscaler.batch.history import GridHistory
from cluster.client import Api
from cluster.kept_map import Keeper, KeptMap

CONFIG_MAP: Final = "slicewise-batch-memory"
KEY: Final = "memory.json"
PERIOD_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class Learned:
    """What is known; ``learned_until_seconds``: the newest end of a job that was learned from."""

    grids: GridHistory = field(default_factory=GridHistory)
    jobs: Durations = field(default_factory=Durations)
    learned_until_seconds: float = 0.0


class _Text(msgspec.Struct):
    grids: str = "{}"
    jobs: str = "{}"
    learned_until: float = 0.0


def as_text(learned: Learned) -> str:
    """The text to keep."""
    text = _Text(learned.grids.remembered(), learned.jobs.remembered(), learned.learned_until_seconds)
    return msgspec.json.encode(text).decode()


def from_text(text: str) -> Learned:
    """What ``as_text`` kept. Raises ValueError for anything else."""
    read = msgspec.json.decode(text.encode(), type=_Text)
    return Learned(GridHistory.recalled(read.grids), Durations.recalled(read.jobs), read.learned_until)


class BatchMemory:
    """Used by the loop's thread alone."""

    def __init__(
        self,
        api: Api,
        namespace: str,
        *,
        period_seconds: float = PERIOD_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        kept = KeptMap(api, namespace, CONFIG_MAP, "batch-memory")
        self._keeper = Keeper(kept, "batch learns anew")
        self._period_seconds, self._clock = period_seconds, clock
        self._written: str | None = None
        self._next_write = 0.0

    def read(self) -> Learned | None:
        """What was kept; nothing where that makes no sense, None while it cannot be read; both are said."""
        data = self._keeper.read()
        if data is None:
            return None
        self._written = data.get(KEY) or "{}"
        try:
            return from_text(self._written)
        except ValueError as problem:
            self._keeper.refuse(problem)
            return Learned()

    def keep(self, learned: Learned) -> None:
        """Write, if it is time and something changed."""
        if self._clock() < self._next_write:
            return
        self._next_write = self._clock() + self._period_seconds
        text = as_text(learned)
        if text != self._written and self._keeper.write({KEY: text}):
            self._written = text
