"""From the answers of Prometheus and the pods of the API server to the signals of a workload."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest

from autoscaler.collect import Collector, Workload
from autoscaler.pod_index import PodIndex
from autoscaler.selectors import parse_selector
from autoscaler.signals import NOT_ASKED
from autoscaler.targets import ScaleSight, Target
from cluster.policy import AutoscalingPolicy
from cluster.wire import ObjectMeta, ObjectReference, Pod, PodCondition, PodStatus
from metrics.samples import NoData, Sample, Vector

NOW = 1_000_000.0


class Answers:
    """A source that answers by what the query is about and counts what it is asked."""

    def __init__(self, **by_word: Vector | NoData) -> None:
        self.by_word = by_word
        self.asked: list[str] = []

    def query_many(self, queries: Mapping[str, str], at: float) -> dict[str, Vector | NoData]:
        self.asked += queries.values()
        return {name: self._answer(query) for name, query in queries.items()}

    def _answer(self, query: str) -> Vector | NoData:
        words = {"bucket": "buckets", "rate": "rate", "GPU_UTIL": "gpu", "GR_ENGINE": "mig"}
        word = next((name for part, name in words.items() if part in query), "in_flight")
        if word == "in_flight" and query == "sum by (namespace, pod) (vllm:num_requests_waiting)":
            word = "waiting"
        return self.by_word.get(word, NoData("Prometheus has no such series", "empty"))


def vector(**values: float) -> Vector:
    return Vector(tuple(Sample({"namespace": "n", "pod": pod}, v, NOW) for pod, v in values.items()))


def buckets(**pods: tuple[float, float, float]) -> Vector:
    samples = []
    for pod, counts in pods.items():
        for bound, count in zip(("0.5", "1.0", "+Inf"), counts, strict=True):
            samples.append(Sample({"namespace": "n", "pod": pod, "le": bound}, count, NOW))
    return Vector(tuple(samples))


def make_pod(name: str, app: str, ready: bool = True) -> Pod:
    conditions = (PodCondition("Ready", "True" if ready else "False"),)
    return Pod(
        ObjectMeta(name=name, namespace="n", uid=name, labels={"app": app}),
        status=PodStatus(phase="Running", conditions=conditions),
    )


def workload(app: str, replicas: int, **changes: object) -> Workload:
    policy = AutoscalingPolicy.model_validate(
        {
            "target": {"name": app},
            "server": "vllm",
            "maxReplicas": 9,
            "inFlight": {"perReplica": 16.0},
            **changes,
        }
    )
    target = Target("apps/v1", "Deployment", "n", app)
    return Workload(
        policy, ScaleSight(target, "/", replicas, parse_selector(f"app={app}"), ObjectReference())
    )


def index(*pods: Pod) -> PodIndex:
    held = PodIndex()
    held.replaced(pods)
    return held


def test_in_flight_is_summed_over_the_pods_of_the_workload_only():
    source = Answers(in_flight=vector(a1=3.0, a2=4.0, b1=100.0, gone=50.0), rate=vector(a1=1.0, b1=9.0))
    pods = index(make_pod("a1", "a"), make_pod("a2", "a"), make_pod("b1", "b"))
    one, other = workload("a", 2), workload("b", 1)
    signals = Collector(source, pods).ask([one, other], NOW)
    assert signals(one).in_flight == 7.0
    assert signals(one).request_rate == 1.0
    assert signals(other).in_flight == 100.0


def test_the_number_of_queries_does_not_depend_on_the_number_of_workloads():
    latency = {"latency": {"p95Seconds": 0.8}}
    few, many = Answers(), Answers()
    Collector(few, index()).ask([workload("a", 1, **latency)], NOW)
    Collector(many, index()).ask([workload(f"a{i}", 1, **latency) for i in range(50)], NOW)
    assert many.asked == few.asked
    assert len(many.asked) == 3


def test_ready_pods_that_report_nothing_are_counted_as_silent():
    pods = index(make_pod("a1", "a"), make_pod("a2", "a"), make_pod("a3", "a", ready=False))
    one = workload("a", 3)
    signals = Collector(Answers(in_flight=vector(a1=3.0)), pods).ask([one], NOW)(one)
    assert (signals.ready, signals.starting, signals.silent, signals.in_flight) == (2, 1, 1, 3.0)


def test_when_no_pod_reports_in_flight_is_absent_and_not_zero():
    one = workload("a", 1)
    collector = Collector(Answers(in_flight=vector(other=3.0)), index(make_pod("a1", "a")))
    missing = collector.ask([one], NOW)(one).in_flight
    assert isinstance(missing, NoData)
    assert missing.reason == "none of the 1 pods reports it"


def test_an_outage_keeps_its_own_words():
    dark = NoData("cannot reach Prometheus: connection refused", "outage")
    one = workload("a", 1, latency={"p95Seconds": 0.8}, gpuUtilisation={})
    source = Answers(in_flight=dark, rate=dark, buckets=dark, gpu=dark, mig=dark)
    signals = Collector(source, index(make_pod("a1", "a"))).ask([one], NOW)(one)
    for value in (signals.in_flight, signals.request_rate, signals.p95_seconds, signals.gpu_utilisation):
        assert isinstance(value, NoData)
        assert "connection refused" in value.reason


def test_p95_is_the_quantile_of_all_observations_together():
    one = workload("a", 2, latency={"p95Seconds": 0.8})
    pods = index(make_pod("a1", "a"), make_pod("a2", "a"))
    source = Answers(buckets=buckets(a1=(90.0, 90.0, 90.0), a2=(0.0, 10.0, 10.0)))
    p95 = Collector(source, pods).ask([one], NOW)(one).p95_seconds
    assert isinstance(p95, float)
    assert math.isclose(p95, 0.75)  # rank 95 of 100: half way through the ten in 0.5..1.0


def test_p95_without_observations_is_not_a_number():
    one = workload("a", 1, latency={"p95Seconds": 0.8})
    source = Answers(buckets=buckets(a1=(0.0, 0.0, 0.0)))
    missing = Collector(source, index(make_pod("a1", "a"))).ask([one], NOW)(one).p95_seconds
    assert isinstance(missing, NoData)
    assert missing.cause == "not-a-number"


OBJECTIVE = {"slo": {"latencySeconds": 0.75, "measure": "ttft", "periodSeconds": 60.0}}


def test_the_missed_share_is_that_of_all_requests_together():
    one = workload("a", 2, **OBJECTIVE)
    pods = index(make_pod("a1", "a"), make_pod("a2", "a"), make_pod("b1", "b"))
    source = Answers(
        buckets=buckets(a1=(90.0, 90.0, 90.0), a2=(0.0, 8.0, 10.0), b1=(0.0, 0.0, 500.0)),
    )
    missed = Collector(source, pods).ask([one], NOW)(one).slo_missed
    assert missed == pytest.approx(0.06)  # half of the eight in 0.5..1.0, and the two above


def test_without_an_objective_neither_share_nor_queue_is_asked_for():
    source = Answers()
    one = workload("a", 1)
    signals = Collector(source, index()).ask([one], NOW)(one)
    assert signals.slo_missed is NOT_ASKED
    assert signals.waiting is NOT_ASKED
    assert len(source.asked) == 2


def test_the_queue_is_the_waiting_part_of_what_is_in_flight():
    one = workload("a", 2, **OBJECTIVE)
    source = Answers(in_flight=vector(a1=30.0, a2=25.0, b1=90.0), waiting=vector(a1=14.0, a2=9.0, b1=70.0))
    pods = index(make_pod("a1", "a"), make_pod("a2", "a"), make_pod("b1", "b"))
    signals = Collector(source, pods).ask([one], NOW)(one)
    assert (signals.in_flight, signals.waiting) == (55.0, 23.0)


@pytest.mark.parametrize("server", ["inference-gateway", "triton", "generic"])
def test_a_queue_that_is_no_part_of_in_flight_is_left_out(server: str):
    """Taken as a part, it would leave nothing running, and the workload would seem to need nothing."""
    one = workload("a", 1, server=server, **OBJECTIVE)
    source = Answers(in_flight=vector(a1=30.0), rate=vector(a1=30.0))  # Triton's in flight is a rate
    signals = Collector(source, index(make_pod("a1", "a"))).ask([one], NOW)(one)
    assert signals.in_flight == 30.0
    assert isinstance(signals.waiting, NoData)
    assert signals.waiting.cause == "empty"


def test_the_time_of_day_is_that_of_the_questions():
    one = workload("a", 1)
    assert Collector(Answers(), index()).ask([one], NOW)(one).unix_seconds == NOW


@pytest.mark.parametrize(
    ("changes", "counts", "cause"),
    [
        ({}, (0.0, 0.0, 0.0), "empty"),
        ({"latencySeconds": 1.5}, (1.0, 1.0, 1.0), "misconfigured"),
        ({"measure": "ttft", "server": "tgi"}, (1.0, 1.0, 1.0), "misconfigured"),
    ],
)
def test_a_share_that_cannot_be_told_is_absent(
    changes: dict[str, object], counts: tuple[float, float, float], cause: str
):
    server = changes.pop("server", "vllm")
    one = workload("a", 1, server=server, slo={**OBJECTIVE["slo"], **changes})
    source = Answers(buckets=buckets(a1=counts))
    missing = Collector(source, index(make_pod("a1", "a"))).ask([one], NOW)(one).slo_missed
    assert isinstance(missing, NoData)
    assert missing.cause == cause


def test_workloads_with_one_objective_share_one_query():
    slow = {"slo": {**OBJECTIVE["slo"], "latencySeconds": 0.9}}
    longer = {"slo": {**OBJECTIVE["slo"], "periodSeconds": 120.0}}
    source = Answers()
    many = [workload(f"a{i}", 1, **(OBJECTIVE if i % 2 else slow)) for i in range(20)]
    Collector(source, index()).ask([*many, workload("b", 1, **longer)], NOW)
    asked = [query for query in source.asked if "time_to_first_token_seconds_bucket" in query]
    assert len(asked) == 2
    assert any("[60s]" in query for query in asked)
    assert any("[120s]" in query for query in asked)


def test_gpu_utilisation_is_asked_only_where_a_policy_guards_by_it():
    unguarded = Answers()
    Collector(unguarded, index()).ask([workload("a", 1)], NOW)
    assert not any("DCGM" in query for query in unguarded.asked)
    guarded = workload("a", 2, gpuUtilisation={"scaleDownBelow": 0.5})
    source = Answers(gpu=vector(a1=40.0, a2=80.0))
    pods = index(make_pod("a1", "a"), make_pod("a2", "a"))
    share = Collector(source, pods).ask([guarded], NOW)(guarded).gpu_utilisation
    assert isinstance(share, float)
    assert math.isclose(share, 0.6)


def test_pods_that_are_not_made_yet_are_starting():
    one = workload("a", 5)
    signals = Collector(Answers(), index(make_pod("a1", "a"))).ask([one], NOW)(one)
    assert (signals.current, signals.ready, signals.starting) == (5, 1, 4)


def test_a_start_is_measured_once_a_pod():
    one = workload("a", 1)
    pods = index(make_pod("a1", "a", ready=False))
    collector = Collector(Answers(), pods)
    assert isinstance(collector.ask([one], NOW)(one).cold_start_seconds, NoData)
    ready = make_pod("a1", "a")
    born = ObjectMeta(
        name="a1",
        namespace="n",
        uid="a1",
        labels={"app": "a"},
        creation_timestamp="2026-11-01T12:00:00Z",
    )
    conditions = (PodCondition("Ready", "True", last_transition_time="2026-11-01T12:01:30Z"),)
    pods.changed("MODIFIED", Pod(born, ready.spec, PodStatus(phase="Running", conditions=conditions)))
    for _ in range(3):
        assert collector.ask([one], NOW)(one).cold_start_seconds == 90.0


@pytest.mark.parametrize(
    "changes", [{"server": "vlm"}, {"latency": {"p95Seconds": 1.0, "windowSeconds": 1e-9}}]
)
def test_a_policy_that_cannot_be_asked_about_is_named(changes: dict[str, object]):
    with pytest.raises(ValueError, match=r"got .*, expected"):
        Collector(Answers(), index()).check(workload("a", 1, **changes).policy)
