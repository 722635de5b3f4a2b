"""What is applied for a model server: its model, its Deployment, its autoscaling policy; and the image.

The image is nearly empty. Interpreter, libraries and the server's environment come from this machine by
read-only hostPath mounts, the model from a ConfigMap; where metrics are served stands in the annotations.
Pure but for the look at this machine's folders.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from deploy.local import machine_python
from deploy.model_servers.servers import MODEL_FOLDER, ModelServer

IMAGE = "localhost/model-server:1"
SLOTS = 2
SERVICE_SECONDS = 0.15
OBJECTIVE_SECONDS = 1.0  # a bound of every server's latency buckets, so that it is judged exactly
MAX_REPLICAS = 3
PERIOD_SECONDS = 0.5
_LEAVE_ROUTING_SECONDS = 2
_GRACE_SECONDS = 20


def model(server: ModelServer, namespace: str) -> dict[str, Any]:
    """The ConfigMap with the model's files."""
    return _config_map(f"{server.name}-model", namespace, {}, server.model_files())


def policy(server: ModelServer, namespace: str) -> dict[str, Any]:
    """The autoscaling policy: the objective, and what one replica serves at a time. It names no server: which
    one runs is recognised. The window to scale down is short, as the trial is.
    """
    document = {
        "apiVersion": "slicewise.io/v1alpha1",
        "kind": "AutoscalingPolicy",
        "target": {"kind": "Deployment", "name": server.name},
        "minReplicas": 1,
        "maxReplicas": MAX_REPLICAS,
        "inFlight": {"perReplica": SLOTS},
        "slo": {"attainment": 0.95, "latencySeconds": OBJECTIVE_SECONDS, "measure": "e2e"},
        "scaleDown": {"stabilisationSeconds": 15},
        "signals": {"everySeconds": server.look_seconds},
        "periodSeconds": PERIOD_SECONDS,
    }
    labels = {"slicewise.io/policy": "autoscaling"}
    # JSON is YAML.
    return _config_map(f"{server.name}-policy", namespace, labels, {"policy.yaml": json.dumps(document)})


def deployment(server: ModelServer, namespace: str, node: str, python: Path) -> dict[str, Any]:
    """One replica on ``node``; ``python`` is the interpreter of the server's environment."""
    labels = {"app": server.name}
    annotations = {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(server.metrics_port),
        "prometheus.io/path": "/metrics",
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": server.name, "namespace": namespace, "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels, "annotations": annotations},
                "spec": _pod(server, node, python),
            },
        },
    }


def _pod(server: ModelServer, node: str, python: Path) -> dict[str, Any]:
    volumes, mounts = machine_python.mounts(python)
    volumes += [
        {"name": "model", "configMap": {"name": f"{server.name}-model"}},
        # Ray keeps its objects in shared memory; the runtime's own 64 MiB are too few.
        {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": "256Mi"}},
    ]
    mounts += [
        {"name": "model", "mountPath": MODEL_FOLDER},
        {"name": "shared-memory", "mountPath": "/dev/shm"},
    ]
    environment = {
        "HOME": "/tmp",
        "USER": "root",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "SLOTS": str(SLOTS),
        "SECONDS": str(SERVICE_SECONDS),
        **server.environment,
    }
    address = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    ports = {server.http_port: "http", server.metrics_port: "metrics"}
    container = {
        "name": "server",
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "command": [str(python), *server.arguments],
        "workingDir": MODEL_FOLDER,
        "env": [*({"name": name, "value": value} for name, value in environment.items()), address],
        "ports": [{"name": name, "containerPort": port} for port, name in ports.items()],
        "volumeMounts": mounts,
        "readinessProbe": {
            "httpGet": {"path": server.ready_path, "port": server.ready_port},
            "periodSeconds": 1,
            # A server that is busy is not one that should get no requests.
            "timeoutSeconds": 10,
            "failureThreshold": 10,
        },
        # Whoever routes learns that the pod leaves before the pod stops to listen.
        "lifecycle": {"preStop": {"sleep": {"seconds": _LEAVE_ROUTING_SECONDS}}},
    }
    return {
        "nodeSelector": {"kubernetes.io/hostname": node},
        "terminationGracePeriodSeconds": _GRACE_SECONDS,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "containers": [container],
        "volumes": volumes,
    }


def _config_map(name: str, namespace: str, labels: dict[str, str], data: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "data": data,
    }
