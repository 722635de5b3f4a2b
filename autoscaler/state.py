"""What a decision hands to the next one about the same workload.

All of it can be lost: a controller that starts with no state begins its windows with what runs and is merely
slower to lower. What took long to learn need not be: ``remembered`` writes it down as a small JSON text, and
``recalled`` begins a state with it. Windows and pending steps are never written down, since they tell of a
clock and of replicas that a restart no longer knows.

``headroom`` is the share of spare capacity that the last decision added to the load; ``learned`` is where it
comes from when the policy states an objective.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from autoscaler.forecast import Forecast, Season
from autoscaler.headroom import Headroom
from autoscaler.offered import Queue
from autoscaler.queueing import UNFITTED, Fit
from autoscaler.windows import Windows

_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Raise:
    """The last raise: when, and how much was in flight then (the shortfall it answered)."""

    at_seconds: float
    in_flight: float


@dataclass(frozen=True, slots=True)
class Learned:
    """What is learned about a workload with an objective; ``per_replica`` is None until fitted."""

    headroom: Headroom
    forecast: Forecast
    queue: Queue | None = None
    fit: Fit = UNFITTED
    per_replica: float | None = None


@dataclass(frozen=True, slots=True)
class Recalled:
    """What was written down before a restart; taken up by the first decision."""

    deviations: float
    dispersion: float
    usual_rps: float | None = None
    per_replica: float | None = None
    season: tuple[float | None, ...] = ()


@dataclass(frozen=True, slots=True)
class State:
    """Timestamps are seconds of the clock that ``decide`` is given. ``turns_seconds`` are the
    lowerings of the last hours that followed a raise.
    """

    windows: Windows
    headroom: float = 0.0
    last_raise: Raise | None = None
    last_lower_seconds: float | None = None
    blind_since_seconds: float | None = None
    panic_until_seconds: float | None = None
    turns_seconds: tuple[float, ...] = ()
    learned: Learned | None = None
    recalled_memory: Recalled | None = None

    def without_change(self, before: State | None) -> State:
        """This state when the change did not happen: what was seen stays, what was done does not."""
        if before is None:
            return replace(self, last_raise=None, last_lower_seconds=None, turns_seconds=())
        return replace(
            self,
            last_raise=before.last_raise,
            last_lower_seconds=before.last_lower_seconds,
            turns_seconds=before.turns_seconds,
        )

    @property
    def rising(self) -> bool:
        """The last change was a raise, so that a lowering would turn the direction round."""
        if self.last_raise is None:
            return False
        return self.last_lower_seconds is None or self.last_raise.at_seconds > self.last_lower_seconds

    @classmethod
    def begun(cls, current: int, now: float) -> State:
        """The state of a workload seen for the first time (or again after a restart)."""
        return cls(Windows.begun_with(current, now))

    def remembered(self) -> str:
        """Return what was learned as a JSON text of at most about 1 KiB; empty while nothing was learned."""
        learned = self.learned
        if learned is None:
            return ""
        season = learned.forecast.season.days
        memory: dict[str, Any] = {
            "format": _FORMAT,
            "deviations": round(learned.headroom.deviations, 4),
            "dispersion": round(learned.forecast.dispersion, 2),
            "usualRps": learned.headroom.usual_rps,
            "perReplica": learned.per_replica,
        }
        if any(mean is not None for mean in season):
            memory["season"] = [None if mean is None else float(f"{mean:.3g}") for mean in season]
        return msgspec.json.encode(memory).decode()

    @classmethod
    def recalled(cls, text: str, current: int, now: float) -> State:
        """The state after a restart, with what ``remembered`` wrote; unreadable text is as good as none."""
        return replace(cls.begun(current, now), recalled_memory=_memory(text))


def _memory(text: str) -> Recalled | None:
    try:
        data = msgspec.json.decode(text.encode())
    except msgspec.DecodeError:
        return None
    if not isinstance(data, dict) or data.get("format") != _FORMAT:
        return None
    deviations, dispersion = _number(data.get("deviations")), _number(data.get("dispersion"))
    if deviations is None or dispersion is None:
        return None
    season = data.get("season")
    kept = tuple(_number(mean) for mean in season) if isinstance(season, list) else ()
    usual, per_replica = _number(data.get("usualRps")), _number(data.get("perReplica"))
    return Recalled(
        deviations,
        dispersion,
        usual or None,
        per_replica or None,
        kept if len(kept) == len(Season().days) else (),
    )


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) and value >= 0.0 else None
