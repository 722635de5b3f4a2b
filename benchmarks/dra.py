"""The DRA driver of one node, measured as it runs: a real API server, fake cards, the kubelet's own protocol.

``calls``: a 16-GPU node (HGX A100, every GPU in MIG mode). For each of ``--claims`` claims: its allocation
is written to the API server as kube-scheduler would; from the API server's answer until a watch shows the
last of the slices whose order it spoils re-published is ``allocation to order``, where it spoils any: half as
many claims without tables, where every better device is reason enough to publish anew, then all with those
that the controller writes for MIX. The claim is then prepared and unprepared over the driver's socket with
the kubelet's protocol: ``prepare`` is this process's wall time of the call, ``own`` that time less what the
driver spent in NVML (its own metric; the fake NVML creates at once, real cards take seconds). ``cpu`` is the
driver's processor time for all of a claim, without that of the two times that this process reads the driver's
metrics meanwhile (``page``: of one reading, measured afterwards). ``resident``: the driver's memory,
``objects``: what the node costs the API server.

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
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc

from benchmarks.dra_claims import DEADLINE_SECONDS, PROFILE, Mirror, SliceWatch, one_claim, tell_tables
from benchmarks.scheduler_run import say
from cluster.client import Api
from deploy.local.control_plane import ControlPlane
from deploy.local.node_support import why_not
from deploy.local.processes import Processes
from deploy.local.real_node import RealNode
from dra.classes import device_classes
from dra.plugin.dra_v1 import api_pb2_grpc
from dra.slice_parts import SLICEWISE_DRIVER
from tests.fake_nvml.build import NO_COMPILER, build_fake, compiler
from tests.fake_nvml.state import FakeNode
from tests.kubelet.cluster_view import delete, pod, running
from tests.kubelet.driver_rig import DriverRig, asks

OUTPUT = Path("build/bench/dra.json")
BOARD = "hgx-a100-16"
_REGISTER_SECONDS = 30.0
_PAGES_A_CLAIM, _MEASURED_PAGES = 2, 100


class BareNode:
    """A Node object and folders, without a kubelet: what the driver's rig needs of a ``RealNode``."""

    def __init__(self, cluster: ControlPlane, folder: Path) -> None:
        self.name = "bare-node"
        self.kubelet_folder = folder / "k"
        self.cdi_folder = folder / "cdi"
        self.processes: Processes = cluster.processes
        body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self.name}}
        cluster.request("POST", "/api/v1/nodes", body)


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
        watch.reflector.synced.wait(DEADLINE_SECONDS)
        started_mib = _resident_mib(rig.pid())
        socket = node.kubelet_folder / "plugins" / SLICEWISE_DRIVER / "dra.sock"
        channel = stack.enter_context(grpc.insecure_channel(f"unix:{socket}"))
        plugin = api_pb2_grpc.DRAPluginStub(channel)
        mirror = Mirror(rig)
        without = [one_claim(cluster, rig, watch, mirror, plugin, number) for number in range(claims // 2)]
        say(f"dra: {len(without)} claims without tables")
        tell_tables(cluster, watch, mirror)
        found = []
        cpu_before = _cpu_seconds(rig.pid())
        for number in range(claims):
            found.append(one_claim(cluster, rig, watch, mirror, plugin, claims + number))
            if (number + 1) % 20 == 0:
                say(f"dra: {number + 1} of {claims} claims")
        cpu = _cpu_seconds(rig.pid()) - cpu_before
        cpu_page = _cpu_of_a_page(rig)
        objects = _objects(rig.slices())
        highest_mib = _highest_mib(rig.pid())
    return {
        "node": f"16 x {fake.values()['gpu.0.name']}, MIG on",
        "claims": claims,
        "allocation_to_order_milliseconds": _spread([one.order for one in found if one.slices]),
        "spoilt_slices_a_claim": round(statistics.fmean(one.slices for one in found), 2),
        "without_tables": {
            "allocation_to_order_milliseconds": _spread([one.order for one in without if one.slices]),
            "spoilt_slices_a_claim": round(statistics.fmean(one.slices for one in without), 2),
        },
        "prepare_milliseconds": _spread([one.prepare for one in found]),
        "prepare_own_milliseconds": _spread([one.prepare - one.nvml for one in found]),
        "unprepare_milliseconds": _spread([one.unprepare for one in found]),
        "cpu_milliseconds_a_claim": round(1000 * (cpu / claims - _PAGES_A_CLAIM * cpu_page), 2),
        "cpu_milliseconds_a_page": round(1000 * cpu_page, 2),
        "resident_mib": {"started": started_mib, "highest": highest_mib},
        "objects": objects,
    }


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
