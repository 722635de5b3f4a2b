"""Manifests of warm pods, and what is read of them again.

A placeholder asks for exactly what a replica asks for (resources, claims made from templates, node selector,
required node affinity, tolerations) and runs an image that only waits, at the priority of
``slicewise-placeholder``: below everything else, so it gives way, and preempting nobody. A prefetch asks for
no GPU and next to no CPU, stands on one node, runs a harmless command in the workload's image and ends.

Both belong to the policy's ConfigMap: when that is deleted, the cluster's garbage collector removes them,
whether or not this controller runs. They carry none of the workload's labels, so no Service and no controller
takes them for a replica. Claims that are named (not made from a template) are shared with the replicas and
left out. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from autoscaler.targets import Target
from cluster.warm_policy import Prefetch
from cluster.wire import ObjectReference, Pod
from scheduler.kept_objects import ROOM_ON_ANNOTATION, WARM_LABEL

LABEL: Final = WARM_LABEL
FOR_ANNOTATION: Final = "slicewise.io/warm-for"
NODE_ANNOTATION: Final = "slicewise.io/prefetch-node"
IMAGES_ANNOTATION: Final = "slicewise.io/prefetch-images"
WEIGHTS_ANNOTATION: Final = "slicewise.io/weights"
PRIORITY_CLASS: Final = "slicewise-placeholder"
_NAME_ROOM: Final = 40

Kind = Literal["placeholder", "prefetch"]
Json = dict[str, Any]

_KEPT: Final = (
    "nodeSelector",
    "tolerations",
    "runtimeClassName",
    "schedulerName",
    "imagePullSecrets",
    "resources",
)


@dataclass(frozen=True, slots=True)
class WarmPod:
    """A warm pod that exists. ``workload``: text of its target; ``node`` is "" while it waits;
    ``prefetches``: node and images of a prefetch.
    """

    uid: str
    namespace: str
    name: str
    kind: Kind
    workload: str
    node: str
    created: str
    leaving: bool
    prefetches: tuple[str, str] = ("", "")


def read(pod: Pod) -> WarmPod | None:
    """The warm pod that this is, None for any other."""
    kind = pod.metadata.labels.get(LABEL)
    if kind not in ("placeholder", "prefetch"):
        return None
    notes = pod.metadata.annotations
    return WarmPod(
        uid=pod.metadata.uid,
        namespace=pod.metadata.namespace,
        name=pod.metadata.name,
        kind="placeholder" if kind == "placeholder" else "prefetch",
        workload=notes.get(FOR_ANNOTATION, ""),
        node=pod.spec.node_name,
        created=pod.metadata.creation_timestamp or "",
        leaving=pod.metadata.deletion_timestamp is not None or pod.status.phase in ("Succeeded", "Failed"),
        prefetches=(notes.get(NODE_ANNOTATION, ""), notes.get(IMAGES_ANNOTATION, "")),
    )


def why_no_placeholder(spec: Mapping[str, Any]) -> str:
    """Why pods of this spec cannot be stood in for, "" where they can."""
    affinity = spec.get("affinity") or {}
    for kind in ("podAffinity", "podAntiAffinity"):
        if (affinity.get(kind) or {}).get("requiredDuringSchedulingIgnoredDuringExecution"):
            return "where its pods may go depends on other pods"
    for spread in spec.get("topologySpreadConstraints") or ():
        if spread.get("whenUnsatisfiable") == "DoNotSchedule":
            return "its pods must be spread"
    return ""


def placeholder(template: Mapping[str, Any], target: Target, owner: ObjectReference, image: str) -> Json:
    """The manifest of one placeholder for a replica made from ``template`` (metadata and spec)."""
    spec = template.get("spec") or {}
    claims = [claim for claim in spec.get("resourceClaims") or () if claim.get("resourceClaimTemplateName")]
    names = {claim["name"] for claim in claims}
    sidecars = [one for one in spec.get("initContainers") or () if one.get("restartPolicy") == "Always"]
    made: Json = {
        **{key: spec[key] for key in _KEPT if key in spec},
        "containers": [_waiting(one, image, names) for one in spec.get("containers") or ()],
        "priorityClassName": PRIORITY_CLASS,
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
    }
    if sidecars:
        made["initContainers"] = [
            {**_waiting(one, image, names), "restartPolicy": "Always"} for one in sidecars
        ]
    if claims:
        made["resourceClaims"] = claims
    required = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    if required:
        made["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    notes = {
        key: value
        for key, value in ((template.get("metadata") or {}).get("annotations") or {}).items()
        if key.startswith("slicewise.io/") and key != ROOM_ON_ANNOTATION  # of the one pod it stands on
    }
    return _pod("placeholder", target, owner, made, notes)


def prefetch(
    template: Mapping[str, Any], target: Target, owner: ObjectReference, node: str, policy: Prefetch
) -> Json:
    """The manifest of one prefetch onto ``node``."""
    spec = template.get("spec") or {}
    images = images_of(spec)
    little = {"requests": {"cpu": "10m", "memory": "16Mi"}}
    containers: list[Json] = [
        {
            "name": f"image-{number}",
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "command": list(policy.command),
            "resources": little,
        }
        for number, image in enumerate(images)
    ]
    made: Json = {
        "nodeName": node,
        "containers": containers,
        "restartPolicy": "Never",
        "activeDeadlineSeconds": policy.timeout_seconds,
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "tolerations": [{"operator": "Exists"}],
        "priorityClassName": PRIORITY_CLASS,
    }
    if "imagePullSecrets" in spec:
        made["imagePullSecrets"] = spec["imagePullSecrets"]
    weights = weights_of(template)
    if policy.weights is not None and weights:
        containers.append(
            {
                "name": "weights",
                "image": policy.weights.image,
                "command": list(policy.weights.command),
                "env": [{"name": "SLICEWISE_WEIGHTS", "value": weights}],
                "resources": little,
                "volumeMounts": [{"name": "weights", "mountPath": policy.weights.host_path}],
            }
        )
        path = {"path": policy.weights.host_path, "type": "DirectoryOrCreate"}
        made["volumes"] = [{"name": "weights", "hostPath": path}]
    notes = {NODE_ANNOTATION: node, IMAGES_ANNOTATION: ",".join(images)}
    return _pod("prefetch", target, owner, made, notes)


def images_of(spec: Mapping[str, Any]) -> tuple[str, ...]:
    """The images of a pod's containers, each once."""
    found = [one["image"] for one in spec.get("containers") or () if one.get("image")]
    return tuple(dict.fromkeys(found))


def weights_of(template: Mapping[str, Any]) -> str:
    """The name of the weights that the pods load, "" where they do not say."""
    notes = (template.get("metadata") or {}).get("annotations") or {}
    return str(notes.get(WEIGHTS_ANNOTATION, ""))


def _waiting(container: Mapping[str, Any], image: str, claims: set[str]) -> Json:
    resources = dict(container.get("resources") or {})
    if "claims" in resources:
        kept = [claim for claim in resources.pop("claims") or () if claim.get("name") in claims]
        if kept:
            resources["claims"] = kept
    return {"name": container["name"], "image": image, "resources": resources}


def _pod(kind: Kind, target: Target, owner: ObjectReference, spec: Json, notes: Mapping[str, str]) -> Json:
    reference = {
        "apiVersion": owner.api_version,
        "kind": owner.kind,
        "name": owner.name,
        "uid": owner.uid,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": f"{target.name[:_NAME_ROOM].rstrip('-.')}-{kind}-",
            "namespace": target.namespace,
            "labels": {LABEL: kind},
            "annotations": {**notes, FOR_ANNOTATION: str(target)},
            "ownerReferences": [reference],
        },
        "spec": spec,
    }


def by_age(pods: Sequence[WarmPod]) -> list[WarmPod]:
    """Those without a node first, then the youngest: the order in which placeholders are let go."""
    waiting = sorted((pod for pod in pods if not pod.node), key=lambda pod: (pod.created, pod.name))
    placed = sorted((pod for pod in pods if pod.node), key=lambda pod: (pod.created, pod.name))
    return [*reversed(waiting), *reversed(placed)]
