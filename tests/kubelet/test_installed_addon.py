"""The add-on installed as docs/install.md says: its pods are ready, place, scale, take over, keep bounds."""

from __future__ import annotations

import base64
import json
import re
import urllib.request
from contextlib import ExitStack

import pytest

from deploy.local.binaries import CONTROL_PLANE, BinaryUnavailable, ensure
from deploy.local.control_plane import ControlPlane
from deploy.local.pod_scrape import pods_by_annotation
from deploy.local.real_node import RealNode
from deploy.local.rest import SUCCESS, RequestRefused
from kubectl_slicewise.__main__ import main
from node.podresources_report import DEFAULT_NAMESPACE as REPORTS
from node.podresources_report import KEY, config_map_name, decode
from tests.fake_nvml.fixtures import library as library
from tests.fake_nvml.state import FakeNode
from tests.kubelet.cluster_view import container, pods, running, until
from tests.kubelet.device_plugin import DevicePlugin, describe
from tests.kubelet.installed_addon import IMAGE, SYSTEM, InstalledAddon, statuses

pytestmark = [pytest.mark.kubelet, pytest.mark.cluster, pytest.mark.timeout(600)]

GPUS = 8
RESOURCE = "nvidia.com/gpu"
KIND = "test.slicewise.io/gpu"
LABELS = {
    "nvidia.com/gpu.present": "true",
    "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
    "nvidia.com/gpu.count": str(GPUS),
}
USERS = "chat"
PODS = 4  # two Deployments of two replicas
NOBODY = "65532"
# What the manifests' containers ask for is to be enough for a small cluster.
MEBIBYTE = 1 << 20
REQUESTED_MIB = {"extender": 512, "kube-scheduler": 256, "controller": 512}
LEASES = {"controller": "slicewise-controller", "scheduler": "slicewise-kube-scheduler"}
RUNTIME_CLASS = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "handler": "runc"}
AUDIT_LOG = "audit.log"
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "Metadata", "userGroups": [f"system:serviceaccounts:{SYSTEM}"]},
        {"level": "Metadata", "userGroups": [f"system:serviceaccounts:{REPORTS}"]},
        {"level": "None"},
    ],
}
DOOR = "slicewise-external-metrics"

# A model server with vLLM's own names: as many requests in flight as were last told it.
MODEL_SERVER = """
import http.server
class Page(http.server.BaseHTTPRequestHandler):
    running = 0
    def do_GET(self):
        told = self.path.rpartition("/tell/")[2]
        if told.isdecimal():
            Page.running = int(told)
        labels = '{model_name="m",engine="0"}'
        text = f"vllm:num_requests_running{labels} {Page.running}\\nvllm:num_requests_waiting{labels} 0\\n"
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(text.encode())
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("", 8000), Page).serve_forever()
"""


@pytest.fixture(scope="module")
def cluster(node_programs, build_progress, tmp_path_factory):
    """A cluster on which nothing of ours was applied, and which mounts tokens into pods."""
    try:
        ensure((*CONTROL_PLANE, "prometheus"), progress=build_progress)
    except BinaryUnavailable as problem:
        pytest.skip(f"no control plane on this machine: {problem}")
    folder = tmp_path_factory.mktemp("cluster-of-the-addon")
    policy = folder / "audit.yaml"
    policy.write_text(json.dumps(AUDIT_POLICY))  # JSON is YAML
    more = [
        # Services lead to pods without kube-proxy where the API server looks their endpoints up itself.
        "--enable-aggregator-routing=true",
        f"--audit-policy-file={policy}",
        f"--audit-log-path={folder / AUDIT_LOG}",
    ]
    with ControlPlane(
        directory=folder, manifests=(), mount_tokens=True, extra_arguments={"kube-apiserver": more}
    ) as cluster:
        users = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": USERS}}
        cluster.request("POST", "/api/v1/namespaces", users)
        yield cluster


@pytest.fixture(scope="module")
def prometheus(cluster):
    """A Prometheus that scrapes whatever pod says so."""
    return cluster.start_prometheus([pods_by_annotation(cluster.kubeconfig, [SYSTEM, USERS])], "1s")


@pytest.fixture(scope="module")
def cards(tmp_path_factory):
    """One H100 as its library tells of it."""
    return FakeNode.create(tmp_path_factory.mktemp("fake-nvml") / "state", "dgx-h100", gpus=1)


@pytest.fixture(scope="module")
def addon(cluster, prometheus, tmp_path_factory):
    """Installed and ready, on a node with GPUs under the device plugin."""
    uuids = [f"GPU-{number}" for number in range(GPUS)]
    with ExitStack() as stack:
        logs = tmp_path_factory.mktemp("node-of-the-addon")
        node = stack.enter_context(RealNode(cluster, labels=LABELS, keep_logs=logs))
        describe(uuids, KIND, node)
        stack.enter_context(DevicePlugin(node.device_plugins, RESOURCE, uuids, KIND))
        addon = InstalledAddon(cluster, node, node.reached(int(prometheus.rpartition(":")[2])))
        addon.install()
        addon.until_ready(PODS)
        yield addon


def gpu_spec(**more):
    """A pod of one GPU that asks for the shipped scheduler."""
    return {
        "schedulerName": "slicewise",
        "terminationGracePeriodSeconds": 0,
        "containers": [container(resources={"limits": {RESOURCE: "1"}}, **more)],
    }


def placed(cluster, name):
    """Make a GPU pod and wait until it runs."""
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": gpu_spec()}
    cluster.apply([pod], USERS)
    return running(cluster, USERS, name)


def asked(addon):
    """How often the extenders in the pods were asked to filter."""
    pattern = re.compile(
        r'^slicewise_extender_request_duration_seconds_count\{.*verb="filter".*\} (\S+)', re.M
    )
    found = [pattern.search(addon.page(pod, 8080, "/metrics")) for pod in addon.pods("scheduler")]
    return sum(float(match[1]) for match in found if match)


def test_no_kube_scheduler_runs_before_the_extender_beside_it_is_ready(addon):
    logs = addon.logs()
    for pod in addon.pods("scheduler"):
        name = pod["metadata"]["name"]
        # The runtime writes the time at the head of each line.
        [ready] = [line.split()[0] for line in logs[name, "extender"] if " synced " in line]
        assert ready < logs[name, "kube-scheduler"][0].split()[0]


def test_its_processes_are_nobodys_without_capabilities_on_a_root_they_cannot_write(addon):
    found = addon.processes()
    assert sorted(container for _, container in found) == sorted(2 * list(REQUESTED_MIB))
    for which, folders in found.items():
        assert folders, which
        for folder in folders:
            status = dict(line.split(":\t", 1) for line in (folder / "status").read_text().splitlines())
            assert status["Uid"].split() == 4 * [NOBODY], which
            assert (int(status["CapEff"], 16), status["NoNewPrivs"]) == (0, "1"), which
            mounts = [line.split() for line in (folder / "mountinfo").read_text().splitlines()]
            assert [line[5].split(",")[0] for line in mounts if line[4] == "/"] == ["ro"], which


def test_a_gpu_pod_is_placed_by_the_extender_beside_the_kube_scheduler_of_the_pod(addon, cluster, capsys):
    before = asked(addon)
    pod = placed(cluster, "one")
    assert pod["spec"]["nodeName"] == addon.node.name
    assert asked(addon) > before
    words = ["explain", "pod", "one", "-n", USERS, "--kubeconfig", str(cluster.kubeconfig)]
    assert main(words) == 0
    assert re.search(rf"^{addon.node.name} +chosen", capsys.readouterr().out, re.M)


@pytest.fixture(scope="module")
def workload(addon, cluster):
    """A model server of one replica, and its policy as docs/autoscaling.md begins."""
    labels = {"app": "llm"}
    notes = {"prometheus.io/scrape": "true", "prometheus.io/port": "8000"}
    serve = {"image": IMAGE, "command": ["python", "-c", MODEL_SERVER], "args": []}
    template = {"metadata": {"labels": labels, "annotations": notes}, "spec": gpu_spec(**serve)}
    document = {
        "apiVersion": "slicewise.io/v1alpha1",
        "kind": "AutoscalingPolicy",
        "target": {"kind": "Deployment", "name": "llm"},
        "server": "vllm",
        "maxReplicas": 3,
        "inFlight": {"perReplica": 16},
        "periodSeconds": 1,
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "llm"},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
    }
    policy = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "llm-policy", "labels": {"slicewise.io/policy": "autoscaling"}},
        "data": {"policy.yaml": json.dumps(document)},
    }
    cluster.apply([deployment, policy], USERS)
    return labels


def serving(cluster, labels, count):
    """The workload's pods, as soon as so many run."""

    def probe():
        mine = [
            pod for pod in pods(cluster, USERS) if labels.items() <= pod["metadata"].get("labels", {}).items()
        ]
        up = [pod for pod in mine if pod["status"].get("phase") == "Running" and pod["status"].get("podIP")]
        return up if len(up) == count == len(mine) else None

    return until(f"{count} replicas run", probe, 90)


def tell(pod, in_flight):
    """What the model server is to have in flight."""

    def told():
        try:
            with urllib.request.urlopen(f"http://{pod['status']['podIP']}:8000/tell/{in_flight}", timeout=30):
                return True
        except OSError:  # it listens a moment after its container runs
            return False

    until("the model server answers", told)


def test_a_workload_is_scaled_by_the_controller_in_the_pod_and_its_replicas_run(addon, cluster, workload):
    [first] = serving(cluster, workload, 1)
    tell(first, 30)
    assert {pod["spec"]["nodeName"] for pod in serving(cluster, workload, 2)} == {addon.node.name}


def successor(addon, component, led):
    """The pod of the component that leads in place of another, as soon as there is one."""

    def probe():
        names = {pod["metadata"]["name"] for pod in addon.pods(component)} - {led}
        leader = addon.leader(LEASES[component])
        return leader if leader in names else None

    return until(f"another {component} leads", probe, 90)


def test_another_pod_takes_over_when_the_leading_one_is_deleted(addon, cluster, workload):
    led = {component: addon.leader(lease) for component, lease in LEASES.items()}
    assert {pod["metadata"]["name"] for pod in addon.pods()} >= set(led.values())
    for name in led.values():
        cluster.request("DELETE", f"/api/v1/namespaces/{SYSTEM}/pods/{name}")
    for component, name in led.items():
        successor(addon, component, name)
    placed(cluster, "two")
    for pod in serving(cluster, workload, 2):
        tell(pod, 24)
    serving(cluster, workload, 3)
    addon.until_ready(PODS)


@pytest.fixture(scope="module")
def door(addon, cluster):
    """The controllers rolled out once more with their door for HPA, and its API registered."""
    pair = cluster.server_certificate("door", [f"{DOOR}.{SYSTEM}.svc"])
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": DOOR, "namespace": SYSTEM},
        "stringData": {"tls.crt": pair.certificate.read_text(), "tls.key": pair.key.read_text()},
    }
    cluster.apply([secret])

    def opened(document):
        if document["kind"] == "Deployment":
            spec = document["spec"]["template"]["spec"]
            files = [
                f"--serving-{what}-file=/tls/tls.{end}" for what, end in (("cert", "crt"), ("key", "key"))
            ]
            [container] = spec["containers"]
            container["command"] += ["--external-metrics-port=6443", *files]
            container["volumeMounts"] = [{"name": "tls", "mountPath": "/tls"}]
            spec["volumes"] = [{"name": "tls", "secret": {"secretName": DOOR}}]

    def trusted(document):
        if document["kind"] == "APIService":
            authority = cluster.certificate_authority.read_bytes()
            document["spec"]["caBundle"] = base64.b64encode(authority).decode()

    before = {pod["metadata"]["name"] for pod in addon.pods("controller")}
    addon.apply("controller.yaml", opened)
    addon.apply("external-metrics.yaml", trusted)
    until(
        "the old controllers are gone",
        lambda: not before & {pod["metadata"]["name"] for pod in pods(cluster, SYSTEM)},
        120,
    )
    addon.until_ready(PODS)


def test_the_api_server_finds_the_door_of_the_leading_pod(addon, cluster, workload, door):
    path = f"/apis/external.metrics.k8s.io/v1beta1/namespaces/{USERS}/slicewise_desired_replicas"

    def told():
        try:
            return [item["value"] for item in cluster.request("GET", path)["items"]] == ["3"]
        except RequestRefused:  # nobody leads yet, or has decided
            return False

    until("the decision is told", told, 90)
    slices = f"/apis/discovery.k8s.io/v1/namespaces/{SYSTEM}/endpointslices"
    [found] = cluster.request("GET", f"{slices}?labelSelector=kubernetes.io/service-name%3D{DOOR}")["items"]
    leader = addon.leader(LEASES["controller"])
    assert [one["targetRef"]["name"] for one in found["endpoints"]] == [leader]


def test_the_image_reports_the_devices_of_its_node(addon, cluster, library, cards):
    folders = {"library": library.parent, "state": cards.path.parent}

    def on_fake_cards(document):
        if document["kind"] == "DaemonSet":
            spec = document["spec"]["template"]["spec"]
            [container] = spec["containers"]
            container["env"] += [
                {"name": name, "value": value} for name, value in cards.environment(library).items()
            ]
            for name, folder in folders.items():
                spec["volumes"].append({"name": name, "hostPath": {"path": str(folder)}})
                container["volumeMounts"].append({"name": name, "mountPath": str(folder)})

    # The GPU operator makes it; runc is the one handler here.
    runtime = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "handler": "runc"}
    cluster.request(
        "POST", "/apis/node.k8s.io/v1/runtimeclasses", {**runtime, "metadata": {"name": "nvidia"}}
    )
    addon.apply("node-report.yaml", on_fake_cards)
    path = f"/api/v1/namespaces/{REPORTS}/configmaps/{config_map_name(addon.node.name)}"

    def reported():
        answer = cluster.request("GET", path, accepted=SUCCESS | {404})
        if answer["kind"] == "Status":
            return None
        return [gpu.uuid for gpu in decode(answer["data"][KEY]).gpus]

    assert until("the node's report", lambda: reported() or None) == [cards.uuid(0)]


def test_prometheus_scrapes_the_addon_by_the_annotations_of_its_pods(addon, prometheus):
    def scraped():
        with urllib.request.urlopen(
            f"{prometheus}/api/v1/query?query=slicewise_build_info", timeout=30
        ) as answer:
            found = json.load(answer)["data"]["result"]
        return {one["metric"]["pod"] for one in found} >= {pod["metadata"]["name"] for pod in addon.pods()}

    until("every pod's metrics are in Prometheus", scraped)


def test_no_container_ended_takes_more_memory_than_it_asks_for_or_tells_of_an_error(addon, cluster):
    for pod in [*addon.pods(), *pods(cluster, REPORTS)]:
        assert [one["restartCount"] for one in statuses(pod)] == [0] * len(statuses(pod)), addon.told()
    for (pod, name), folders in addon.processes().items():
        used = sum(peak_bytes(folder) for folder in folders) / MEBIBYTE
        assert used < REQUESTED_MIB[name], f"{pod} {name}: {used:.0f} MiB"
    for which, log in addon.logs().items():
        assert [line for line in log if is_complaint(line)] == [], which


def test_the_accounts_are_refused_nothing_but_reports_that_no_manifest_was_applied_for(cluster, addon):
    asked, refused = set(), set()
    # What stands after the last line's end is being written.
    for line in (cluster.directory / AUDIT_LOG).read_text().split("\n")[:-1]:
        event = json.loads(line)
        user, what = event["user"]["username"].rpartition(":")[2], event.get("objectRef", {})
        asked.add(user)
        if event.get("annotations", {}).get("authorization.k8s.io/decision") == "forbid":
            refused.add((what.get("resource", event["requestURI"]), what.get("namespace")))
    assert asked >= {"slicewise-scheduler", "slicewise-controller"}
    # node-report.yaml comes later, where it comes at all.
    assert refused <= {("configmaps", REPORTS)}


def peak_bytes(process):
    """The most that a process has had in memory."""
    [line] = [one for one in (process / "status").read_text().splitlines() if one.startswith("VmHWM:")]
    return int(line.split()[1]) << 10


def is_complaint(line):
    """Whether a line of a log tells of an error of ours, of an end, or of a right that is missing."""
    said = line.partition(" F ")[2]
    lacks = re.search(r"\b(401|403|[Ff]orbidden|[Uu]nauthorized)\b", said)
    # kube-scheduler has errors that are none, as when two replicas make their Lease in the same moment.
    worse = re.match(r".* (ERROR|CRITICAL) |F\d{4} |panic:|Traceback|PermissionError", said)
    return bool(worse or (lacks and re.match(r".* WARNING |[WE]\d{4} ", said)))
