"""A real KEDA follows our decisions: its operator asks our door, its metrics adapter answers the HPA it made.

KEDA is an extra (`deploy/local/extras.py`): where its programs were not built, these tests are skipped with
the command that builds them. The ScaledObject is the one that the documentation shows, but for where the door
is. Decisions are written by the test, so that what KEDA makes of each is known; one test has the controller's
own process behind the door.
"""

from __future__ import annotations

import base64
import itertools
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import yaml

from autoscaler.doors.side import DoorOptions, Doors
from autoscaler.other_writer import OtherWriters
from autoscaler.selectors import parse_selector
from autoscaler.targets import ScaleSight, Target
from cluster.client import Api
from cluster.wire import ObjectReference
from deploy.local import extras
from deploy.local.binaries import CONTROL_PLANE, BinaryUnavailable, ensure
from deploy.local.certificates import Identity
from deploy.local.conditions import condition
from deploy.local.control_plane import SYSTEM_NAMESPACE, ControlPlane
from deploy.local.keda import Keda
from deploy.local.kwok_nodes import create_nodes, node_manifest
from tests.autoscaler.door_scenes import Decided, deployment, documented, measured
from tests.polling import throughout, until

pytestmark = pytest.mark.cluster

SECONDS = 90.0
GONE = frozenset({200, 202, 404})
_numbers = itertools.count(1)


class Workload:
    """One Deployment in a namespace of its own, with a ScaledObject as documented."""

    def __init__(self, cluster: ControlPlane, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.deployment = f"/apis/apps/v1/namespaces/{namespace}/deployments/llm"
        self.object = f"/apis/keda.sh/v1alpha1/namespaces/{namespace}/scaledobjects/llm"
        self.hpas = f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers"

    def create(
        self,
        address: str,
        *,
        replicas: int = 1,
        kind: str = "external-push",
        authentication: str = "",
        **spec: Any,
    ) -> None:
        """The Deployment, and the ScaledObject with these changes."""
        self.cluster.request("POST", self.deployment.removesuffix("/llm"), deployment("llm", replicas))
        scaled = documented("keda")
        (trigger,) = scaled["spec"]["triggers"]
        trigger["type"] = kind
        trigger["metadata"]["scalerAddress"] = address
        if authentication:
            trigger["authenticationRef"] = {"name": authentication}
        scaled["spec"] |= spec
        self.cluster.request("POST", self.object.removesuffix("/llm"), scaled)

    def delete(self) -> None:
        """Wait until KEDA has let go of it: it asks the door for as long as it is there."""
        self.cluster.request("DELETE", self.object, accepted=GONE)
        until(self.forgotten, SECONDS, "KEDA takes its finalizer off")
        self.cluster.request("DELETE", f"/api/v1/namespaces/{self.namespace}", accepted=GONE)

    def forgotten(self) -> bool:
        return not self.cluster.request("GET", self.object.removesuffix("/llm"))["items"]

    def replicas(self) -> int:
        return int(self.cluster.request("GET", self.deployment)["spec"]["replicas"])

    def follows(self, replicas: int) -> None:
        until(lambda: self.replicas() == replicas, SECONDS, f"{replicas} replicas")

    def hpa(self) -> dict[str, Any] | None:
        """The HPA that KEDA made."""
        items = self.cluster.request("GET", self.hpas)["items"]
        return dict(items[0]) if items else None

    def active(self, status: str) -> bool:
        """Whether the HPA says so of its metrics; the answer's words are KEDA's."""
        return condition(self.hpa() or {}, "ScalingActive") == status

    def says(self, kind: str, reason: str) -> bool:
        """Whether the ScaledObject has this condition for this reason."""
        status = self.cluster.request("GET", self.object).get("status") or {}
        return any(c["type"] == kind and c.get("reason") == reason for c in status.get("conditions") or ())

    def annotate(self, name: str, value: str | None) -> None:
        patch = {"metadata": {"annotations": {name: value}}}
        self.cluster.request("PATCH", self.object, patch, "application/merge-patch+json")


@pytest.fixture(scope="module")
def cluster(
    tmp_path_factory: pytest.TempPathFactory, build_progress: Callable[[str], None]
) -> Iterator[ControlPlane]:
    try:
        built = extras.built("keda")
        ensure(CONTROL_PLANE, progress=build_progress)
    except BinaryUnavailable as problem:
        pytest.skip(str(problem))
    flags = {"kube-controller-manager": ["--horizontal-pod-autoscaler-sync-period=500ms"]}
    with ControlPlane(directory=tmp_path_factory.mktemp("keda"), extra_arguments=flags) as running:
        create_nodes(running, [node_manifest("room")])
        with Keda(running, built) as keda:
            until(keda.available, SECONDS, "KEDA's external metrics are reached")
            yield running


@pytest.fixture
def workload(cluster: ControlPlane) -> Iterator[Workload]:
    name = f"keda-{next(_numbers)}"
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    cluster.request("POST", "/api/v1/namespaces", namespace)
    one = Workload(cluster, name)
    yield one
    one.delete()


@pytest.fixture
def decided() -> Decided:
    return Decided()


@contextmanager
def opened(cluster: ControlPlane, decided: Decided, **options: Any) -> Iterator[str]:
    """The door in this process, over decisions of the test, with the controller's own rights; its address."""
    api = Api.connect(str(cluster.kubeconfig_for("slicewise-controller")))
    doors = Doors(
        DoorOptions(keda_port=cluster.claim_port(), host="127.0.0.1", **options),
        api,
        SYSTEM_NAMESPACE,
        decided.advice(),
        lambda: decided.leader,
    )
    doors.start()
    try:
        assert doors.keda is not None
        keda = doors.keda
        yield f"127.0.0.1:{until(lambda: keda.bound_port, SECONDS, 'the door listens')}"
    finally:
        doors.stop()
        api.close()


def test_keda_follows_every_decision_exactly_up_and_down(
    cluster: ControlPlane, workload: Workload, decided: Decided
):
    decided.say("llm", 1, namespace=workload.namespace)
    with opened(cluster, decided) as address:
        workload.create(address)
        # 20 and 19 lie within a tenth of one another, 4 and 20 further apart than HPA's own steps allow.
        for replicas in (3, 4, 20, 19, 18, 5, 1, 2):
            decided.say("llm", replicas, 16.0 * replicas, namespace=workload.namespace)
            workload.follows(replicas)
        hpa = workload.hpa()
        assert hpa is not None
        (metric,) = hpa["spec"]["metrics"]
        assert metric["external"]["metric"]["name"] == "s0-slicewise_desired_replicas"
        assert metric["external"]["target"] == {"type": "AverageValue", "averageValue": "1"}
        assert hpa["spec"]["behavior"]["scaleUp"]["tolerance"] == "0"
        assert workload.active("True")


@pytest.mark.parametrize("kind", ["external", "external-push"])
def test_keda_takes_a_workload_to_zero_and_wakes_it(
    cluster: ControlPlane, workload: Workload, decided: Decided, kind: str
):
    decided.say("llm", 2, namespace=workload.namespace)
    with opened(cluster, decided) as address:
        workload.create(address, kind=kind, minReplicaCount=0, cooldownPeriod=0, pollingInterval=1)
        workload.follows(2)
        for replicas in (0, 3, 0):
            decided.say("llm", replicas, namespace=workload.namespace, current=workload.replicas())
            workload.follows(replicas)
        throughout(lambda: workload.replicas() == 0, 3.0, "no replica")


def test_a_push_wakes_a_workload_that_keda_would_not_look_at_for_minutes(
    cluster: ControlPlane, workload: Workload, decided: Decided
):
    namespace = workload.namespace
    decided.say("llm", 0, namespace=namespace, current=0)
    with opened(cluster, decided) as address:
        workload.create(address, replicas=0, minReplicaCount=0, pollingInterval=3600)
        until(workload.hpa, SECONDS, "KEDA makes its HPA")
        throughout(lambda: workload.replicas() == 0, 3.0, "no replica")  # KEDA looks, for the only time
        decided.say("llm", 4, namespace=namespace, current=0)
        workload.follows(4)


def test_keda_keeps_the_replicas_while_nothing_is_known_even_those_that_could_go_to_zero(
    cluster: ControlPlane, workload: Workload, decided: Decided
):
    namespace = workload.namespace
    decided.say("llm", 6, namespace=namespace)
    with opened(cluster, decided) as address:
        workload.create(address, minReplicaCount=0, cooldownPeriod=0, pollingInterval=1)
        workload.follows(6)
        decided.now += 3600.0  # the decision is stale
        until(lambda: workload.active("False"), SECONDS, "the HPA has no metric")
        until(lambda: workload.says("Ready", "TriggerError"), SECONDS, "KEDA says so")
        throughout(lambda: workload.replicas() == 6, 3.0, "6 replicas")
        decided.say("llm", 0, namespace=namespace)
        workload.follows(0)
        decided.leader = False  # and the door is closed for a while
        decided.say("llm", 2, namespace=namespace, current=0)
        throughout(lambda: workload.replicas() == 0, 5.0, "no replica")
        decided.leader = True
        workload.follows(2)


def test_keda_speaks_mutual_tls_to_the_door(cluster: ControlPlane, workload: Workload, decided: Decided):
    namespace = workload.namespace
    decided.say("llm", 3, namespace=namespace)
    authority = cluster.certificate_authority
    pair = cluster.server_certificate("keda-door", ["127.0.0.1", "slicewise-keda.slicewise-system"])
    user = yaml.safe_load(cluster.kubeconfig_as(Identity("keda-operator"), "keda-caller").read_text())[
        "users"
    ][0]["user"]
    authentication = documented("keda-tls")
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "slicewise-keda"},
        "data": {
            "ca.crt": base64.b64encode(authority.read_bytes()).decode(),
            "tls.crt": user["client-certificate-data"],
            "tls.key": user["client-key-data"],
        },
    }
    cluster.apply([secret, authentication], namespace)
    options = {
        "certificate": str(pair.certificate),
        "key": str(pair.key),
        "keda_client_authority": str(authority),
    }
    with opened(cluster, decided, **options) as address:
        workload.create(address, authentication=authentication["metadata"]["name"])
        workload.follows(3)


def test_a_scaled_object_and_not_its_hpa_is_named_as_the_other_writer(
    cluster: ControlPlane, workload: Workload, decided: Decided
):
    target = Target("apps/v1", "Deployment", workload.namespace, "llm")
    sight = ScaleSight(target, "/", 2, parse_selector("app=llm"), ObjectReference())
    decided.say("llm", 2, namespace=workload.namespace)
    api = Api.connect(str(cluster.kubeconfig_for("slicewise-controller")))
    watched = OtherWriters(api, lambda _target: None)
    watched.start()
    try:
        with opened(cluster, decided) as address:
            workload.create(address)
            workload.follows(2)
            until(workload.hpa, SECONDS, "KEDA makes its HPA")
            until(lambda: watched.look(sight, 0.0).rival == "ScaledObject llm", SECONDS, "it is named")
            workload.annotate("autoscaling.keda.sh/paused", "true")
            until(lambda: watched.look(sight, 0.0).rival is None, SECONDS, "nobody is, once it is paused")
            assert workload.hpa() is None
            workload.annotate("autoscaling.keda.sh/paused", "False")
            until(lambda: watched.look(sight, 0.0).rival == "ScaledObject llm", SECONDS, "it is named again")
            until(workload.hpa, SECONDS, "KEDA goes on, too")
    finally:
        watched.stop()
        api.close()


def test_the_whole_road_from_model_servers_through_keda_to_replicas(
    cluster: ControlPlane, workload: Workload
):
    """Model servers, Prometheus, the controller's process, KEDA, its HPA."""
    servers, prometheus = measured(cluster, workload.namespace)
    listen, port = cluster.claim_port(), cluster.claim_port()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "autoscaler", "--prometheus-url", prometheus),
            *("--kubeconfig", str(cluster.kubeconfig_for("slicewise-controller"))),
            *("--listen", f"127.0.0.1:{listen}", "--keda-port", str(port)),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        workload.create(f"127.0.0.1:{port}", pollingInterval=1)
        servers.load(workload.namespace, "llm", 75.0)
        workload.follows(5)
        servers.load(workload.namespace, "llm", 12.0)
        workload.follows(1)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, log
        assert "Traceback" not in log
        assert " -> " not in log  # every change was the HPA's: the controller wrote none
    finally:
        process.kill()
        process.wait()
        servers.stop()
        cluster.processes.stop(["prometheus"], 2.0)
