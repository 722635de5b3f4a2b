"""What each grid zone was like, hour by hour: the memory that a forecast is made from.

One value an hour, the mean of the looks taken in it; an hour without a look is NaN. As long as
``KEPT_HOURS`` of ``grid_forecast``. Pure: looks are told, nothing is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec

from autoscaler.batch.curve import HOUR_SECONDS
from autoscaler.batch.grid_forecast import KEPT_HOURS, GridForecast, day_ahead
from metrics.samples import NoData

_DIGITS: Final = 1


class _Text(msgspec.Struct, forbid_unknown_fields=True):
    hour: int
    grams: list[float | None]


@dataclass(frozen=True, slots=True)
class ZoneHistory:
    """``hour`` (since 1970) of the last value; ``looks`` taken in that hour so far."""

    hour: int
    values: tuple[float, ...]
    looks: int = 1

    def seen(self, grams_per_kwh: float, now: float) -> ZoneHistory:
        """Return the history with one more look at ``now``."""
        hour = int(now // HOUR_SECONDS)
        if hour < self.hour:
            return self
        if hour == self.hour:
            mean = self.values[-1] + (grams_per_kwh - self.values[-1]) / (self.looks + 1)
            return ZoneHistory(hour, (*self.values[:-1], mean), self.looks + 1)
        gap = min(KEPT_HOURS, hour - self.hour - 1)
        return ZoneHistory(hour, (*self.values, *([math.nan] * gap), grams_per_kwh)[-KEPT_HOURS:])

    def forecast(self, now: float) -> GridForecast | NoData:
        """The next two days; NoData when this hour was not seen."""
        if int(now // HOUR_SECONDS) != self.hour:
            return NoData("the intensity of this hour was not seen yet", "stale")
        return day_ahead(self.values, self.hour * HOUR_SECONDS)


@dataclass(frozen=True, slots=True)
class GridHistory:
    """The histories of all zones in use."""

    zones: Mapping[str, ZoneHistory] = field(default_factory=dict)

    def seen(self, zone: str, grams_per_kwh: float, now: float) -> GridHistory:
        """Return the histories with one more look at ``zone``."""
        if not (math.isfinite(grams_per_kwh) and grams_per_kwh >= 0.0):
            return self
        known = self.zones.get(zone)
        after = (
            ZoneHistory(int(now // HOUR_SECONDS), (grams_per_kwh,))
            if known is None
            else known.seen(grams_per_kwh, now)
        )
        return replace(self, zones={**self.zones, zone: after})

    def forecast(self, zone: str, now: float) -> GridForecast | NoData:
        """The next two days of ``zone``."""
        known = self.zones.get(zone)
        return NoData(f"zone {zone!r} was not seen yet", "empty") if known is None else known.forecast(now)

    def with_earlier(self, earlier: GridHistory) -> GridHistory:
        """The histories where those of zones that are not known here are taken from ``earlier``."""
        return replace(self, zones={**earlier.zones, **self.zones})

    def remembered(self) -> dict[str, str]:
        """The text of each zone, to keep over a restart."""
        return {
            zone: msgspec.json.encode(
                _Text(
                    one.hour, [None if math.isnan(value) else round(value, _DIGITS) for value in one.values]
                )
            ).decode()
            for zone, one in sorted(self.zones.items())
        }

    @classmethod
    def recalled(cls, texts: Mapping[str, str]) -> GridHistory:
        """What ``remembered`` kept. Raises ValueError for anything else."""
        zones = {}
        for zone, text in texts.items():
            one = msgspec.json.decode(text, type=_Text)
            values = tuple(math.nan if value is None else value for value in one.grams[-KEPT_HOURS:])
            if not values or any(value < 0.0 or math.isinf(value) for value in values):
                raise ValueError(f"zone {zone!r}: got no hour, or one below 0")
            zones[zone] = ZoneHistory(one.hour, values)
        return cls(zones)
