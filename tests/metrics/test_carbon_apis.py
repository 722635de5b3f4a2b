"""Electricity Maps, WattTime and GB against recorded-form answers on loopback: values, units, traps,
failures.
"""

from __future__ import annotations

import base64
import contextlib
from datetime import UTC, datetime
from typing import Any

import pytest

from metrics.carbon import Intensity
from metrics.carbon.electricity_maps import ElectricityMaps
from metrics.carbon.gb import GreatBritain
from metrics.carbon.watttime import WattTime
from metrics.samples import NoData
from tests.metrics import absences
from tests.polling import SOON_SECONDS

NOW = datetime(2026, 11, 21, 10, 20, tzinfo=UTC).timestamp()
TEN = datetime(2026, 11, 21, 10, 0, tzinfo=UTC).timestamp()
SECRET = "s3cret-token"

EM_LATEST = {
    "zone": "DE",
    "carbonIntensity": 302,
    "datetime": "2026-11-21T10:00:00.000Z",
    "updatedAt": "2026-11-21T10:07:01.000Z",
    "createdAt": "2026-11-18T10:01:01.000Z",
    "emissionFactorType": "lifecycle",
    "isEstimated": True,
    "estimationMethod": "TIME_SLICER_AVERAGE",
}
EM_FORECAST = {
    "zone": "DE",
    "forecast": [
        {"carbonIntensity": 290, "datetime": "2026-11-21T09:00:00.000Z"},
        {"carbonIntensity": 302, "datetime": "2026-11-21T10:00:00.000Z"},
        {"carbonIntensity": 326, "datetime": "2026-11-21T11:00:00.000Z"},
    ],
    "updatedAt": "2026-11-21T10:07:01.000Z",
}
WT_FORECAST: dict[str, Any] = {
    "data": [
        {"point_time": "2026-11-21T10:20:00+00:00", "value": 870.0},
        {"point_time": "2026-11-21T10:25:00+00:00", "value": 880.5},
    ],
    "meta": {
        "data_point_period_seconds": 300,
        "region": "CAISO_NORTH",
        "warnings": [],
        "signal_type": "co2_moer",
        "model": {"date": "2023-03-01"},
        "units": "lbs_co2_per_mwh",
        "generated_at_period_seconds": 300,
        "generated_at": "2026-11-21T10:20:00+00:00",
    },
}


def half_hour(begin, end, forecast, actual):
    day = "2026-11-21T"
    figures = {"forecast": forecast, "actual": actual, "index": "moderate"}
    return {"from": f"{day}{begin}Z", "to": f"{day}{end}Z", "intensity": figures}


GB_NOW = {"data": [half_hour("10:00", "10:30", 266, 263)]}
GB_REGION = {
    "data": [
        {
            "regionid": 13,
            "dnoregion": "UKPN London",
            "shortname": "London",
            "data": [
                {
                    "from": "2026-11-21T10:00Z",
                    "to": "2026-11-21T10:30Z",
                    "intensity": {"forecast": 161, "index": "moderate"},
                    "generationmix": [{"fuel": "gas", "perc": 43.6}],
                }
            ],
        }
    ]
}

EM_PATH = "/v3/carbon-intensity/latest"
WT_PATH = "/v3/forecast"


@pytest.fixture
def token_file(tmp_path):
    path = tmp_path / "token"
    path.write_text(SECRET + "\n")
    return path


@pytest.fixture
def login_file(tmp_path):
    path = tmp_path / "login"
    path.write_text(f"user:{SECRET}\n")
    return path


@pytest.fixture
def maps(api, token_file):
    return ElectricityMaps(api.url, str(token_file))


@pytest.fixture
def watttime(api, login_file):
    api.answers["/login"] = {"token": "bearer-1"}
    return WattTime(api.url, str(login_file))


@pytest.fixture
def gb(api):
    return GreatBritain(api.url)


def absent(answer, cause):
    reason = absences.absent(answer, cause)
    assert SECRET not in reason
    return reason


# --- Electricity Maps -----------------------------------------------------------------------------


def test_electricity_maps_latest(api, maps):
    api.answers[EM_PATH] = EM_LATEST
    expected = Intensity("DE", 302.0, "average", TEN, TEN + 7200, "electricity-maps", estimated=True)
    assert maps.latest("DE", NOW) == expected
    (asked,) = api.asked
    assert asked.headers["auth-token"] == SECRET
    assert asked.query == {"zone": "DE", "shouldUseFallbackCallerLookup": "false"}


def test_electricity_maps_measured_value_is_not_estimated(api, maps):
    api.answers[EM_PATH] = {**EM_LATEST, "isEstimated": False, "estimationMethod": None}
    assert maps.latest("DE", NOW).estimated is False


def test_electricity_maps_answer_for_another_zone_is_not_taken(api, maps):
    api.answers[EM_PATH] = {**EM_LATEST, "zone": "DK-DK1"}
    reason = absent(maps.latest("XX", NOW), "misconfigured")
    assert "'XX'" in reason
    assert "'DK-DK1'" in reason


def test_electricity_maps_null_is_absence(api, maps):
    api.answers[EM_PATH] = {**EM_LATEST, "carbonIntensity": None}
    absent(maps.latest("DE", NOW), "empty")


def test_electricity_maps_old_hour_is_stale(api, maps):
    api.answers[EM_PATH] = {**EM_LATEST, "datetime": "2026-11-21T06:00:00.000Z"}
    assert "4.3 hours old" in absent(maps.latest("DE", NOW), "stale")


@pytest.mark.parametrize(
    "change", [{"carbonIntensity": "302"}, {"carbonIntensity": -5}, {"datetime": "today"}]
)
def test_electricity_maps_fields_of_another_form(api, maps, change):
    api.answers[EM_PATH] = {**EM_LATEST, **change}
    absent(maps.latest("DE", NOW), "malformed")


def test_electricity_maps_forecast_begins_with_the_hour_in_force(api, maps):
    api.answers["/v3/carbon-intensity/forecast"] = EM_FORECAST
    steps = maps.forecast("DE", NOW)
    assert [(step.grams_per_kwh, step.at_seconds) for step in steps] == [(302.0, TEN), (326.0, TEN + 3600)]
    assert all(step.estimated for step in steps)


@pytest.mark.parametrize("content", [None, "", "two\nlines", "nön-ascii"])
def test_a_bad_token_file_is_named(api, tmp_path, content):
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    assert str(path) in absent(ElectricityMaps(api.url, str(path)).latest("DE", NOW), "misconfigured")
    assert api.asked == []


# --- WattTime -------------------------------------------------------------------------------------


def test_watttime_latest_converts_pounds_to_grams(api, watttime):
    api.answers[WT_PATH] = WT_FORECAST
    now = watttime.latest("CAISO_NORTH", NOW)
    assert now.grams_per_kwh == pytest.approx(880.5 * 0.45359237)
    assert (now.kind, now.zone, now.source) == ("marginal", "CAISO_NORTH", "watttime")
    assert now.valid_until_seconds > NOW + 300
    login, forecast = api.asked
    assert login.headers["authorization"] == "Basic " + base64.b64encode(f"user:{SECRET}".encode()).decode()
    assert forecast.headers["authorization"] == "Bearer bearer-1"
    assert forecast.query == {"region": "CAISO_NORTH", "signal_type": "co2_moer", "horizon_hours": "0"}


def test_watttime_logs_in_once_while_the_token_lasts(api, watttime):
    api.answers[WT_PATH] = WT_FORECAST
    for minute in (0, 5, 24):
        watttime.forecast("CAISO_NORTH", NOW + 60 * minute)
    assert [asked.path for asked in api.asked].count("/login") == 1
    watttime.forecast("CAISO_NORTH", NOW + 60 * 26)
    assert [asked.path for asked in api.asked].count("/login") == 2


def test_watttime_refused_token_is_renewed_once(api, watttime):
    good = {"authorization": "Bearer bearer-2"}
    api.answers[WT_PATH] = WT_FORECAST
    watttime.latest("CAISO_NORTH", NOW)
    api.answers["/login"] = {"token": "bearer-2"}
    api.answers[WT_PATH] = lambda asked, _: (
        WT_FORECAST if asked.headers["authorization"] == good["authorization"] else (401, {}, {})
    )
    assert isinstance(watttime.latest("CAISO_NORTH", NOW), Intensity)
    api.answers[WT_PATH] = (401, {}, {})
    before = len(api.asked)
    absent(watttime.latest("CAISO_NORTH", NOW), "refused")
    assert [asked.path for asked in api.asked[before:]] == [WT_PATH, "/login", WT_PATH]


def test_watttime_rate_limit_does_not_log_in_again(api, watttime):
    api.answers[WT_PATH] = WT_FORECAST
    watttime.latest("CAISO_NORTH", NOW)
    api.answers[WT_PATH] = (429, {}, {})
    answer = watttime.latest("CAISO_NORTH", NOW)
    absent(answer, "refused")
    assert answer.retry_after_seconds == 60.0
    assert [asked.path for asked in api.asked].count("/login") == 1


def test_watttime_wrong_password_is_refused(api, watttime):
    api.answers["/login"] = (401, {}, {})
    assert "credentials" in absent(watttime.latest("CAISO_NORTH", NOW), "refused")
    assert [asked.path for asked in api.asked] == ["/login"]


def test_watttime_login_file_needs_user_and_password(api, token_file):
    assert "user:password" in absent(WattTime(api.url, str(token_file)).latest("X", NOW), "misconfigured")


@pytest.mark.parametrize(
    ("change", "cause"), [({"units": "percentile"}, "malformed"), ({"region": "PJM_DC"}, "misconfigured")]
)
def test_watttime_checks_unit_and_region(api, watttime, change, cause):
    api.answers[WT_PATH] = {**WT_FORECAST, "meta": {**WT_FORECAST["meta"], **change}}
    assert next(iter(change.values())) in absent(watttime.latest("CAISO_NORTH", NOW), cause)


def test_watttime_old_rate_is_stale(api, watttime):
    api.answers[WT_PATH] = WT_FORECAST
    absent(watttime.latest("CAISO_NORTH", NOW + 3600), "stale")


# --- Great Britain --------------------------------------------------------------------------------


def test_gb_takes_the_measured_value(api, gb):
    api.answers["/intensity"] = GB_NOW
    assert gb.latest("GB", NOW) == Intensity("GB", 263.0, "average", TEN, TEN + 3600, "gb", estimated=False)
    assert api.asked[0].headers["accept"] == "application/json"


def test_gb_takes_the_forecast_while_the_measured_value_is_null(api, gb):
    api.answers["/intensity"] = {"data": [half_hour("10:00", "10:30", 266, None)]}
    now = gb.latest("GB", NOW)
    assert (now.grams_per_kwh, now.estimated) == (266.0, True)


def test_gb_region(api, gb):
    api.answers["/regional/regionid/13"] = GB_REGION
    now = gb.latest("GB-13", NOW)
    assert (now.zone, now.grams_per_kwh, now.estimated) == ("GB-13", 161.0, True)


def test_gb_national_forecast(api, gb):
    steps = [half_hour("09:30", "10:00", 280, 281), half_hour("10:00", "10:30", 266, None)]
    api.answers["/intensity/2026-11-21T10:20Z/fw48h"] = {
        "data": [*steps, half_hour("10:30", "11:00", 250, None)]
    }
    assert [step.grams_per_kwh for step in gb.forecast("GB", NOW)] == [266.0, 250.0]


def test_gb_regional_forecast_has_the_region_as_an_object(api, gb):
    path = "/regional/intensity/2026-11-21T10:20Z/fw48h/regionid/13"
    api.answers[path] = {"data": GB_REGION["data"][0]}
    assert [step.grams_per_kwh for step in gb.forecast("GB-13", NOW)] == [161.0]


@pytest.mark.parametrize("zone", ["DE", "GB-0", "GB-18", "GB-x", ""])
def test_gb_knows_its_regions(api, gb, zone):
    assert "GB-1 to GB-17" in absent(gb.latest(zone, NOW), "misconfigured")
    absent(gb.forecast(zone, NOW), "misconfigured")
    assert api.asked == []


def test_gb_old_half_hour_is_stale(api, gb):
    api.answers["/intensity"] = GB_NOW
    assert "40 min ago" in absent(gb.latest("GB", NOW + 3000), "stale")


@pytest.mark.parametrize(
    "data", [None, [], {}, [None], [{"from": "x"}], [half_hour("10:00", "10:30", None, None)]]
)
def test_gb_answers_of_another_form(api, gb, data):
    api.answers["/intensity"] = {"data": data}
    absent(gb.latest("GB", NOW), "empty" if data == [] else "malformed")


# --- every provider -------------------------------------------------------------------------------

PROVIDERS = {
    "maps": ("DE", EM_PATH),
    "watttime": ("CAISO_NORTH", WT_PATH),
    "gb": ("GB", "/intensity"),
}


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize(
    ("status", "cause", "words"),
    [
        (400, "refused", "400"),
        (401, "refused", "credentials"),
        (403, "refused", "credentials"),
        (404, "misconfigured", "no such zone"),
        (302, "misconfigured", "redirects to"),
        (500, "outage", "in trouble"),
        (503, "outage", "in trouble"),
    ],
)
def test_an_error_status_is_a_reason(request, api, name, status, cause, words):
    provider = request.getfixturevalue(name)
    zone, path = PROVIDERS[name]
    api.answers[path] = (status, {"message": "no"}, {"Location": "https://elsewhere.example/"})
    assert words in absent(provider.latest(zone, NOW), cause)


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_rate_limit_says_when(request, api, name):
    provider = request.getfixturevalue(name)
    zone, path = PROVIDERS[name]
    api.answers[path] = (429, {}, {"Retry-After": "120"})
    answer = provider.latest(zone, NOW)
    absent(answer, "refused")
    assert answer.retry_after_seconds == 120.0


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize("body", [b"<html>", b"", b"[]", b"null", b"{}", b'{"data": 3}', b"\xff\xfe"])
def test_a_body_of_another_form_is_no_number(request, api, name, body):
    provider = request.getfixturevalue(name)
    zone, path = PROVIDERS[name]
    api.answers[path] = (200, body, {})
    assert isinstance(provider.latest(zone, NOW), NoData)
    assert isinstance(provider.forecast(zone, NOW), NoData)


@pytest.mark.parametrize("name", PROVIDERS)
def test_no_connection_is_an_outage(request, api, name, monkeypatch):
    provider = request.getfixturevalue(name)
    zone, _ = PROVIDERS[name]
    # Port 1 of loopback: nobody listens there.
    monkeypatch.setattr(provider._api, "_base_url", "http://127.0.0.1:1")
    assert "cannot reach" in absent(provider.latest(zone, NOW), "outage")


def test_a_silent_api_is_a_timeout(api, monkeypatch):
    def silence(_, handler):
        handler.connection.settimeout(SOON_SECONDS)
        with contextlib.suppress(TimeoutError):
            handler.connection.recv(1)
        handler.close_connection = True

    monkeypatch.setattr("metrics.carbon.fetch.JsonApi.__init__.__defaults__", (0.3,))
    api.answers["/intensity"] = silence
    assert "0.3 s" in absent(GreatBritain(api.url).latest("GB", NOW), "timeout")
