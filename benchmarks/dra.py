"""The DRA driver of one node, measured as it runs: a real API server, fake cards, the kubelet's own protocol.

``calls``: a 16-GPU node (HGX A100, every GPU in MIG mode). For each of ``--claims`` claims: its allocation
is written to the API server as kube-scheduler would, with a device whose loss spoils the published order;
from the API server's answer until a watch shows the last of the spoilt slices re-published is ``allocation to
order``. Then the claim is prepared and unprepared over the driver's socket with the kubelet's protocol:
``prepare`` is this process's wall time of the call, ``own`` that time less what the driver spent in NVML (its
own metric; the fake NVML creates at once, real cards take seconds). ``cpu`` is the driver's processor time
for all of a claim, without that of the two times that this process reads the driver's metrics meanwhile
(``page``: of one reading, measured afterwards). ``resident``: the driver's memory, ``objects``:
what the node costs the API server.

``pods``: on a real kubelet with containerd, where this machine can run one (else ``not run`` says why):
from a pod's creation until it is seen running, plain pods beside pods with an instance, one after the
other; and the kubelet's own histogram of its calls to the driver.

Writes build/bench/dra.json. Usage: python -m benchmarks.dra [--claims 100] [--pods 10]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc

from benchmarks.scheduler_run import metric_sum, say
from cluster.client import Api
from cluster.reflector import Reflector
from deploy.local.control_plane import ControlPlane
from deploy.local.node_support import why_not
from deploy.local.processes import Processes
from deploy.local.real_node import RealNode
from deploy.local.rest import MERGE_PATCH
from dra.classes import class_name, device_classes
from dra.inventory import from_slices
from dra.node_order import Runs
from dra.plugin.dra_v1 import api_pb2, api_pb2_grpc
from dra.resource_api import ResourceSlice, slices_from_json
from dra.slice_parts import SLICEWISE_DRIVER
from tests.fake_nvml.build import NO_COMPILER, build_fake, compiler
from tests.fake_nvml.state import FakeNode
from tests.kubelet.cluster_view import delete, pod, running
from tests.kubelet.driver_rig import SLICES, DriverRig, asks

OUTPUT = Path("build/bench/dra.json")
CLAIMS = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims"
BOARD, CUT, PROFILE = "hgx-a100-16", "a100", "1g.10gb"
_DEADLINE_SECONDS = 10.0
_REGISTER_SECONDS = 30.0
_PAGES_A_CLAIM, _MEASURED_PAGES = 2, 100
_NVML = "slicewise_node_card_call_duration_seconds_sum"


class BareNode:
    """A Node object and folders, without a kubelet: what the driver's rig needs of a ``RealNode``."""

    def __init__(self, cluster: ControlPlane, folder: Path) -> None:
        self.name = "bare-node"
        self.kubelet_folder = folder / "k"
        self.cdi_folder = folder / "cdi"
        self.processes: Processes = cluster.processes
        body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self.name}}
        cluster.request("POST", "/api/v1/nodes", body)


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
            if not self._changed.wait_for(lambda: self._seen[slice_name][1] != before, _DEADLINE_SECONDS):
                raise TimeoutError(f"slice {slice_name} was not re-published in {_DEADLINE_SECONDS:.0f} s")
            return self._seen[slice_name][0]


def allocation(device: str, pool: str) -> dict[str, Any]:
    """What kube-scheduler writes into a claim's status."""
    result = {"request": "gpu", "driver": SLICEWISE_DRIVER, "pool": pool, "device": device}
    reserved = [{"resource": "pods", "name": "pod", "uid": "0b1c5e9e-0000-4000-8000-000000000000"}]
    return {"status": {"allocation": {"devices": {"results": [result]}}, "reservedFor": reserved}}


def measure_calls(cluster: ControlPlane, folder: Path, claims: int) -> dict[str, Any]:
    """The ``calls`` part."""
    node = BareNode(cluster, folder)
    fake = FakeNode.create(folder / "state", BOARD, mig=True)  # type: ignore[arg-type]
    rig = DriverRig(cluster, node, fake, build_fake(folder), folder / "root")  # type: ignore[arg-type]
    watch = SliceWatch(Api.connect(str(cluster.kubeconfig)), node.name)
    with ExitStack() as stack:
        stack.callback(rig.close)
        rig.start()
        watch.reflector.start()
        stack.callback(watch.reflector.stop)
        watch.reflector.synced.wait(_DEADLINE_SECONDS)
        started_mib = _resident_mib(rig.pid())
        socket = node.kubelet_folder / "plugins" / SLICEWISE_DRIVER / "dra.sock"
        channel = stack.enter_context(grpc.insecure_channel(f"unix:{socket}"))
        plugin = api_pb2_grpc.DRAPluginStub(channel)
        mirror = Mirror(rig)
        rounds = []
        cpu_before = _cpu_seconds(rig.pid())
        for number in range(claims):
            rounds.append(_round(cluster, rig, watch, mirror, plugin, number))
            if (number + 1) % 20 == 0:
                say(f"dra: {number + 1} of {claims} claims")
        cpu = _cpu_seconds(rig.pid()) - cpu_before
        cpu_page = _cpu_of_a_page(rig)
        objects = _objects(rig.slices())
        highest_mib = _highest_mib(rig.pid())
    return {
        "node": f"16 x {fake.values()['gpu.0.name']}, MIG on",
        "claims": claims,
        "allocation_to_order_milliseconds": _spread([one["order"] for one in rounds]),
        "prepare_milliseconds": _spread([one["prepare"] for one in rounds]),
        "prepare_own_milliseconds": _spread([one["prepare"] - one["nvml"] for one in rounds]),
        "unprepare_milliseconds": _spread([one["unprepare"] for one in rounds]),
        "cpu_milliseconds_a_claim": round(1000 * (cpu / claims - _PAGES_A_CLAIM * cpu_page), 2),
        "cpu_milliseconds_a_page": round(1000 * cpu_page, 2),
        "resident_mib": {"started": started_mib, "highest": highest_mib},
        "objects": objects,
    }


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
        self._last = self._runs.now(self._models, dict.fromkeys(self._models, 0), {})

    def device(self, number: int) -> tuple[str, int]:
        """A device of the benchmark's profile that, once taken, spoils some order, and its units."""
        named = [(name, reference.placement) for name, reference in self._read.devices.items()]
        found = sorted(
            (placement.start, name, placement.bits)
            for name, placement in named
            if placement is not None and placement.profile == PROFILE and name.startswith("gpu-0-")
        )
        return found[number % 4][1:]

    def spoilt(self, mask: int) -> list[str]:
        """The slices to be published anew when ``mask`` is all that is taken, of the first GPU."""
        now = self._runs.now(self._models, {**dict.fromkeys(self._models, 0), 0: mask}, {})
        changed = [name for name, a, b in zip(self._names, self._last, now, strict=True) if a != b]
        self._last = now
        return changed


def _round(
    cluster: ControlPlane, rig: DriverRig, watch: SliceWatch, mirror: Mirror, plugin: Any, number: int
) -> dict[str, float]:
    """One claim from allocation to its end; milliseconds."""
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
    cluster.request("PATCH", f"{path}/status", allocation(device, mirror.pool), MERGE_PATCH)
    allocated = time.perf_counter()
    order = max(watch.order_other_than(name, before[name]) for name in mirror.spoilt(units)) - allocated
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
    seconds = {"order": order, "prepare": prepare, "nvml": inside, "unprepare": unprepare}
    return {name: 1000 * value for name, value in seconds.items()}


def measure_pods(cluster: ControlPlane, folder: Path, count: int) -> dict[str, Any]:
    """The ``pods`` part."""
    reason = why_not() if count else "no pods were asked for"
    if reason is not None:
        return {"not run": reason}
    times: dict[str, list[float]] = {"plain": [], "with an instance": []}
    with RealNode(cluster, progress=say) as node, ExitStack() as stack:
        fake = FakeNode.create(folder / "state", "dgx-h100", gpus=2, mig=True)
        rig = DriverRig(cluster, node, fake, build_fake(folder), folder / "root")
        stack.callback(rig.close)
        rig.start()
        _wait_registered(rig)
        for number in range(count):
            for kind, seconds in times.items():
                name = f"{kind.split()[0]}-{number}"
                body = pod(name, node.name)
                if kind != "plain":
                    body["spec"] = asks("resource", node.name, PROFILE)
                began = time.perf_counter()
                cluster.apply([body])
                running(cluster, "default", name)
                seconds.append(1000 * (time.perf_counter() - began))
                delete(cluster, "default", name)
        say(f"dra: {2 * count} pods ran")
        page = node.kubelet_metrics()
        return {
            "pods": count,
            "create_to_running_milliseconds": {kind: _spread(values) for kind, values in times.items()},
            "kubelet_calls": _kubelet_calls(page),
            "resident_mib": {"highest": _highest_mib(rig.pid())},
        }


def _wait_registered(rig: DriverRig) -> None:
    deadline = time.monotonic() + _REGISTER_SECONDS
    while not rig.registered():
        if time.monotonic() > deadline:
            raise TimeoutError("the kubelet did not register the driver")
        time.sleep(0.05)


def _kubelet_calls(page: str) -> dict[str, dict[str, float]]:
    """Mean milliseconds and number of the kubelet's calls to the driver, by method."""
    found: dict[str, dict[str, float]] = {}
    pattern = re.compile(r"^dra_grpc_operations_duration_seconds_(sum|count)\{(.*)\} (\S+)$", re.M)
    for part, labels, value in pattern.findall(page):
        method = re.search(r'method_name="([^"]*)"', labels)
        if SLICEWISE_DRIVER in labels and method is not None:
            found.setdefault(method.group(1).rpartition("/")[2], {})[part] = float(value)
    return {
        name: {"calls": parts["count"], "mean_milliseconds": round(1000 * parts["sum"] / parts["count"], 2)}
        for name, parts in sorted(found.items())
        if parts.get("count")
    }


def _objects(slices: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    specs = [one["spec"] for one in slices]
    return {
        "slices": len(specs),
        "devices": sum(len(spec.get("devices", ())) for spec in specs),
        "most_devices_a_slice": max(len(spec.get("devices", ())) for spec in specs),
        "most_counter_sets_a_slice": max(len(spec.get("sharedCounters", ())) for spec in specs),
        "bytes": sum(len(json.dumps(one, separators=(",", ":"))) for one in slices),
        "most_bytes_a_slice": max(len(json.dumps(one, separators=(",", ":"))) for one in slices),
    }


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _cpu_of_a_page(rig: DriverRig) -> float:
    """Processor seconds that the driver takes to show its metrics once."""
    before = _cpu_seconds(rig.pid())
    for _ in range(_MEASURED_PAGES):
        rig.page()
    return (_cpu_seconds(rig.pid()) - before) / _MEASURED_PAGES


def _resident_mib(pid: int) -> float:
    return _status_mib(pid, "VmRSS")


def _highest_mib(pid: int) -> float:
    return _status_mib(pid, "VmHWM")


def _status_mib(pid: int, key: str) -> float:
    found = re.search(rf"^{key}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.M)
    if found is None:
        raise RuntimeError(f"/proc/{pid}/status: no line {key}")
    return round(int(found.group(1)) / 1024, 1)


def _spread(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    at = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    picked = {name: ordered[min(len(ordered) - 1, int(share * len(ordered)))] for name, share in at.items()}
    return {name: round(v, 2) for name, v in {"mean": statistics.fmean(ordered), **picked}.items()} | {
        "max": round(ordered[-1], 2)
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit status 1 where it cannot run."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.dra", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--claims", type=int, default=100)
    parser.add_argument("--pods", type=int, default=10, help="of each kind, on the real kubelet; 0: none")
    options = parser.parse_args(arguments)
    if options.claims < 1 or options.pods < 0:
        parser.error("--claims: expected at least 1; --pods: at least 0")
    if compiler() is None:
        say(f"dra: {NO_COMPILER}")
        return 1
    classes = device_classes([PROFILE])
    with tempfile.TemporaryDirectory(prefix="sw-") as folder, ControlPlane(progress=say) as cluster:
        cluster.apply(classes)
        for part in ("calls", "pods"):
            (Path(folder) / part).mkdir()
        result = {
            "machine": {"cores": os.cpu_count(), "processor": platform.machine()},
            "kubernetes": cluster.version,
            "calls": measure_calls(cluster, Path(folder) / "calls", options.claims),
            "pods": measure_pods(cluster, Path(folder) / "pods", options.pods),
        }
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(result, indent=2) + "\n")
    say(json.dumps(result, indent=2))
    print(f"written: {OUTPUT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
