"""MLServer, BentoML and Ray Serve as real pods: scraped, recognised, scaled up at a step and down after it.

One rig for all three, one after the other; Ray, the slowest to start, begins, and scales down while the
others are tried. The objective and the load are in `deploy.model_servers`. How quickly a server is back
within its objective is measured by `benchmarks.model_servers`: a start takes processor time, so that on a
busy machine it says more about the machine.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.local.model_servers import ModelServerUnavailable, ensure, find
from deploy.model_servers.manifests import MAX_REPLICAS, OBJECTIVE_SECONDS
from deploy.model_servers.rig import Rig
from deploy.model_servers.servers import SERVERS
from deploy.model_servers.trial import Trial
from kubectl_slicewise.__main__ import main
from tests.kubelet.cluster_view import until

SEED = 1

pytestmark = [pytest.mark.kubelet, pytest.mark.timeout(1800)]  # environments may be yet to be installed


@pytest.fixture(scope="module")
def environments(node_programs, build_progress):
    """The three servers are installed; skips, with the reason, where they cannot be fetched."""
    try:
        return {server.package: ensure(server.package, build_progress) for server in SERVERS}
    except ModelServerUnavailable as problem:
        pytest.skip(f"no model servers on this machine: {problem}")


@pytest.fixture(scope="module")
def rig(environments, control_plane, real_node, build_progress):
    """Prometheus and the controller over a namespace of their own."""
    name = "model-servers"
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    control_plane.request("POST", "/api/v1/namespaces", namespace)
    with Rig(control_plane, real_node, name, build_progress) as rig:
        yield rig
    control_plane.request("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture(scope="module")
def trials(rig):
    """The trials by server, in the order in which they were begun."""
    begun: dict[str, Trial] = {}
    yield begun
    for trial in begun.values():
        trial.close()


def named(servers):
    return pytest.mark.parametrize("server", servers, ids=lambda server: server.name)


@named(SERVERS)
def test_a_step_of_five_is_felt_and_answered_by_more_replicas(rig, trials, server):
    trial = trials[server.name] = Trial(rig, server, seed=SEED)
    trial.up()
    seen = trial.result()
    words = f"{seen.bins}, starts {seen.starts_seconds}, decisions {seen.decisions}"
    assert seen.p95_before_seconds is not None, words
    assert seen.p95_worst_seconds > OBJECTIVE_SECONDS, words
    assert seen.most_replicas > 1, words
    assert seen.starts_seconds, words


@named(SERVERS)
def test_the_server_is_recognised_by_what_the_real_prometheus_scraped(rig, trials, server, capsys):
    assert server.name in trials, "it never began"
    told: list[object] = []

    def recognised():
        """What is told of the server, once every signal has a pod: now and then a scrape takes too long."""
        capsys.readouterr()
        assert main(["servers", "--prometheus-url", rig.prometheus, "-o", "json"]) in (0, 1)
        seen = [one for one in json.loads(capsys.readouterr().out) if one["server"] == server.preset]
        told[:] = [one for one in seen if one["namespace"] == rig.namespace]
        for mine in told:
            signals = {signal["name"]: signal for signal in mine["signals"]}
            if all(signal["pods"] > 0 for signal in signals.values()) and signals["rate"]["total"] > 0:
                return mine
        return None

    try:
        mine = until(f"{server.name} is recognised with all its signals", recognised)
    except AssertionError as late:
        raise AssertionError(f"{late}; told: {told}") from None
    assert len(told) == 1
    assert 1 <= len(mine["pods"]) <= MAX_REPLICAS
    assert mine["others"] == []
    assert {signal["name"] for signal in mine["signals"]} == {"in flight", "rate", "e2e"}


@named(SERVERS)
def test_replicas_are_taken_away_after_the_step_and_no_request_is_refused(rig, trials, server):
    trial = trials[server.name]
    assert trial.down(to=trial.result().most_replicas - 1), trial.result().decisions[-8:]
    seen = trial.result()
    # A replica that leaves finishes what it has; only a machine without processor time lets a client give up.
    assert [why for why in seen.failed if not why.startswith("not answered")] == []
    assert [life for life in rig.pods.lives(server.name) if life.leaving_at is not None]


@named(SERVERS)
def test_nothing_of_the_server_is_left_behind(rig, trials, server):
    python = find(server.package)
    assert python is not None
    trials[server.name].close()
    rig.remove(server)
    environment = str(python.parents[1]).encode()
    until("no process of the environment runs", lambda: not _processes(environment), 20)


def _processes(environment: bytes) -> list[Path]:
    return [path for path in Path("/proc").glob("[0-9]*/cmdline") if environment in _read(path)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # ended meanwhile
        return b""
