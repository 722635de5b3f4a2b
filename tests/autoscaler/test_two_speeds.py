"""A burst between two scrapes: a real Prometheus at its usual 15 s, and the pods asked directly."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from autoscaler.collect import APART_SECONDS, Collector, Workload
from autoscaler.decide import decide
from autoscaler.pod_index import PodIndex
from autoscaler.reasons import IN_FLIGHT_NEEDS_MORE
from autoscaler.scrape import DirectScrape
from autoscaler.selectors import parse_selector
from autoscaler.signals import Signals
from autoscaler.targets import ScaleSight, Target
from cluster.policy import AutoscalingPolicy
from cluster.wire import ObjectMeta, ObjectReference, Pod, PodCondition, PodStatus
from deploy.local import binaries, commands
from deploy.local.ports import PortClaims
from deploy.local.processes import Processes
from metrics.prometheus import Prometheus
from metrics.samples import NoData, Sample, Vector
from tests.autoscaler.test_direct_scrape import PodServer, pod_server
from tests.polling import until

SCRAPE_SECONDS = 15
TARGET = Target("apps/v1", "Deployment", "n", "llm")


@dataclass
class Scene:
    """Three vLLM pods that are scraped by Prometheus and asked directly."""

    pods: list[PodServer]
    prometheus: Prometheus
    index: PodIndex
    scrape: DirectScrape
    processes: Processes

    def workload(self, direct: bool) -> Workload:
        policy = AutoscalingPolicy.model_validate(
            {
                "target": {"name": "llm"},
                "maxReplicas": 20,
                "inFlight": {"perReplica": 10.0},
                "signals": {"directScrape": direct, "everySeconds": 1.0},
            }
        )
        return Workload(
            policy, ScaleSight(TARGET, "/", 3, parse_selector("app=llm"), ObjectReference(name="llm"))
        )

    def collector(self) -> Collector:
        return Collector(self.prometheus, self.index, scrape=self.scrape)

    def signals(self, collector: Collector, *, direct: bool) -> Signals:
        workload = self.workload(direct)
        return collector.ask([workload], time.time())(workload)


def pod_object(number: int, port: int) -> Pod:
    name = f"pod-{number}"
    return Pod(
        ObjectMeta(
            name=name,
            namespace="n",
            uid=name,
            labels={"app": "llm"},
            annotations={"prometheus.io/port": str(port)},
        ),
        status=PodStatus(phase="Running", pod_ip="127.0.0.1", conditions=(PodCondition("Ready", "True"),)),
    )


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    binary = binaries.find("prometheus")
    if binary is None:
        pytest.skip("no Prometheus of the pinned version here: `python -m deploy.local up` builds one")
    with ExitStack() as stack:
        pods = [stack.enter_context(pod_server(running=4.0)) for _ in range(3)]
        folder: Path = tmp_path_factory.mktemp("prometheus")
        targets = [
            {"targets": [f"127.0.0.1:{pod.port}"], "labels": {"namespace": "n", "pod": f"pod-{number}"}}
            for number, pod in enumerate(pods)
        ]
        config = folder / "prometheus.yaml"
        scrape = {"job_name": "pods", "static_configs": targets}
        config.write_text(
            yaml.safe_dump(commands.prometheus_configuration([scrape], f"{SCRAPE_SECONDS}s", []))
        )
        claims = PortClaims()
        stack.callback(claims.release)
        port = claims.claim()
        processes = Processes(folder / "log")
        stack.callback(processes.close)
        argv = commands.prometheus(binary, port=port, config=config, data=folder / "data")
        processes.start("prometheus", argv)
        prometheus = stack.enter_context(Prometheus(f"http://127.0.0.1:{port}", 2.0))
        index = PodIndex()
        index.replaced([pod_object(number, pod.port) for number, pod in enumerate(pods)])
        direct = DirectScrape()
        direct.start()
        stack.callback(direct.stop)
        yield Scene(pods, prometheus, index, direct, processes)


def settled(scene: Scene, collector: Collector) -> None:
    """Wait until both sources tell of the present load."""
    load = sum(pod.running + 1.0 for pod in scene.pods)
    until(
        lambda: scene.signals(collector, direct=False).in_flight == load,
        2.0 * SCRAPE_SECONDS + 10.0,
        "Prometheus tells it",
        every_seconds=0.2,
    )
    until(lambda: scene.signals(collector, direct=True).in_flight == load, 10.0, "the pods tell it")


def test_a_burst_is_answered_before_prometheus_has_scraped_it(scene: Scene):
    slow, quick = Collector(scene.prometheus, scene.index), scene.collector()
    settled(scene, quick)
    assert scene.signals(slow, direct=True).in_flight == 15.0
    for pod in scene.pods:
        pod.running = 29.0
    until(lambda: scene.signals(quick, direct=True).in_flight == 90.0, 10.0, "the burst", every_seconds=0.05)
    # The last of the three was scraped right before the burst, and is again an interval later.
    assert scene.signals(slow, direct=True).in_flight != 90.0
    until(
        lambda: scene.signals(slow, direct=True).in_flight == 90.0,
        2.0 * SCRAPE_SECONDS + 10.0,
        "Prometheus' turn",
        every_seconds=0.2,
    )
    workload = scene.workload(True)
    decision = decide(workload.policy, scene.signals(quick, direct=True), None, 0.0)
    assert decision.reasons[0].code == IN_FLIGHT_NEEDS_MORE


def test_with_prometheus_gone_the_pods_alone_suffice_and_the_other_way_round(scene: Scene):
    quick = scene.collector()
    settled(scene, quick)
    load = scene.signals(quick, direct=True).in_flight
    scene.processes.stop(["prometheus"], 5.0)
    dark = scene.signals(quick, direct=False).in_flight
    assert isinstance(dark, NoData)
    assert "cannot reach Prometheus" in dark.reason
    until(lambda: scene.signals(quick, direct=True).in_flight == load, 10.0, "the pods tell it")
    signals = scene.signals(quick, direct=True)
    assert (signals.ready, signals.silent) == (3, 0)
    assert quick.pod_loads(TARGET) == {f"pod-{n}": pod.running + 1.0 for n, pod in enumerate(scene.pods)}


class Stuck:
    """A Prometheus whose values never change."""

    def query_many(self, queries: Mapping[str, str], at: float) -> dict[str, Vector | NoData]:
        samples = tuple(Sample({"namespace": "n", "pod": f"pod-{n}"}, 100.0, at) for n in range(3))
        return {
            name: Vector(samples) if name == "in flight" else NoData("no such series", "empty")
            for name in queries
        }


def test_sources_that_contradict_each_other_for_long_are_told(scene: Scene):
    collector = Collector(Stuck(), scene.index, scrape=scene.scrape)
    policy = scene.workload(True).policy.model_copy(update={"server": "vllm"})
    workload = Workload(policy, scene.workload(True).sight)
    began = time.time()

    def look(after: float) -> float | NoData:
        return collector.ask([workload], began + after)(workload).in_flight

    until(lambda: len(scene.scrape.pages(TARGET).fresh) == 3 or (look(0.0) and False), 10.0, "fresh pages")
    assert look(1.0) == 300.0
    assert collector.contradiction(TARGET) is None
    assert look(2.0 + APART_SECONDS) == 300.0
    sentence = collector.contradiction(TARGET)
    assert sentence is not None
    assert "3 pods themselves have told of" in sentence
    assert "Prometheus of 300" in sentence
