"""Which server a workload runs, when its policy does not say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from autoscaler.collect import Collector, Workload
from autoscaler.pod_index import PodIndex
from autoscaler.scrape import Followed, Pages
from autoscaler.selectors import parse_selector
from autoscaler.server_memory import ServerMemory
from autoscaler.targets import ScaleSight, Target
from cluster.policy import AutoscalingPolicy
from cluster.wire import ObjectMeta, ObjectReference, Pod, PodCondition, PodStatus
from metrics.samples import NoData, Sample, Vector
from metrics.servers import PRESETS, ServerPreset
from metrics.servers.detect import Detected
from metrics.servers.page import PageLoad

TARGET = Target("apps/v1", "Deployment", "n", "llm")
MARKS = {
    "vllm": "vllm:num_requests_running",
    "tgi": "tgi_queue_size",
    "istio": "istio_requests_total",
}


def detected(**pods: str) -> dict[tuple[str, str], Detected]:
    return {("n", pod): Detected(server, ()) for pod, server in pods.items()}


def keys(*pods: str) -> list[tuple[str, str]]:
    return [("n", pod) for pod in pods]


def test_a_workload_runs_what_most_of_its_pods_show():
    memory = ServerMemory()
    memory.look(TARGET, keys("a", "b", "c"), detected(a="tgi", b="vllm", c="tgi", other="istio"), None)
    assert memory.preset_of(TARGET) is PRESETS["tgi"]


def test_between_equals_the_order_of_the_registry_decides():
    memory = ServerMemory()
    memory.look(TARGET, keys("a", "b"), detected(a="tgi", b="vllm"), None)
    assert memory.preset_of(TARGET) is PRESETS["vllm"]


def test_it_is_remembered_and_looked_at_again_when_pods_come():
    memory = ServerMemory()
    assert memory.wants(TARGET, keys("a"))
    assert not memory.wants(TARGET, [])
    memory.look(TARGET, keys("a"), detected(a="vllm"), None)
    assert not memory.wants(TARGET, keys("a"))
    assert memory.wants(TARGET, keys("a", "b"))
    memory.look(TARGET, keys("a", "b"), {}, None)  # nobody has scraped the new one, or Prometheus is away
    assert memory.preset_of(TARGET) is PRESETS["vllm"]
    memory.look(TARGET, keys("b", "c"), detected(b="tgi", c="tgi"), None)
    assert memory.preset_of(TARGET) is PRESETS["tgi"]


def test_the_pods_own_pages_tell_where_prometheus_does_not():
    memory = ServerMemory()
    memory.look(TARGET, keys("a"), {}, PRESETS["sglang"])
    assert memory.preset_of(TARGET) is PRESETS["sglang"]
    memory.look(TARGET, keys("a", "b"), detected(b="vllm"), PRESETS["sglang"])
    assert memory.preset_of(TARGET) is PRESETS["vllm"]


def test_what_a_proxy_tells_counts_where_nothing_else_is_told():
    memory = ServerMemory()
    memory.look(TARGET, keys("a", "b"), detected(a="istio", b="istio"), None)
    assert memory.preset_of(TARGET) is PRESETS["istio"]
    assert memory.wants(TARGET, keys("a", "b"))  # it may yet say itself what it is
    memory.look(TARGET, keys("a", "b"), detected(a="istio", b="istio"), PRESETS["vllm"])
    assert memory.preset_of(TARGET) is PRESETS["vllm"]
    assert not memory.wants(TARGET, keys("a", "b"))


def test_one_pod_that_shows_a_server_outweighs_the_proxies_of_the_others():
    memory = ServerMemory()
    memory.look(TARGET, keys("a", "b", "c"), detected(a="istio", b="istio", c="tgi"), None)
    assert memory.preset_of(TARGET) is PRESETS["tgi"]
    memory.look(TARGET, keys("a", "d"), detected(a="istio", d="istio"), PRESETS["istio"])
    assert memory.preset_of(TARGET) is PRESETS["istio"]


class Prometheus:
    """Series of single pods, by the name of the metric."""

    def __init__(self) -> None:
        self.servers: dict[str, str] = {}
        self.detections = 0
        self.away: NoData | None = None

    def query_many(self, queries: Mapping[str, str], at: float) -> dict[str, Vector | NoData]:
        return {name: self._answer(name, at) for name in queries}

    def _answer(self, name: str, at: float) -> Vector | NoData:
        self.detections += name == "servers"
        if self.away is not None:
            return self.away
        if name == "servers":
            found = [
                Sample({"namespace": "n", "pod": pod, "__name__": MARKS[server]}, 1.0, at)
                for pod, server in self.servers.items()
            ]
        elif name == "in flight":
            found = [
                Sample({"namespace": "n", "pod": pod, "slicewise_about": server}, 5.0, at)
                for pod, server in self.servers.items()
            ]
            if len(set(self.servers.values())) == 1:
                found = [Sample({"namespace": "n", "pod": s.labels["pod"]}, s.value, at) for s in found]
        else:
            found = []
        return Vector(tuple(found)) if found else NoData("Prometheus has no such series", "empty")


def pods_of(*names: str) -> PodIndex:
    index = PodIndex()
    index.replaced(
        [
            Pod(
                ObjectMeta(name=name, namespace="n", uid=name, labels={"app": name[0]}),
                status=PodStatus(phase="Running", conditions=(PodCondition("Ready", "True"),)),
            )
            for name in names
        ]
    )
    return index


def workload(app: str, replicas: int = 1, **fields: Any) -> Workload:
    values = {"target": {"name": app}, "maxReplicas": 9, "inFlight": {}, **fields}
    policy = AutoscalingPolicy.model_validate(values)
    target = Target("apps/v1", "Deployment", "n", app)
    return Workload(
        policy, ScaleSight(target, "/", replicas, parse_selector(f"app={app}"), ObjectReference())
    )


def test_every_workload_is_asked_about_by_its_own_server():
    source, one, other = Prometheus(), workload("a"), workload("b")
    source.servers = {"a1": "vllm", "b1": "tgi"}
    collector = Collector(source, pods_of("a1", "b1"))
    signals = collector.ask([one, other], 1000.0)
    assert (signals(one).in_flight, signals(other).in_flight) == (5.0, 5.0)
    assert collector.server_of(one.sight.target) == "vllm"
    assert collector.server_of(other.sight.target) == "tgi"


class Door:
    """The threads that ask pods, as far as the collector goes: whom it wants asked, what a page showed."""

    def __init__(self) -> None:
        self.wanted: dict[Target, Followed] = {}
        self.server: ServerPreset | None = None

    def follow(self, wanted: Mapping[Target, Followed]) -> None:
        self.wanted = dict(wanted)

    def pages(self, target: Target) -> Pages:
        return Pages(frozenset({"a1"}), {"a1": PageLoad(7.0, 2.0)} if self.server else {}, self.server)

    def hold(self) -> None: ...

    def release(self) -> None: ...


def test_a_workload_known_by_its_sidecars_alone_is_asked_for_its_own_page():
    source, one, door = Prometheus(), workload("a"), Door()
    source.servers = {"a1": "istio"}
    collector = Collector(source, pods_of("a1"), scrape=cast(Any, door))
    target = one.sight.target
    collector.ask([one], 1000.0)
    assert collector.server_of(target) == "istio"
    assert door.wanted[target].preset is None  # any page is welcome
    door.server = PRESETS["vllm"]
    collector.ask([one], 1005.0)
    assert collector.server_of(target) == "istio"  # looked at every 15 s
    signals = collector.ask([one], 1020.0)
    assert collector.server_of(target) == "vllm"
    assert signals(one).in_flight == 7.0
    collector.ask([one], 1040.0)
    assert (source.detections, door.wanted[target].preset) == (2, PRESETS["vllm"])


def test_a_policy_that_names_the_proxy_is_taken_at_its_word():
    source, door = Prometheus(), Door()
    source.servers = {"a1": "istio"}
    one = workload("a", server="istio")
    collector = Collector(source, pods_of("a1"), scrape=cast(Any, door))
    collector.ask([one], 1000.0)
    assert door.wanted == {}
    assert source.detections == 0


def test_the_servers_are_not_asked_for_again_while_the_pods_stay():
    source, one = Prometheus(), workload("a")
    source.servers = {"a1": "vllm"}
    index = pods_of("a1")
    collector = Collector(source, index)
    for round_number in range(10):
        collector.ask([one], 1000.0 + 5.0 * round_number)
    assert source.detections == 1
    source.servers["a2"] = "vllm"
    index.changed("ADDED", Pod(ObjectMeta(name="a2", namespace="n", uid="a2", labels={"app": "a"})))
    collector.ask([one], 1050.0)
    assert source.detections == 2


def test_a_workload_that_is_not_recognised_says_so_and_is_held():
    source, one = Prometheus(), workload("a")
    collector = Collector(source, pods_of("a1"))
    missing = collector.ask([one], 1000.0)(one).in_flight
    assert isinstance(missing, NoData)
    assert missing.cause == "misconfigured"
    assert missing.reason.startswith("no known model server is recognised by what the 1 pods export")


def test_an_outage_is_not_taken_for_an_unknown_server():
    source, one = Prometheus(), workload("a")
    source.away = NoData("connection refused", "outage")
    collector = Collector(source, pods_of("a1"))
    assert collector.ask([one], 1000.0)(one).in_flight is source.away
    source.away, source.servers = None, {"a1": "vllm"}
    assert collector.ask([one], 1005.0)(one).in_flight == 5.0
    source.away = NoData("connection refused", "outage")
    assert collector.ask([one], 1010.0)(one).in_flight is source.away
    assert collector.server_of(one.sight.target) == "vllm"
