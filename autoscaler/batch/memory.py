"""Keeps what was learned of grids and jobs over restarts: ConfigMap ``slicewise-batch-memory``.

One JSON object of texts under ``memory.json``: ``zone ZONE`` (``history``), ``family FAMILY`` (the runs of
``durations``), and under the empty name what belongs to all jobs, with the time up to which ended ones have
been learned from. Of thousands of families it goes on in ``slicewise-batch-memory-1`` and so on
(``cluster.spread_texts``). Read when this process begins to lead, written at most every ten minutes, when it
has changed and never before it was read. Losing it costs a day of forecasts and some margins, so no failure
here stops a release.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from autoscaler.batch.durations import Durations
from autoscaler.batch.history import GridHistory
from cluster.client import Api
from cluster.spread_texts import Form, SpreadTexts, json_object

CONFIG_MAP: Final = "slicewise-batch-memory"
KEY: Final = "memory.json"
PERIOD_SECONDS: Final = 600.0

_ZONE: Final = "zone "
_FAMILY: Final = "family "


@dataclass(frozen=True, slots=True)
class Learned:
    """What is known; ``learned_until_seconds``: the newest end of a job that was learned from."""

    grids: GridHistory = field(default_factory=GridHistory)
    jobs: Durations = field(default_factory=Durations)
    learned_until_seconds: float = 0.0


class _Common(msgspec.Struct):
    """What belongs to all jobs."""

    jobs: str = "{}"
    learned_until: float = 0.0


class _OneText(msgspec.Struct, forbid_unknown_fields=True):
    """All of it in one text, as it was kept before each zone and family had its own."""

    grids: str
    jobs: str
    learned_until: float


def as_texts(learned: Learned) -> dict[str, str]:
    """The texts to keep, by name."""
    jobs, families = learned.jobs.remembered()
    common = msgspec.json.encode(_Common(jobs, learned.learned_until_seconds)).decode()
    zones = {f"{_ZONE}{zone}": text for zone, text in learned.grids.remembered().items()}
    return {"": common, **zones, **{f"{_FAMILY}{name}": text for name, text in families.items()}}


def from_texts(texts: Mapping[str, str]) -> Learned:
    """What ``as_texts`` kept. Raises ValueError for anything else."""
    common = msgspec.json.decode(texts.get("", "{}"), type=_Common)
    jobs = Durations.recalled(common.jobs, _of(_FAMILY, texts))
    return Learned(GridHistory.recalled(_of(_ZONE, texts)), jobs, common.learned_until)


def _of(kind: str, texts: Mapping[str, str]) -> dict[str, str]:
    return {name[len(kind) :]: text for name, text in texts.items() if name.startswith(kind)}


def _unpack(text: str) -> Mapping[str, str]:
    """The texts of one ConfigMap. Raises ValueError where they make no sense."""
    try:
        texts = _OBJECT.unpack(text)
    except msgspec.ValidationError:
        one = msgspec.json.decode(text, type=_OneText)
        zones = msgspec.json.decode(one.grids, type=dict[str, msgspec.Raw])
        texts = {f"{_ZONE}{zone}": bytes(raw).decode() for zone, raw in zones.items()}
        texts |= {"": msgspec.json.encode(_Common(one.jobs, one.learned_until)).decode()}
    from_texts(texts)
    return texts


_OBJECT: Final = json_object(KEY)
_FORM: Final = Form(KEY, _OBJECT.pack, _unpack)


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
        self._texts = SpreadTexts(api, namespace, CONFIG_MAP, _FORM, "batch-memory", "batch learns anew")
        self._period_seconds, self._clock = period_seconds, clock
        self._next_write = 0.0

    def read(self) -> Learned | None:
        """What was kept, without what makes no sense or cannot be read; None while nothing can be; all are
        said.
        """
        texts = self._texts.read()
        return None if texts is None else from_texts(texts)

    def keep(self, learned: Learned) -> Learned:
        """Write, if it is time and something changed; what is known with what could be read only now."""
        if self._clock() < self._next_write:
            return learned
        self._next_write = self._clock() + self._period_seconds
        if not self._texts.complete:
            earlier = from_texts(self._texts.read_rest())
            learned = Learned(
                learned.grids.with_earlier(earlier.grids),
                learned.jobs.with_earlier(earlier.jobs),
                learned.learned_until_seconds,
            )
        self._texts.write(as_texts(learned))
        return learned
