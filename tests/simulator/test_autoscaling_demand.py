"""Traces are read as they are written, and what is drawn from them keeps their numbers."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from simulator.autoscaling_demand import demand_of
from simulator.autoscaling_server import DEFAULT_MODEL, ServerRefused, read_server
from simulator.autoscaling_trace import RequestTrace, TraceRefused, WindowTrace, read_trace
from tests.simulator.autoscaling_cases import TRACES, requests, server

WINDOWS = "model,t_s,rate_rps,rate_weighted_cv,mean_input_tokens,mean_output_tokens\n"


def test_the_azure_traces_have_the_published_shape():
    code, conv = (read_trace(TRACES / f"azure2023_{name}.csv.gz") for name in ("code", "conv"))
    assert isinstance(code, RequestTrace)
    assert (len(code.at_seconds), len(conv.at_seconds)) == (8819, 19366)
    gaps = np.diff(code.at_seconds)
    assert gaps.std() / gaps.mean() == pytest.approx(13.2, abs=0.1)
    assert gaps.max() == pytest.approx(217.0, abs=1.0)


def test_gaps_of_the_log_are_cut_out_with_their_edges():
    path = TRACES / "servegen_aggregate_10min.csv.gz"
    large, mid = read_trace(path, "m-large"), read_trace(path, "m-mid")
    assert isinstance(large, WindowTrace)
    assert len(large.rate_rps) == 2016
    assert large.rate_rps.max() / large.rate_rps.mean() == pytest.approx(2.98, abs=0.01)
    assert len(mid.rate_rps) <= 2016 - 84
    assert mid.rate_rps.min() > 0.05 * np.median(mid.rate_rps)
    assert mid.rate_rps.max() / mid.rate_rps.mean() == pytest.approx(1.84, abs=0.02)


def test_a_model_without_token_counts_gets_the_stated_ones():
    image = read_trace(TRACES / "servegen_aggregate_10min.csv.gz", "mm-image", hours=2.0)
    assert isinstance(image, WindowTrace)
    assert len(image.rate_rps) == 12
    assert set(image.output_tokens) == {200.0}


@pytest.mark.parametrize(
    ("text", "model", "expected"),
    [
        ("a,b\n1,2\n", None, "expected t_s"),
        ("t_s,input_tokens,output_tokens\n0,1,x\n", None, "line 2, output_tokens: got 'x'"),
        ("t_s,input_tokens,output_tokens\n0,1,1\n", None, "got 1 requests"),
        (WINDOWS + "a,0,1,1,1,1\na,600,1,1,1,1\n", "b", "expected one of the models in it: a"),
        (WINDOWS + "a,0,1,1,1,1\nb,0,1,1,1,1\n", None, "no --trace-model"),
        (WINDOWS + "a,0,1,1,1,1\na,600,1,1,1,1\na,601,1,1,1,1\n", "a", "windows of one length"),
        (WINDOWS + "a,0,0,,,\na,600,0,,,\n", "a", "every window has rate 0"),
        ("", None, "got the columns none"),
    ],
)
def test_what_is_no_trace_is_refused_with_the_place(tmp_path, text, model, expected):
    path = tmp_path / "trace.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TraceRefused, match=r"trace\.csv") as refused:
        read_trace(path, model)
    assert expected in str(refused.value)


def test_files_that_cannot_be_read_are_refused(tmp_path):
    broken = tmp_path / "broken.csv.gz"
    broken.write_bytes(gzip.compress(b"t_s,input_tokens,output_tokens\n" * 1000)[:-20])
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (broken, binary, tmp_path / "absent.csv"):
        with pytest.raises(TraceRefused, match=path.name):
            read_trace(path)


@pytest.mark.parametrize(
    ("change", "expected"),
    [('"slots": 0', "slots: got 0"), ('"slot": 1', "slot"), ('"ttft_seconds": -1.0', "ttft_seconds")],
)
def test_a_serving_model_is_checked(tmp_path, change, expected):
    path = tmp_path / "server.json"
    text = DEFAULT_MODEL.read_text(encoding="utf-8")
    key = change.split(":")[0]
    lines = [line for line in text.splitlines() if not line.strip().startswith(key)]
    lines.insert(1, f"  {change},")
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(ServerRefused, match=expected):
        read_server(path)


def test_one_batch_of_the_default_model_keeps_25_ms_between_tokens_of_chat():
    model = read_server(DEFAULT_MODEL)
    slope = model.slope_seconds(np.array([1155.0]), np.array([211.0]))
    assert float(model.full_iteration_seconds(slope)[0]) == pytest.approx(0.0243, abs=0.0005)


def test_a_seed_turns_the_trace_round_and_keeps_every_request():
    demand = demand_of(requests([0.0, 1.0, 1.5, 7.0]), server(), (1, 2, 1))
    assert demand.arrived[-1].tolist() == [4.0, 4.0, 4.0]
    assert (demand.arrived[:, 0] == demand.arrived[:, 2]).all()
    assert not (demand.arrived[:, 0] == demand.arrived[:, 1]).all()
    # Each needs 100 iterations of 10 ms: one second in service.
    assert demand.needed.sum(axis=0) * demand.step_seconds == pytest.approx([5.0] * 3, abs=1.1)


def test_windows_keep_their_rate_and_their_burstiness():
    rate, cv, wide = 50.0, 3.0, 600
    trace = WindowTrace(
        "made", 600.0, np.full(40, rate), np.full(40, cv), np.full(40, 10.0), np.full(40, 99.0)
    )
    demand = demand_of(trace, server(), (1, 2))
    counts = np.diff(demand.arrived[:, 0])
    assert counts.reshape(-1, wide).sum(axis=1) == pytest.approx(rate * wide)
    assert counts.var() / counts.mean() == pytest.approx(cv**2, rel=0.1)
    assert not (demand.arrived[:, 0] == demand.arrived[:, 1]).all()
    # Little: 50 a second for one second each.
    assert demand.needed[600:, 0].mean() == pytest.approx(rate, rel=0.02)


def test_steady_clients_arrive_at_random():
    trace = WindowTrace(
        "made", 600.0, np.full(40, 50.0), np.full(40, 0.5), np.full(40, 10.0), np.full(40, 99.0)
    )
    counts = np.diff(demand_of(trace, server(), (1,)).arrived[:, 0])
    assert counts.var() / counts.mean() == pytest.approx(1.0, rel=0.1)


def test_the_peak_is_where_most_requests_come():
    rates = np.concatenate([np.full(20, 5.0), [50.0], np.full(19, 5.0)])
    trace = WindowTrace("made", 600.0, rates, np.full(40, 1.0), np.full(40, 10.0), np.full(40, 99.0))
    demand = demand_of(trace, server(), (1,))
    assert demand.peak_step() == pytest.approx(20 * 600, abs=30)
