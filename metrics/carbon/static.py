"""A table of constants: zone -> grams per kilowatt-hour.

For clusters without a feed, for tests, and for contracts that state one figure a year. It knows no time of
day.
"""

from __future__ import annotations

from collections.abc import Mapping

from metrics.carbon.intensity import Intensity, Kind
from metrics.samples import NoData

VALID_SECONDS = 3600.0
HORIZON_SECONDS = 24 * 3600.0


class StaticTable:
    """Provider over ``grams_per_kwh_by_zone``. The user says whether the figures are average or marginal."""

    source = "static"

    def __init__(self, grams_per_kwh_by_zone: Mapping[str, float], kind: Kind) -> None:
        self._table = dict(grams_per_kwh_by_zone)
        self.kind: Kind = kind

    def latest(self, zone: str, now: float) -> Intensity | NoData:
        return self._entry(zone, now, VALID_SECONDS)

    def forecast(self, zone: str, now: float) -> tuple[Intensity, ...] | NoData:
        """The constant, once, for a day."""
        entry = self._entry(zone, now, HORIZON_SECONDS)
        return entry if isinstance(entry, NoData) else (entry,)

    def _entry(self, zone: str, now: float, valid_seconds: float) -> Intensity | NoData:
        grams = self._table.get(zone)
        if grams is None:
            known = ", ".join(sorted(self._table)) or "none"
            return NoData(f"carbon.static has no zone {zone!r}; it has: {known}", "misconfigured")
        return Intensity(zone, grams, self.kind, now, now + valid_seconds, self.source, estimated=True)
