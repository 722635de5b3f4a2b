"""What a pod's own page says about its load."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Gauge, Histogram
from prometheus_client.exposition import generate_latest

from metrics.samples import NoData
from metrics.servers import PRESETS, generic
from metrics.servers.page import PageLoad, load_on_page, readable, recognise
from tests.metrics.server_pages import add_servers


class Lines:
    """The page of each pod, as ``add_servers`` describes it, without the labels that Prometheus adds."""

    def __init__(self) -> None:
        self.pages: dict[str, list[str]] = {}

    def add(self, name: str, labels: dict[str, str], first: float, growth: float = 0.0) -> None:
        own = ",".join(f'{k}="{v}"' for k, v in labels.items() if k not in ("namespace", "pod"))
        self.pages.setdefault(labels["pod"], []).append(f"{name}{{{own}}} {first + growth}")

    def page(self, pod: str) -> bytes:
        return ("# TYPE of something\n" + "\n".join(self.pages[pod]) + "\n").encode()


@pytest.fixture(scope="module")
def lines() -> Lines:
    lines = Lines()
    add_servers(lines)
    return lines


SELF_TOLD = [name for name in PRESETS if readable(PRESETS[name]) and name != "vllm"]


@pytest.mark.parametrize("server", SELF_TOLD)
def test_the_page_of_a_server_says_what_prometheus_would(lines: Lines, server: str):
    load = load_on_page(PRESETS[server], lines.page(server))
    assert isinstance(load, PageLoad)
    assert load.in_flight == 6.0
    recognised = recognise(lines.page(server))
    assert recognised is not None
    assert recognised.name == server


def test_what_waits_is_told_apart(lines: Lines):
    load = load_on_page(PRESETS["tgi"], lines.page("tgi"))
    assert load == PageLoad(6.0, 2.0)
    assert load_on_page(PRESETS["sglang"], lines.page("sglang")) == PageLoad(6.0, 2.0)  # two ranks, not added
    assert load_on_page(PRESETS["bentoml"], lines.page("bentoml")) == PageLoad(6.0, None)


UNREADABLE = ["triton", "torchserve", "tensorflow-serving", "istio", "inference-gateway"]


@pytest.mark.parametrize("server", UNREADABLE)
def test_a_rate_or_another_pod_s_load_is_left_to_prometheus(lines: Lines, server: str):
    assert not readable(PRESETS[server])
    page = lines.page("picker" if server == "inference-gateway" else server)
    load = load_on_page(PRESETS[server], page)
    assert isinstance(load, NoData)
    assert load.cause == "misconfigured"


def test_a_proxy_is_the_mark_of_a_server_only_where_requests_came_to_the_pod(lines: Lines):
    assert recognise(lines.page("istio")) is PRESETS["istio"]
    assert recognise(lines.page("caller")) is None
    assert recognise(lines.page("waypoint")) is None
    assert recognise(lines.page("meshed")) is PRESETS["vllm"]
    assert recognise(lines.page("meshed-http")) is PRESETS["generic"]


def test_a_page_of_prometheus_client_is_read():
    registry = CollectorRegistry()
    running = Gauge("vllm:num_requests_running", "Running.", ["model_name", "engine"], registry=registry)
    waiting = Gauge("vllm:num_requests_waiting", "Waiting.", ["model_name", "engine"], registry=registry)
    by_reason = Gauge(
        "vllm:num_requests_waiting_by_reason", "Waiting.", ["model_name", "reason"], registry=registry
    )
    Histogram("vllm:e2e_request_latency_seconds", "Latency.", registry=registry).observe(1.0)
    for engine, (runs, waits) in enumerate(((5.0, 1.0), (7.0, 2.0))):
        running.labels('a "model" {with} braces\n', str(engine)).set(runs)
        waiting.labels('a "model" {with} braces\n', str(engine)).set(waits)
    by_reason.labels("m", "capacity").set(3)
    page = generate_latest(registry)
    assert load_on_page(PRESETS["vllm"], page) == PageLoad(15.0, 3.0)
    assert recognise(page) is PRESETS["vllm"]


@pytest.mark.parametrize(
    "page",
    [
        b"",
        b"vllm:num_requests_running 4",  # the queue is missing: the load would be too small
        b"vllm:num_requests_running 4\nvllm:num_requests_waiting NaN\n",
        b"vllm:num_requests_running_total 4\nvllm:num_requests_waiting 4\n",
        b"vllm:num_requests_running{} \nvllm:num_requests_waiting 4\n",
        b"vllm:num_requests_running{} four\nvllm:num_requests_waiting 4\n",
        b"<html>vllm:num_requests_running 4</html>",
    ],
)
def test_what_is_missing_is_no_load(page: bytes):
    load = load_on_page(PRESETS["vllm"], page)
    assert isinstance(load, NoData)
    assert load.cause == "empty"


def test_times_behind_the_value_and_missing_newlines_do_no_harm():
    page = b'vllm:num_requests_running{a="b"} 4 1700000000000\r\nvllm:num_requests_waiting\t2'
    assert load_on_page(PRESETS["vllm"], page) == PageLoad(6.0, 2.0)


def test_a_preset_with_matchers_is_left_to_prometheus():
    assert not readable(generic(matchers='job="x"'))


def test_nothing_is_recognised_in_a_page_without_marks():
    assert recognise(b"python_info 1\nprocess_cpu_seconds_total 4\n") is None
