"""The real Karpenter acts on our advice: it buys by our overlays' prices and keeps the node that we mark.

Karpenter is an extra (`deploy/local/extras.py`): where it was not built, these tests are skipped with the
command that builds it. Its cloud is simulated and sells one GPU as spot and on demand and two on demand; its
price list does not know that spot nodes are interrupted, our policy does.
"""

from __future__ import annotations

import contextlib
import io
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from fastapi import FastAPI
from starlette.testclient import TestClient

from autoscaler.compose import Options, Parts, build
from autoscaler.nodes.hints import Machine
from autoscaler.nodes.karpenter import CAPACITY_LABEL, overlays
from autoscaler.nodes.scale_down_loop import KARPENTER, NOTE
from autoscaler.nodes.standing import Standing
from deploy.local import extras
from deploy.local.binaries import CONTROL_PLANE, BinaryUnavailable, ensure
from deploy.local.conditions import condition
from deploy.local.control_plane import ControlPlane
from deploy.local.karpenter import Karpenter, machine_type
from kubectl_slicewise.__main__ import main
from tests.polling import throughout, until

pytestmark = pytest.mark.cluster

SECONDS = 60.0
MERGE = "application/merge-patch+json"
SMALL, LARGE, ZONE = "g6e.small", "g6e.large", "eu-north-1a"
TYPE = "node.kubernetes.io/instance-type"
MAPS = "/api/v1/namespaces/slicewise-system/configmaps"
OVERLAYS = "/apis/karpenter.sh/v1alpha1/nodeoverlays"
CLAIMS = "/apis/karpenter.sh/v1/nodeclaims"
POOL = "/apis/karpenter.sh/v1/nodepools/gpu"
PODS = "/api/v1/namespaces/default/pods"
POLICY = """
apiVersion: slicewise.io/v1alpha1
kind: ClusterPolicy
carbon: {provider: none}
prices: {gpuHour: 4.0, gpuHourByModel: {L40S-48GB: 1.5}}
nodes:
- name: spot
  match: {karpenter.sh/capacity-type: spot}
  gpuHour: 1.0
  interruptionsPerHour: 0.2
  interruptionCost: 5
scaleDown: {mode: MODE, intervalSeconds: 0.5, keepFor: ["whole:2@L40S-48GB"]}
"""


def sold(name: str, gpus: int, prices: dict[str, float]) -> dict[str, Any]:
    """A machine with so many GPUs; prices an hour by capacity type."""
    labels = {"topology.kubernetes.io/zone": ZONE, "nvidia.com/gpu.product": "NVIDIA-L40S"}
    offerings = [(price, {**labels, CAPACITY_LABEL: capacity}) for capacity, price in prices.items()]
    return machine_type(name, {"cpu": "16", "memory": "64Gi", "nvidia.com/gpu": str(gpus)}, offerings)


MACHINES = (sold(SMALL, 1, {"spot": 1.0, "on-demand": 1.5}), sold(LARGE, 2, {"on-demand": 3.0}))
NODE_CLASS = {
    "apiVersion": "karpenter.kwok.sh/v1alpha1",
    "kind": "KWOKNodeClass",
    "metadata": {"name": "default"},
    "spec": {},
}
NODE_POOL = {
    "apiVersion": "karpenter.sh/v1",
    "kind": "NodePool",
    "metadata": {"name": "gpu"},
    "spec": {
        "template": {
            "spec": {
                "requirements": [{"key": CAPACITY_LABEL, "operator": "In", "values": ["spot", "on-demand"]}],
                "expireAfter": "Never",
                "nodeClassRef": {"group": "karpenter.kwok.sh", "kind": "KWOKNodeClass", "name": "default"},
            }
        },
        # At first nothing is taken away.
        "disruption": {
            "consolidationPolicy": "WhenEmpty",
            "consolidateAfter": "Never",
            "budgets": [{"nodes": "100%"}],
        },
    },
}


def policy(mode: str) -> dict[str, Any]:
    return {"data": {"policy.yaml": POLICY.replace("MODE", f"'{mode}'")}}


@pytest.fixture(scope="module")
def cluster(
    tmp_path_factory: pytest.TempPathFactory, build_progress: Callable[[str], None]
) -> Iterator[ControlPlane]:
    """A cluster without nodes in which Karpenter may buy."""
    try:
        built = extras.built("karpenter")
        ensure((*CONTROL_PLANE, "kubectl"), progress=build_progress)
    except BinaryUnavailable as problem:
        pytest.skip(str(problem))
    with (
        ControlPlane(directory=tmp_path_factory.mktemp("karpenter")) as running,
        Karpenter(running, built, MACHINES),
    ):
        running.apply([NODE_CLASS, NODE_POOL])
        running.apply(
            [
                {
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "metadata": {"name": "slicewise-policy", "namespace": "slicewise-system"},
                    **policy("dry-run"),
                }
            ]
        )
        yield running


@pytest.fixture(scope="module")
def advisor(cluster: ControlPlane) -> Iterator[Parts]:
    parts = build(
        Options(
            prometheus_url="http://127.0.0.1:9",
            kubeconfig=str(cluster.kubeconfig_for("slicewise-controller")),
            lease="advice",
            identity="a-test",
        )
    )
    parts.start()
    try:
        until(lambda: all(parts.synced.values()) and parts.election.is_leader, 30.0, "the fleet to be known")
        yield parts
    finally:
        parts.stop()


def nodes(cluster: ControlPlane) -> list[dict[str, Any]]:
    return list(cluster.request("GET", "/api/v1/nodes")["items"])


def bought(cluster: ControlPlane, name: str, gpus: int = 1, capacity: str = "") -> dict[str, Any]:
    """The node that Karpenter makes for a pod; it runs there once this returns."""
    spec = {
        "nodeSelector": {CAPACITY_LABEL: capacity} if capacity else {},
        "terminationGracePeriodSeconds": 0,
        "containers": [
            {
                "name": "server",
                "image": "example.org/vllm:1",
                "resources": {"limits": {"nvidia.com/gpu": str(gpus)}},
            }
        ],
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
    cluster.request("POST", PODS, pod)

    def place() -> str:
        found = cluster.request("GET", f"{PODS}/{name}")
        return str(found["spec"].get("nodeName", "")) if found["status"].get("phase") == "Running" else ""

    node = until(place, SECONDS, f"pod {name} to run on a node that Karpenter makes")
    return node_of(cluster, node)


def node_of(cluster: ControlPlane, name: str) -> dict[str, Any]:
    return dict(cluster.request("GET", f"/api/v1/nodes/{name}"))


def consolidatable(cluster: ControlPlane, node: str) -> bool:
    """Whether Karpenter says of the NodeClaim of a node that it could go."""
    for claim in cluster.request("GET", CLAIMS)["items"]:
        if (claim.get("status") or {}).get("nodeName") == node:
            return condition(claim, "Consolidatable") == "True"
    return False


def machine(node: dict[str, Any]) -> tuple[str, str]:
    labels = node["metadata"]["labels"]
    return labels[TYPE], labels[CAPACITY_LABEL]


def kubectl(cluster: ControlPlane, *arguments: str, given: str) -> None:
    program = ensure(["kubectl"])["kubectl"]
    command = [str(program), f"--kubeconfig={cluster.kubeconfig}", *arguments]
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def apply_documented(cluster: ControlPlane, text: str) -> None:
    """As docs/capacity.md says."""
    kubectl(
        cluster,
        "apply",
        "--prune",
        "-l",
        "app.kubernetes.io/managed-by=slicewise",
        "--prune-allowlist=karpenter.sh/v1alpha1/NodeOverlay",
        "-f",
        "-",
        given=text,
    )


def verdicts(cluster: ControlPlane) -> dict[str, tuple[str, str]]:
    """What Karpenter says of each overlay's validation: status and reason."""
    found = {}
    for one in cluster.request("GET", OVERLAYS)["items"]:
        for said in (one.get("status") or {}).get("conditions") or ():
            if said["type"] == "ValidationSucceeded":
                found[one["metadata"]["name"]] = said["status"], said["reason"]
    return found


def judged(cluster: ControlPlane, count: int) -> dict[str, tuple[str, str]]:
    """The verdicts once that many overlays are there and have one that is known."""

    def all_known() -> dict[str, tuple[str, str]]:
        found = verdicts(cluster)
        known = len(found) == count and all(status != "Unknown" for status, _ in found.values())
        return found if known else {}

    return until(all_known, SECONDS, f"Karpenter's word on {count} overlays")


def test_pending_gpu_pods_get_the_node_that_our_overlays_make_cheapest(
    cluster: ControlPlane, advisor: Parts
) -> None:
    assert machine(bought(cluster, "by-list-price")) == (SMALL, "spot")
    assert machine(bought(cluster, "on-demand", capacity="on-demand")) == (SMALL, "on-demand")

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main(["nodes", "--overlays", "--kubeconfig", str(cluster.kubeconfig)]) == 0
    [overlay] = yaml.safe_load_all(printed.getvalue())
    assert overlay["spec"]["priceAdjustment"] == "+1.0000"
    apply_documented(cluster, printed.getvalue())
    assert set(judged(cluster, 1).values()) == {("True", "ValidationSucceeded")}

    assert machine(bought(cluster, "by-our-price")) == (SMALL, "on-demand")
    annotations = [
        claim["metadata"].get("annotations") or {} for claim in cluster.request("GET", CLAIMS)["items"]
    ]
    assert sum("karpenter.sh/price-overlay-applied" in one for one in annotations) == 1
    # The controller, which watched Karpenter's nodes come, says the same as the command.
    until(advisor.nodes.standing, SECONDS, "the kinds of node to be known")
    app = FastAPI()
    app.include_router(advisor.nodes.routes())
    with TestClient(app) as client:
        answer = client.get("/nodes/hints?form=overlays")
    assert answer.json()["items"] == [overlay]
    apply_documented(cluster, answer.text)
    assert set(verdicts(cluster)) == {overlay["metadata"]["name"]}


def test_no_overlay_of_ours_shuts_out_another_and_the_next_apply_takes_them_away(
    cluster: ControlPlane,
) -> None:
    """Nodes of several makers tell more or less of the same offering."""
    told = [
        Machine(SMALL, zone, capacity)
        for zone in ("", ZONE)
        for capacity in (("", ""), (CAPACITY_LABEL, "spot"), ("cloud.google.com/gke-spot", "true"))
    ]
    made = overlays(Standing(one, 0.25) for one in told)
    assert len(made) == 4
    apply_documented(cluster, yaml.safe_dump_all(made))
    assert set(judged(cluster, 4).values()) == {("True", "ValidationSucceeded")}

    # The same weight as one of ours is what Karpenter refuses.
    rival = {**made[0], "metadata": {"name": "another"}}
    cluster.request("POST", OVERLAYS, rival)
    assert sorted(judged(cluster, 5).values())[0] == ("False", "Conflict")
    cluster.request("DELETE", f"{OVERLAYS}/another")

    apply_documented(cluster, yaml.safe_dump_all(made[:1]))
    until(lambda: set(verdicts(cluster)) == {made[0]["metadata"]["name"]}, SECONDS, "the others to be pruned")


def test_karpenter_takes_empty_nodes_but_the_one_that_we_mark_until_the_mark_goes(
    cluster: ControlPlane, advisor: Parts
) -> None:
    wide = bought(cluster, "wide", 2)
    assert machine(wide) == (LARGE, "on-demand")
    name = wide["metadata"]["name"]
    # Empty nodes of both kinds: by utilisation each may go.
    if not any(machine(node)[0] == SMALL for node in nodes(cluster)):
        bought(cluster, "narrow")
    for pod in cluster.request("GET", PODS)["items"]:
        cluster.request("DELETE", f"{PODS}/{pod['metadata']['name']}")
    until(lambda: not cluster.request("GET", PODS)["items"], SECONDS, "the pods to be gone")

    def notes() -> dict[str, str]:
        return dict(node_of(cluster, name)["metadata"].get("annotations") or {})

    cluster.request("PATCH", f"{MAPS}/slicewise-policy", policy("on"), MERGE)
    until(lambda: NOTE in notes(), SECONDS, "the mark")
    assert notes()[KARPENTER] == "true"

    cluster.request("PATCH", POOL, {"spec": {"disruption": {"consolidateAfter": "0s"}}}, MERGE)
    until(lambda: [n["metadata"]["name"] for n in nodes(cluster)] == [name], 90.0, "all others to be taken")

    def look_again(after: str) -> None:
        """Karpenter looks at all nodes anew when a NodePool changes; by itself only every five minutes."""
        cluster.request("PATCH", POOL, {"spec": {"disruption": {"consolidateAfter": after}}}, MERGE)

    until(lambda: consolidatable(cluster, name), SECONDS, "the last node to be found empty")
    look_again("1s")
    # A look every 10 s, and 15 s from a decision to its execution.
    throughout(lambda: "deletionTimestamp" not in node_of(cluster, name)["metadata"], 30.0, "the marked node")

    cluster.request("PATCH", f"{MAPS}/slicewise-policy", policy("dry-run"), MERGE)
    until(lambda: NOTE not in notes() and KARPENTER not in notes(), SECONDS, "the mark to go")
    look_again("0s")
    until(lambda: not nodes(cluster), 90.0, "the node to be taken once the mark is gone")
