"""Requests outside the pods: how a source is asked, whose requests it tells of, and what absence means."""

from __future__ import annotations

from typing import Any

import pytest

from autoscaler.collect import Collector, Workload
from autoscaler.decide import decide
from autoscaler.outside import OutsideQueues, outside_queries
from autoscaler.pod_index import PodIndex
from autoscaler.selectors import parse_selector
from autoscaler.targets import ScaleSight, Target
from cluster.autoscaling_policy import AutoscalingPolicy, Outside, load_autoscaling_policy
from cluster.policy import PolicyRefused
from cluster.wire import ObjectReference
from metrics.outside import OUTSIDE_SOURCES
from metrics.parts import PART
from metrics.samples import NoData, Sample, Vector
from metrics.servers import EVERYTHING, Scope


def vector(*series: tuple[float, dict[str, str]]) -> Vector:
    return Vector(tuple(Sample(labels, value, 0.0) for value, labels in series))


def waiting(
    outside: Outside, answer: Vector | NoData, *, ready: int = 0, name: str = "llm"
) -> float | NoData:
    (asked,) = outside_queries([outside], EVERYTHING)
    return OutsideQueues(EVERYTHING).waiting(outside, "n", name, {asked: answer}, ready=ready)


KNATIVE = {"k8s_namespace_name": "n", "kn_service_name": "llm", "kn_revision_name": "llm-1"}


@pytest.mark.parametrize(
    ("source", "labels", "name"),
    [
        ("knative-activator", KNATIVE, "llm"),
        ("knative-activator", KNATIVE, "llm-1"),
        ("knative-activator", {"namespace_name": "n", "configuration_name": "llm"}, "llm"),
        ("inference-gateway", {"namespace": "n", "inference_pool": "pool"}, "pool"),
        ("inference-gateway", {"inference_pool": "", "target_model_name": "m"}, "m"),
        ("keda-http", {"route_namespace": "n", "route_name": "llm"}, "llm"),
        ("keda-http", {"host": "llm.example"}, "llm.example"),
        ("istio", {"destination_service_namespace": "n", "destination_service_name": "llm"}, "llm"),
    ],
)
def test_each_source_tells_whose_requests_wait(source: Any, labels: dict[str, str], name: str):
    answer = vector((3.0, labels), (50.0, dict.fromkeys(labels, "another")))
    assert waiting(Outside(source=source, name=name), answer) == 3.0
    assert waiting(Outside(source=source, name="nobody"), answer) == 0.0


def test_the_same_name_in_another_namespace_is_another_workload():
    answer = vector((3.0, {**KNATIVE, "k8s_namespace_name": "other"}))
    assert waiting(Outside(source="knative-activator"), answer) == 0.0


def test_revisions_of_one_service_add_up():
    answer = vector((3.0, KNATIVE), (2.0, {**KNATIVE, "kn_revision_name": "llm-2"}))
    assert waiting(Outside(source="knative-activator"), answer) == 5.0


def test_what_pods_answer_already_is_not_counted_again():
    answer = vector((3.0, KNATIVE))
    assert waiting(Outside(source="knative-activator"), answer, ready=1) == 0.0
    pool = vector((3.0, {"inference_pool": "llm"}))
    assert waiting(Outside(source="inference-gateway"), pool, ready=1) == 3.0


SHOWN = {
    "knative-activator": KNATIVE,
    "keda-http": {"host": "x"},
    "istio": {"destination_service_name": "x"},
}


@pytest.mark.parametrize("name", SHOWN)
def test_silence_is_quiet_only_of_a_source_seen_before_and_scraped_now(name: Any):
    outside, queues = Outside(source=name), OutsideQueues(EVERYTHING)
    (asked,) = outside_queries([outside], EVERYTHING)
    scraped = vector((2.0, {PART: "presence"}))
    for never in (NoData("no series", "empty"), scraped):
        assert isinstance(queues.waiting(outside, "n", "llm", {asked: never}, ready=0), NoData)
    queues.waiting(outside, "n", "llm", {asked: vector((1.0, SHOWN[name]))}, ready=0)
    assert queues.waiting(outside, "n", "llm", {asked: scraped}, ready=0) == 0.0
    for ready in (0, 1):
        gone = queues.waiting(outside, "n", "llm", {asked: NoData("no series", "empty")}, ready=ready)
        assert isinstance(gone, NoData)
        assert OUTSIDE_SOURCES[name].presence[0][0] in gone.reason


def test_a_gateway_that_is_no_longer_scraped_is_absent_and_not_quiet():
    outside, queues = Outside(source="inference-gateway"), OutsideQueues(EVERYTHING)
    (asked,) = outside_queries([outside], EVERYTHING)
    other = vector((0.0, {"inference_pool": "other"}))
    assert queues.waiting(outside, "n", "llm", {asked: other}, ready=0) == 0.0
    gone = queues.waiting(outside, "n", "llm", {asked: NoData("no series", "empty")}, ready=0)
    assert isinstance(gone, NoData)
    assert "any more" in gone.reason


def test_an_outage_is_an_outage():
    down = NoData("connection refused", "outage")
    assert waiting(Outside(source="istio"), down) is down
    assert waiting(Outside(query="sum(x)"), down) is down


def test_a_query_of_ones_own_is_summed_and_its_silence_is_absence():
    assert waiting(Outside(query="x"), vector((2.0, {}), (3.0, {"a": "b"}))) == 5.0
    absent = waiting(Outside(query="x"), NoData("no series", "empty"))
    assert isinstance(absent, NoData)
    assert "or vector(0)" in absent.reason


def test_one_query_a_source_however_many_workloads_name_it():
    policies = [Outside(source="istio", name=f"w{index}") for index in range(1000)]
    queries = outside_queries([None, *policies, Outside(query="x"), Outside(query="x")], EVERYTHING)
    assert len(queries) == 2


def test_the_scope_goes_into_every_selector():
    scope = Scope(matchers='cluster="eu-1"')
    for source in OUTSIDE_SOURCES.values():
        query = source.query(scope)
        assert query.count('cluster="eu-1"') == len(source.series) + len(source.presence)


def test_a_policy_names_a_source_or_a_query():
    text = "target: {name: llm}\nmaxReplicas: 4\ninFlight: {}\noutside: {name: llm}\n"
    with pytest.raises(PolicyRefused) as refused:
        load_autoscaling_policy(text, "policy")
    assert "one of source and query" in str(refused.value)


class Gateway:
    """A Prometheus that knows the inference gateway's queue and nothing else."""

    def __init__(self, queue: float) -> None:
        self.queue = queue

    def query_many(self, queries: Any, at: float) -> dict[str, Vector | NoData]:
        told = vector((self.queue, {"namespace": "n", "inference_pool": "llm"}))
        return {
            name: told if "flow_control_queue_size" in query else NoData("no series", "empty")
            for name, query in queries.items()
        }


def test_a_queue_outside_wakes_a_workload_from_zero_through_the_collector():
    policy = AutoscalingPolicy.model_validate(
        {
            "target": {"name": "llm"},
            "minReplicas": 0,
            "maxReplicas": 4,
            "server": "vllm",
            "inFlight": {"perReplica": 10.0},
            "outside": {"source": "inference-gateway"},
        }
    )
    sight = ScaleSight(
        Target.of(policy, "n"), "/", 0, parse_selector("app=llm"), ObjectReference(name="llm", namespace="n")
    )
    workload = Workload(policy, sight)
    for queue, replicas in ((0.0, 0), (25.0, 3)):
        signals = Collector(Gateway(queue), PodIndex()).ask([workload], 1000.0)(workload)
        assert signals.waiting_outside == queue
        assert decide(policy, signals, None, 1000.0).replicas == replicas
