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
from autoscaler.shadows import Shadows
from autoscaler.untold_queue import NEVER_CALM, Calm
from autoscaler.windows import Windows

_FORMAT: Final = 2


@dataclass(frozen=True, slots=True)
class Raise:
    """The last raise: when, and how much was in flight then (the shortfall it answered)."""

    at_seconds: float
    in_flight: float


@dataclass(frozen=True, slots=True)
class Learned:
    """What is learned about a workload with an objective; ``per_replica`` is None until fitted.
    ``queue`` is None where none is told nor estimated. ``short_since_seconds``: since when requests have
    waited for longer than the objective leaves them.
    """

    headroom: Headroom
    forecast: Forecast
    shadows: Shadows
    queue: Queue | None = None
    calm: Calm = NEVER_CALM
    short_since_seconds: float | None = None
    fit: Fit = UNFITTED
    per_replica: float | None = None


@dataclass(frozen=True, slots=True)
class Recalled:
    """What was written down before a restart; taken up by the first decision."""

    deviations: float
    dispersion: float
    surplus: float = 0.0
    answered: float = 0.0
    late: float = 0.0
    shadows_late: tuple[float, ...] = ()
    shadows_cost: tuple[float, ...] = ()
    shadows_answered: float = 0.0
    shadows_seconds: float = 0.0
    usual_rps: float | None = None
    per_replica: float | None = None
    season: tuple[float | None, ...] = ()
    persistence: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class State:
    """Timestamps are seconds of the clock that ``decide`` is given. ``turns_seconds`` are the
    lowerings of the last hours that followed a raise. ``stream_rate``: messages a second that a replica of a
    streaming consumer was seen to consume.
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
    stream_rate: float | None = None

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
        """Return what was learned as a JSON text below 1 KiB; empty while nothing was learned."""
        learned = self.learned
        if learned is None:
            return ""
        forecast = learned.forecast
        season = forecast.season.days
        memory: dict[str, Any] = {
            "format": _FORMAT,
            "deviations": round(learned.headroom.deviations, 4),
            "dispersion": round(forecast.dispersion, 2),
            "persistence": [
                _short(forecast.distance),
                _short(forecast.lasting),
                round(forecast.judged_seconds),
            ],
            "surplus": round(learned.headroom.surplus, 4),
            "budget": [round(learned.headroom.answered), round(learned.headroom.late, 1)],
            "shadows": {
                "late": [_short(seconds) for seconds in learned.shadows.late],
                "cost": [_short(replicas) for replicas in learned.shadows.cost],
                "answered": round(learned.shadows.answered),
                "seconds": round(learned.shadows.age_seconds),
            },
            "usualRps": _short(learned.headroom.usual_rps),
            "perReplica": _short(learned.per_replica),
        }
        if any(mean is not None for mean in season):
            memory["season"] = [_short(mean, 3) for mean in season]
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
    shadows = data.get("shadows")
    shadows = shadows if isinstance(shadows, dict) else {}
    answered, late = (*_numbers(data.get("budget")), 0.0, 0.0)[:2]
    return Recalled(
        deviations,
        dispersion,
        surplus=_number(data.get("surplus")) or 0.0,
        answered=answered,
        late=late,
        shadows_late=_numbers(shadows.get("late")),
        shadows_cost=_numbers(shadows.get("cost")),
        shadows_answered=_number(shadows.get("answered")) or 0.0,
        shadows_seconds=_number(shadows.get("seconds")) or 0.0,
        usual_rps=usual or None,
        per_replica=per_replica or None,
        season=kept if len(kept) == len(Season().days) else (),
        persistence=_numbers(data.get("persistence")),
    )


def _short(value: float | None, digits: int = 4) -> float | int | None:
    """The number with so many digits, and none of ``.0``: a thousand workloads share 1 MiB."""
    if value is None:
        return None
    cut = float(f"{value:.{digits}g}")
    return int(cut) if cut.is_integer() else cut


def _numbers(value: object) -> tuple[float, ...]:
    """A list of numbers; empty where one of them is not."""
    numbers = [_number(one) for one in value] if isinstance(value, list) else []
    return tuple(number for number in numbers if number is not None) if None not in numbers else ()


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) and value >= 0.0 else None
