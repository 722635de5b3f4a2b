"""Where a pod is asked for its metrics."""

from __future__ import annotations

import pytest

from autoscaler.scrape_address import MetricsDoor, metrics_door
from cluster.wire import Container, ContainerPort, ObjectMeta, Pod, PodSpec, PodStatus
from metrics.servers import PRESETS


def pod(annotations: dict[str, str] | None = None, *ports: tuple[str, int], ip: str = "10.0.0.7") -> Pod:
    said = {f"prometheus.io/{name}": value for name, value in (annotations or {}).items()}
    container = Container(ports=tuple(ContainerPort(name, number) for name, number in ports))
    return Pod(
        ObjectMeta(annotations=said), PodSpec(containers=(container,)), PodStatus(phase="Running", pod_ip=ip)
    )


def urls(found: Pod, server: str | None = "vllm") -> tuple[str, ...]:
    door = metrics_door(found)
    assert door is not None
    return door.urls(None if server is None else PRESETS[server])


@pytest.mark.parametrize(
    ("found", "server", "expected"),
    [
        (pod({"port": "9000", "path": "/stats"}, ("metrics", 1)), "vllm", ["10.0.0.7:9000/stats"]),
        (pod({}, ("http", 8080), ("metrics", 9100)), "vllm", ["10.0.0.7:9100/metrics"]),
        (pod({}, ("http", 8080)), "vllm", ["10.0.0.7:8000/metrics", "10.0.0.7:8080/metrics"]),
        (pod({}, ("http", 8080)), None, ["10.0.0.7:8080/metrics"]),
        (pod({}, ("http", 8080), ("grpc", 8081)), None, []),
        (pod({}), "mlserver", ["10.0.0.7:8082/metrics"]),
        (pod({"port": "9000"}, ip="fd00::7"), "vllm", ["[fd00::7]:9000/metrics"]),
        (pod({"port": "0"}), "vllm", ["10.0.0.7:8000/metrics"]),
        (pod({"port": "http"}), "vllm", ["10.0.0.7:8000/metrics"]),
        (pod({"path": "//elsewhere@x"}), "vllm", ["10.0.0.7:8000//elsewhere@x"]),
        (pod({"path": "http://elsewhere"}), "vllm", ["10.0.0.7:8000/metrics"]),
    ],
)
def test_what_the_pod_says_goes_before_the_server_s_habit(
    found: Pod, server: str | None, expected: list[str]
):
    assert urls(found, server) == tuple(f"http://{rest}" for rest in expected)


@pytest.mark.parametrize(
    "found", [pod(ip=""), pod({"scrape": "false"}), pod({"scheme": "https", "port": "1"})]
)
def test_a_pod_that_cannot_or_does_not_want_to_be_asked_is_left_to_prometheus(found: Pod):
    assert metrics_door(found) is None


def test_every_preset_with_a_gauge_of_its_own_has_a_door_or_says_nothing():
    for preset in PRESETS.values():
        assert preset.path.startswith("/")
        assert len(MetricsDoor("10.0.0.7").urls(preset)) == (preset.port is not None)
