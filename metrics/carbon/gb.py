"""Great Britain's Carbon Intensity API (NESO): **average** intensity in half-hours, without a key.

Zone ``GB`` is the nation (``/intensity``: a measured ``actual``, which may still be null, then the
``forecast``); ``GB-1`` ... ``GB-17`` are regions (``/regional/regionid/N``: forecasts only; 13 is London, 15
England, 16 Scotland, 17 Wales). Data under CC BY 4.0.

Source: https://carbon-intensity.github.io/api-definitions/
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from metrics.carbon.fetch import JsonApi, instant, number
from metrics.carbon.intensity import Intensity, Kind
from metrics.samples import NoData

BASE_URL: Final = "https://api.carbonintensity.org.uk"
LATE_SECONDS: Final = 1800.0
"""A half-hour's value stands for one more when nothing newer can be had."""
REGIONS: Final = 17


class GreatBritain:
    """Provider over the API."""

    source = "gb"
    kind: Kind = "average"

    def __init__(self, base_url: str = BASE_URL) -> None:
        self._api = JsonApi("The GB Carbon Intensity API", base_url)

    def latest(self, zone: str, now: float) -> Intensity | NoData:
        region = _region(zone)
        if isinstance(region, NoData):
            return region
        steps = self._steps("/intensity" if region == 0 else f"/regional/regionid/{region}", zone)
        if isinstance(steps, NoData):
            return steps
        started = [step for step in steps if step.at_seconds <= now] or list(steps[:1])
        step = started[-1]
        until = step.valid_until_seconds + LATE_SECONDS
        if until <= now:
            return NoData(
                f"the newest half-hour of zone {zone} ended {(now - until) / 60 + 30:.0f} min ago", "stale"
            )
        return Intensity(
            zone, step.grams_per_kwh, self.kind, step.at_seconds, until, self.source, step.estimated
        )

    def forecast(self, zone: str, now: float) -> tuple[Intensity, ...] | NoData:
        region = _region(zone)
        if isinstance(region, NoData):
            return region
        start = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%MZ")
        path = f"/intensity/{start}/fw48h"
        steps = self._steps(path if region == 0 else f"/regional{path}/regionid/{region}", zone)
        if isinstance(steps, NoData):
            return steps
        ahead = tuple(step for step in steps if step.valid_until_seconds > now)
        return ahead or NoData(
            f"The GB Carbon Intensity API has no forecast for zone {zone} from now on", "empty"
        )

    def _steps(self, path: str, zone: str) -> tuple[Intensity, ...] | NoData:
        document = self._api.get(path)
        if isinstance(document, NoData):
            return document
        data = document.get("data")
        # National: a list of half-hours. Regional: {"data": [...]} of the region, sometimes itself in a list.
        if isinstance(data, list) and len(data) == 1 and isinstance(data[0], dict) and "data" in data[0]:
            data = data[0]
        if isinstance(data, dict):
            data = data.get("data")
        if not isinstance(data, list):
            return self._api.malformed("a list of half-hours in data")
        steps: list[Intensity] = []
        for half_hour in data:
            step = self._step(half_hour, zone)
            if step is None:
                return self._api.malformed("from, to and intensity in each half-hour")
            steps.append(step)
        if not steps:
            return NoData(f"The GB Carbon Intensity API has no data for zone {zone} at this time", "empty")
        return tuple(sorted(steps, key=lambda step: step.at_seconds))

    def _step(self, half_hour: Any, zone: str) -> Intensity | None:
        fields = half_hour if isinstance(half_hour, dict) else {}
        figures = fields.get("intensity")
        if not isinstance(figures, dict):
            return None
        begin, end = instant(fields.get("from")), instant(fields.get("to"))
        actual = number(figures.get("actual"))
        grams = actual if actual is not None else number(figures.get("forecast"))
        if begin is None or end is None or grams is None:
            return None
        return Intensity(zone, grams, self.kind, begin, end, self.source, estimated=actual is None)


def _region(zone: str) -> int | NoData:
    """Region number; 0 for the nation."""
    if zone == "GB":
        return 0
    digits = zone.removeprefix("GB-")
    if digits != zone and digits.isdecimal() and 1 <= int(digits) <= REGIONS:
        return int(digits)
    return NoData(
        f"zone {zone!r} is not in Great Britain: expected GB or GB-1 to GB-{REGIONS}", "misconfigured"
    )
