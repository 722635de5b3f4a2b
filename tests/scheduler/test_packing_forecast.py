"""Forecasts: bounded by what the autoscaler may do, written and read as text, mixed into the demand."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.wire import ConfigMap
from dra.catalog import models
from metrics.samples import NoData
from scheduler.forecasts import ForecastBook
from scheduler.packing.forecast import Forecast, expected_more, read_forecasts, write_forecasts
from scheduler.packing.mix import DemandMix, mix_of, quantiles
from scheduler.packing.prices import FleetSummary, solve_prices

A100 = models()["A100-80GB"]
SMALL = st.integers(0, 50)
NAMES = st.sampled_from(["whole:1", "whole:2@A100-80GB", "mig:1g.10gb/4000m/8192Mi", "shared"])


@given(
    current=SMALL,
    wanted=SMALL,
    most=SMALL,
    predicted=st.builds(Forecast, st.floats(0, 80), st.floats(0, 30)) | st.just(NoData("none", "empty")),
)
def test_what_is_expected_lies_between_what_is_missing_and_the_headroom(current, wanted, most, predicted):
    found = expected_more(current, wanted, most, predicted)
    headroom = max(0, most - current)
    assert min(max(0, wanted - current), headroom) <= found.mean <= headroom
    assert 0.0 <= found.spread <= headroom


def test_without_a_forecast_what_is_wanted_and_missing_is_expected_for_sure():
    assert expected_more(3, 5, 10, NoData("none", "empty")) == Forecast(2.0, 0.0)
    assert expected_more(3, 5, 10, Forecast(7.0, 1.5)) == Forecast(4.0, 1.5)


@given(
    st.dictionaries(
        NAMES, st.builds(Forecast, st.floats(0, 9999).map(lambda x: round(x, 2)), st.floats(0, 99))
    )
)
def test_what_is_written_is_read_back(by_class):
    data, left_out = write_forecasts(by_class)
    found, problems = read_forecasts(data)
    assert (problems, left_out) == ([], 0)
    assert found.keys() == by_class.keys()
    for name, forecast in found.items():
        assert forecast.mean == pytest.approx(by_class[name].mean, rel=1e-4, abs=1e-3)
        assert forecast.spread == pytest.approx(by_class[name].spread, rel=1e-4, abs=1e-3)


def test_what_earlier_versions_wrote_a_workload_is_added_up():
    found, problems = read_forecasts({"shop.llm": "whole:1 3±3", "shop.tts": "whole:1 1±4\nwhole:2 1±0"})
    assert (found, problems) == ({"whole:1": Forecast(4.0, 5.0), "whole:2": Forecast(1.0)}, [])


def test_ten_thousand_classes_fit_and_of_more_the_least_are_left_out():
    classes = {
        f"mig:{index % 7 + 1}g.{index % 90 + 10}gb@A100-SXM4-80GB/{1000 + index}m/{1024 + index}Mi": Forecast(
            index % 500 + 0.5, 12.3456
        )
        for index in range(30_000)
    }
    data, left_out = write_forecasts(dict(list(classes.items())[:10_000]))
    assert left_out == 0
    assert sum(len(text.encode()) for text in data.values()) < 2**20
    data, left_out = write_forecasts(classes)
    assert sum(len(text.encode()) for text in data.values()) <= 1_000_000
    found, problems = read_forecasts(data)
    assert problems == []
    assert left_out == len(classes) - len(found) > 0
    lost = [forecast.mean for name, forecast in classes.items() if name not in found]
    assert max(lost) <= min(forecast.mean for forecast in found.values())


@pytest.mark.parametrize("text", ["whole:1", "whole:1 many", "whole:1 3±", "whole:1 -3±1", "whole:1 1e400"])
def test_a_line_that_cannot_be_read_is_told_and_left_out(text):
    found, problems = read_forecasts({"shop.llm": f"{text}\nwhole:2 1+-0.5"})
    assert found == {"whole:2": Forecast(1.0, 0.5)}
    assert len(problems) == 1
    assert "shop.llm, line 1" in problems[0]


def config_map(data, valid_until):
    annotations = {} if valid_until is None else {"slicewise.io/valid-until": valid_until}
    return msgspec.convert(
        {"metadata": {"name": "slicewise-forecast", "annotations": annotations}, "data": data}, ConfigMap
    )


def test_the_book_tells_no_data_before_after_and_without_a_valid_forecast():
    now = [1000.0]
    book = ForecastBook(lambda: now[0])
    assert isinstance(book.current(), NoData)
    book.replaced([config_map({"shop.llm": "whole:1 3±1"}, "1060")])
    assert book.current() == {"whole:1": Forecast(3.0, 1.0)}
    now[0] = 1061.0
    ended = book.current()
    assert isinstance(ended, NoData)
    assert ended.cause == "stale"
    assert book.known() == {}
    for until in (None, "soon", "nan"):
        book.changed("MODIFIED", config_map({"shop.llm": "whole:1 3±1"}, until))
        found = book.current()
        assert isinstance(found, NoData)
        assert found.cause == "malformed"
    book.changed("MODIFIED", config_map({"shop.llm": "whole:1 4"}, "2000"))
    assert book.known() == {"whole:1": Forecast(4.0, 0.0)}
    book.changed("DELETED", config_map({}, None))
    assert isinstance(book.current(), NoData)


def test_forecasts_add_to_what_runs_and_waits_and_make_no_class_less_certain_than_told():
    told = {"whole:1": Forecast(2.0, 1.0), "bad name": Forecast(9)}
    mix = mix_of({"whole:1": 4.0}, {}, [A100], forecast=told)
    assert dict(mix.counts) == {"whole:1": 6.0}
    assert dict(mix.spread) == {"whole:1": 1.0}


def test_quantiles_are_symmetric():
    assert quantiles(5) == pytest.approx([-value for value in reversed(quantiles(5))])
    assert quantiles(1) == pytest.approx([0.0], abs=1e-12)


def test_a_foreseen_class_becomes_dear_before_its_pods_exist():
    summary = FleetSummary({A100.name: A100}, {}, {(A100.name, 8): 2, (A100.name, 3): 4})
    now = mix_of({"whole:1": 10.0}, {}, [A100])
    later = mix_of({"whole:1": 10.0}, {}, [A100], forecast={"whole:8": Forecast(4.0, 2.0)})
    blind, foreseeing = (
        solve_prices(summary, mix, lambda _: 2.0).node_value[A100.name] for mix in (now, later)
    )
    assert foreseeing[8] - 8 * foreseeing[1] > blind[8] - 8 * blind[1] + 1e-6


def test_the_fuller_the_fleet_is_taken_to_be_the_more_of_an_uncertain_class_there_is():
    summary = FleetSummary({A100.name: A100}, {(A100.name, 1): 6}, {(A100.name, 8): 2})
    counts = {"whole:1": 6.0, "mig:3g.40gb": 6.0}
    sure = solve_prices(summary, DemandMix(counts), lambda _: 2.0)
    unsure = solve_prices(summary, DemandMix(counts, spread={"mig:3g.40gb": 6.0}), lambda _: 2.0)
    shares = [tables.demand["mig:3g.40gb"] / tables.demand["whole:1"] for tables in (sure, unsure)]
    assert shares[0] == pytest.approx(1.0, rel=1e-3)
    assert shares[1] == pytest.approx(1.0 + quantiles(5)[-1], rel=1e-3)
