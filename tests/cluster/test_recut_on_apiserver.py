"""Re-cutting idle nodes on the real API server, with a stand-in for NVIDIA's MIG manager: nothing used is
touched, failure goes back, a dry run writes nothing.
"""

from __future__ import annotations

import pytest

from autoscaler.recut_loop import RecutLoop
from cluster.client import connect
from cluster.policy import load_cluster_policy
from deploy.local.kwok_nodes import create_nodes, delete_nodes, node_manifest
from scheduler.feed import Feed
from scheduler.fleet import Fleet
from scheduler.repack.census import Census
from tests.polling import until

NODES = ("recut-idle", "recut-used")
WHOLE = {"nvidia.com/gpu": "8"}
LABELS = {
    "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
    "nvidia.com/gpu.count": "8",
    "nvidia.com/gpu.memory": "81559",
    "nvidia.com/mig.capable": "true",
    "nvidia.com/mig.strategy": "mixed",
    "nvidia.com/mig.config": "all-disabled",
    "nvidia.com/mig.config.state": "success",
}
MERGE = "application/merge-patch+json"


class Notes:
    def __init__(self):
        self.proposals, self.ends = [], []

    def proposed(self, recuts, *, dry_run):
        self.proposals.append(([(one.node, one.config) for one in recuts], dry_run))

    def started(self, recut):
        pass

    def labelled(self, node, record, config):
        pass

    def ended(self, node, record, outcome):
        self.ends.append((node, outcome))


class MigManager:
    """Stand-in: when a node's wanted configuration changes, sets the state label and what is allocatable."""

    def __init__(self, cluster):
        self._cluster = cluster
        self.fails: set[str] = set()
        self.applied: list[tuple[str, str]] = []

    def act(self):
        for name in NODES:
            node = self._cluster.request("GET", f"/api/v1/nodes/{name}")
            labels = node["metadata"]["labels"]
            if labels["nvidia.com/mig.config.state"] != "pending":
                continue
            config = labels["nvidia.com/mig.config"]
            self.applied.append((name, config))
            state = "failed" if config in self.fails else "success"
            offers = WHOLE if config == "all-disabled" else {"nvidia.com/mig-1g.10gb": "56"}
            if state == "success":
                every = {"nvidia.com/gpu": None, "nvidia.com/mig-1g.10gb": None, **offers}
                status = {"status": {"allocatable": every, "capacity": every}}
                self._cluster.request("PATCH", f"/api/v1/nodes/{name}/status", status, MERGE)
            label = {"metadata": {"labels": {"nvidia.com/mig.config.state": state}}}
            self._cluster.request("PATCH", f"/api/v1/nodes/{name}", label, MERGE)


class Stage:
    """Two nodes, a pod on one of them, fifty small pods waiting, and a loop whose turns the test takes."""

    def __init__(self, cluster, mode):
        self.cluster, self.notes, self.manager = cluster, Notes(), MigManager(cluster)
        # Only configurations that the stand-in knows.
        configs = "[{name: all-disabled}, {name: all-1g.10gb, devices: {1g.10gb: 7}}]"
        text = (
            "apiVersion: slicewise.io/v1alpha1\nkind: ClusterPolicy\n"
            f"migGeometry: {{mode: {mode}, idleSeconds: 0, minHoldSeconds: 0, intervalSeconds: 0.001, "
            f"timeoutSeconds: 30, configs: {configs}}}\n"
        )
        self.api = connect(str(cluster.kubeconfig_for("slicewise-controller")))
        fleet, census = Fleet(), Census()
        self.feed = Feed(self.api, fleet)
        self.feed.listen("nodes", census.nodes)
        self.feed.listen("pods", census.pods)
        self.feed.start()
        until(lambda: self.feed.synced, 20, "the watches")
        self.policy = load_cluster_policy(text, "test")
        self.loop = RecutLoop(
            self.api, fleet, census, policy=lambda: self.policy, active=lambda: True, observer=self.notes
        )

    def turns_until(self, condition, seconds, what):
        def turn():
            self.loop.turn()
            self.manager.act()
            return condition()

        return until(turn, seconds, what)

    def node(self, name):
        return self.cluster.request("GET", f"/api/v1/nodes/{name}")

    def close(self):
        self.feed.stop()
        self.api.close()


@pytest.fixture
def stage(control_plane, namespace):
    made = []

    def make(mode):
        create_nodes(control_plane, [node_manifest(name, labels=LABELS, allocatable=WHOLE) for name in NODES])
        container = {"name": "c", "image": "model:1"}
        busy = dict(container, resources={"limits": {"nvidia.com/gpu": "1"}})
        small = dict(container, resources={"limits": {"nvidia.com/mig-1g.10gb": "1"}})
        pods = [("busy", {"nodeName": NODES[1], "containers": [busy]})]
        # Gated: what counts is that they wait, not that they then run.
        gate = {"schedulingGates": [{"name": "test/hold"}], "containers": [small]}
        pods += [(f"small{number}", gate) for number in range(50)]
        for name, spec in pods:
            body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
            control_plane.request("POST", f"/api/v1/namespaces/{namespace}/pods", body)
        made.append(Stage(control_plane, mode))
        return made[0]

    yield make
    for one in made:
        one.close()
    delete_nodes(control_plane, NODES)


def test_an_idle_node_is_cordoned_cut_and_given_back_and_a_used_one_never_touched(stage):
    scene = stage("on")
    scene.turns_until(lambda: scene.notes.ends, 30, "a re-cut")
    assert scene.notes.ends == [("recut-idle", "succeeded")]
    assert scene.manager.applied == [("recut-idle", "all-1g.10gb")]
    idle, used = scene.node("recut-idle"), scene.node("recut-used")
    assert idle["metadata"]["labels"]["nvidia.com/mig.config"] == "all-1g.10gb"
    assert not idle["spec"].get("unschedulable")
    assert "slicewise.io/recut" not in idle["metadata"]["annotations"]
    assert used["metadata"]["labels"]["nvidia.com/mig.config"] == "all-disabled"
    assert not used["spec"].get("unschedulable")
    assert "slicewise.io/recut-at" not in used["metadata"]["annotations"]


def test_a_failed_cut_goes_back_and_the_node_takes_pods_again(stage):
    scene = stage("on")
    scene.manager.fails.add("all-1g.10gb")
    scene.turns_until(lambda: scene.notes.ends, 30, "the way back")
    assert scene.notes.ends[0] == ("recut-idle", "rolled_back")
    idle = scene.node("recut-idle")
    assert idle["metadata"]["labels"]["nvidia.com/mig.config"] == "all-disabled"
    assert not idle["spec"].get("unschedulable")


def test_a_dry_run_says_what_it_would_cut_and_writes_nothing(stage):
    scene = stage("dry-run")
    before = {name: scene.node(name)["metadata"]["labels"] for name in NODES}
    until(lambda: (scene.loop.turn(), any(made for made, _ in scene.notes.proposals))[1], 10, "a proposal")
    assert scene.notes.proposals[-1] == ([("recut-idle", "all-1g.10gb")], True)
    scene.loop.turn()
    for name in NODES:
        node = scene.node(name)
        assert node["metadata"]["labels"] == before[name]
        assert not node["spec"].get("unschedulable")
        assert not any(key.startswith("slicewise.io") for key in node["metadata"]["annotations"])


def test_a_new_leader_goes_on_where_the_old_one_ended(stage):
    scene = stage("on")
    until(
        lambda: (scene.loop.turn(), scene.node("recut-idle")["spec"].get("unschedulable"))[1], 10, "a cordon"
    )
    successor = RecutLoop(
        scene.api,
        scene.loop._fleet,
        scene.loop._census,
        policy=lambda: scene.policy,
        active=lambda: True,
        observer=scene.notes,
    )
    scene.loop = successor
    scene.turns_until(lambda: scene.notes.ends, 30, "the end")
    assert scene.notes.ends == [("recut-idle", "succeeded")]


def test_a_pod_that_comes_while_the_node_is_cordoned_ends_it(stage, control_plane, namespace):
    scene = stage("on")
    until(
        lambda: (scene.loop.turn(), scene.node("recut-idle")["spec"].get("unschedulable"))[1], 10, "a cordon"
    )
    spec = {
        "nodeName": "recut-idle",
        "containers": [{"name": "c", "image": "m:1", "resources": {"limits": {"nvidia.com/gpu": "1"}}}],
    }
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "late"}, "spec": spec}
    control_plane.request("POST", f"/api/v1/namespaces/{namespace}/pods", body)
    scene.turns_until(lambda: scene.notes.ends, 15, "the end")
    assert scene.notes.ends == [("recut-idle", "given_up")]
    assert scene.manager.applied == []
    assert not scene.node("recut-idle")["spec"].get("unschedulable")
