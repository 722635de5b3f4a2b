"""Slicewise's DaemonSets as pods of a real kubelet: the manifests as they are, and what this machine lacks.

``as_here`` puts into a pod template what the manifests take for granted: an image (the machine's Python
instead), NVIDIA's container runtime (its library is mounted, and it is the fake one) and the admission plugin
that mounts a token. All else, account and admission policy among it, is the manifest's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy.local import images, machine_python
from deploy.local.control_plane import ControlPlane
from deploy.local.real_node import RealNode
from deploy.local.rest import MERGE_PATCH
from tests.fake_nvml.state import FakeNode
from tests.kubelet.cluster_view import until

REPOSITORY = Path(__file__).parents[2]
MANIFESTS = REPOSITORY / "deploy" / "manifests"
_IMAGE = "docker.io/library/slicewise:latest"  # what the kubelet makes of the manifests' name
_COMMANDS = "/slicewise/bin"
_TOKEN_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"
_RUNTIME_CLASSES = "/apis/node.k8s.io/v1/runtimeclasses"
_ADMISSION = "/apis/admissionregistration.k8s.io/v1"
_POLICIES = {
    "ValidatingAdmissionPolicyBinding": "validatingadmissionpolicybindings",
    "ValidatingAdmissionPolicy": "validatingadmissionpolicies",
}


@contextmanager
def daemon_pods(
    cluster: ControlPlane,
    node: RealNode,
    documents: Sequence[Mapping[str, Any]],
    fake: FakeNode,
    library: Path,
    *,
    labels: Mapping[str, str],
    mounted: Mapping[Path, str] | None = None,
    more: Sequence[str] = (),
) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Apply the documents, with one DaemonSet among them, to the node that gets these labels; in the end the
    DaemonSet, its pods and the admission policy are gone. Gives what tells the DaemonSet's pods.

    ``mounted``: further folders of this machine, and where the container has them; ``more``: further
    arguments of its command.
    """
    command = f'#!/bin/sh\nexec {sys.executable} -m node "$@"\n'.encode()
    commands = (_COMMANDS, *images.COMMAND_FOLDERS)
    node.import_image(machine_python.image(_IMAGE, {f"{_COMMANDS}/slicewise-node": command}, commands))
    # The GPU operator makes it; runc is the one handler here.
    runtime = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "handler": "runc"}
    cluster.request("POST", _RUNTIME_CLASSES, {**runtime, "metadata": {"name": "nvidia"}})
    known = {"metadata": {"labels": dict(labels)}}
    cluster.request("PATCH", f"/api/v1/nodes/{node.name}", known, MERGE_PATCH)
    [daemons] = [one for one in documents if one["kind"] == "DaemonSet"]
    folders = {library.parent: str(library.parent), fake.path.parent: str(fake.path.parent)}
    environment = {
        **fake.environment(library),
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    as_here(daemons["spec"]["template"]["spec"], environment, {**folders, **(mounted or {})})
    daemons["spec"]["template"]["spec"]["containers"][0]["command"] += more
    cluster.apply(documents)
    try:
        yield lambda: pods_of(cluster, daemons)
    finally:
        namespace, name = daemons["metadata"]["namespace"], daemons["metadata"]["name"]
        cluster.request("DELETE", f"/apis/apps/v1/namespaces/{namespace}/daemonsets/{name}")
        until(f"no pod of {name} is left", lambda: not pods_of(cluster, daemons))
        for one in documents:
            if one["kind"] in _POLICIES:
                path = f"{_ADMISSION}/{_POLICIES[one['kind']]}/{one['metadata']['name']}"
                cluster.request("DELETE", path)
        cluster.request("DELETE", f"{_RUNTIME_CLASSES}/nvidia")


def pods_of(cluster: ControlPlane, daemons: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The DaemonSet's pods."""
    wanted = daemons["spec"]["selector"]["matchLabels"]
    path = f"/api/v1/namespaces/{daemons['metadata']['namespace']}/pods"
    items: list[dict[str, Any]] = cluster.request("GET", path)["items"]
    return [one for one in items if wanted.items() <= one["metadata"].get("labels", {}).items()]


def as_here(spec: dict[str, Any], environment: Mapping[str, str], folders: Mapping[Path, str]) -> None:
    """Change a pod's specification to run on this machine."""
    volumes, mounts = machine_python.mounts(Path(sys.executable), [REPOSITORY])
    for number, (folder, inside) in enumerate(folders.items()):
        name = f"folder-{number}"
        volumes.append({"name": name, "hostPath": {"path": str(folder)}})
        mounts.append({"name": name, "mountPath": inside})
    token = {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}
    authority = {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}}
    volumes.append({"name": "account", "projected": {"sources": [token, authority]}})
    mounts.append({"name": "account", "mountPath": _TOKEN_FOLDER, "readOnly": True})
    [container] = spec["containers"]
    container["imagePullPolicy"] = "Never"
    container["env"] += [{"name": name, "value": value} for name, value in environment.items()]
    container["volumeMounts"] += mounts
    spec["volumes"] += volumes
