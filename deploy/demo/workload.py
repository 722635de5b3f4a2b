"""The demo's API objects besides nodes and devices: pods, the LLM Deployment, namespaces and policies.

The same manifests serve both sides; what only Slicewise reads (annotations, a namespace label, policies)
means nothing to the plain scheduler. CPU and memory requests are the trace's divided by ``HOST_SHARE``: the
trace's nodes carry few pods a GPU, a cut GPU carries seven, and the demo is about GPUs. Pure: dictionaries
out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from deploy.demo.arrivals import Arrival
from deploy.demo.fleet import ZONES
from deploy.demo.llm_server import MODEL_NAME

PLANNED_NAMESPACE = "team-planned"
WEBHOOK_NAMESPACE = "team-webhook"
LLM_NAMESPACE = "llm"
LLM_NAME = "llm"
LLM_PROFILE = "3g.40gb"
LLM_UNITS = 4
LLM_STARTUP_SECONDS = 3.0
TTFT_GOAL_SECONDS = 1.0
"""What the LLM service promises: 95 of 100 first tokens within this time."""
HOST_SHARE = 8
IMAGE = "registry.example/inference:1"

# Means over 2023, life-cycle factors.
# Contains data from Electricity Maps, https://www.electricitymaps.com, ODbL.
GRAMS_PER_KWH: Mapping[str, float] = {"NO": 34.0, "GB": 188.0, "US-MIDA-PJM": 392.0}


CARBON_WEIGHT = 10.0
"""The demo's users weigh emissions ten times their price of 100 a tonne; unweighted they only break ties."""


def road_of(arrival: Arrival) -> str:
    """Half of the pods wait for a plan behind a gate, half go to the scheduler at once (by the last digit of
    the number).
    """
    return "planned" if int(arrival.name[-1]) % 2 == 0 else "webhook"


def namespace_of(arrival: Arrival) -> str:
    return PLANNED_NAMESPACE if road_of(arrival) == "planned" else WEBHOOK_NAMESPACE


def pod_manifest(arrival: Arrival) -> dict[str, Any]:
    """The pod of one arrival. A tensor-parallel pod says that it prefers NVLink, with full weight."""
    links = {"slicewise.io/nvlink": "preferred", "slicewise.io/nvlink-weight": "1"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": arrival.name,
            "namespace": namespace_of(arrival),
            "labels": {"app": "demo", "demo.slicewise.io/road": road_of(arrival)},
            "annotations": links if arrival.tensor_parallel else {},
        },
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [
                _container(
                    arrival.request.resource, arrival.request.count, arrival.cpu_milli, arrival.memory_mib
                )
            ],
        },
    }


def namespaces() -> list[dict[str, Any]]:
    """The namespaces; the label puts one of them on the planned road where Slicewise runs."""
    return [
        _namespace(PLANNED_NAMESPACE, {"slicewise.io/managed": "true"}),
        _namespace(WEBHOOK_NAMESPACE, {}),
        _namespace(LLM_NAMESPACE, {}),
    ]


def llm_deployment(replicas: int) -> dict[str, Any]:
    """The LLM service; a replica is Ready ``LLM_STARTUP_SECONDS`` after it was placed (time-compressed
    loading).
    """
    labels = {"app": LLM_NAME}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": LLM_NAME, "namespace": LLM_NAMESPACE, "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
            "template": {
                "metadata": {
                    "labels": labels,
                    "annotations": {
                        "slicewise.io/demo-startup-seconds": f"{LLM_STARTUP_SECONDS:g}",
                        "slicewise.io/weights": MODEL_NAME,
                    },
                },
                "spec": {
                    "terminationGracePeriodSeconds": 0,
                    "containers": [_container(f"nvidia.com/mig-{LLM_PROFILE}", 1, 8000, 32768)],
                },
            },
        },
    }


def cluster_policy() -> dict[str, Any]:
    """Slicewise's policy for the demo: its defaults, the zones' electricity and what it weighs."""
    policy = {
        "apiVersion": "slicewise.io/v1alpha1",
        "kind": "ClusterPolicy",
        "terms": {"carbon": CARBON_WEIGHT},
        "carbon": {
            "provider": "static",
            "regions": {zone.region: zone.grid for zone in ZONES},
            "static": dict(GRAMS_PER_KWH),
        },
    }
    return _policy_map("slicewise-policy", "slicewise-system", {}, policy)


def autoscaling_policy(per_replica: int, max_replicas: int) -> dict[str, Any]:
    """The LLM service's policy: in-flight first, a bound on the time to first token, windows compressed like
    the trace.
    """
    policy = {
        "apiVersion": "slicewise.io/v1alpha1",
        "kind": "AutoscalingPolicy",
        "target": {"apiVersion": "apps/v1", "kind": "Deployment", "name": LLM_NAME},
        "server": "vllm",
        "signals": {"directScrape": False},  # simulated pods have no address of their own
        "minReplicas": 2,
        "maxReplicas": max_replicas,
        "inFlight": {"perReplica": per_replica},
        "latency": {"p95Seconds": TTFT_GOAL_SECONDS, "measure": "ttft", "windowSeconds": 10},
        "gpuUtilisation": {"scaleDownBelow": 0.9},
        "scaleDown": {"stabilisationSeconds": 12, "maxStepReplicas": 2},
        "coldStartSeconds": LLM_STARTUP_SECONDS,
        "periodSeconds": 1,
    }
    return _policy_map("llm-autoscaling", LLM_NAMESPACE, {"slicewise.io/policy": "autoscaling"}, policy)


def _policy_map(
    name: str, namespace: str, labels: Mapping[str, str], policy: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels)},
        # JSON is YAML; the policy is read as YAML.
        "data": {"policy.yaml": json.dumps(policy, indent=2)},
    }


def _container(resource: str, count: int, cpu_milli: int, memory_mib: int) -> dict[str, Any]:
    host = {
        "cpu": f"{max(100, cpu_milli // HOST_SHARE)}m",
        "memory": f"{max(64, memory_mib // HOST_SHARE)}Mi",
    }
    return {
        "name": "server",
        "image": IMAGE,
        "resources": {"requests": {**host, resource: str(count)}, "limits": {resource: str(count)}},
    }


def _namespace(name: str, labels: Mapping[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": dict(labels)}}
