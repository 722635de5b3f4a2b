from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.demo.llm_load import mean_in_flight, read_requests, service_seconds, static_replicas
from deploy.demo.llm_model import LlmRequest, Replica, ServerSpeed
from deploy.demo.llm_service import LlmService
from deploy.demo.plan import DATA

SPEED = ServerSpeed()


def requests(*arrivals: float, tokens: int = 100) -> list[LlmRequest]:
    return [LlmRequest(i, at, 800, tokens) for i, at in enumerate(arrivals)]


@settings(deadline=None, max_examples=40)
@given(
    arrivals=st.lists(st.floats(0, 20), max_size=60),
    changes=st.lists(st.tuples(st.floats(0, 30), st.integers(0, 4)), max_size=8),
)
def test_no_request_is_lost_or_served_twice_whatever_happens_to_the_replicas(
    arrivals: list[float], changes: list[tuple[float, int]]
) -> None:
    service = LlmService(requests(*sorted(arrivals)), SPEED)
    for at, count in sorted(changes):
        service.advance(at)
        service.set_replicas(f"r{i}" for i in range(count))
        assert len(service.served) + service.in_flight == service.arrived
    service.advance(40.0)
    service.set_replicas(["r0", "r1"])
    service.advance(400.0)
    assert sorted(served.request.number for served in service.served) == list(range(len(arrivals)))
    assert service.in_flight == 0


def test_a_lone_request_takes_its_prompt_and_its_tokens() -> None:
    (request,) = requests(1.0)
    service = LlmService([request], SPEED)
    service.set_replicas(["r0"])
    (served,) = service.advance(60.0)
    assert served.total_seconds == pytest.approx(service_seconds(request, SPEED, batch=1), rel=1e-6)
    step = SPEED.step_base_seconds + SPEED.step_per_sequence_seconds
    assert served.first_token_seconds == pytest.approx(800 / SPEED.prefill_tokens_per_second + step, rel=1e-6)


def test_sequences_slow_one_another_by_the_law_of_the_step() -> None:
    service = LlmService(requests(*[0.0] * 16), SPEED)
    service.set_replicas(["r0"])
    served = service.advance(60.0)
    alone = service_seconds(served[0].request, SPEED, batch=1)
    together = service_seconds(served[0].request, SPEED, batch=16)
    assert all(one.total_seconds == pytest.approx(together, rel=1e-3) for one in served)
    assert together > alone


def test_more_than_the_slots_wait_in_order() -> None:
    service = LlmService(requests(*[0.0] * 17), SPEED)
    service.set_replicas(["r0"])
    served = service.advance(60.0)
    assert served[-1].request.number == 16
    assert served[-1].first_token_seconds > served[0].total_seconds


def test_time_in_small_steps_or_in_one_gives_the_same_answers() -> None:
    arrivals = sorted(random.Random(5).uniform(0, 20) for _ in range(80))
    totals = []
    for step in (0.05, 60.0):
        service = LlmService(requests(*arrivals), SPEED)
        service.set_replicas(["r0", "r1"])
        at = 0.0
        while at < 60.0:
            at += step
            service.advance(at)
        totals.append({served.request.number: served.total_seconds for served in service.served})
    assert totals[0] == pytest.approx(totals[1], rel=1e-6)


def test_one_slot_with_equal_requests_waits_as_md1_predicts() -> None:
    """Poisson arrivals, one server, constant service time: mean wait = ρ·s / (2·(1 − ρ))
    (Pollaczek-Khinchine).
    """
    speed = ServerSpeed(slots=1)
    draw = random.Random(11)
    one = service_seconds(LlmRequest(0, 0.0, 800, 100), speed, batch=1)
    utilisation = 0.7
    at, arrivals = 0.0, []
    for _ in range(20_000):
        at += draw.expovariate(utilisation / one)
        arrivals.append(at)
    service = LlmService(requests(*arrivals), speed)
    service.set_replicas(["r0"])
    served = service.advance(at + 1000.0)
    mean_wait = sum(item.total_seconds for item in served) / len(served) - one
    assert mean_wait == pytest.approx(utilisation * one / (2 * (1 - utilisation)), rel=0.08)


def test_a_replica_that_goes_hands_its_work_over_and_the_delay_shows() -> None:
    service = LlmService(requests(0.0), SPEED)
    service.set_replicas(["r0", "r1"])
    service.advance(1.0)
    service.set_replicas(["r1"])
    (served,) = service.advance(60.0)
    assert served.replica == "r1"
    assert served.total_seconds > 1.0 + service_seconds(served.request, SPEED, batch=1) - 1e-6


def test_requests_wait_at_the_router_while_nobody_serves() -> None:
    service = LlmService(requests(0.0, 1.0), SPEED)
    service.advance(5.0)
    assert (service.in_flight, service.sample().waiting_at_router) == (2, 2)
    service.set_replicas(["r0"])
    assert service.sample().waiting_at_router == 0


def test_the_report_averages_the_slots_in_use() -> None:
    service = LlmService(requests(*[0.0] * 8, tokens=10_000), SPEED)
    service.set_replicas(["r0"])
    service.advance(10.0)
    (state,) = service.report()
    assert (state.running, state.waiting) == (8, 0)
    assert state.active_share == pytest.approx(0.5, rel=0.01)


def test_an_idle_replica_advances_and_is_not_busy() -> None:
    replica = Replica("r0", SPEED, 0.0)
    assert replica.advance(10.0) == ()
    assert (replica.now, replica.busy_seconds, replica.in_flight) == (10.0, 0.0, 0)


def test_the_trace_is_squeezed_into_the_window_and_keeps_its_sizes() -> None:
    found = read_requests((DATA / "azure_conv_cut.csv").read_text(), window_seconds=60.0)
    assert found[0].arrived_seconds == 0.0
    assert found[-1].arrived_seconds == pytest.approx(60.0)
    assert len(found) == 1937
    assert 900 < sum(request.input_tokens for request in found) / len(found) < 1400


def test_a_shorter_window_keeps_the_load_and_not_the_number_of_requests() -> None:
    text = (DATA / "azure_conv_cut.csv").read_text()
    rates = [len(read_requests(text, window_seconds=seconds)) / seconds for seconds in (75.0, 15.0)]
    assert rates[0] == pytest.approx(rates[1], rel=0.05)


def test_the_static_size_carries_the_mean_load() -> None:
    found = read_requests((DATA / "azure_conv_cut.csv").read_text(), window_seconds=60.0)
    load = mean_in_flight(found, SPEED, window_seconds=60.0, batch=12)
    replicas = static_replicas(found, SPEED, window_seconds=60.0, per_replica=12)
    assert (replicas - 1) * 12 < load <= replicas * 12
    assert static_replicas([], SPEED, window_seconds=60.0, per_replica=12) == 1


def test_an_unreadable_line_of_the_trace_is_named() -> None:
    with pytest.raises(ValueError, match="line 2"):
        read_requests("t_s,input_tokens,output_tokens\nx,1,1\n", window_seconds=1.0)
