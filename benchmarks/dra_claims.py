"""One claim after the other on a node of the driver: allocated, prepared, unprepared, and what is published.

``Mirror`` follows the driver's own rule (``dra.node_order``), so that it is known which slices an allocation
spoils and the watch can wait for just these.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.scheduler_run import metric_sum
from cluster.client import Api
from cluster.reflector import Reflector
from deploy.local.control_plane import SYSTEM_NAMESPACE, ControlPlane
from deploy.local.rest import MERGE_PATCH
from dra.catalog import models
from dra.classes import class_name
from dra.device_order import CONFIG_MAP, KEY, OrderTable, order_table, render_tables
from dra.inventory import from_slices
from dra.node_order import Runs
from dra.plugin.dra_v1 import api_pb2
from dra.resource_api import ResourceSlice, slices_from_json
from dra.slice_parts import SLICEWISE_DRIVER
from scheduler.packing.mig_values import mask_values
from tests.kubelet.driver_rig import SLICES, DriverRig

CLAIMS = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims"
PROFILE = "1g.10gb"
MODEL, MIX = "A100-80GB", {"1g.10gb": 350.0, "2g.20gb": 250.0, "3g.40gb": 250.0, "7g.80gb": 50.0}
DEADLINE_SECONDS = 10.0
_NVML = "slicewise_node_card_call_duration_seconds_sum"


class SliceWatch:
    """When each slice was last seen to change, by a watch of this process."""

    def __init__(self, api: Api, node: str) -> None:
        self._changed = threading.Condition()
        self._seen: dict[str, tuple[float, tuple[str, ...]]] = {}
        selector = f"spec.driver={SLICEWISE_DRIVER},spec.nodeName={node}"
        self.reflector = Reflector(api, SLICES, ResourceSlice, self, field_selector=selector)

    def replaced(self, items: Sequence[ResourceSlice]) -> None:
        """See ``cluster.reflector.Handler``."""
        for item in items:
            self.changed("ADDED", item)

    def changed(self, kind: str, item: ResourceSlice) -> None:
        """See ``cluster.reflector.Handler``."""
        at = time.perf_counter()
        with self._changed:
            self._seen[item.metadata.name] = at, tuple(device.name for device in item.spec.devices)
            self._changed.notify_all()

    def orders(self) -> dict[str, tuple[str, ...]]:
        """Device names by slice."""
        with self._changed:
            return {name: devices for name, (_, devices) in self._seen.items()}

    def order_other_than(self, slice_name: str, before: tuple[str, ...]) -> float:
        """When the slice's order was seen to differ from ``before`` (perf_counter). Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._seen[slice_name][1] != before, DEADLINE_SECONDS):
                raise TimeoutError(f"slice {slice_name} was not re-published in {DEADLINE_SECONDS:.0f} s")
            return self._seen[slice_name][0]


class Mirror:
    """Which slices the driver has to publish anew, by the rule that it follows (``dra.node_order``)."""

    def __init__(self, rig: DriverRig) -> None:
        items = slices_from_json(list(rig.slices()))
        read = from_slices(items[0].spec.node_name or "", items)
        if read is None:
            raise RuntimeError("the driver's slices make no complete pool")
        self.pool = items[0].spec.pool.name
        self._read = read
        self._models = {gpu.index: gpu.model for gpu in read.gpus}
        self._names = sorted(item.metadata.name for item in items if item.spec.devices)
        self._runs = Runs()
        self._tables: dict[str, OrderTable] = {}
        self._last = self._runs.now(self._models, dict.fromkeys(self._models, 0), {})

    def told(self, table: OrderTable) -> list[str]:
        """The slices to be published anew when nothing is taken and the table becomes known."""
        self._tables[MODEL] = table
        return self.spoilt(0)

    def device(self, number: int) -> tuple[str, int]:
        """A device of the benchmark's profile on the first GPU, in turn, and its units."""
        named = [(name, reference.placement) for name, reference in self._read.devices.items()]
        found = sorted(
            (placement.start, name, placement.bits)
            for name, placement in named
            if placement is not None and placement.profile == PROFILE and name.startswith("gpu-0-")
        )
        return found[number % 4][1:]

    def spoilt(self, mask: int) -> list[str]:
        """The slices to be published anew when ``mask`` is all that is taken, of the first GPU."""
        now = self._runs.now(self._models, {**dict.fromkeys(self._models, 0), 0: mask}, self._tables)
        changed = [name for name, a, b in zip(self._names, self._last, now, strict=True) if a != b]
        self._last = now
        return changed


@dataclass(frozen=True, slots=True)
class Round:
    """One claim from allocation to its end: milliseconds, and how many slices it spoilt."""

    order: float
    prepare: float
    nvml: float
    unprepare: float
    slices: int


def tell_tables(cluster: ControlPlane, watch: SliceWatch, mirror: Mirror) -> None:
    """What the controller writes for MIX, and wait until the driver has taken it."""
    table = order_table(mask_values(models()[MODEL], MIX).tolist(), MIX)
    before = watch.orders()
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": CONFIG_MAP},
        "data": {KEY: render_tables({MODEL: table})},
    }
    cluster.request("POST", f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/configmaps", body)
    for name in mirror.told(table):
        watch.order_other_than(name, before[name])


def one_claim(
    cluster: ControlPlane, rig: DriverRig, watch: SliceWatch, mirror: Mirror, plugin: Any, number: int
) -> Round:
    """One claim from allocation to its end."""
    before = watch.orders()
    device, units = mirror.device(number)
    request = {"name": "gpu", "exactly": {"deviceClassName": class_name(PROFILE)}}
    body = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": f"claim-{number}"},
        "spec": {"devices": {"requests": [request]}},
    }
    made = cluster.request("POST", CLAIMS, body)
    path = f"{CLAIMS}/claim-{number}"
    cluster.request("PATCH", f"{path}/status", _allocation(device, mirror.pool), MERGE_PATCH)
    allocated = time.perf_counter()
    spoilt = mirror.spoilt(units)
    published = [watch.order_other_than(name, before[name]) for name in spoilt]
    uid = made["metadata"]["uid"]
    claim = api_pb2.Claim(namespace="default", name=f"claim-{number}", uid=uid)
    inside = metric_sum(rig.page(), _NVML)
    began = time.perf_counter()
    answer = plugin.NodePrepareResources(api_pb2.NodePrepareResourcesRequest(claims=[claim]), timeout=45)
    prepare = time.perf_counter() - began
    if answer.claims[uid].error or not answer.claims[uid].devices:
        raise RuntimeError(f"claim {number} was not prepared: {answer.claims[uid].error or 'no devices'}")
    inside = metric_sum(rig.page(), _NVML) - inside
    began = time.perf_counter()
    gone = plugin.NodeUnprepareResources(api_pb2.NodeUnprepareResourcesRequest(claims=[claim]), timeout=45)
    unprepare = time.perf_counter() - began
    if gone.claims[uid].error:
        raise RuntimeError(f"claim {number} was not unprepared: {gone.claims[uid].error}")
    now = watch.orders()
    cluster.request("DELETE", path)
    for name in mirror.spoilt(0):
        watch.order_other_than(name, now[name])
    order = max(published, default=allocated) - allocated
    return Round(1000 * order, 1000 * prepare, 1000 * inside, 1000 * unprepare, len(spoilt))


def _allocation(device: str, pool: str) -> dict[str, Any]:
    """What kube-scheduler writes into a claim's status."""
    result = {"request": "gpu", "driver": SLICEWISE_DRIVER, "pool": pool, "device": device}
    reserved = [{"resource": "pods", "name": "pod", "uid": "0b1c5e9e-0000-4000-8000-000000000000"}]
    return {"status": {"allocation": {"devices": {"results": [result]}}, "reservedFor": reserved}}
