"""``tune``: what it may change, how it cuts the history, when it advises, and the command on a trace."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cluster.autoscaling_policy import AutoscalingPolicy
from kubectl_slicewise.__main__ import main
from kubectl_slicewise.tune import with_objective
from metrics.samples import NoData
from simulator.autoscaling_server import DEFAULT_MODEL, read_server
from simulator.autoscaling_trace import RequestTrace, TraceRefused, WindowTrace
from simulator.paired import difference
from simulator.tuning import Judgement, Setup, Tally, Tuned, cost, run_policies, split
from simulator.tuning_history import Recorded, measured_speed, windows_of
from simulator.tuning_report import advice, as_patch, changes
from simulator.tuning_space import changed, knobs_of, value_of

POLICY = AutoscalingPolicy.model_validate(
    {
        "target": {"name": "llm"},
        "maxReplicas": 40,
        "inFlight": {"perReplica": 16.0},
        "slo": {"latencySeconds": 2.0, "measure": "ttft"},
    }
)
SERVER = read_server(DEFAULT_MODEL)


def windows(rates, minutes=10.0):
    count = len(rates)
    return WindowTrace(
        "made", 60.0 * minutes, np.array(rates), np.ones(count), np.full(count, 500.0), np.full(count, 120.0)
    )


def tally(late, gpu_hours, blocks=3):
    """Even blocks of 1000 requests; one seed."""
    steps = np.arange(blocks + 1.0)[:, None]
    return Tally(1000.0 * steps, 1000.0 * late * steps, 3600.0 * gpu_hours / blocks * steps)


@given(st.data())
def test_any_value_of_any_knob_gives_a_valid_policy_and_keeps_what_the_user_wished(data):
    values = {
        knob.path: data.draw(st.floats(knob.low, knob.high), label=knob.path) for knob in knobs_of(POLICY)
    }
    tuned = changed(POLICY, values)
    for knob in knobs_of(POLICY):
        assert value_of(tuned, knob) == pytest.approx(values[knob.path], rel=0.01, abs=1e-3)
    assert tuned.slo is not None
    assert (tuned.target, tuned.max_replicas, tuned.slo.attainment) == (POLICY.target, 40, 0.99)
    assert tuned.slo.latency_seconds == 2.0


def test_without_objective_the_margin_is_searched_and_without_share_none_is_invented():
    plain = AutoscalingPolicy.model_validate(
        {"target": {"name": "a"}, "maxReplicas": 2, "inFlight": {"perReplica": 8.0}}
    )
    assert "scaleDown.margin" in {knob.path for knob in knobs_of(plain)}
    assert not {"slo.learningRate"} & {knob.path for knob in knobs_of(plain)}
    learned = AutoscalingPolicy.model_validate(
        {"target": {"name": "a"}, "maxReplicas": 2, "slo": {"latencySeconds": 1.0}}
    )
    assert "inFlight.perReplica" not in {knob.path for knob in knobs_of(learned)}


def test_windows_are_searched_on_the_first_and_judged_on_the_last_days():
    history = split(windows(np.ones(10 * 144)), 0.3)
    assert history.seen.span_seconds == 7 * 86_400.0
    assert history.judged.span_seconds == 10 * 86_400.0
    assert history.marks == pytest.approx([7 * 86_400.0 + day * 86_400.0 for day in range(4)])


def test_a_short_history_is_judged_in_quarters_and_a_too_short_one_refused():
    assert len(split(windows(np.ones(12)), 0.5).marks) == 5
    with pytest.raises(TraceRefused, match=r"at least 10 minutes on either side"):
        split(windows(np.ones(3)), 0.3)


def test_no_request_of_the_judged_part_was_seen_by_the_search():
    at = np.linspace(0.0, 7200.0, 1000)
    trace = RequestTrace("made", at, np.arange(1000.0), np.ones(1000))
    history = split(trace, 0.25)
    assert isinstance(history.seen, RequestTrace)
    assert isinstance(history.judged, RequestTrace)
    assert history.seen.input_tokens.max() < history.judged.input_tokens.min()
    assert len(history.seen.at_seconds) + len(history.judged.at_seconds) == 1000


def test_minutes_that_were_not_recorded_are_gaps_and_not_silence():
    full = dict.fromkeys(range(40), 60.0)
    holes = {minute: count for minute, count in full.items() if not 13 <= minute < 20}
    trace = windows_of("w", Recorded(holes, {}, {}))
    assert trace.rate_rps.tolist() == [1.0, 1.0, 1.0]
    with pytest.raises(TraceRefused, match="no request was recorded"):
        windows_of("w", Recorded({}, {}, {}))


def test_the_variation_of_counts_is_their_index_of_dispersion():
    draw = np.random.default_rng(3)
    counts = draw.negative_binomial(30.0 / 8.0, 1.0 / 9.0, 4000)  # mean 30, variance 9 × mean
    trace = windows_of("w", Recorded(dict(enumerate(counts.tolist())), {}, {}))
    assert math.sqrt(float((trace.cv**2).mean())) == pytest.approx(3.0, rel=0.05)


@pytest.mark.parametrize("seconds", [0.3, 4.0, 25.0])
def test_the_simulated_server_takes_as_long_as_the_recorded_requests(seconds):
    minutes = range(30)
    past = Recorded(
        dict.fromkeys(minutes, 120.0),
        dict.fromkeys(minutes, 2.0 * seconds),
        dict.fromkeys(minutes, 1.0),
    )
    server = measured_speed(SERVER, past)
    assert not isinstance(server, NoData)
    tokens = np.array([1000.0]), np.array([200.0])
    slope = server.slope_seconds(*tokens)
    batch = min(server.slots, 2.0 * seconds)
    took = (server.base_seconds + batch * slope[0]) * server.work(
        *tokens, server.full_iteration_seconds(slope)
    )[0]
    assert took == pytest.approx(seconds, rel=1e-6)
    assert isinstance(measured_speed(SERVER, replace(past, in_flight={})), NoData)


def test_a_bound_on_the_whole_request_leaves_less_for_the_first_token():
    trace = windows(np.ones(20))
    first = with_objective(SERVER, POLICY, trace).ttft_seconds
    whole = POLICY.model_copy(
        update={"slo": POLICY.slo.model_copy(update={"measure": "e2e", "latency_seconds": 30.0})}
    )
    assert first == 2.0
    assert 0.0 < with_objective(SERVER, whole, trace).ttft_seconds < 30.0
    hopeless = POLICY.model_copy(update={"slo": POLICY.slo.model_copy(update={"measure": "e2e"})})
    with pytest.raises(TraceRefused, match=r"slo.latencySeconds: got 2"):
        with_objective(SERVER, hopeless, trace)


def test_a_policy_that_misses_more_costs_more_than_any_saving():
    present = tally(0.005, 10.0)
    assert cost(present, present, 0.01) == pytest.approx(1.0)
    assert cost(tally(0.01, 9.0), present, 0.01) == pytest.approx(0.9)
    assert cost(tally(0.03, 1.0), present, 0.01) > 1.0


def found(late_now, late_then, saved):
    judged = Judgement(
        tally(late_now, 10.0), tally(late_then, 9.0), difference(saved), difference([0.0, 0.0])
    )
    return Tuned(changed(POLICY, {"slo.learningRate": 0.3}), 8, judged.present, judged)


@pytest.mark.parametrize(
    ("tuned", "recommended", "words"),
    [
        (found(0.005, 0.006, [9.0, 10.0, 11.0]), True, "saves 10.0 % GPU-hours"),
        (found(0.005, 0.006, [30.0, -25.0, 4.0]), False, "within the noise"),
        (found(0.005, 0.02, [9.0, 10.0, 11.0]), False, "does not carry over"),
        (found(0.05, 0.008, [-9.0, -10.0, -11.0]), True, "misses its objective"),
        (Tuned(POLICY, 8, tally(0, 1), None), False, "keep it"),
    ],
)
def test_only_what_held_on_days_not_seen_is_recommended(tuned, recommended, words):
    said, why = advice(POLICY, tuned)
    assert said is recommended
    assert words in why


def test_the_patch_shows_the_changed_keys_only():
    tuned = changed(POLICY, {"slo.learningRate": 0.31})
    assert changes(POLICY, tuned) == {"slo.learningRate": {"from": 0.2, "to": 0.31}}
    added = [line for line in as_patch(POLICY, tuned).splitlines() if line[:1] == "+"]
    assert added == ["+++ tuned", "+  learningRate: 0.31"]
    assert as_patch(POLICY, POLICY) == ""


def test_a_run_is_told_apart_by_its_marks():
    from simulator.autoscaling_demand import demand_of

    trace = windows([2.0, 6.0, 2.0])
    setup = Setup(split(windows(np.ones(12)), 0.5), SERVER, 30.0, (42, 43))
    demand = demand_of(trace, SERVER, setup.seeds)
    (one,) = run_policies([POLICY], demand, setup, (0.0, 600.0, 1200.0, 1800.0))
    arrived = np.diff(one.arrived, axis=0)
    assert arrived.shape == (3, 2)
    assert arrived[1] == pytest.approx([3600.0, 3600.0], rel=0.01)
    assert (np.diff(one.gpu_seconds, axis=0) >= 600.0).all()


@pytest.fixture
def history(tmp_path):
    """Three hours with a slow wave, by windows of ten minutes."""
    path = tmp_path / "wave.csv"
    rows = [f"m,{600 * n},{6 + 4 * math.sin(n / 3):.3f},1.2,500,120" for n in range(18)]
    header = "model,t_s,rate_rps,rate_weighted_cv,mean_input_tokens,mean_output_tokens"
    path.write_text("\n".join([header, *rows]), encoding="utf-8")
    return str(path)


@pytest.fixture
def policy_file(tmp_path):
    path = tmp_path / "policy.yaml"
    wasteful = POLICY.model_dump(mode="json", by_alias=True, exclude_unset=True)
    wasteful["slo"]["leastHeadroom"] = 6.0  # room that nobody needs: there is something to find
    path.write_text(yaml.safe_dump({"kind": "AutoscalingPolicy", **wasteful}), encoding="utf-8")
    return str(path)


def test_the_command_finds_the_waste_and_applies_nothing(history, policy_file, capsys):
    before = Path(policy_file).read_text(encoding="utf-8")
    flags = ["tune", policy_file, "--trace", history, "--trials", "8", "--seeds", "1", "--startup", "30"]
    assert main([*flags, "-o", "json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["recommended"], report["advice"]
    assert "slo.leastHeadroom" in report["changes"]
    assert report["tuned"]["gpu_hours"] < report["present"]["gpu_hours"]
    assert report["saved_percent"]["ci95"][0] > 0.0
    assert Path(policy_file).read_text(encoding="utf-8") == before
    assert main(flags) == 0
    text = capsys.readouterr().out
    assert "-  leastHeadroom: 6.0" in text
    assert text.rstrip().endswith("Nothing was applied.")


def test_mistakes_are_told_and_not_traced(history, policy_file, tmp_path, capsys):
    assert main(["tune", policy_file]) == 2
    assert "expected either --trace or --prometheus-url" in capsys.readouterr().err
    assert main(["tune", policy_file, "--trace", str(tmp_path / "none.csv")]) == 1
    assert "cannot be read" in capsys.readouterr().err
    assert main(["tune", str(tmp_path / "none.yaml"), "--trace", history]) == 2
    assert "No such file" in capsys.readouterr().err
    assert main(["tune", policy_file, "--prometheus-url", "http://127.0.0.1:9"]) == 1
    assert "cannot reach Prometheus" in capsys.readouterr().err
