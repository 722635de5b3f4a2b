"""A real HPA follows our decisions: kube-controller-manager asks kube-apiserver, which asks our door.

Manifests are those that are installed and those that the documentation shows, but for where the door is
(this machine) and who signed its certificate. Decisions are written by the test at first, so that what HPA
makes of each is known; the last one closes the loop from model servers through Prometheus and the process.
"""

from __future__ import annotations

import base64
import http.client
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator

import grpc
import pytest
import yaml

from autoscaler.doors.externalscaler import externalscaler_pb2 as pb
from autoscaler.doors.externalscaler import externalscaler_pb2_grpc as pb_grpc
from autoscaler.doors.keda import policy_of
from autoscaler.doors.side import DoorOptions, Doors
from cluster.client import Api
from deploy.local.apply import load
from deploy.local.binaries import CONTROL_PLANE, BinaryUnavailable, ensure
from deploy.local.certificates import Identity, KeyPair
from deploy.local.conditions import condition
from deploy.local.control_plane import RBAC_MANIFEST, SYSTEM_NAMESPACE, ControlPlane
from deploy.local.kwok_nodes import create_nodes, node_manifest
from deploy.local.rest import RequestRefused
from metrics.samples import NoData
from tests.autoscaler.door_scenes import Decided, deployment, documented, measured
from tests.polling import throughout, until

pytestmark = pytest.mark.cluster

MANIFESTS = RBAC_MANIFEST.parent
SERVICE = "slicewise-external-metrics"
NAMESPACE = "serving"
POLICY = ("serving", "llm-policy")
SECONDS = 90.0
DEPLOYMENT = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/llm"
HPA = f"/apis/autoscaling/v2/namespaces/{NAMESPACE}/horizontalpodautoscalers/llm"
METRICS = f"/apis/external.metrics.k8s.io/v1beta1/namespaces/{NAMESPACE}"


class Scene:
    """A cluster with one Deployment, and doors of this machine as its external metrics."""

    def __init__(self, cluster: ControlPlane) -> None:
        self.cluster = cluster
        self.pair: KeyPair = cluster.server_certificate(
            "door", ["127.0.0.1", f"{SERVICE}.{SYSTEM_NAMESPACE}.svc"]
        )
        self.kubeconfig = str(cluster.kubeconfig_for("slicewise-controller"))

    def register(self, port: int) -> None:
        """Apply the manifest, with this machine behind the Service."""
        documents = [dict(document) for document in load(MANIFESTS / "external-metrics.yaml")]
        for document in documents:
            if document["kind"] == "Service":
                document["spec"] = {
                    "type": "ExternalName",
                    "externalName": "localhost",
                    "ports": [{"port": port}],
                }
            if document["kind"] == "APIService":
                authority = base64.b64encode(self.cluster.certificate_authority.read_bytes()).decode()
                document["spec"]["caBundle"] = authority
                document["spec"]["service"]["port"] = port
        self.cluster.apply(documents)
        until(self.available, SECONDS, "the API is available")

    def available(self) -> bool:
        path = "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.external.metrics.k8s.io"
        return condition(self.cluster.request("GET", path), "Available") == "True"

    def create(self) -> None:
        """The Deployment, with the HPA of the documentation."""
        self.cluster.request("POST", DEPLOYMENT.removesuffix("/llm"), deployment("llm"))
        self.cluster.request("POST", HPA.removesuffix("/llm"), documented("hpa"))

    def delete(self) -> None:
        for path in (HPA, DEPLOYMENT, f"/api/v1/namespaces/{NAMESPACE}/configmaps/llm-policy"):
            self.cluster.request("DELETE", path, accepted=frozenset({200, 202, 404}))

    def replicas(self) -> int:
        return int(self.cluster.request("GET", DEPLOYMENT)["spec"]["replicas"])

    def ready(self) -> int:
        return int(self.cluster.request("GET", DEPLOYMENT)["status"].get("readyReplicas", 0))

    def condition(self, kind: str) -> tuple[str, str]:
        conditions = (self.cluster.request("GET", HPA).get("status") or {}).get("conditions") or ()
        return next(((c["status"], c.get("message", "")) for c in conditions if c["type"] == kind), ("", ""))

    def values(self, metric: str) -> list[str]:
        """What kubectl get --raw shows an administrator."""
        return [item["value"] for item in self.cluster.request("GET", f"{METRICS}/{metric}")["items"]]

    def refusal(self, metric: str) -> str | None:
        try:
            self.values(metric)
        except RequestRefused as refused:
            return str(refused)
        return None


def listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, build_progress: Callable[[str], None]) -> Iterator[Scene]:
    try:
        ensure(CONTROL_PLANE, progress=build_progress)
    except BinaryUnavailable as problem:
        pytest.skip(f"no control plane on this machine: {problem}")
    flags = {"kube-controller-manager": ["--horizontal-pod-autoscaler-sync-period=500ms"]}
    with ControlPlane(directory=tmp_path_factory.mktemp("doors"), extra_arguments=flags) as cluster:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        cluster.request("POST", "/api/v1/namespaces", namespace)
        create_nodes(cluster, [node_manifest("room")])
        yield Scene(cluster)


@pytest.fixture
def decided() -> Decided:
    return Decided()


@pytest.fixture
def doors(scene: Scene, decided: Decided) -> Iterator[Doors]:
    """The doors in this process, over decisions of the test, with the controller's own rights."""
    api = Api.connect(scene.kubeconfig)
    options = DoorOptions(
        external_metrics_port=0,
        host="127.0.0.1",
        certificate=str(scene.pair.certificate),
        key=str(scene.pair.key),
    )
    doors = Doors(options, api, SYSTEM_NAMESPACE, decided.advice(), lambda: decided.leader)
    doors.start()
    try:
        assert doors.external_metrics is not None
        scene.register(doors.external_metrics.port)
        yield doors
    finally:
        doors.stop()
        api.close()


@pytest.fixture
def workload(scene: Scene, doors: Doors) -> Iterator[None]:
    scene.create()
    yield
    scene.delete()


def test_hpa_follows_every_decision_exactly_up_and_down(scene: Scene, decided: Decided, workload: None):
    # 20 and 19 lie within a tenth of one another, 4 and 20 further apart than HPA's own steps allow.
    for replicas in (3, 4, 20, 19, 18, 5, 1, 2):
        decided.say("llm", replicas, 16.0 * replicas, namespace=NAMESPACE)
        until(lambda: scene.replicas() == replicas, SECONDS, f"{replicas} replicas")  # noqa: B023
        until(lambda: scene.ready() == replicas, SECONDS, f"{replicas} ready replicas")  # noqa: B023
    assert scene.values("slicewise_desired_replicas") == ["2"]
    assert scene.values("slicewise_in_flight") == ["32"]
    until(lambda: scene.condition("ScalingActive")[0] == "True", SECONDS, "HPA says that it has its metric")


def test_hpa_keeps_the_replicas_when_the_decision_is_stale(scene: Scene, decided: Decided, workload: None):
    decided.say("llm", 6, namespace=NAMESPACE)
    until(lambda: scene.replicas() == 6, SECONDS, "6 replicas")
    decided.now += 3600.0
    why = "the last decision is 3600 s old"
    until(lambda: why in scene.condition("ScalingActive")[1], SECONDS, f"HPA says that {why}")
    assert scene.condition("ScalingActive")[0] == "False"
    throughout(lambda: scene.replicas() == 6, 3.0, "6 replicas")
    decided.say("llm", 2, namespace=NAMESPACE)
    until(lambda: scene.replicas() == 2, SECONDS, "2 replicas, decided anew")


def test_hpa_keeps_the_replicas_while_this_replica_does_not_lead(
    scene: Scene, decided: Decided, workload: None
):
    decided.say("llm", 3, NoData("Prometheus does not answer", "outage"), namespace=NAMESPACE)
    until(lambda: scene.replicas() == 3, SECONDS, "3 replicas")
    assert "Prometheus does not answer" in str(scene.refusal("slicewise_in_flight"))
    decided.leader = False
    decided.say("llm", 9, namespace=NAMESPACE)
    until(lambda: "controller-b leads" in scene.condition("ScalingActive")[1], SECONDS, "HPA is refused")
    # Discovery is answered: the API does not come and go with the lead.
    until(scene.available, SECONDS, "the API is available")
    throughout(lambda: scene.replicas() == 3, 3.0, "3 replicas")
    decided.leader = True
    until(lambda: scene.replicas() == 9, SECONDS, "9 replicas, from the leader")


def test_an_account_without_the_right_is_refused_by_kube_apiserver_and_nobody_else_gets_in(
    scene: Scene, decided: Decided, doors: Doors
):
    decided.say("llm", 3, namespace=NAMESPACE)
    eve = Api.connect(str(scene.cluster.kubeconfig_as(Identity("eve", ("writers",)), "eve")))
    try:
        with pytest.raises(Exception, match="cannot list resource"):
            eve.request("GET", f"{METRICS}/slicewise_desired_replicas")
    finally:
        eve.close()
    # Past kube-apiserver: without a certificate, and with one of the cluster's but not of the front proxy.
    assert doors.external_metrics is not None
    url = f"https://127.0.0.1:{doors.external_metrics.port}"

    def ask(context: ssl.SSLContext) -> int:
        connection = http.client.HTTPSConnection("127.0.0.1", int(url.rpartition(":")[2]), context=context)
        try:
            connection.request(
                "GET", f"{METRICS}/slicewise_desired_replicas", headers={"X-Remote-User": "admin"}
            )
            return connection.getresponse().status
        finally:
            connection.close()

    bare = ssl.create_default_context(cafile=str(scene.cluster.certificate_authority))
    assert ask(bare) == 401
    admin = yaml.safe_load(scene.cluster.kubeconfig.read_text())["users"][0]["user"]
    folder = scene.cluster.directory
    for name in ("client-certificate", "client-key"):
        (folder / f"forged-{name}").write_bytes(base64.b64decode(admin[f"{name}-data"]))
    bare.load_cert_chain(folder / "forged-client-certificate", folder / "forged-client-key")
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
        ask(bare)


def test_the_documented_scaled_object_names_its_workload(decided: Decided):
    decided.say("llm", 3, namespace=NAMESPACE)
    (trigger,) = documented("keda")["spec"]["triggers"]
    assert trigger["type"] == "external-push"
    assert policy_of(decided.advice(), NAMESPACE, trigger["metadata"]) == POLICY
    service = load(MANIFESTS / "keda-scaler.yaml")[0]
    (port,) = service["spec"]["ports"]
    name = f"{service['metadata']['name']}.{service['metadata']['namespace']}:{port['port']}"
    assert trigger["metadata"]["scalerAddress"] == name


def test_the_whole_road_from_model_servers_to_replicas(scene: Scene):
    """Process, Prometheus, advice, HPA; and what a KEDA-protocol client hears of the same decision."""
    cluster = scene.cluster
    servers, prometheus = measured(cluster, NAMESPACE)
    ports = [cluster.claim_port() for _ in range(3)]
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "autoscaler", "--prometheus-url", prometheus),
            *("--kubeconfig", scene.kubeconfig, "--listen", f"127.0.0.1:{ports[0]}"),
            *("--external-metrics-port", str(ports[1]), "--keda-port", str(ports[2])),
            *("--serving-cert-file", str(scene.pair.certificate), "--serving-key-file", str(scene.pair.key)),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until(lambda: listens(ports[1]), SECONDS, "the door listens")
        scene.register(ports[1])
        scene.create()
        until(lambda: scene.refusal("slicewise_desired_replicas") is None, 2 * SECONDS, "a first decision")
        servers.load(NAMESPACE, "llm", 75.0)
        until(lambda: scene.replicas() == 5, SECONDS, "5 replicas for 75 requests at 16 a replica")
        credentials = grpc.ssl_channel_credentials(cluster.certificate_authority.read_bytes())
        with grpc.secure_channel(f"127.0.0.1:{ports[2]}", credentials) as channel:
            metadata = documented("keda")["spec"]["triggers"][0]["metadata"]
            ref = pb.ScaledObjectRef(name="llm", namespace=NAMESPACE, scalerMetadata=metadata)
            stub = pb_grpc.ExternalScalerStub(channel)
            asked = pb.GetMetricsRequest(scaledObjectRef=ref)

            def told() -> list[float] | None:
                try:
                    return [
                        one.metricValueFloat for one in stub.GetMetrics(asked, timeout=SECONDS).metricValues
                    ]
                except grpc.RpcError:  # it is an error while the newest decision is old: a round took long
                    return None

            until(lambda: told() == [5.0], SECONDS, "KEDA's client hears of 5 replicas")
            assert stub.IsActive(ref, timeout=SECONDS).result
        servers.load(NAMESPACE, "llm", 12.0)
        until(lambda: scene.replicas() == 1, SECONDS, "1 replica for 12 requests")
        cluster.processes.stop(["prometheus"], 2.0)
        until(
            lambda: scene.refusal("slicewise_in_flight") is not None,
            SECONDS,
            "requests in flight are unknown",
        )
        throughout(lambda: scene.replicas() == 1, 3.0, "1 replica without numbers")
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, log
        assert "Traceback" not in log
        # Every change was HPA's: the controller wrote none.
        assert " -> " not in log
    finally:
        process.kill()
        process.wait()
        scene.delete()
        servers.stop()
