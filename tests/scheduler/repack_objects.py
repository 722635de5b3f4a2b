"""Small clusters for the repacker's tests: nodes with MIG on demand, pods of Deployments that hold exact
placements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import msgspec

from cluster.disruption import Budgets, PodDisruptionBudget
from cluster.wire import Node, Pod
from dra.inventory import DeviceRef, from_slices
from dra.resource_api import slices_from_json
from dra.slices import nvidia_slices
from scheduler.fleet import Fleet
from scheduler.on_demand import ANNOTATION
from scheduler.repack.census import Census
from scheduler.repack.read import SceneReader
from tests.scheduler.fleet_objects import Setting, claim, device_class, inventory, node, policy, slices

NOW = 1_800_000_000.0  # January 2027
PROFILES = {"1g": "1g.10gb", "2g": "2g.20gb", "3g": "3g.40gb", "4g": "4g.40gb", "7g": "7g.80gb"}
OFFERED = {"cpu": "64", "memory": "512Gi", "pods": "110"}


class Town:
    """A fleet, its census and budgets, all fed with the same objects as by the watches."""

    def __init__(self, nodes: Sequence[Mapping[str, Any]] = (), **repack: Any) -> None:
        """``nodes``: node classes of the policy; ``repack``: its section."""
        # Prices that do not move by themselves: what counts here is who moves, not what placements cost.
        sections = {"minPodAgeSeconds": 600.0, "savings": True, **repack}
        self.policy = policy(repack=sections, terms={"carbon": 0.0, "locality": 0.0}, nodes=list(nodes))
        self.fleet = Fleet()
        self.census = Census()
        self.budgets = Budgets()
        self.pods: list[Pod] = []
        for kind in ("gpu", "mig"):
            typed = f"device.attributes['gpu.nvidia.com'].type == '{kind}'"
            expression = f"device.driver == 'gpu.nvidia.com' && {typed}"
            self.fleet.apply_class(device_class(f"{kind}.nvidia.com", expression))
        self._setting: Setting | None = None

    def dra_node(
        self, name: str, gpus: int = 1, labels: Mapping[str, str] | None = None, **offered: str
    ) -> None:
        """A node of NVIDIA's DRA driver."""
        made = node(name, allocatable=None, labels=labels)
        self._put_node(msgspec.structs.replace(made, status=_status(offered)))
        for item in slices(name, gpus=gpus):
            self.fleet.apply_slice(item)

    def plugin_node(self, name: str, gpus: int = 8, labels: Mapping[str, str] | None = None) -> None:
        """A node of the device plugin."""
        made = node(name, allocatable={"nvidia.com/gpu": str(gpus)}, labels=labels)
        self._put_node(msgspec.structs.replace(made, status=_status({"nvidia.com/gpu": str(gpus)})))

    def runs(self, name: str, on: str, *places: tuple[int, str, int], **spec: Any) -> str:
        """A running pod that holds (GPU, short profile, start) placements; answers its UID."""
        devices = [_device(*place) for place in places]
        kind = places[0][1]
        profile = "" if kind == "whole" else PROFILES[kind]
        pod = a_pod(name, on=on, claims={"gpu": f"{name}-gpu"}, **spec)
        found = claim(f"{name}-gpu", devices=devices, on=on, profile=profile, owner=name)
        self.fleet.apply_claim(found)
        self.put_pod(pod)
        return pod.metadata.uid

    def waits(self, name: str, profile: str, **spec: Any) -> str:
        """A pod that waits for one instance ("" for a whole GPU)."""
        asked = PROFILES.get(profile, "")
        self.fleet.apply_claim(claim(f"{name}-gpu", profile=asked, owner=name))
        pod = a_pod(name, claims={"gpu": f"{name}-gpu"}, **spec)
        self.put_pod(pod)
        return pod.metadata.uid

    def put_pod(self, pod: Pod) -> None:
        """One pod for everybody."""
        self.pods.append(pod)
        self.fleet.apply_pod(pod)
        self.census.put_pod(pod)

    def budget(self, app: str, allowed: int) -> None:
        """A PodDisruptionBudget over the pods of one app."""
        self.budgets.changed("ADDED", a_budget(app, allowed))

    @property
    def setting(self) -> Setting:
        """The decider over the fleet, prices solved once."""
        if self._setting is None:
            self._setting = Setting(self.fleet, self.policy)
        return self._setting

    def scene(self):
        """What the repacker sees."""
        reader = SceneReader(self.setting.decider, self.census, self.budgets)
        return reader.scene(self.policy, NOW)

    def _put_node(self, made: Node) -> None:
        self.fleet.apply_node(made)
        self.census.put_node(made)


def a_pod(
    name: str,
    *,
    on: str = "",
    claims: Mapping[str, str] | None = None,
    limits: Mapping[str, str] | None = None,
    app: str = "",
    priority: int = 0,
    kind: str = "ReplicaSet",
    wish: str = "",
    cpu: str = "1",
    started: str = "2026-01-01T00:00:00Z",
    namespace: str = "default",
    selector: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    affinity: Any = None,
    gates: Sequence[str] = (),
    preemption: str = "",
    floor: str = "",
) -> Pod:
    """A pod as the API server sends it; ``kind`` "" for one without owner; ``floor``: how many replicas of
    its app belong on nodes that nobody takes away.
    """
    app = app or name
    owner = {"apiVersion": "apps/v1", "kind": kind, "name": app, "uid": f"uid-of-{app}", "controller": True}
    return msgspec.convert(
        {
            "metadata": {
                "name": name,
                "namespace": namespace,
                "uid": f"uid-{name}",
                "labels": {"app": app, **(labels or {})},
                "annotations": {
                    **({"slicewise.io/repack": wish} if wish else {}),
                    **({ANNOTATION: floor} if floor else {}),
                },
                "ownerReferences": [owner] if kind else [],
                "creationTimestamp": started,
            },
            "spec": {
                "nodeName": on,
                "schedulerName": "default-scheduler",
                "priority": priority,
                "preemptionPolicy": preemption,
                "nodeSelector": dict(selector or {}),
                "affinity": affinity,
                "schedulingGates": [{"name": gate} for gate in gates],
                "resourceClaims": [{"name": k, "resourceClaimName": v} for k, v in (claims or {}).items()],
                "containers": [
                    {
                        "name": "main",
                        "image": "model:1",
                        "resources": {
                            "requests": {"cpu": cpu, "memory": "1Gi"},
                            "limits": dict(limits or {}),
                        },
                    }
                ],
            },
            "status": {"phase": "Running" if on else "Pending", "startTime": started if on else None},
        },
        Pod,
    )


def a_budget(app: str, allowed: int, namespace: str = "default") -> PodDisruptionBudget:
    """A budget over the pods labelled with the app."""
    return msgspec.convert(
        {
            "metadata": {"name": f"budget-{app}", "namespace": namespace},
            "spec": {"selector": {"matchLabels": {"app": app}}},
            "status": {"disruptionsAllowed": allowed},
        },
        PodDisruptionBudget,
    )


def _status(extra: Mapping[str, str]):
    return msgspec.convert({"allocatable": {**OFFERED, **extra}}, type(Node().status))


def _device(gpu: int, kind: str, start: int) -> str:
    """The name that NVIDIA's driver gives a placement, the same on every node."""
    for name, ref in _devices().items():
        if ref.gpu != gpu:
            continue
        placement = ref.placement
        if placement is None:
            if kind == "whole":
                return name
        elif kind != "whole" and (placement.profile, placement.start) == (PROFILES[kind], start):
            return name
    raise LookupError(f"{kind}@{start} on GPU {gpu}")


@cache
def _devices() -> Mapping[str, DeviceRef]:
    found = from_slices("any", slices_from_json(nvidia_slices(inventory("any", gpus=2))))
    assert found is not None
    return found.devices


def chain_of_two(town: Town) -> None:
    """Three nodes where a pod that wants a whole GPU is helped by two moves, one after the other: b has one
    1g in the way of three, and c can take only that one.
    """
    for name in "abc":
        town.dra_node(name)
    town.runs("three", "a", (0, "3g", 0))
    town.runs("one", "b", (0, "1g", 0))
    town.runs("b-stays", "b", (0, "3g", 4), wish="never")
    town.runs("c-stays", "c", (0, "3g", 4), wish="never")
    town.runs("c-too", "c", (0, "2g", 0), wish="never")
    town.waits("big", "7g")
