"""Scales of custom resources on a real API server: one request for each change where the kind may be watched,
one for each target and round where it may not.
"""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from autoscaler.scale_index import ScaleIndex
from autoscaler.scale_reads import read_all
from autoscaler.targets import ScaleSight, Target, TargetRefused, Targets
from cluster.client import Api
from deploy.local.control_plane import ControlPlane
from tests.cluster.test_autoscaler_on_real_control_plane import MODEL_CRD
from tests.custom_kinds import defined
from tests.polling import until

pytestmark = pytest.mark.cluster

GROUP = "counted.example.org"
PATH = f"/apis/{GROUP}/v1/namespaces"
MERGE = "application/merge-patch+json"
ROLES = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
NAMES = tuple(f"m{number}" for number in range(12))


class Counting:
    """The API, with the number of requests by what they are about."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.seen: Counter[str] = Counter()

    def get(self, path: str, kind: Any, params: Any = None) -> Any:
        self.seen["scale" if path.endswith("/scale") else "other"] += 1
        return self._api.get(path, kind, params)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._api, name)


@pytest.fixture(scope="module")
def kind(control_plane: ControlPlane) -> Iterator[str]:
    """A kind that keeps its count in ``spec.size``, which only its CRD tells."""
    crd = copy.deepcopy(MODEL_CRD)
    crd["metadata"]["name"] = f"countedmodels.{GROUP}"
    crd["spec"]["group"] = GROUP
    crd["spec"]["names"] = {"plural": "countedmodels", "singular": "countedmodel", "kind": "CountedModel"}
    [version] = crd["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]["properties"]
    schema["spec"]["properties"] = {"size": {"type": "integer"}}
    version["subresources"]["scale"]["specReplicasPath"] = ".spec.size"
    with defined(control_plane, crd) as kind:
        yield kind


@pytest.fixture
def allow(control_plane: ControlPlane, kind: str) -> Iterator[Any]:
    """Give the controller rights on the kind, and wait until it has them."""

    def allow(*verbs: str) -> None:
        rules = [
            {
                "apiGroups": [GROUP],
                "resources": ["countedmodels/scale"],
                "verbs": ["get", "update", "patch"],
            }
        ]
        if verbs:
            rules.append({"apiGroups": [GROUP], "resources": ["countedmodels"], "verbs": list(verbs)})
        labels = {"slicewise.io/aggregate-to-scale-targets": "true"}
        control_plane.apply(
            [
                {
                    "apiVersion": "rbac.authorization.k8s.io/v1",
                    "kind": "ClusterRole",
                    "metadata": {"name": "counted-models", "labels": labels},
                    "rules": rules,
                }
            ]
        )

        def may() -> bool:
            return can(control_plane, "patch", "scale") and all(can(control_plane, one) for one in verbs)

        until(may, 20.0, "the rights")

    yield allow
    control_plane.request("DELETE", f"{ROLES}/counted-models")
    until(lambda: not can(control_plane, "patch", "scale"), 20.0, "the rights to go")


def can(cluster: ControlPlane, verb: str, subresource: str = "") -> bool:
    attributes = {"verb": verb, "group": GROUP, "resource": "countedmodels", "namespace": "default"}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {**attributes, "subresource": subresource}},
    }
    with cluster.connect("slicewise-controller") as connection:
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        return bool(connection.request("POST", path, review)["status"]["allowed"])


class Bench:
    """Twelve objects, an index, and rounds over all of them."""

    def __init__(self, cluster: ControlPlane, namespace: str, api: Counting) -> None:
        self.cluster, self.api = cluster, api
        self.path = f"{PATH}/{namespace}/countedmodels"
        self.targets = [Target(f"{GROUP}/v1", "CountedModel", namespace, name) for name in NAMES]
        self.index = ScaleIndex(api, Targets(api))  # type: ignore[arg-type]
        self.pool = ThreadPoolExecutor(4)
        for name in NAMES:
            self.make(name)

    def make(self, name: str) -> None:
        body = {
            "apiVersion": f"{GROUP}/v1",
            "kind": "CountedModel",
            "metadata": {"name": name},
            "spec": {"size": 2},
        }
        self.cluster.request("POST", self.path, body)
        status = {"status": {"replicas": 2, "selector": f"app={name}"}}
        self.cluster.request("PATCH", f"{self.path}/{name}/status", status, MERGE)

    def round(self) -> tuple[dict[str, Any], int]:
        """Counts (or causes) by name, and how many scales were asked for."""
        before = self.api.seen["scale"]
        found = read_all(self.targets, self.index.read, self.pool)
        told = {
            target.name: one.replicas
            if isinstance(one, ScaleSight)
            else getattr(one, "cause", type(one).__name__)
            for target, one in found.items()
        }
        return told, self.api.seen["scale"] - before

    def watched(self) -> bool:
        """Whether the watch that the first round began can be relied on."""
        return all(watch.current for watch in self.index._watches.values())

    def close(self) -> None:
        self.index.stop()
        self.pool.shutdown()


@pytest.fixture
def bench(control_plane: ControlPlane, kind: str, allow: Any, namespace: str) -> Iterator[Bench]:
    api = Api.connect(str(control_plane.kubeconfig_for("slicewise-controller")))
    made = Bench(control_plane, namespace, Counting(api))
    yield made
    made.close()
    api.close()


def test_a_kind_that_may_be_watched_costs_a_request_a_change(bench: Bench, allow: Any):
    allow("get", "list", "watch")
    assert bench.round() == (dict.fromkeys(NAMES, 2), len(NAMES))
    # Once the watch is there each is asked for once more at most; then nothing costs anything.
    until(bench.watched, 20.0, "the watch")
    asked = bench.api.seen["scale"]
    until(lambda: bench.round()[1] == 0, 20.0, "nothing to ask for")
    assert bench.api.seen["scale"] <= asked + len(NAMES)
    asked = bench.api.seen["scale"]
    for _ in range(20):
        assert bench.round() == (dict.fromkeys(NAMES, 2), 0)

    # Somebody else.
    bench.cluster.request("PATCH", f"{bench.path}/m3", {"spec": {"size": 5}}, MERGE)
    until(lambda: bench.round()[0]["m3"] == 5, 10.0, "somebody else's write")
    assert bench.api.seen["scale"] == asked + 1
    # Its author is not known where the count stands in another field than spec.replicas.
    assert not bench.index.writers(bench.targets[3])

    # Ourselves: known at once, the answer was the new scale.
    for replicas in range(6, 16):
        bench.index.write(bench.index.read(bench.targets[3]), replicas)
        assert bench.round()[0]["m3"] == replicas
    until(lambda: bench.index.writers(bench.targets[3]) is not None, 10.0, "the watch to have come as far")
    assert bench.round() == ({**dict.fromkeys(NAMES, 2), "m3": 15}, 0)
    assert bench.api.seen["scale"] == asked + 1

    # What goes, and what comes anew under the name.
    bench.cluster.request("DELETE", f"{bench.path}/m0")
    until(lambda: bench.round()[0]["m0"] == "not_found", 10.0, "it to be gone")
    bench.make("m0")
    until(lambda: bench.round()[0]["m0"] == 2, 10.0, "it to be there")
    assert bench.round()[1] == 0


def test_without_the_right_to_list_each_is_asked_for_each_round(bench: Bench, allow: Any):
    allow()
    for _ in range(3):
        assert bench.round() == (dict.fromkeys(NAMES, 2), len(NAMES))
    bench.cluster.request("PATCH", f"{bench.path}/m3", {"spec": {"size": 5}}, MERGE)
    assert bench.round()[0]["m3"] == 5
    # The right comes later: the watch begins by itself.
    allow("get", "list", "watch")
    until(lambda: bench.round()[1] == 0, 60.0, "the watch")


def test_a_scale_without_a_selector_is_refused_without_asking_again(bench: Bench, allow: Any):
    allow("get", "list", "watch")
    until(lambda: bench.round()[1] == 0, 20.0, "the watch")
    bench.cluster.request("PATCH", f"{bench.path}/m1/status", {"status": {"selector": ""}}, MERGE)
    until(lambda: bench.round()[0]["m1"] == "not_scalable", 10.0, "the selector to be gone")
    assert [bench.round()[1] for _ in itertools.repeat(None, 5)] == [0] * 5
    with pytest.raises(TargetRefused, match=r"no status\.selector"):
        bench.index.read(bench.targets[1])
    bench.cluster.request("PATCH", f"{bench.path}/m1/status", {"status": {"selector": "app=m1"}}, MERGE)
    until(lambda: bench.round()[0]["m1"] == 2, 10.0, "the selector")
