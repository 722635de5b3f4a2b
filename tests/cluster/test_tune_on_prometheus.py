"""``tune`` on the history of a real Prometheus: two days of a made-up vLLM service, imported as blocks."""

from __future__ import annotations

import json
import math
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from cluster.autoscaling_policy import AutoscalingPolicy
from deploy.local import binaries, commands
from deploy.local.ports import PortClaims
from deploy.local.processes import Processes
from kubectl_slicewise.__main__ import main
from kubectl_slicewise.recorded import cold_start_seconds, recorded
from metrics.prometheus import Prometheus
from metrics.samples import NoData
from simulator.tuning_history import windows_of
from tests.polling import until

STEP_SECONDS = 30
DAYS = 1.0
SECONDS_A_REQUEST = 4.0
POLICY = {
    "kind": "AutoscalingPolicy",
    "target": {"name": "llm"},
    "maxReplicas": 20,
    "inFlight": {"perReplica": 16.0},
    "slo": {"latencySeconds": 2.0, "measure": "ttft", "leastHeadroom": 5.0},
}


def rate(at: float) -> float:
    """Requests a second: a wave of two hours' length."""
    return 6.0 + 4.0 * math.sin(at / 1200.0)


def open_metrics(end: int) -> str:
    """Two pods that share the load, and when they were made and Ready (95 s later)."""
    start = end - int(DAYS * 86_400)
    running, waiting, served, created, ready = (list[str]() for _ in range(5))
    for pod in ("llm-a", "llm-b"):
        labels = f'{{namespace="shop",pod="{pod}"}}'
        count = 0.0
        for at in range(start, end, STEP_SECONDS):
            count += rate(at) * STEP_SECONDS / 2.0
            running.append(f"vllm:num_requests_running{labels} {rate(at) * SECONDS_A_REQUEST / 2.0} {at}")
            waiting.append(f"vllm:num_requests_waiting{labels} 0 {at}")
            served.append(f"vllm:request_success_total{labels} {count} {at}")
            created.append(f"kube_pod_created{labels} {start - 200} {at}")
            ready.append(f"kube_pod_status_ready_time{labels} {start - 105} {at}")
    families = [
        ("# TYPE vllm:num_requests_running gauge", running),
        ("# TYPE vllm:num_requests_waiting gauge", waiting),
        ("# TYPE vllm:request_success counter", served),
        ("# TYPE kube_pod_created gauge", created),
        ("# TYPE kube_pod_status_ready_time gauge", ready),
    ]
    lines = [line for head, samples in families for line in (head, *samples)]
    return "\n".join([*lines, "# EOF", ""])


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    binary = binaries.find("prometheus")
    if binary is None:
        pytest.skip("no Prometheus of the pinned version here: `python -m deploy.local up` builds one")
    folder: Path = tmp_path_factory.mktemp("history")
    text = folder / "history.om"
    text.write_text(open_metrics(int(time.time()) // 60 * 60), encoding="utf-8")
    subprocess.run(
        [binary.with_name("promtool"), "tsdb", "create-blocks-from", "openmetrics", text, folder / "data"],
        check=True,
        capture_output=True,
    )
    config = folder / "prometheus.yaml"
    config.write_text(yaml.safe_dump(commands.prometheus_configuration([], "1h", [])))
    claims, processes = PortClaims(), Processes(folder / "log")
    port = claims.claim()
    try:
        processes.start(
            "prometheus", commands.prometheus(binary, port=port, config=config, data=folder / "data")
        )
        url = f"http://127.0.0.1:{port}"
        with Prometheus(url) as source:
            until(
                lambda: not isinstance(source.query("vector(1)", time.time()), NoData),
                30,
                "Prometheus' answer",
            )
        yield url
    finally:
        processes.close()
        claims.release()


def test_the_past_is_read_as_it_was(history):
    policy = AutoscalingPolicy.model_validate({**POLICY, "server": "vllm"})
    now = time.time()
    with Prometheus(history, 30.0) as source:
        past = recorded(source, policy, namespace="shop", pods="llm-.+", until=now, days=DAYS)
        started = cold_start_seconds(source, namespace="shop", pods="llm-.+", until=now, days=DAYS)
        nobody = cold_start_seconds(source, namespace="shop", pods="other-.+", until=now, days=DAYS)
    assert started == pytest.approx(95.0)
    assert isinstance(nobody, NoData)
    trace = windows_of("shop/llm", past)
    assert trace.rate_rps.min() == pytest.approx(2.0, abs=0.6)
    assert trace.rate_rps.max() == pytest.approx(10.0, abs=0.6)
    assert trace.span_seconds == pytest.approx(86_400.0, rel=0.03)
    assert set(past.pods.values()) == {2.0}


def test_the_search_runs_on_it_at_the_measured_speed(history, tmp_path, capsys):
    path = tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump({**POLICY, "server": "vllm"}), encoding="utf-8")
    flags = ["tune", str(path), "--prometheus-url", history, "-n", "shop", "--days", "0.2"]
    assert main([*flags, "--trials", "4", "--seeds", "1", "-o", "json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["startup_seconds"] == pytest.approx(95.0)
    assert f"{SECONDS_A_REQUEST:.3g} s a request as measured" in report["server"]
    assert report["trials"] == 4
    assert report["present"]["attainment"] > 0.9


def test_pods_that_never_were_are_told(history, tmp_path, capsys):
    path = tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump({**POLICY, "server": "vllm"}), encoding="utf-8")
    flags = ["tune", str(path), "--prometheus-url", history, "-n", "shop", "--pods", "none-.+"]
    assert main(flags) == 1
    assert "check the server's name, -n and --pods" in capsys.readouterr().err
