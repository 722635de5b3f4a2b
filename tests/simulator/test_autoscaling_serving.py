"""The plant: queueing against exact runs and formulas, replicas and their hours by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.autoscaling_server import DEFAULT_MODEL, read_server
from simulator.autoscaling_trace import read_trace
from tests.simulator.autoscaling_cases import TRACES, fleet, fluid, requests, server, unrotated
from tests.simulator.exact_serving import share_in_time, waits_of


def _through(plant, demand):
    for step in range(demand.steps):
        plant.step(step)
    return 1.0 - (plant.missed + plant.waiting) / plant.arrived


@pytest.mark.parametrize(
    ("name", "replicas"), [("azure2023_conv", (2, 3, 4)), ("azure2023_code", (1, 2, 4, 6))]
)
def test_steps_agree_with_every_request_by_itself_on_the_azure_traces(name, replicas):
    model = read_server(DEFAULT_MODEL)
    trace = read_trace(TRACES / f"{name}.csv.gz")
    demand = unrotated(trace, model)
    own = demand.requests
    in_steps = _through(fleet(demand, model, replicas), demand)
    for place, count in enumerate(replicas):
        exact = share_in_time(
            model,
            float(demand.slope[0]),
            trace.at_seconds.tolist(),
            own.work.tolist(),
            (own.patience_steps * demand.step_seconds).tolist(),
            count,
        )
        assert in_steps[place] == pytest.approx(exact, abs=0.015), (count, exact)


def test_waiting_of_random_arrivals_follows_erlang():
    draw = np.random.default_rng(7)
    model = server(slots=1, queue_timeout_seconds=600.0, ttft_seconds=0.5)
    rate, replicas, count = 3.0, 4, 40_000
    at = np.cumsum(draw.exponential(1.0 / rate, count))
    work = draw.exponential(100.0, count)
    offered = rate * 1.0
    erlang = _erlang_c(replicas, offered)
    exact = np.array(waits_of(model, 0.0, at.tolist(), work.tolist(), replicas))
    assert (exact > 0.0).mean() == pytest.approx(erlang, abs=0.02)

    trace = requests(at, output_tokens=np.maximum(work - 1.0, 0.0))
    demand = unrotated(trace, model)
    patience = 0.49
    in_time = _through(fleet(demand, model, [replicas]), demand)[0]
    late = erlang * math.exp(-(replicas - offered) * patience)
    assert 1.0 - in_time == pytest.approx(late, abs=0.04)


def _erlang_c(servers: int, offered: float) -> float:
    terms = [offered**k / math.factorial(k) for k in range(servers)]
    last = offered**servers / math.factorial(servers) * servers / (servers - offered)
    return last / (sum(terms) + last)


def test_a_steady_load_that_fits_never_waits_and_one_that_does_not_queues():
    # One replica ends 4 requests a second: 4 slots, 1 s each.
    fits, not_quite = fluid([3.9] * 600), fluid([4.4] * 600)
    light, heavy = fleet(fits, server(), [1, 2]), fleet(not_quite, server(), [1])
    assert _through(light, fits) == pytest.approx(1.0)
    assert light.in_service == pytest.approx(3.9)
    assert _through(heavy, not_quite)[0] < 0.1
    assert heavy.taken[0] - heavy.refused[0] == pytest.approx(4.0 * 600, abs=5.0)


def test_a_batch_slows_every_request_down():
    model = server(slots=100, memory_seconds_per_token=0.0001, base_seconds=0.01)
    demand = fluid([1.0] * 2000)
    slow = type(demand)(**{**_fields(demand), "slope": np.full(demand.steps, 0.002)})
    light, heavy = fleet(demand, model, [1]), fleet(slow, model, [1])
    _through(light, demand)
    _through(heavy, slow)
    assert heavy.in_service[0] > light.in_service[0] * 1.2


def test_replicas_serve_after_their_start_up_and_count_from_creation():
    demand = fluid([0.0] * 40)
    plant = fleet(demand, server(), [1], startup=10.0)
    for step in range(40):
        plant.step(step)
        if step == 4:
            plant.scale(step, 0, np.array([3]))
        assert plant.ready[0] == (3 if step >= 14 else 1)
    assert plant.gpu_seconds[0] == 40.0 + 2 * 35.0


def test_starting_replicas_go_first_and_what_they_cost_is_waste():
    demand = fluid([0.0] * 40)
    plant = fleet(demand, server(), [2], startup=10.0)
    plant.step(0)
    plant.scale(0, 0, np.array([4]))
    for step in range(1, 7):
        plant.step(step)
    plant.scale(6, 0, np.array([5]))
    plant.step(7)
    plant.scale(7, 0, np.array([3]))
    assert (plant.ready[0], plant.starting[0]) == (2, 1)
    assert plant.killed_starting[0] == 2
    assert plant.wasted_seconds[0] == 1.0 + 7.0
    plant.scale(7, 0, np.array([1]))
    assert (plant.ready[0], plant.starting[0]) == (1, 0)


def test_a_deleted_replica_drains_and_keeps_its_gpu_meanwhile():
    demand = fluid([2.0] * 60, work=1000.0)
    plant = fleet(demand, server(drain_seconds=5.0), [2])
    for step in range(10):
        plant.step(step)
    before = plant.gpu_seconds[0]
    plant.scale(9, 0, np.array([1]))
    assert (plant.ready[0], plant.draining[0]) == (1, 1)
    for step in range(10, 20):
        plant.step(step)
    assert plant.draining[0] == 0
    assert plant.gpu_seconds[0] - before == 10.0 + 4.0


def test_what_waits_too_long_is_refused_and_is_a_miss():
    demand = fluid([10.0] + [0.0] * 99, work=1e9)
    plant = fleet(demand, server(queue_timeout_seconds=20.0), [1])
    attained = _through(plant, demand)
    assert plant.refused[0] == pytest.approx(6.0, rel=1e-5)
    assert attained[0] == pytest.approx(0.4, rel=1e-5)


def test_a_step_of_demand_misses_until_the_new_replica_serves():
    # One replica ends 4 a second; from second 60 on there come 6, a second replica is asked for then.
    demand = fluid([3.0] * 60 + [6.0] * 240)
    plant = fleet(demand, server(), [1, 1], startup=30.0)
    for step in range(demand.steps):
        plant.step(step)
        if step == 60:
            plant.scale(step, 1, np.array([2]))
    assert plant.late[0] > plant.late[1] > 0.0
    assert plant.late[1] + plant.refused[1] < 6.0 * 90
    assert plant.longest_bad[1] < plant.longest_bad[0]


def test_a_reversal_is_a_change_of_direction():
    plant = fleet(fluid([0.0] * 30), server(), [3])
    for step, replicas in enumerate([4, 5, 4, 4, 3, 6]):
        plant.step(step)
        plant.scale(step, 0, np.array([replicas]))
    assert plant.reversals[0] == 2


@settings(max_examples=40, deadline=None)
@given(
    rates=st.lists(st.floats(0.0, 40.0), min_size=30, max_size=60),
    wishes=st.lists(st.integers(0, 9), min_size=60, max_size=60),
    drain=st.sampled_from([0.0, 3.0]),
)
def test_requests_and_replicas_are_conserved_whatever_a_policy_does(rates, wishes, drain):
    demand = fluid(rates)
    plant = fleet(demand, server(drain_seconds=drain, queue_timeout_seconds=8.0), [2], startup=7.0)
    for step, wish in zip(range(demand.steps), wishes, strict=False):
        plant.step(step)
        plant.scale(step, 0, np.array([wish]))
        assert plant.replicas[0] == wish
        assert min(plant.ready[0], plant.starting[0], plant.draining[0]) >= 0
        assert 0.0 <= plant.waiting[0] <= plant.arrived[0] + 1e-9
        assert plant.in_service[0] >= 0.0
        assert plant.missed[0] <= plant.taken[0] + 1e-9
        assert plant.taken[0] <= plant.arrived[0] + 1e-9


def _fields(demand):
    return {name: getattr(demand, name) for name in demand.__dataclass_fields__}
