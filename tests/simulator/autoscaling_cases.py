"""Small demands, servers and fleets for the tests of the autoscaling simulation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import simulator
from simulator.autoscaling_demand import Demand, demand_of
from simulator.autoscaling_fleet import Fleet
from simulator.autoscaling_policy import Metrics, Seen
from simulator.autoscaling_server import ServerModel
from simulator.autoscaling_trace import RequestTrace

TRACES = Path(simulator.__file__).with_name("data") / "traces"


def server(**changes) -> ServerModel:
    """One iteration takes 10 ms whatever the batch, 4 slots, no drain, 2 s for the first token."""
    values: dict[str, Any] = {
        "name": "plain",
        "base_seconds": 0.01,
        "compute_seconds_per_token": 0.0,
        "memory_seconds_per_token": 1e-12,
        "slots": 4,
        "kv_cache_tokens": 1000.0,
        "ttft_seconds": 2.0,
        "queue_timeout_seconds": 60.0,
        "drain_seconds": 0.0,
    }
    return ServerModel(**(values | changes))


def requests(at_seconds, output_tokens=99.0, input_tokens=10.0) -> RequestTrace:
    at = np.asarray(at_seconds, dtype=float)
    return RequestTrace(
        "made", at, np.full(len(at), input_tokens), np.broadcast_to(output_tokens, at.shape).astype(float)
    )


def fluid(rates, work=100.0, patience=2.0, step=1.0) -> Demand:
    """One seed of ``rates`` requests a step without faces, each ``work`` iterations on average."""
    steps = len(rates)
    arrived = np.concatenate([[0.0], np.cumsum(rates)])[:, None]
    return Demand(
        name="fluid",
        step_seconds=step,
        arrived=arrived,
        slope=np.zeros(steps),
        work=np.full(steps, work),
        patience=np.full(steps, patience / step),
        kv_tokens=np.full(steps, 100.0),
        needed=np.asarray(rates, dtype=float)[:, None],
        requests=None,
    )


def unrotated(trace: RequestTrace, model: ServerModel) -> Demand:
    """The demand of a trace for the one seed whose rotation is put back: arrivals as in the file."""
    made = demand_of(trace, model, (0,))
    at = trace.at_seconds / made.step_seconds
    arrived = np.zeros_like(made.arrived)
    arrived[1:, 0] = np.cumsum(np.bincount(at.astype(int), minlength=made.steps)[: made.steps])
    slope = made.slope[:1]
    full = float(model.full_iteration_seconds(slope)[0])
    parts = made.requests
    assert parts is not None
    own = type(parts)(
        np.array([0]),
        at,
        model.work(trace.input_tokens, trace.output_tokens, full),
        model.patience_seconds(trace.input_tokens, full) / made.step_seconds,
    )
    return Demand(
        made.name,
        made.step_seconds,
        arrived,
        made.slope,
        made.work,
        made.patience,
        made.kv_tokens,
        made.needed,
        own,
    )


def fleet(demand: Demand, model: ServerModel, replicas, startup=10.0) -> Fleet:
    """A fleet with one run for each of ``replicas``, all on the first seed."""
    count = np.asarray(replicas, dtype=np.int64)
    return Fleet(demand, model, np.zeros(len(count), dtype=np.int64), np.full(len(count), startup), count)


def seen(current, ready=None, **metrics) -> Seen:
    """What a policy sees of one run; metrics not given are unknown."""
    current = np.array([current])
    ready = current if ready is None else np.array([ready])
    values: dict[str, Any] = {
        name: np.array([float(metrics.get(name, np.nan))])
        for name in ("in_flight", "waiting", "gpu_utilisation", "kv_usage", "slo_missed", "served_rps")
    }
    silent = np.array([int(metrics.get("silent", 0))])
    return Seen(current, ready, current - ready, Metrics(**values, silent=silent))
