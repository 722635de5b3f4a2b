"""Static table, hourly file, zones and the choice of a provider."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import metrics.carbon
from metrics.carbon import CarbonMisconfigured, Intensity, cache, file, static
from metrics.carbon.file import TableRefused, parse_table
from metrics.carbon.zones import known_zones, zone_of
from tests.metrics.absences import absent

# An absence where a value is due fails the test by its missing attribute.
build: Any = metrics.carbon.build
CachedProvider: Any = cache.CachedProvider
HourlyFile: Any = file.HourlyFile
StaticTable: Any = static.StaticTable

SAMPLE = Path(metrics.carbon.__file__).parent / "data" / "hourly-sample.csv"
FIRST = datetime(2023, 6, 5, tzinfo=UTC).timestamp()
WEEKS = 14 * 24 * 3600.0
NOW = datetime(2026, 11, 21, 10, 20, tzinfo=UTC).timestamp()


@dataclass
class Settings:
    provider: str = "static"
    kind: str = "average"
    static: dict[str, float] = field(default_factory=lambda: {"SE": 30.0})
    file: str | None = None
    file_clock_start: object = None
    url: str | None = None
    token_file: str | None = None
    refresh_seconds: float = 300.0


# --- static ---------------------------------------------------------------------------------------


def test_static_table_is_constant():
    table = StaticTable({"SE": 30.0, "PL": 700.0}, "average")
    assert table.latest("PL", NOW).grams_per_kwh == 700.0
    (only,) = table.forecast("SE", NOW)
    assert only.grams_per_kwh == 30.0
    assert only.valid_until_seconds == NOW + 24 * 3600


def test_static_table_names_the_zones_it_has():
    assert "SE" in absent(StaticTable({"SE": 30.0}, "average").latest("DE", NOW), "misconfigured")


# --- file -----------------------------------------------------------------------------------------


def test_the_shipped_sample_has_two_weeks_of_six_zones():
    table = parse_table(SAMPLE.read_text(), "sample")
    assert table.hours == 14 * 24
    assert table.start_seconds == FIRST
    assert set(table.columns) == {"NO", "DE", "GB", "US-MIDA-PJM", "ES", "US-CAL-CISO"}


def test_the_shipped_sample_carries_its_licence():
    notice = (SAMPLE.parent / "README.md").read_text()
    assert "Electricity Maps" in notice
    assert "Open Database License" in notice


def test_file_gives_the_hour_in_force():
    provider = HourlyFile(SAMPLE, "average")
    now = provider.latest("DE", FIRST + 3600 + 59)
    assert now == Intensity("DE", 321.23, "average", FIRST + 3600, FIRST + 7200, "file", estimated=False)


def test_file_outside_its_period_says_how_to_replay_it():
    reason = absent(HourlyFile(SAMPLE, "average").latest("DE", NOW), "stale")
    assert "2023-06-05T00:00Z to 2023-06-19T00:00Z" in reason
    assert "fileClockStart" in reason


def test_file_clock_starts_at_the_chosen_instant():
    provider = HourlyFile(SAMPLE, "average", clock_start_seconds=FIRST + 1800, started_at_seconds=NOW)
    now = provider.latest("DE", NOW)
    assert (now.grams_per_kwh, now.at_seconds, now.valid_until_seconds) == (315.62, NOW - 1800, NOW + 1800)
    assert provider.latest("DE", NOW + 1800).grams_per_kwh == 321.23


def test_file_clock_starts_with_the_first_question_when_no_start_is_given():
    provider = HourlyFile(SAMPLE, "average", clock_start_seconds=FIRST)
    assert provider.latest("DE", NOW).at_seconds == NOW
    assert provider.latest("DE", NOW + 3600).grams_per_kwh == 321.23


@given(st.floats(0, 5 * WEEKS))
def test_a_replayed_file_repeats_and_is_always_in_force(ahead):
    provider = HourlyFile(SAMPLE, "average", clock_start_seconds=FIRST, started_at_seconds=NOW)
    one, again = provider.latest("ES", NOW + ahead), provider.latest("ES", NOW + ahead + WEEKS)
    assert one.grams_per_kwh == again.grams_per_kwh
    assert one.at_seconds - 0.001 <= NOW + ahead < one.valid_until_seconds + 0.001


def test_file_clock_start_outside_the_file_is_refused():
    provider = HourlyFile(SAMPLE, "average", clock_start_seconds=FIRST - 1, started_at_seconds=NOW)
    assert "2023-06-05T00:00Z to 2023-06-19T00:00Z" in absent(provider.latest("DE", NOW), "misconfigured")


def test_file_forecast_is_the_next_two_days_and_ends_with_the_file():
    provider = HourlyFile(SAMPLE, "average")
    steps = provider.forecast("DE", FIRST)
    assert len(steps) == 48
    assert steps[1].grams_per_kwh == 321.23
    assert len(provider.forecast("DE", FIRST + WEEKS - 3 * 3600)) == 3


def test_file_names_the_zones_it_has():
    assert "US-CAL-CISO" in absent(HourlyFile(SAMPLE, "average").latest("SE", FIRST), "misconfigured")


def test_an_empty_cell_is_absence(tmp_path):
    path = tmp_path / "f.csv"
    path.write_text("time_utc,DE,SE\n2023-01-01T00:00Z,,30\n")
    start = datetime(2023, 1, 1, tzinfo=UTC).timestamp()
    absent(HourlyFile(path, "average").latest("DE", start), "empty")
    assert HourlyFile(path, "average").latest("SE", start).grams_per_kwh == 30.0


def test_a_changed_file_is_read_again(tmp_path):
    path = tmp_path / "f.csv"
    start = datetime(2023, 1, 1, tzinfo=UTC).timestamp()
    provider = HourlyFile(path, "average")
    assert str(path) in absent(provider.latest("DE", start), "misconfigured")
    path.write_text("time_utc,DE\n2023-01-01T00:00Z,100\n")
    assert provider.latest("DE", start).grams_per_kwh == 100.0
    path.write_text("time_utc,DE\n2023-01-01T00:00Z,broken\n")
    absent(provider.latest("DE", start), "malformed")
    path.write_text("time_utc,DE\n2023-01-01T00:00Z,90.5\n")
    assert provider.latest("DE", start).grams_per_kwh == 90.5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1"),
        ("time,DE\n", "time_utc"),
        ("time_utc\n", "line 1"),
        ("time_utc,DE,DE\n", "differ"),
        ("time_utc,DE\n", "no rows"),
        ("time_utc,DE\nyesterday,1\n", "line 2: got time 'yesterday'"),
        ("time_utc,DE\n2023-01-01T00:00Z,1,2\n", "line 2: got 3 cells, expected 2"),
        ("time_utc,DE\n2023-01-01T00:00Z,-1\n", "line 2: got '-1'"),
        ("time_utc,DE\n2023-01-01T00:00Z,nan\n", "line 2: got 'nan'"),
        ("time_utc,DE\n2023-01-01T00:00Z,1\n2023-01-01T02:00Z,1\n", "line 3"),
    ],
)
def test_a_table_of_another_form_is_refused_by_line(text, words):
    with pytest.raises(TableRefused, match=r"^carbon\.csv") as refused:
        parse_table(text, "carbon.csv")
    assert words in str(refused.value)


# --- zones ----------------------------------------------------------------------------------------


def test_the_user_s_zone_wins_over_the_shipped_one():
    assert zone_of("eu-north-1", {}) == "SE"
    assert zone_of("eu-north-1", {"eu-north-1": "SE-SE3"}) == "SE-SE3"
    assert zone_of("us-west-1", {}, "watttime") == "CAISO_NORTH"
    assert zone_of("uksouth", {}, "file") == "GB"


def test_an_unmapped_region_has_no_zone():
    assert "carbon.regions" in absent(zone_of("moon-1", {}), "misconfigured")
    absent(zone_of("eu-north-1", {}, "watttime"), "misconfigured")


def test_zones_of_the_shipped_table_look_like_zone_ids():
    zones = known_zones("electricity-maps")
    assert len(zones) > 50
    assert all(zone == zone.upper() and region == region.lower() for region, zone in zones.items())


# --- build ----------------------------------------------------------------------------------------


def test_none_means_no_provider():
    assert build(Settings(provider="none")) is None


@pytest.mark.parametrize("name", ["electricity-maps", "gb", "watttime"])
def test_web_providers_are_cached_and_declare_their_kind(name, tmp_path):
    kind = "marginal" if name == "watttime" else "average"
    provider = build(Settings(provider=name, kind=kind, token_file=str(tmp_path / "t")))
    assert isinstance(provider, CachedProvider)
    assert (provider.source, provider.kind) == (name, kind)


@pytest.mark.parametrize(
    ("name", "kind"), [("watttime", "average"), ("gb", "marginal"), ("electricity-maps", "marginal")]
)
def test_average_and_marginal_are_never_mixed(name, kind):
    with pytest.raises(CarbonMisconfigured, match=r"carbon\.kind") as refused:
        build(Settings(provider=name, kind=kind, token_file="t"))
    assert "average" in str(refused.value)
    assert "marginal" in str(refused.value)
    assert name in str(refused.value)


@pytest.mark.parametrize("name", ["static", "file"])
def test_tables_are_of_the_kind_the_user_declares(name):
    assert build(Settings(provider=name, kind="marginal", file=str(SAMPLE))).kind == "marginal"


def test_a_default_policy_builds_and_has_no_data():
    absent(build(Settings(static={})).latest("SE", NOW), "misconfigured")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Settings(provider="oracle"), "got 'oracle', expected one of static"),
        (Settings(kind="total"), "got 'total', expected average or marginal"),
        (Settings(provider="file"), "carbon.file"),
        (Settings(provider="file", file="x", file_clock_start="noon"), "fileClockStart: got 'noon'"),
        (Settings(provider="electricity-maps"), "carbon.tokenFile"),
        (Settings(provider="watttime", kind="marginal"), "user:password"),
        (Settings(provider="gb", url="api.example"), "carbon.url: got 'api.example'"),
        (Settings(provider="gb", refresh_seconds=0), "carbon.refreshSeconds"),
    ],
)
def test_a_policy_that_cannot_work_is_refused_by_key(settings, words):
    with pytest.raises(CarbonMisconfigured) as refused:
        build(settings)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    "start",
    ["2023-06-05T00:00:00Z", "2023-06-05T02:00:00+02:00", "2023-06-05T00:00", FIRST, datetime(2023, 6, 5)],
)
def test_file_clock_start_in_any_form(start):
    provider = build(
        Settings(provider="file", file=str(SAMPLE), file_clock_start=start), started_at_seconds=NOW
    )
    assert provider.latest("DE", NOW).grams_per_kwh == 315.62


def test_times_without_a_zone_are_utc():
    moment = datetime(2023, 6, 5, 12)
    provider = build(
        Settings(provider="file", file=str(SAMPLE), file_clock_start=moment), started_at_seconds=NOW
    )
    noon = HourlyFile(SAMPLE, "average").latest("DE", (moment + timedelta(0)).replace(tzinfo=UTC).timestamp())
    assert provider.latest("DE", NOW).grams_per_kwh == noon.grams_per_kwh
