"""slicewise-scheduler as a process: serves a snapshot with no cluster, ends in order, tells a user's mistake
in a sentence.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from scheduler.snapshot import Snapshot, encode
from tests.polling import SOON_SECONDS

ROOT = Path(__file__).parents[2]
POLICY = "apiVersion: slicewise.io/v1alpha1\nkind: ClusterPolicy\n"


def node(name, free):
    labels = {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB", "nvidia.com/gpu.count": "8"}
    found = {
        "metadata": {"name": name, "labels": labels},
        "status": {"allocatable": {"nvidia.com/gpu": str(free)}},
    }
    return msgspec.Raw(json.dumps(found).encode())


def gpu_pod(gpus):
    container = {"name": "c", "resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}
    return {"metadata": {"name": "p", "namespace": "d", "uid": "u"}, "spec": {"containers": [container]}}


def start(*flags):
    return subprocess.Popen(
        [sys.executable, "-m", "scheduler", *map(str, flags)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_snapshot_is_served_without_a_cluster(tmp_path):
    path = tmp_path / "cluster.json"
    path.write_bytes(encode(Snapshot(nodes=[node("small", 2), node("large", 8)], policy=POLICY)))
    process = start("--from-snapshot", path, "--listen", "127.0.0.1:0", "--log-level", "warning")
    try:
        line = process.stdout.readline()
        address = re.search(r"serving 2 nodes of \S+ on http://127\.0\.0\.1:(\d+)", line)
        assert address is not None, line
        connection = http.client.HTTPConnection("127.0.0.1", int(address[1]), timeout=SOON_SECONDS)
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        assert json.loads(answer.read()) == {"fleet": True, "policy": True, "prices": True, "serving": True}
        body = json.dumps({"Pod": gpu_pod(4), "NodeNames": ["small", "large"]})
        connection.request("POST", "/scheduler/filter", body, {"Content-Type": "application/json"})
        found = json.loads(connection.getresponse().read())
        assert found["NodeNames"] == ["large"]
        assert "4 whole GPUs" in found["FailedAndUnresolvableNodes"]["small"]
        body = json.dumps({"Pod": gpu_pod(1), "NodeNames": ["small", "large"]})
        connection.request("POST", "/scheduler/prioritize", body, {"Content-Type": "application/json"})
        rows = json.loads(connection.getresponse().read())
        assert max(rows, key=lambda row: row["Score"])["Score"] == 10
        connection.request("GET", "/metrics")
        page = connection.getresponse().read().decode()
        assert "slicewise_fleet_nodes 2.0" in page
        assert re.search(r"^slicewise_price_tables_age_seconds \d", page, re.MULTILINE)
        connection.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(SOON_SECONDS) == 0
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--listen", "nowhere"], "--listen: got 'nowhere', expected HOST:PORT"),
        (["--listen", "127.0.0.1:99999"], "--listen: got '127.0.0.1:99999'"),
        (["--listen", "203.0.113.1:80"], "expected a local address"),
        (
            ["--from-snapshot", "absent.json", "--listen", "127.0.0.1:0"],
            "absent.json: .*kubectl slicewise snapshot",
        ),
        (
            ["--from-snapshot", "pyproject.toml", "--listen", "127.0.0.1:0"],
            "pyproject.toml: .*expected the JSON",
        ),
        (["--tls-cert-file", "x", "--listen", "127.0.0.1:0"], "expected both or neither"),
        (
            ["--tls-cert-file", "absent.crt", "--tls-key-file", "absent.key", "--listen", "127.0.0.1:0"],
            "absent.crt",
        ),
        (["--kubeconfig", "absent.kubeconfig", "--listen", "127.0.0.1:0"], "absent.kubeconfig"),
        (["--prometheus-token-file", "absent.token", "--listen", "127.0.0.1:0"], "token-file: cannot read"),
    ],
)
def test_a_users_mistake_is_one_sentence_and_status_2(flags, words):
    process = start(*flags)
    output, errors = process.communicate(timeout=2 * SOON_SECONDS)
    assert process.returncode == 2
    assert re.search(words, errors), errors
    assert "Traceback" not in errors
    assert output == ""


def test_a_refused_policy_in_the_snapshot_is_named(tmp_path):
    path = tmp_path / "cluster.json"
    path.write_bytes(encode(Snapshot(policy=POLICY + "prices: {gpuHour: -1}\n")))
    process = start("--from-snapshot", path, "--listen", "127.0.0.1:0")
    _, errors = process.communicate(timeout=2 * SOON_SECONDS)
    assert process.returncode == 2
    assert "prices.gpuHour" in errors
    assert "got -1" in errors
    assert "Traceback" not in errors
