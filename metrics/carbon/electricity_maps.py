"""Electricity Maps, API v3: consumption-based **average** intensity, life-cycle factors, by zone (``DE``,
``US-CAL-CISO``).

``GET /v3/carbon-intensity/latest?zone=`` with header ``auth-token``. A zone that is unknown falls back to the
caller's IP location and would answer with the intensity of the wrong country: the fallback is switched off
and the returned zone is checked. Forecasts need a paid plan; the free one answers 401 or 403 there.

Source: https://portal.electricitymaps.com/developer-hub/api/reference
"""

from __future__ import annotations

from typing import Any, Final

from metrics.carbon.fetch import JsonApi, instant, number, read_secret
from metrics.carbon.intensity import Intensity, Kind
from metrics.samples import NoData

BASE_URL: Final = "https://api.electricitymaps.com"
HOUR_SECONDS: Final = 3600.0
LATE_SECONDS: Final = 3600.0
"""Hours are published with delay; the last hour's value stands for one more."""


class ElectricityMaps:
    """Provider over the API. ``token_file`` holds the API token."""

    source = "electricity-maps"
    kind: Kind = "average"

    def __init__(self, base_url: str, token_file: str) -> None:
        self._api = JsonApi("Electricity Maps", base_url)
        self._token_file = token_file

    def latest(self, zone: str, now: float) -> Intensity | NoData:
        document = self._get("latest", zone)
        if isinstance(document, NoData):
            return document
        grams = number(document.get("carbonIntensity"))
        at = instant(document.get("datetime"))
        if document.get("carbonIntensity") is None:
            return NoData(f"Electricity Maps has no intensity for zone {zone!r} in this hour", "empty")
        if grams is None or at is None:
            return self._api.malformed("a number in carbonIntensity and a time in datetime")
        until = at + HOUR_SECONDS + LATE_SECONDS
        if until <= now:
            hours = (now - at) / 3600
            return NoData(f"the newest intensity of zone {zone!r} is {hours:.1f} hours old", "stale")
        estimated = document.get("isEstimated") is not False
        return Intensity(zone, grams, self.kind, at, until, self.source, estimated)

    def forecast(self, zone: str, now: float) -> tuple[Intensity, ...] | NoData:
        document = self._get("forecast", zone)
        if isinstance(document, NoData):
            return document
        entries = document.get("forecast")
        if not isinstance(entries, list):
            return self._api.malformed("a list in forecast")
        steps: list[Intensity] = []
        for entry in entries:
            fields = entry if isinstance(entry, dict) else {}
            grams, at = number(fields.get("carbonIntensity")), instant(fields.get("datetime"))
            if grams is None or at is None:
                return self._api.malformed("carbonIntensity and datetime in each step of the forecast")
            if at + HOUR_SECONDS > now:
                steps.append(
                    Intensity(zone, grams, self.kind, at, at + HOUR_SECONDS, self.source, estimated=True)
                )
        if not steps:
            return NoData(f"Electricity Maps has no forecast for zone {zone!r} from now on", "empty")
        return tuple(sorted(steps, key=lambda step: step.at_seconds))

    def _get(self, what: str, zone: str) -> dict[str, Any] | NoData:
        token = read_secret(self._token_file)
        if isinstance(token, NoData):
            return token
        document = self._api.get(
            f"/v3/carbon-intensity/{what}",
            {"zone": zone, "shouldUseFallbackCallerLookup": "false"},
            {"auth-token": token},
        )
        if isinstance(document, NoData):
            return document
        if document.get("zone") != zone:
            return NoData(
                f"asked Electricity Maps for zone {zone!r}, it answered for {document.get('zone')!r}; "
                "check the zone id in carbon.regions",
                "misconfigured",
            )
        return dict(document)
