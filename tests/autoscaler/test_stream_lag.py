"""Streaming consumers: replicas by lag, bounded by partitions, never lowered by what is missing."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler import reasons
from autoscaler.decide import decide
from autoscaler.signals import NOT_ASKED, Signals
from autoscaler.state import State
from autoscaler.stream_lag import sized_by_lag
from autoscaler.streams import stream_of, stream_queries
from cluster.policy import PolicyRefused, load_autoscaling_policy
from metrics.parts import PART
from metrics.samples import NoData, Sample, Vector
from metrics.servers import EVERYTHING
from metrics.streams import STREAM_SOURCES, StreamLag

MISSING = NoData("no answer", "outage")


def policy(lag="group: orders, messagesPerSecond: 50", **more):
    extra = "".join(f"{key}: {value}\n" for key, value in more.items())
    text = (
        "apiVersion: slicewise.io/v1alpha1\nkind: AutoscalingPolicy\n"
        f"target: {{name: consumer}}\nmaxReplicas: {more.pop('most', 40)}\n"
        f"scaleDown: {{stabilisationSeconds: 0}}\nlag: {{{lag}}}\n{extra}"
    )
    return load_autoscaling_policy(text, "test")


def look(messages=0.0, consumed=0.0, produced=0.0, partitions=0, current=2, **more):
    stream = StreamLag(messages, consumed, produced, partitions)
    return Signals(current=current, ready=more.pop("ready", current), stream=stream, **more)


def test_arrivals_alone_need_their_share():
    decision = decide(policy(), look(produced=240.0, consumed=240.0), None, 0.0)
    assert decision.replicas == 5


def test_a_backlog_asks_for_what_drains_it_in_time():
    # 100 a second come; 60,000 beyond the tolerated 200 shall go within 60 s at 50 a second each.
    decision = decide(policy(scaleUp="{maxStepPercent: 10000}"), look(60_200.0, 100.0, 100.0), None, 0.0)
    assert decision.replicas == 22
    assert "messages of lag" in decision.reasons[0].sentence


def test_the_tolerated_lag_asks_for_nothing():
    decision = decide(policy(), look(200.0, 90.0, 90.0), None, 0.0)
    assert decision.replicas == 2


@pytest.mark.parametrize(("stated", "told", "most"), [(6, 0, 6), (0, 12, 12), (6, 12, 6)])
def test_no_more_replicas_than_partitions(stated, told, most):
    wanted = policy(
        f"group: orders, messagesPerSecond: 50, partitions: {stated}", scaleUp="{maxStepPercent: 10000}"
    )
    decision = decide(wanted, look(1e6, 100.0, 100.0, told), None, 0.0)
    assert decision.replicas == most


@pytest.mark.parametrize("current", [0, 1, 7])
def test_an_outage_holds_the_replicas(current):
    signals = Signals(current=current, ready=current, stream=MISSING)
    decision = decide(policy(minReplicas=0), signals, None, 0.0)
    assert decision.replicas == current
    if current:
        assert decision.reasons[0].sentence.startswith("the lag is unknown for 0 s (no answer)")


def test_a_missing_rate_never_lowers():
    unknown = Signals(current=6, ready=6, stream=StreamLag(0.0, MISSING, MISSING))
    assert decide(policy(), unknown, None, 0.0).replicas == 6


def test_without_any_rate_lag_alone_counts():
    lag = "group: orders, perReplica: 100"
    decision = decide(
        policy(lag, scaleUp="{maxStepPercent: 10000}"), look(900.0, MISSING, MISSING), None, 0.0
    )
    assert decision.replicas == 9


def test_what_a_replica_consumes_is_learned_while_it_is_busy():
    wanted, state = policy("group: orders").lag, State.begun(4, 0.0)
    busy = look(5000.0, 200.0, 400.0, current=4)
    for _ in range(3):
        _, state = sized_by_lag(wanted, busy.stream, busy, state)
    assert state.stream_rate == pytest.approx(50.0)
    idle = look(0.0, 20.0, 20.0, current=4)
    load, state = sized_by_lag(wanted, idle.stream, idle, state)
    assert state.stream_rate == pytest.approx(50.0)
    assert load.replicas == pytest.approx(20.0 / 50.0)


def test_a_replica_that_is_starting_teaches_nothing():
    wanted, state = policy("group: orders").lag, State.begun(4, 0.0)
    growing = look(5000.0, 200.0, 400.0, current=8, ready=4, starting=4)
    assert sized_by_lag(wanted, growing.stream, growing, state)[1].stream_rate is None


def test_a_quiet_group_goes_to_zero_and_wakes_on_lag():
    wanted = policy(minReplicas=0)
    state = None
    replicas = 2
    for second in range(0, 1200, 60):
        decision = decide(wanted, look(0.0, 0.0, 0.0, current=replicas), state, float(second))
        replicas, state = decision.replicas, decision.state
    assert replicas == 0
    woken = decide(wanted, look(7000.0, 0.0, 100.0, 12, current=0), state, 2000.0)
    assert woken.replicas == math.ceil(7000 / (60 * 50))
    assert woken.reasons[0].code == reasons.QUEUE_OUTSIDE
    still = decide(wanted, look(0.0, 0.0, 0.0, current=0), state, 2000.0)
    assert still.replicas == 0


def test_waking_asks_only_for_what_can_be_placed():
    woken = decide(policy(minReplicas=0), look(70_000.0, current=0, placeable=3), None, 0.0)
    assert woken.replicas == 3


@given(
    messages=st.floats(0, 1e7),
    consumed=st.one_of(st.floats(0, 1e5), st.just(MISSING)),
    produced=st.one_of(st.floats(0, 1e5), st.just(MISSING)),
    current=st.integers(1, 20),
    partitions=st.integers(0, 30),
)
def test_bounds_hold_whatever_comes(messages, consumed, produced, current, partitions):
    decision = decide(policy(), look(messages, consumed, produced, partitions, current=current), None, 0.0)
    assert 1 <= decision.replicas <= 40
    if decision.replicas > current and partitions:
        assert decision.replicas <= partitions
    more = decide(policy(), look(messages + 1e6, consumed, produced, partitions, current=current), None, 0.0)
    assert more.replicas >= decision.replicas


def test_lag_stands_alone():
    with pytest.raises(PolicyRefused, match="size a streaming consumer by lag alone"):
        policy(slo="{latencySeconds: 2}")


def samples(name):
    source = STREAM_SOURCES[name]
    both = {source.group: "orders", source.topic: "t1"}
    other = {source.group: "orders", source.topic: "t2"}
    rows = [
        ({**both, PART: "lag"}, 100.0),
        ({**other, PART: "lag"}, 20.0),
        ({**both, PART: "consumed"}, 10.0),
        ({**both, PART: "partitions"}, 6.0),
        ({**other, PART: "partitions"}, 3.0),
        ({source.topic: "t1", PART: "produced"}, 12.0),
        ({source.topic: "t9", PART: "produced"}, 99.0),
        ({source.group: "bills", source.topic: "t1", PART: "lag"}, 7.0),
    ]
    return Vector(tuple(Sample(labels, value, 0.0) for labels, value in rows))


@pytest.mark.parametrize("name", STREAM_SOURCES)
def test_a_group_is_found_among_all(name):
    wanted = policy(f"group: orders, source: {name}").lag
    [(query, text)] = stream_queries([wanted, wanted, None], EVERYTHING).items()
    assert text.count("label_replace") == 4
    found = stream_of(wanted, {query: samples(name)})
    assert found == StreamLag(120.0, 10.0, 12.0, 9)
    one = policy(f"group: orders, topic: t1, source: {name}").lag
    assert stream_of(one, {query: samples(name)}) == StreamLag(100.0, 10.0, 12.0, 6)


def test_what_is_no_number_makes_a_sum_unknown_and_never_smaller():
    wanted = policy("group: orders").lag
    whole = samples("kafka-exporter").samples
    for part, expected in (("lag", NoData), ("consumed", StreamLag), ("produced", StreamLag)):
        # One series of each quantity is NaN; Prometheus' reader keeps such aside, by their labels alone.
        nan = next(one for one in whole if one.labels[PART] == part)
        broken = Vector(tuple(one for one in whole if one is not nan), (nan.labels,))
        found = stream_of(wanted, {"stream kafka-exporter": broken})
        assert isinstance(found, expected)
        if part != "lag":
            assert isinstance(getattr(found, part), NoData)


def test_a_group_that_nobody_tells_is_missing_and_not_zero():
    wanted = policy("group: nobody").lag
    found = stream_of(wanted, {"stream kafka-exporter": samples("kafka-exporter")})
    assert isinstance(found, NoData)
    assert "consumer group nobody" in found.reason
    assert stream_of(wanted, {"stream kafka-exporter": MISSING}) is MISSING
    assert stream_of(None, {}) is NOT_ASKED
