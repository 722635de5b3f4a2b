"""WattTime, API v3: **marginal** operating emission rate (MOER) of a grid region (``CAISO_NORTH``), in
five-minute steps.

``GET /login`` with basic auth gives a token for 30 minutes; ``GET /v3/forecast`` with it gives the rate from
now on, in lbs CO2 per MWh, which is converted to g/kWh. A refused token is renewed once. The unit and the
region of the answer are checked, not assumed. Free accounts see CAISO_NORTH only.

Source: https://docs.watttime.org
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Final

from metrics.carbon.fetch import Document, JsonApi, instant, number, read_secret
from metrics.carbon.intensity import Intensity, Kind
from metrics.samples import NoData
from metrics.units import grams_per_kwh_from_pounds_per_mwh

BASE_URL: Final = "https://api.watttime.org"
TOKEN_SECONDS: Final = 25 * 60.0
"""Renew before the 30 minutes are over."""
STEP_SECONDS: Final = 300.0
LATE_SECONDS: Final = 900.0
"""The rate in force stands this much longer than its step when nothing newer can be had."""
HORIZON_HOURS: Final = 24
UNITS: Final = "lbs_co2_per_mwh"


class WattTime:
    """Provider over the API. ``token_file`` holds ``user:password`` on one line."""

    source = "watttime"
    kind: Kind = "marginal"

    def __init__(self, base_url: str, token_file: str) -> None:
        self._api = JsonApi("WattTime", base_url)
        self._token_file = token_file
        self._lock = threading.Lock()
        self._token: tuple[str, float] | None = None

    def latest(self, zone: str, now: float) -> Intensity | NoData:
        steps = self._steps(zone, now, horizon_hours=0)
        if isinstance(steps, NoData):
            return steps
        in_force = [step for step in steps if step.at_seconds <= now + STEP_SECONDS]
        if not in_force:
            return NoData(f"WattTime has no rate for region {zone!r} at this time", "empty")
        newest = in_force[-1]
        until = newest.at_seconds + STEP_SECONDS + LATE_SECONDS
        if until <= now:
            return NoData(
                f"the newest rate of region {zone!r} is {(now - newest.at_seconds) / 60:.0f} min old", "stale"
            )
        return Intensity(
            zone, newest.grams_per_kwh, self.kind, newest.at_seconds, until, self.source, estimated=True
        )

    def forecast(self, zone: str, now: float) -> tuple[Intensity, ...] | NoData:
        steps = self._steps(zone, now, HORIZON_HOURS)
        if isinstance(steps, NoData):
            return steps
        ahead = tuple(step for step in steps if step.valid_until_seconds > now)
        return ahead or NoData(f"WattTime has no forecast for region {zone!r} from now on", "empty")

    def _steps(self, zone: str, now: float, horizon_hours: int) -> Sequence[Intensity] | NoData:
        document = self._get(zone, now, horizon_hours)
        if isinstance(document, NoData):
            return document
        meta, data = document.get("meta"), document.get("data")
        if not isinstance(meta, dict) or not isinstance(data, list):
            return self._api.malformed("a list in data and an object in meta")
        if meta.get("region") != zone:
            return NoData(
                f"asked WattTime for region {zone!r}, it answered for {meta.get('region')!r}", "misconfigured"
            )
        if meta.get("units") != UNITS:
            return NoData(f"WattTime answered in {meta.get('units')!r}, expected {UNITS}", "malformed")
        steps: list[Intensity] = []
        for point in data:
            fields: dict[str, Any] = point if isinstance(point, dict) else {}
            pounds, at = number(fields.get("value")), instant(fields.get("point_time"))
            if pounds is None or at is None:
                return self._api.malformed("value and point_time in each point")
            grams = grams_per_kwh_from_pounds_per_mwh(pounds)
            steps.append(
                Intensity(zone, grams, self.kind, at, at + STEP_SECONDS, self.source, estimated=True)
            )
        return sorted(steps, key=lambda step: step.at_seconds)

    def _get(self, zone: str, now: float, horizon_hours: int) -> Document | NoData:
        parameters = {"region": zone, "signal_type": "co2_moer", "horizon_hours": str(horizon_hours)}
        token, is_new = self._current_token(now)
        if isinstance(token, NoData):
            return token
        document = self._api.get("/v3/forecast", parameters, {"Authorization": f"Bearer {token}"})
        if isinstance(document, NoData) and _credentials_refused(document) and not is_new:
            with self._lock:
                self._token = None
            token, _ = self._current_token(now)
            if isinstance(token, NoData):
                return token
            document = self._api.get("/v3/forecast", parameters, {"Authorization": f"Bearer {token}"})
        return document

    def _current_token(self, now: float) -> tuple[str | NoData, bool]:
        """The token, and whether it was fetched just now."""
        with self._lock:
            if self._token is not None and now < self._token[1]:
                return self._token[0], False
            secret = read_secret(self._token_file)
            if isinstance(secret, NoData):
                return secret, False
            user, colon, password = secret.partition(":")
            if not (user and colon and password):
                return NoData(
                    f"carbon.tokenFile {self._token_file}: expected user:password", "misconfigured"
                ), False
            document = self._api.get("/login", basic=(user, password))
            if isinstance(document, NoData):
                return document, False
            token = document.get("token")
            if not isinstance(token, str) or not token.isascii():
                return self._api.malformed("a token"), False
            self._token = (token, now + TOKEN_SECONDS)
            return token, True


def _credentials_refused(answer: NoData) -> bool:
    """Refused, and not for asking too often (that comes with a time)."""
    return answer.cause == "refused" and answer.retry_after_seconds is None
