"""``simulate autoscaling`` as a user runs it: the JSON, the table, mistakes, faults."""

from __future__ import annotations

import json

import numpy as np
import pytest

from kubectl_slicewise.__main__ import main
from simulator.autoscaling_faults import FAULTS, Faults
from simulator.autoscaling_policy import Metrics
from simulator.autoscaling_registry import AUTOSCALERS
from simulator.autoscaling_report import cost_at
from simulator.autoscaling_run import Outcome
from simulator.autoscaling_study import Asked, studies, study, targets_of
from tests.simulator.autoscaling_cases import TRACES, fluid, requests, server

NAMES = "slicewise,hpa-gpu,hpa-inflight,keda-queue,kpa,wva,ray-serve,static,clairvoyant"


def _simulate(*flags):
    return main(["simulate", "autoscaling", *flags])


@pytest.fixture
def short_trace(tmp_path):
    """Four busy minutes around two quiet ones, a row a request."""
    draw = np.random.default_rng(5)
    at = np.sort(np.concatenate([draw.uniform(0, 120, 600), draw.uniform(240, 360, 1200)]))
    path = tmp_path / "made.csv"
    rows = "\n".join(f"{second:.3f},500,120" for second in at.tolist())
    path.write_text(f"t_s,input_tokens,output_tokens\n{rows}\n", encoding="utf-8")
    return str(path)


def test_the_json_names_every_policy_with_its_frontier(short_trace, capsys):
    assert (
        _simulate("--trace", short_trace, "--policy", NAMES, "--startup", "30", "--seeds", "2", "-o", "json")
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert (found["trace"], found["startup_seconds"], found["seeds"]) == ("made", 30, 2)
    assert list(found["policies"]) == NAMES.split(",")
    for name, policy in found["policies"].items():
        assert len(policy["frontier"]) == len(AUTOSCALERS[name].targets)
        for point in (*policy["frontier"], policy["default"]):
            assert {"slo_attainment", "gpu_hours", "reversals_per_hour", "wasted_gpu_hours"} <= set(point)
            assert 0.0 <= point["slo_attainment"] <= 1.0
            assert point["gpu_hours"] > 0.0
        assert policy["default"] in policy["frontier"]
        cost = policy["at_slo"]["0.99"]
        best = max(point["slo_attainment"] for point in policy["frontier"])
        assert (cost is None) == (best < 0.99)
    yardstick = found["policies"]["clairvoyant"]["at_slo"]["0.99"]["gpu_hours"]
    costs = [one["at_slo"]["0.99"] for name, one in found["policies"].items() if name != "static"]
    assert all(cost is None or cost["gpu_hours"] >= 0.98 * yardstick for cost in costs)


def test_several_start_up_times_give_a_list_and_processes_change_nothing(short_trace, capsys):
    flags = ("--trace", short_trace, "--policy", "hpa-inflight,kpa", "--startup", "30,60", "--seeds", "1")
    assert _simulate(*flags, "-o", "json") == 0
    alone = json.loads(capsys.readouterr().out)
    assert [one["startup_seconds"] for one in alone] == [30, 60]
    assert _simulate(*flags, "--processes", "2", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out) == alone


def test_studies_of_several_traces_come_in_the_order_asked_whatever_the_processes():
    asked = [
        Asked(requests(np.arange(0.0, seconds, 0.5)), server(), targets_of(("kpa", "static")), (42, 43))
        for seconds in (400.0, 100.0)
    ]
    batches = [(asked[0], 30.0), (asked[1], 60.0), (asked[1], 20.0)]
    alone = list(studies(batches))
    assert [(one.startup_seconds, round(one.hours, 2)) for one in alone] == [
        (30.0, 0.12),
        (60.0, 0.04),
        (20.0, 0.04),
    ]
    # Three processes take each start-up time by itself, one takes those of a trace together.
    for one, other in zip(alone, studies(batches, processes=3), strict=True):
        assert (one.startup_seconds, one.hours) == (other.startup_seconds, other.hours)
        for name, by_target in one.outcomes.items():
            for target, outcome in by_target.items():
                apart = other.outcomes[name][target]
                assert outcome.gpu_hours.tolist() == apart.gpu_hours.tolist()
                assert outcome.attainment.tolist() == apart.attainment.tolist()


def test_the_table_has_a_line_a_policy(short_trace, capsys):
    assert _simulate("--trace", short_trace, "--startup", "30", "--seeds", "1", "--no-sweep") == 0
    shown = capsys.readouterr().out
    assert "made: 0.1 h, start-up 30 s, 1 seeds" in shown
    for name in NAMES.split(","):
        assert f"\n{name} " in shown


def test_rows_of_windows_run_as_well(capsys):
    path = str(TRACES / "servegen_aggregate_10min.csv.gz")
    flags = (
        "--trace",
        path,
        "--trace-model",
        "deepseek-r1",
        "--hours",
        "1",
        "--policy",
        "slicewise,hpa-inflight",
    )
    assert _simulate(*flags, "--startup", "30", "--seeds", "1", "--no-sweep", "-o", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["trace"] == "servegen_aggregate_10min/deepseek-r1"
    assert found["hours"] == 1.0


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("--trace", "absent.csv"), "absent.csv: cannot be read"),
        (("--trace", str(TRACES / "servegen_aggregate_10min.csv.gz")), "no --trace-model"),
        (("--trace", str(TRACES / "azure2023_conv.csv.gz"), "--server-model", "absent.json"), "absent.json"),
    ],
)
def test_what_cannot_be_read_is_told_without_a_traceback(flags, expected, capsys):
    assert _simulate(*flags) == 2
    told = capsys.readouterr().err
    assert expected in told
    assert "Traceback" not in told


@pytest.mark.parametrize(
    ("flag", "value", "expected"),
    [
        ("--policy", "hpa", "expected any of slicewise"),
        ("--startup", "0", "expected a number from 1 to 3600"),
        ("--startup", ",", "expected seconds"),
        ("--fault", "fire", "expected any of prometheus-down"),
        ("--hours", "nan", "expected a number"),
        ("--seeds", "0", "expected a whole number"),
    ],
)
def test_wrong_flags_are_refused_with_what_was_expected(flag, value, expected, capsys):
    with pytest.raises(SystemExit) as refused:
        _simulate("--trace", "any.csv", flag, value)
    assert refused.value.code == 2
    assert expected in capsys.readouterr().err


def _outcome(attainment, hours):
    return Outcome(*(np.array([value]) for value in (attainment, hours, 0.0, 0.0, 0.0, 0.0)))


def test_the_cost_at_an_objective_lies_on_the_line_between_two_targets():
    sweep = {0.5: _outcome(1.0, 20.0), 0.7: _outcome(0.995, 12.0), 0.9: _outcome(0.985, 10.0)}
    assert cost_at(sweep, 0.99) == pytest.approx(11.0)
    assert cost_at(sweep, 0.999) == pytest.approx(13.6 + 4.8)
    assert cost_at({0.9: _outcome(0.985, 10.0)}, 0.99) is None


def _study(faults, policies=("hpa-inflight", "kpa", "slicewise")):
    draw = np.random.default_rng(3)
    calm, busy = draw.uniform(0, 2400, 4800), draw.uniform(900, 1200, 1800)
    trace = requests(np.sort(np.concatenate([calm, busy])), output_tokens=399.0)
    asked = Asked(trace, server(slots=8), targets_of(policies, sweep=False), (42,), faults)
    (found,) = study(asked, (60.0,))
    return {name: next(iter(by_target.values())) for name, by_target in found.outcomes.items()}


def test_every_fault_costs_somebody_something_and_nobody_falls_to_nothing():
    well = _study(())
    for fault in FAULTS:
        ill = _study((fault,))
        for name, outcome in ill.items():
            assert (outcome.gpu_hours > 0.3 * well[name].gpu_hours).all(), (fault, name)
    beside = _study(("second-writer",), ("static",))
    assert beside["static"].gpu_hours.mean() < _study((), ("static",))["static"].gpu_hours.mean()


def test_a_prometheus_that_is_down_hides_sums_and_silent_pods_shrink_them():
    demand = fluid([1.0] * 2000)
    faults = Faults.at_peak(("prometheus-down", "silent-pods", "nan-idle"), demand)
    assert faults.prometheus_down(faults.peak_seconds)
    assert not faults.prometheus_down(faults.peak_seconds + 600.0)
    full, none = np.array([100.0, 0.0]), np.array([0.5, 0.5])
    metrics = Metrics(full, full, none, none, none, none, np.zeros(2, dtype=np.int64))
    seen = faults.on_metrics(metrics, np.array([10, 4]))
    assert seen.in_flight.tolist() == [80.0, 0.0]
    assert seen.silent.tolist() == [2, 0]
    assert np.isnan(seen.slo_missed).tolist() == [False, True]


def test_a_second_writer_stays_ten_minutes_and_a_restart_comes_once():
    demand = fluid([1.0] * 2000)
    faults = Faults.at_peak(("restart", "second-writer"), demand)
    seconds = [faults.peak_seconds + tick for tick in range(1000)]
    assert sum(faults.restarts(now, 1.0) for now in seconds) == 1
    assert sum(faults.second_writer(now) for now in seconds) == 600
