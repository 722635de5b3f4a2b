"""Rounds of the controller: isolation, leadership, dry run, what is said and what is counted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from autoscaler import reasons
from autoscaler.collect import Collector, Workload
from autoscaler.controller import Controller, Policies
from autoscaler.pod_index import PodIndex
from autoscaler.selectors import parse_selector
from autoscaler.signals import Signals
from autoscaler.targets import ScaleSight, Target, TargetRefused
from cluster import event_reasons
from cluster.api_errors import ApiUnreachable
from cluster.policy import AutoscalingPolicy
from cluster.wire import ObjectReference, Scale, ScaleSpec
from metrics.autoscaler_group import AutoscalerMetrics
from metrics.samples import NoData
from tests.autoscaler.said import Said


@dataclass
class Scales:
    """Scales in memory; ``broken`` raises for the names in it."""

    replicas: dict[str, int]
    broken: dict[str, Exception] = field(default_factory=dict)
    refuse_writes: Exception | None = None
    written: list[tuple[str, int]] = field(default_factory=list)

    def read(self, target: Target) -> ScaleSight:
        if target.name in self.broken:
            raise self.broken[target.name]
        about = ObjectReference(kind=target.kind, name=target.name, namespace=target.namespace)
        return ScaleSight(target, "/", self.replicas[target.name], parse_selector("app=x"), about)

    def write(self, sight: ScaleSight, replicas: int) -> Scale:
        if self.refuse_writes is not None:
            raise self.refuse_writes
        self.replicas[sight.target.name] = replicas
        self.written.append((sight.target.name, replicas))
        return Scale(spec=ScaleSpec(replicas))


class Loads(Collector):
    """Signals from a table of in-flight numbers; every replica is ready."""

    def __init__(self, loads: dict[str, float | NoData]) -> None:
        super().__init__(NoQueries(), PodIndex())
        self.loads = loads

    def ask(self, workloads: Any, at: float, enter: Any = None) -> Any:
        def signals(workload: Workload) -> Signals:
            load = self.loads[workload.sight.target.name]
            current = workload.sight.replicas
            return Signals(current=current, ready=current, in_flight=load, request_rate=1.0)

        return signals


class NoQueries:
    def query_many(self, queries: Any, at: float) -> Any:
        raise AssertionError("the table answers")


@dataclass
class Bench:
    scales: Scales
    loads: dict[str, float | NoData]
    policies: Policies
    said: Said = field(default_factory=Said)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    leader: bool = True
    now: float = 1000.0

    def controller(self, **options: Any) -> Controller:
        return Controller(
            lambda: self.policies,
            self.scales,
            Loads(self.loads),
            self.said,
            AutoscalerMetrics(self.registry),
            is_leader=lambda: self.leader,
            clock=lambda: self.now,
            **options,
        )

    def metric(self, name: str, workload: str, **labels: str) -> float | None:
        everything = {"namespace": "n", "kind": "Deployment", "name": workload, **labels}
        return self.registry.get_sample_value(name, everything)


def policy(name: str, **changes: Any) -> AutoscalingPolicy:
    return AutoscalingPolicy.model_validate(
        {"target": {"name": name}, "maxReplicas": 9, "inFlight": {"perReplica": 16.0}, **changes}
    )


@pytest.fixture
def bench() -> Bench:
    return Bench(
        Scales({"a": 1, "b": 1}),
        {"a": 48.0, "b": 48.0},
        {("n", "a-policy"): policy("a"), ("n", "b-policy"): policy("b")},
    )


def test_a_round_writes_says_and_counts_what_changed(bench: Bench):
    controller = bench.controller()
    controller.round()
    assert sorted(bench.scales.written) == [("a", 3), ("b", 3)]
    about, reason, note = bench.said.events[0]
    assert (about, reason) == ("Deployment a", event_reasons.SCALED_UP)
    assert note.startswith("1 -> 3 replicas: 48 requests in flight")
    assert bench.metric("slicewise_autoscaler_desired_replicas", "a") == 3
    assert bench.metric("slicewise_autoscaler_current_replicas", "a") == 1
    code = {"reason": reasons.IN_FLIGHT_NEEDS_MORE}
    assert bench.metric("slicewise_autoscaler_decisions_total", "a", **code) == 1
    controller.round()
    assert len(bench.scales.written) == len(bench.said.events) == 2
    controller.close()


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (TargetRefused("not_found", "Deployment n/a: does not exist"), "not_found"),
        (ApiUnreachable("connection reset"), "other"),
    ],
)
def test_a_broken_target_leaves_the_others_alone(bench: Bench, error: Exception, cause: str):
    bench.scales.broken["a"] = error
    controller = bench.controller()
    for _ in range(3):
        controller.round()
    assert bench.scales.written == [("b", 3)]
    assert bench.metric("slicewise_autoscaler_target_errors_total", "a", reason=cause) == 3
    about_a = [event for event in bench.said.events if event[0] == "ConfigMap a-policy"]
    assert about_a == [("ConfigMap a-policy", event_reasons.SCALING_REFUSED, str(error))]
    controller.close()


def test_a_defect_in_one_decision_leaves_the_others_alone(bench: Bench, caplog: pytest.LogCaptureFixture):
    del bench.loads["a"]
    controller = bench.controller()
    controller.round()
    assert bench.scales.written == [("b", 3)]
    assert "Deployment n/a: no decision" in caplog.text
    controller.close()


def test_an_unknown_server_is_the_policy_s_fault(bench: Bench):
    bench.policies = {("n", "a-policy"): policy("a", server="vlm")}
    controller = bench.controller()
    controller.round()
    assert bench.scales.written == []
    assert bench.metric("slicewise_autoscaler_target_errors_total", "a", reason="policy") == 1
    assert "expected one of bentoml, generic" in bench.said.events[0][2]
    controller.close()


def test_a_refused_write_is_tried_again_and_does_not_start_a_wait(bench: Bench):
    bench.scales.refuse_writes = TargetRefused("forbidden", "not allowed")
    controller = bench.controller()
    controller.round()
    bench.scales.refuse_writes = None
    bench.now += 5.0
    controller.round()
    assert sorted(bench.scales.written) == [("a", 3), ("b", 3)]
    controller.close()


def test_a_dry_run_decides_and_writes_nothing(bench: Bench):
    controller = bench.controller(dry_run=True)
    controller.round()
    assert bench.scales.written == []
    assert bench.said.events == []
    assert [(view.decision.replicas, view.written) for view in controller.views] == [(3, False)] * 2
    controller.close()


def test_only_the_leader_decides_and_a_lost_lead_forgets_the_windows(bench: Bench):
    bench.leader = False
    controller = bench.controller()
    controller.round()
    assert bench.scales.written == []
    assert controller.last_round_seconds == bench.now
    bench.leader = True
    bench.loads.update(a=1.0, b=1.0)
    bench.scales.replicas.update(a=4, b=4)
    for _ in range(30):
        bench.now += 5.0
        controller.round()
    bench.leader = False
    controller.round()
    assert controller.views == ()
    bench.leader = True
    bench.now += 200.0  # past the first window, but these windows are new
    controller.round()
    assert bench.scales.written == []
    controller.close()


def test_a_policy_that_goes_away_takes_its_state_and_its_series_along(bench: Bench):
    controller = bench.controller()
    controller.round()
    bench.policies = {("n", "b-policy"): policy("b")}
    controller.round()
    assert [view.target.name for view in controller.views] == ["b"]
    assert bench.metric("slicewise_autoscaler_desired_replicas", "a") is None
    assert bench.metric("slicewise_autoscaler_desired_replicas", "b") == 3
    controller.close()


def test_an_outage_is_said_once(bench: Bench):
    bench.loads["a"] = NoData("connection refused", "outage")
    controller = bench.controller()
    for _ in range(10):
        bench.now += 5.0
        controller.round()
    held = [event for event in bench.said.events if event[1] == event_reasons.SCALING_HELD]
    assert len(held) == 1
    assert held[0][2].startswith("kept at 1: in-flight is unknown for 0 s (connection refused)")
    controller.close()


def test_the_period_is_the_shortest_that_a_policy_asks_for(bench: Bench):
    controller = bench.controller()
    assert controller.period_seconds() == 5.0
    bench.policies = {("n", "a"): policy("a", periodSeconds=2.0), ("n", "b"): policy("b")}
    assert controller.period_seconds() == 2.0
    bench.policies = {("n", "a"): policy("a", periodSeconds=0.001)}
    assert controller.period_seconds() == 0.5
    bench.policies = {}
    assert controller.period_seconds() == 5.0
    controller.close()
