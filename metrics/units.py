"""Conversions to the base units used everywhere inside: seconds, ratios from 0 to 1, grams per kilowatt-hour.

Exporters disagree: DCGM gives GPU utilisation as 0-100 off MIG and as 0-1 on MIG, Triton counts
microseconds, Istio milliseconds, WattTime pounds per megawatt-hour. A value is converted once, at the edge,
and a value that cannot be in the unit it claims is refused instead of scaled.

Pure.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from metrics.samples import NoData

TimeUnit: TypeAlias = Literal["seconds", "milliseconds", "microseconds", "nanoseconds"]
ShareUnit: TypeAlias = Literal["ratio", "percent"]

UNITS_PER_SECOND: Final[dict[TimeUnit, float]] = {
    "seconds": 1.0,
    "milliseconds": 1e3,
    "microseconds": 1e6,
    "nanoseconds": 1e9,
}
FULL_SHARE: Final[dict[ShareUnit, float]] = {"ratio": 1.0, "percent": 100.0}
GRAMS_PER_POUND: Final = 453.59237
SHARE_SLACK: Final = 0.01
"""Sampling counters overshoot full load by a little; more than this is another unit."""


def to_seconds(value: float, unit: TimeUnit) -> float:
    """``value`` in ``unit`` as seconds. Divides, so that whole milliseconds give the nearest float."""
    return value / UNITS_PER_SECOND[unit]


def to_ratio(value: float, unit: ShareUnit) -> float | NoData:
    """A share as a ratio in [0, 1]; values past the ends by at most 1 % are clamped, others are
    ``malformed``.
    """
    ratio = value / FULL_SHARE[unit]
    if not -SHARE_SLACK <= ratio <= 1.0 + SHARE_SLACK:
        return NoData(f"got a share of {value:g}, expected 0 to {FULL_SHARE[unit]:g} ({unit})", "malformed")
    return min(max(ratio, 0.0), 1.0)


def grams_per_kwh_from_pounds_per_mwh(pounds_per_mwh: float) -> float:
    """Emission rate in grams per kilowatt-hour (1 lb = 453.59237 g, 1 MWh = 1000 kWh)."""
    return pounds_per_mwh * GRAMS_PER_POUND / 1000.0
