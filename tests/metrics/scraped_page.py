"""One page with ten minutes of samples, their times written beside them, scraped once by the real Prometheus.

Histograms of many forms, vLLM's old and new names, DCGM's fields, every other server's metrics
(``server_pages``) and a consumer group's.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from deploy.local import binaries, commands
from deploy.local.ports import PortClaims
from deploy.local.processes import Processes
from metrics import dcgm
from metrics.prometheus import Prometheus
from metrics.samples import NoData, Vector
from tests.loopback_pages import text_page
from tests.metrics.server_pages import add_servers
from tests.polling import until

STEP_SECONDS = 15
STEPS = 40
HISTOGRAM_PODS = 60


@dataclass
class Page:
    """Text exposition with the time of each sample. Series grow linearly: ``first`` + step × ``growth``."""

    end_seconds: int
    lines: list[str]

    def add(
        self, name: str, labels: dict[str, str], first: float, growth: float = 0.0, steps: int = STEPS
    ) -> None:
        inside = ",".join(f'{key}="{value}"' for key, value in labels.items())
        for step in range(STEPS - steps, STEPS):
            at = (self.end_seconds - (STEPS - 1 - step) * STEP_SECONDS) * 1000
            self.lines.append(f"{name}{{{inside}}} {first + growth * step!r} {at}")


def pod(name: str, **more: str) -> dict[str, str]:
    return {"namespace": "shop", "pod": name, **more}


def add_histogram(page: Page, name: str, labels: dict[str, str], growths: dict[str, float]) -> None:
    total = 0.0
    for bound, growth in growths.items():
        total += growth
        page.add(f"{name}_bucket", {**labels, "le": bound}, 10 * total, total)
    page.add(f"{name}_count", labels, 10 * total, total)


def write_page(end_seconds: int) -> Page:
    page = Page(end_seconds, [])
    drawn = random.Random(7)
    for number in range(HISTOGRAM_PODS):
        bounds = sorted(
            drawn.sample([0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 120], drawn.randint(1, 9))
        )
        if number % 10 == 3:
            bounds = [-1, 0, *bounds]
        kind = number % 6
        growths = {str(bound): float(drawn.choice([0, 0, 1, 3, 17])) * (kind != 4) for bound in bounds}
        growths["+Inf"] = float(drawn.choice([0, 2, 9])) if kind != 5 else 0.0
        if kind == 3:  # scrapes are not atomic: a count may seem to fall from one bucket to the next
            growths[str(bounds[-1])] = -0.5
        add_histogram(page, "random_seconds", pod(f"pod-{number:02}"), growths)

    model = {"model_name": "m", "engine": "0"}
    page.add("vllm:num_requests_running", pod("new", **model), 5)
    page.add("vllm:num_requests_running", pod("new", **{**model, "engine": "1"}), 2)
    page.add("vllm:num_requests_waiting", pod("new", **model), 3)
    page.add("vllm:num_requests_waiting", pod("new", **{**model, "engine": "1"}), 1)
    page.add("vllm:num_requests_waiting_by_reason", pod("new", **model, reason="capacity"), 3)
    page.add("vllm:kv_cache_usage_perc", pod("new", **model), 0.25)
    page.add("vllm:gpu_cache_usage_perc", pod("new", **model), 0.99)
    page.add("vllm:request_success_total", pod("new", **model, finished_reason="stop"), 0, 30)
    page.add("vllm:request_success_total", pod("new", **model, finished_reason="length"), 0, 15)
    add_histogram(page, "vllm:inter_token_latency_seconds", pod("new", **model), {"0.1": 4, "+Inf": 0})
    add_histogram(page, "vllm:time_per_output_token_seconds", pod("new", **model), {"0.2": 9, "+Inf": 0})
    page.add("vllm:num_requests_running", pod("old", **model), 4)
    page.add("vllm:num_requests_waiting", pod("old", **model), 0)
    page.add("vllm:gpu_cache_usage_perc", pod("old", **model), 0.5)
    add_histogram(page, "vllm:time_per_output_token_seconds", pod("old", **model), {"0.2": 6, "+Inf": 0})
    add_histogram(page, "vllm:e2e_request_latency_seconds", pod("old", **model), {"1.0": 15, "+Inf": 0})
    page.add("vllm:num_requests_running", pod("half", **model), 7)

    page.add("took_ms_bucket", pod("g", le="100.0"), 0, 15)
    page.add("took_ms_bucket", pod("g", le="500"), 0, 15)
    page.add("took_ms_bucket", pod("g", le="+Inf"), 0, 15)

    def gpu(uuid: str, instance: str | None = None, **labels: str) -> dict[str, str]:
        mig = {"GPU_I_ID": instance, "GPU_I_PROFILE": "1g.10gb"} if instance is not None else {}
        return {"gpu": uuid[-1], "UUID": uuid, **mig, **labels}

    page.add(dcgm.GPU_UTIL, gpu("GPU-0", **pod("two-gpus")), 20)
    page.add(dcgm.GPU_UTIL, gpu("GPU-1", **pod("two-gpus")), 60)
    page.add(dcgm.GPU_UTIL, gpu("GPU-2", **pod("once")), 50, steps=1)
    page.add(dcgm.GPU_UTIL, gpu("GPU-3"), 0)
    exported = {"namespace": "gpu-operator", "pod": "dcgm-exporter-x"}
    mine = {**exported, "exported_namespace": "shop", "exported_pod": "mig"}
    page.add(dcgm.GR_ENGINE_ACTIVE, gpu("GPU-4", "7", **mine), 0.5)
    page.add(dcgm.GR_ENGINE_ACTIVE, gpu("GPU-4", **mine), 0.07)  # the parent GPU: disputed, not to be read
    page.add(dcgm.SM_ACTIVE, gpu("GPU-0", **pod("two-gpus")), 0.4)
    page.add(dcgm.SM_ACTIVE, gpu("GPU-4", "7", **mine), 0.9)
    page.add(dcgm.SM_ACTIVE, gpu("GPU-4", **mine), 0.1)
    add_servers(page)
    add_streams(page)
    return page


def add_streams(page: Page) -> None:
    """A consumer group on two partitions, as both exporters tell of it: 40 behind on each, 24 a second come,
    20 a second are consumed.
    """
    for partition in ("0", "1"):
        where = {"topic": "t", "partition": partition}
        page.add("kafka_consumergroup_lag", {"consumergroup": "orders", **where}, 40)
        page.add("kafka_consumergroup_current_offset", {"consumergroup": "orders", **where}, 1000, 150)
        page.add("kafka_topic_partition_current_offset", where, 1040, 180)
        named = {"group_id": "orders", "topic_name": "t", "partition_id": partition}
        page.add("kminion_kafka_consumer_group_topic_partition_lag", named, 40)
    group = {"group_id": "orders", "topic_name": "t"}
    page.add("kminion_kafka_consumer_group_topic_lag", group, 80)
    page.add("kminion_kafka_consumer_group_topic_offset_sum", group, 2000, 300)
    page.add("kminion_kafka_topic_high_water_mark_sum", {"topic_name": "t"}, 2080, 360)


@dataclass
class Scraped:
    prometheus: Prometheus
    at: float

    def pods(self, promql: str | None) -> dict[str, float]:
        assert promql is not None
        answer = self.prometheus.query(promql, self.at)
        assert isinstance(answer, Vector), answer
        return {sample.labels["pod"]: sample.value for sample in answer.samples}

    def buckets(self, promql: str | None) -> Vector:
        assert promql is not None
        answer = self.prometheus.query(promql, self.at)
        assert isinstance(answer, Vector), answer
        return answer


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    binary = binaries.find("prometheus")
    if binary is None:
        pytest.skip("no Prometheus of the pinned version here: `python -m deploy.local up` builds one")
    end_seconds = int(time.time()) - 5
    page = "\n".join(write_page(end_seconds).lines) + "\n"
    folder: Path = tmp_path_factory.mktemp("prometheus")
    config = folder / "prometheus.yaml"
    with ExitStack() as stack:
        target = {"targets": [f"127.0.0.1:{stack.enter_context(text_page(lambda: page))}"]}
        scrape = {"job_name": "page", "static_configs": [target]}
        config.write_text(yaml.safe_dump(commands.prometheus_configuration([scrape], "1s", [])))
        claims = PortClaims()
        stack.callback(claims.release)
        processes = Processes(folder / "log")
        stack.callback(processes.close)
        port = claims.claim()
        processes.start(
            "prometheus", commands.prometheus(binary, port=port, config=config, data=folder / "data")
        )
        prometheus = stack.enter_context(Prometheus(f"http://127.0.0.1:{port}"))

        def scraped() -> bool:
            processes.check()
            found = prometheus.query(f'{dcgm.GPU_UTIL}{{pod="once"}}', end_seconds + 1.0)
            return not isinstance(found, NoData)

        until(scraped, 40, "the last scrape")
        yield Scraped(prometheus, float(end_seconds))
