"""Warm capacity, the pure parts: how many placeholders, their manifests, when they give way, likely nodes."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.forecast import Forecast
from autoscaler.targets import Target
from autoscaler.warm import warm_pods
from autoscaler.warm.likely_nodes import lacking, likely_nodes
from autoscaler.warm.placeholder_count import Wanted, peak_in_flight, placeholder_count
from autoscaler.warm.warm_plan import steps
from autoscaler.warm.warm_pods import WarmPod
from cluster.policy import AutoscalingPolicy, PolicyRefused, load_autoscaling_policy
from cluster.warm_policy import FetchWeights, Prefetch
from cluster.wire import ObjectReference, Pod
from metrics.samples import NoData
from scheduler.demand import parse_demand
from scheduler.facts import Facts
from tests.scheduler.fleet_objects import device_class
from tests.scheduler.fleet_objects import template as claim_template

TARGET = Target("apps/v1", "Deployment", "ns", "llm")
OWNER = ObjectReference(api_version="v1", kind="ConfigMap", namespace="ns", name="llm-policy", uid="u1")
NO_TIME = NoData("no clock")


def peak(forecast: Forecast, **changes: float) -> float:
    values: dict[str, float] = {
        "cold_start_seconds": 60.0,
        "node_seconds": 240.0,
        "deviations": 3.0,
        **changes,
    }
    return peak_in_flight(forecast, unix_seconds=NO_TIME, **values)


def test_the_peak_grows_with_the_deviations_the_error_and_the_lead():
    calm = Forecast.begun(64.0, 0.0)
    # 64 + 3 × sqrt(1 × 64 × 300/60)
    assert peak(calm) == pytest.approx(64.0 + 3.0 * (64.0 * 5.0) ** 0.5)
    assert peak(calm, deviations=0.0) == 64.0
    assert peak(calm, node_seconds=0.0) == pytest.approx(64.0 + 3.0 * 8.0)
    wild = msgspec_replace(calm, dispersion=16.0)
    assert peak(wild) > peak(calm) > peak(calm, node_seconds=60.0)


def msgspec_replace(forecast: Forecast, **changes: float) -> Forecast:
    from dataclasses import replace

    return replace(forecast, **changes)  # type: ignore[arg-type]


def test_placeholders_are_what_the_peak_needs_beyond_the_plan_within_bounds():
    assert placeholder_count(117.0, 16.0, planned=4, max_replicas=20, most=10) == 4
    assert placeholder_count(117.0, 16.0, planned=4, max_replicas=20, most=2) == 2
    assert placeholder_count(117.0, 16.0, planned=4, max_replicas=6, most=10) == 2
    assert placeholder_count(117.0, 16.0, planned=9, max_replicas=20, most=10) == 0


@given(st.lists(st.tuples(st.floats(0.0, 100.0), st.integers(0, 9)), min_size=1, max_size=30))
def test_a_count_is_held_for_a_lead_and_no_longer(looks: list[tuple[float, int]]):
    now, wanted, past = 0.0, Wanted(), []
    for passed, count in looks:
        now += passed
        past.append((now, count))
        wanted = wanted.add(now, count, 60.0)
        assert wanted.count == max(one for at, one in past if now - at <= 60.0)


def test_off_by_default_and_strict():
    policy = AutoscalingPolicy.model_validate({"target": {"name": "a"}, "maxReplicas": 2, "inFlight": {}})
    assert policy.warm.placeholders is None
    assert policy.warm.prefetch is None
    header = "target: {name: a}\nmaxReplicas: 2\ninFlight: {}\n"
    with pytest.raises(PolicyRefused, match=r"warm.placeholders.most"):
        load_autoscaling_policy(header + "warm: {placeholders: {}}\n", "here")
    with pytest.raises(PolicyRefused, match=r"hostPath"):
        load_autoscaling_policy(
            header + "warm: {prefetch: {weights: {image: a, command: [b], hostPath: relative}}}\n", "here"
        )


def template(**spec: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "labels": {"app": "llm"},
            "annotations": {"slicewise.io/nvlink": "required", "slicewise.io/weights": "llama", "other": "x"},
        },
        "spec": {
            "containers": [
                {
                    "name": "server",
                    "image": "vllm:1",
                    "resources": {
                        "limits": {"nvidia.com/gpu": "1", "cpu": "4"},
                        "requests": {"memory": "8Gi"},
                    },
                    "env": [{"name": "SECRET", "value": "x"}],
                    "volumeMounts": [{"name": "v", "mountPath": "/v"}],
                }
            ],
            "volumes": [{"name": "v", "emptyDir": {}}],
            "nodeSelector": {"pool": "gpu"},
            "tolerations": [{"key": "gpu", "operator": "Exists"}],
            "serviceAccountName": "llm",
            **spec,
        },
    }


def test_a_placeholder_asks_for_what_a_replica_asks_for_and_is_nobodys_replica():
    body = warm_pods.placeholder(template(), TARGET, OWNER, "pause:1")
    meta, spec = body["metadata"], body["spec"]
    assert meta["labels"] == {"slicewise.io/warm": "placeholder"}
    assert meta["ownerReferences"][0]["uid"] == "u1"
    assert "other" not in meta["annotations"]
    assert spec["containers"] == [
        {
            "name": "server",
            "image": "pause:1",
            "resources": {"limits": {"nvidia.com/gpu": "1", "cpu": "4"}, "requests": {"memory": "8Gi"}},
        }
    ]
    assert spec["nodeSelector"] == {"pool": "gpu"}
    assert spec["priorityClassName"] == "slicewise-placeholder"
    assert not {"volumes", "serviceAccountName"} & set(spec)

    def demand(body: Any) -> Any:
        pod = msgspec.convert({"metadata": body["metadata"], "spec": body["spec"]}, Pod, strict=False)
        return parse_demand(pod, Facts(), {})

    replica = demand(
        {"metadata": {"annotations": template()["metadata"]["annotations"]}, "spec": template()["spec"]}
    )
    held = demand(body)
    assert held.requests == replica.requests
    assert (held.cpu_milli, held.memory_mib, held.nvlink_need) == (
        replica.cpu_milli,
        replica.memory_mib,
        replica.nvlink_need,
    )


def test_claims_made_from_templates_are_asked_for_and_named_claims_left_out():
    claims = [
        {"name": "gpu", "resourceClaimTemplateName": "one-gpu"},
        {"name": "shared", "resourceClaimName": "net"},
    ]
    containers = [{"name": "s", "image": "i", "resources": {"claims": [{"name": "gpu"}, {"name": "shared"}]}}]
    body = warm_pods.placeholder(
        template(resourceClaims=claims, containers=containers), TARGET, OWNER, "pause:1"
    )
    assert body["spec"]["resourceClaims"] == claims[:1]
    assert body["spec"]["containers"][0]["resources"] == {"claims": [{"name": "gpu"}]}
    facts = Facts()
    facts.put_template(claim_template("one-gpu", "1g.10gb"))
    expression = "device.driver == 'gpu.nvidia.com' && device.attributes['gpu.nvidia.com'].type == 'mig'"
    facts.put_class(device_class("mig.nvidia.com", expression))
    meta = {"name": "p", "namespace": "default"}
    pod = msgspec.convert({"metadata": meta, "spec": body["spec"]}, Pod, strict=False)
    assert str(parse_demand(pod, facts, facts.classes)) == "1 × 1g.10gb"


@pytest.mark.parametrize(
    "spec",
    [
        {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{}]}}},
        {"topologySpreadConstraints": [{"whenUnsatisfiable": "DoNotSchedule"}]},
    ],
)
def test_pods_whose_place_depends_on_others_get_no_placeholder(spec: dict[str, Any]):
    assert warm_pods.why_no_placeholder(template(**spec)["spec"])
    assert not warm_pods.why_no_placeholder(template()["spec"])


def test_a_prefetch_asks_for_no_gpu_and_brings_image_and_weights():
    weights = FetchWeights(image="fetch:1", command=("fetch",), host_path="/var/models")
    body = warm_pods.prefetch(template(), TARGET, OWNER, "n1", Prefetch(weights=weights))
    spec = body["spec"]
    assert spec["nodeName"] == "n1"
    image, fetch = spec["containers"]
    assert (image["image"], image["command"], image["imagePullPolicy"]) == (
        "vllm:1",
        ["true"],
        "IfNotPresent",
    )
    assert fetch["env"] == [{"name": "SLICEWISE_WEIGHTS", "value": "llama"}]
    assert spec["volumes"][0]["hostPath"]["path"] == "/var/models"
    assert "nvidia.com/gpu" not in str(spec)
    plain = warm_pods.prefetch(template(), TARGET, OWNER, "n1", Prefetch())
    assert [one["name"] for one in plain["spec"]["containers"]] == ["image-0"]


def test_a_warm_pod_is_read_again_and_any_other_pod_is_none():
    body = warm_pods.placeholder(template(), TARGET, OWNER, "pause:1")
    pod = msgspec.convert(
        {"metadata": {**body["metadata"], "uid": "x", "name": "p"}, "spec": {"nodeName": "n1"}},
        Pod,
        strict=False,
    )
    found = warm_pods.read(pod)
    assert found is not None
    assert (found.kind, found.workload, found.node) == ("placeholder", str(TARGET), "n1")
    assert warm_pods.read(Pod()) is None


def held(number: int, node: str = "n") -> WarmPod:
    return WarmPod(f"u{number}", "ns", f"p{number}", "placeholder", str(TARGET), node, f"{number:03}", False)


def plan(wanted: int, existing: list[WarmPod], refused: list[str], **more: Any) -> Any:
    return steps(wanted, existing, refused, **{"helped": frozenset(), "paused": False, **more})


def test_a_refused_replica_is_handed_one_placeholder_once_and_nothing_is_made_meanwhile():
    existing = [held(1), held(2, node=""), held(3)]
    found = plan(3, existing, ["r1"])
    assert [(pod.uid, replica) for pod, replica in found.hand_over] == [("u1", "r1")]
    # The one that waits might be tried before the replica, and take the room.
    assert ([pod.uid for pod in found.let_go], found.make) == (["u2"], 0)
    again = plan(3, existing[1:], ["r1"], helped=frozenset({"r1"}), paused=True)
    assert (again.hand_over, again.make) == ((), 0)
    elsewhere = plan(3, existing[1:], [], paused=True)
    assert elsewhere.make == 0
    assert plan(3, existing[1:], []).make == 1


def test_those_without_a_node_are_let_go_first():
    existing = [held(1), held(2, node=""), held(3)]
    assert [pod.uid for pod in plan(1, existing, []).let_go] == ["u2", "u3"]


@given(
    wanted=st.integers(0, 6),
    placed=st.lists(st.booleans(), max_size=8),
    refused=st.integers(0, 4),
    paused=st.booleans(),
)
def test_a_plan_never_touches_a_pod_twice_and_ends_at_what_is_wanted(
    wanted: int, placed: list[bool], refused: int, paused: bool
):
    existing = [held(i, "n" if one else "") for i, one in enumerate(placed)]
    found = plan(wanted, existing, [f"r{i}" for i in range(refused)], paused=paused)
    gone = [pod.uid for pod, _ in found.hand_over] + [pod.uid for pod in found.let_go]
    assert len(gone) == len(set(gone))
    left = [pod for pod in existing if pod.uid not in gone]
    assert len(left) + found.make <= wanted or refused or paused or not found.let_go
    assert not (refused or paused) or all(pod.node for pod in left)
    assert found.make == 0 or not (refused or paused)
    if not refused and not paused:
        assert len(existing) - len(gone) + found.make == wanted


def test_the_likely_nodes_are_those_of_placeholders_then_the_cheapest_with_room():
    prices = np.array([3.0, 1.0, np.inf, 2.0])
    assert likely_nodes(["z"], ["a", "b", "c", "d"], prices, 3) == ("z", "b", "d")
    assert likely_nodes([], ["a", "b", "c", "d"], prices, 9) == ("b", "d", "a")
    assert likely_nodes(["a", "b", "c"], [], np.zeros(0), 2) == ("a", "b")


def test_a_node_that_lists_the_image_or_was_given_it_needs_none():
    listed = {"a": ["docker.io/library/vllm:1"], "b": []}
    found = lacking(["a", "b", "c"], ["vllm:1"], lambda n: listed.get(n, []), lambda n, i: n == "c")
    assert found == ("b",)
