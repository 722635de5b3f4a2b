"""MIGBench's protocol on the real control plane: kube-scheduler, DRA and kwok nodes, time compressed.

The arrivals are those of ``benchmarks.mig`` (same seed, same jobs); a second of the machine stands for
``--speed`` seconds of the study. A job is a pod that asks for ``nvidia.com/mig-<profile>``; it is deleted
when its time has passed since it was bound. With ``--patience`` a pod that is not bound so many seconds (of
the machine) after kube-scheduler found no room for it is deleted and counts as refused; one that has only not
been tried yet is not, so that a busy machine refuses nobody. kube-scheduler's back-off stays at 1 s (it would
grow to 10 s, minutes of the study). The sides, one after the other, each on a
control plane of its own:

- ``plain``: kube-scheduler as it ships, devices as NVIDIA's driver names and sorts them;
- ``slicewise``: the shipped profile with extender, planner and controller, and a driver that publishes the
  node's placements in the order that the controller writes (``dra.node_order``);
- ``ascending``, ``descending``: the same, but the driver publishes the lowest, or highest, start first and
  never anew. What the order of devices is worth.

Mean scheduling is wall-clock time from creation to bound, as the API server's watch tells this process, of
the pods for which nothing but the control plane's own work stood in between: room was free when they came and
no waiting pod could have taken it. (MIGBench keeps waiting in virtual time and scheduling in wall-clock time
in the same way.) Beside it: kube-scheduler's own histogram of successful attempts, over all pods. Waits and
GPC utilisation are in the study's seconds. With ``--seeds`` the whole is played for so many seeds, one after
the other from ``--seed`` on; ``accepted`` has each side's count of accepted pods by seed, ``paired`` what
``slicewise`` accepts more than each other side (mean and 95 % interval over seeds), ``sides`` the first seed.
``--together`` plays the sides of a seed at the same time, so that whatever else the machine does meets all
alike; then keep ``--speed`` low.
Writes build/bench/mig_on_cluster.json, with ``--patience`` build/bench/mig_orders_on_cluster.json. Usage:
python -m benchmarks.mig_on_cluster [--jobs 500] [--load 1.4] [--speed 60] [--nodes 2] [--gpus 4] [--seed 42]
[--seeds 1] [--together] [--sides plain,slicewise,ascending,descending] [--mix 1g:35,2g:25,3g:25,7g:5]
[--patience SECONDS] [--output FILE]
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.mig_jobs import MODEL, Jobs, figures, pod_name
from benchmarks.planned_road import POLICY, process
from benchmarks.scheduler_run import NAMESPACE, RunFailed, extended_config, say, serving
from cluster.client import Api
from cluster.reflector import Reflector
from cluster.wire import Pod
from deploy.demo.fleet import ZONES, DemoNode, Shape, node_manifest
from deploy.demo.placement_orders import ByWorth, Fixed, PlacementOrder, order_reflector
from deploy.demo.publishing import Side
from deploy.demo.virtual_driver import VirtualDriver
from deploy.local.conditions import condition
from deploy.local.control_plane import SYSTEM_NAMESPACE, ControlPlane
from deploy.local.rest import RequestRefused
from dra.mig import geometry
from dra.resource_api import ResourceClaim
from simulator.mig_arrivals import Arrivals, draw, parse_mix
from simulator.mig_grid import full_name, mig_model
from simulator.paired import difference

OUTPUT = Path("build/bench/mig_on_cluster.json")
REFUSING_OUTPUT = Path("build/bench/mig_orders_on_cluster.json")
MIX = "1g:35,2g:25,3g:25,7g:5"
TARGET_MILLISECONDS = 139.0
_GONE = (200, 202, 404)
_PATIENCE_SECONDS = 240.0
_COMPRESSED = {"podInitialBackoffSeconds": 1, "podMaxBackoffSeconds": 1}
_MOST_TURNS = 5  # so many times its patience a pod waits that is nominated and not bound


SIDES = ("plain", "slicewise", "ascending", "descending")


def side_of(name: str) -> Side:
    """Whose devices a side's driver publishes."""
    return "plain" if name == "plain" else "slicewise"


def order_of(name: str) -> PlacementOrder:
    """In which order."""
    return Fixed(name) if name in ("ascending", "descending") else ByWorth()  # type: ignore[arg-type]


def side_run(
    name: str, options: argparse.Namespace, arrivals: Arrivals, profiles: list[str]
) -> dict[str, Any]:
    """Play the arrivals on a control plane of their own."""
    shape = Shape("h100", options.nodes, "gpu-h100", MODEL, "NVIDIA-H100-80GB-HBM3", options.gpus, True,
                  "nvswitch", 192, 1024)  # fmt: skip
    nodes = [DemoNode(f"h100-{number}", ZONES[0], shape) for number in range(1, options.nodes + 1)]
    side, order = side_of(name), order_of(name)
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        plane = stack.enter_context(ControlPlane(name=f"mig-{name}", with_scheduler=False))
        for node in nodes:
            plane.request("POST", "/api/v1/nodes", node_manifest(node))
        pids = {"this process": os.getpid()}
        driver = VirtualDriver(plane.connect, nodes, side, {}, order)
        driver.publish()
        api = Api.connect(str(plane.kubeconfig))
        stack.callback(api.close)
        start = time.monotonic() + 1e9
        jobs = Jobs({}, lambda: time.monotonic() - start)
        watches: list[Reflector[Any]] = [
            Reflector(api, "/apis/resource.k8s.io/v1/resourceclaims", ResourceClaim, driver),
            Reflector(api, "/api/v1/pods", Pod, jobs),
        ]
        if isinstance(order, ByWorth):
            watches.append(order_reflector(api, SYSTEM_NAMESPACE, order))
        for reflector in watches:
            reflector.start()
            stack.callback(reflector.stop)
        driver.start()
        stack.callback(driver.stop)
        if side == "plain":
            plane.start_scheduler(_COMPRESSED)
        else:
            plane.apply(POLICY)
            extender = f"http://127.0.0.1:{plane.claim_port()}"
            controller = f"http://127.0.0.1:{plane.claim_port()}"
            for module, url in (("scheduler", extender), ("autoscaler", controller)):
                log = logs / f"{module}.log"
                pids[f"slicewise {module}"] = stack.enter_context(
                    serving(process(module, plane, url), f"{url}/readyz", log)
                )
            plane.start_scheduler(extended_config(extender) | _COMPRESSED)
        _nodes_ready(plane, len(nodes))
        jobs.seconds = {pod_name(job): length / options.speed for job, length in enumerate(arrivals.seconds)}
        start = time.monotonic()
        jobs.clock = lambda: time.monotonic() - start
        pids |= plane.processes.pids
        before = {name: processor_seconds(pid) for name, pid in pids.items()}
        finished = _play(plane, driver, jobs, arrivals, profiles, options)
        spent = {name: round(processor_seconds(pid) - before[name], 1) for name, pid in pids.items()}
        text = plane.scheduler_metrics()
        found = figures(options, arrivals, jobs, finished, text)
        found["republished_slices"] = driver.republished
        found["processor_seconds"] = dict(sorted(spent.items(), key=lambda item: -item[1]))
        found["problems"] = list(driver.problems)[:5]
        return found


def processor_seconds(pid: int) -> float:
    """Processor time of a process and all its threads so far (Linux, /proc)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _play(
    plane: ControlPlane,
    driver: VirtualDriver,
    jobs: Jobs,
    arrivals: Arrivals,
    profiles: list[str],
    options: argparse.Namespace,
) -> float:
    """Create and delete on time; returns the run's length in the machine's seconds."""
    position, deleted, last_change, speed = 0, 0, jobs.clock(), options.speed
    impatient: list[tuple[float, str]] = []
    with plane.connect() as connection:
        while deleted < len(arrivals.at):
            now = jobs.clock()
            if position < len(arrivals.at) and arrivals.at[position] / speed <= now:
                name, profile = pod_name(position), profiles[arrivals.profile[position]]
                if _unhindered(driver, jobs, profile):
                    jobs.unhindered.add(name)
                jobs.profile[name] = profile
                jobs.created[name] = now
                connection.request("POST", f"/api/v1/namespaces/{NAMESPACE}/pods", _pod(name, profile))
                if options.patience is not None:
                    heapq.heappush(impatient, (now + options.patience, name))
                position += 1
                continue
            name = _due(jobs, impatient, now, options.patience)
            if name:
                path = f"/api/v1/namespaces/{NAMESPACE}/pods/{name}"
                connection.request("DELETE", path, {"gracePeriodSeconds": 0}, accepted=_GONE)
                deleted, last_change = deleted + 1, jobs.clock()
                continue
            arriving = [arrivals.at[position] / speed] if position < len(arrivals.at) else []
            with jobs.changed_:
                nearest = [queue[0][0] for queue in (jobs.endings, impatient) if queue] + arriving
                jobs.changed_.wait(min([0.2, *(max(0.0, at - now) for at in nearest)]))
            if jobs.clock() - max(last_change, arrivals.at[-1] / speed) > _PATIENCE_SECONDS:
                raise RunFailed(f"{len(arrivals.at) - deleted} pods were not bound and nothing moves")
    return float(jobs.clock())


def _due(jobs: Jobs, impatient: list[tuple[float, str]], now: float, patience: float | None) -> str:
    """A pod to be deleted now: one that has run its time, or one for which there was no room in time.

    One that kube-scheduler has not tried yet, or is about to bind, is looked at again ``patience`` later.
    """
    with jobs.changed_:
        if jobs.endings and jobs.endings[0][0] <= now:
            return heapq.heappop(jobs.endings)[1]
        while impatient and impatient[0][0] <= now:
            _, name = heapq.heappop(impatient)
            if name in jobs.bound or patience is None:
                continue
            tried = jobs.refused.get(name, now)
            if tried + patience > now or (name in jobs.nominated and now < tried + _MOST_TURNS * patience):
                heapq.heappush(impatient, (now + patience, name))
                continue
            jobs.given_up.add(name)
            return name
    return ""


def _unhindered(driver: VirtualDriver, jobs: Jobs, profile: str) -> bool:
    """Whether a card has room for the profile and for no profile of a pod that waits."""
    shapes = geometry(mig_model(MODEL))
    masks = [mask for found in driver.masks().values() for mask in found]

    def fits(asked: str) -> bool:
        return any(shapes.free_starts(asked, mask) for mask in masks)

    return fits(profile) and not any(map(fits, {jobs.profile[name] for name in jobs.waiting()}))


def _nodes_ready(plane: ControlPlane, expected: int) -> None:
    deadline = time.monotonic() + 60.0
    while True:
        nodes = plane.request("GET", "/api/v1/nodes")["items"]
        ready = sum(condition(node, "Ready") == "True" for node in nodes)
        if ready >= expected:
            return
        if time.monotonic() > deadline:
            raise RunFailed(f"nodes: {ready} of {expected} are ready after 60 s")
        time.sleep(0.1)


def _pod(name: str, profile: str) -> dict[str, Any]:
    resource = {f"nvidia.com/mig-{profile}": "1"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {
                    "name": "work",
                    "image": "registry.example/work:1",
                    "resources": {"limits": resource, "requests": {**resource, "cpu": "100m"}},
                }
            ],
        },
    }


def summary(runs: Sequence[dict[str, Any]], sides: Sequence[str]) -> dict[str, Any]:
    """Accepted pods by side and seed, and how many more ``slicewise`` accepts than each other side."""
    accepted = {side: [run["sides"][side]["accepted"] for run in runs] for side in sides}
    paired = {}
    for other in sides:
        if "slicewise" in sides and other != "slicewise":
            pairs = zip(accepted["slicewise"], accepted[other], strict=True)
            found = difference([ours - theirs for ours, theirs in pairs])
            ends = None if found.ends is None else [round(end, 2) for end in found.ends]
            paired[other] = {"mean": round(found.mean, 2), "ci95": ends}
    return {"seeds": [run["seed"] for run in runs], "accepted": accepted, "paired": paired}


def write(output: Path, report: dict[str, Any]) -> None:
    """The report so far, so that a run that is cut off leaves what it had."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit status 1 when a side could not be carried out."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mig_on_cluster", description=__doc__)
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--load", type=float, default=1.4)
    parser.add_argument("--speed", type=float, default=60.0, help="study seconds a second (default: 60)")
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--gpus", type=int, default=4)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="play N seeds (default: 1)")
    parser.add_argument("--together", action="store_true", help="play the sides at the same time")
    parser.add_argument("--mix", default=MIX)
    parser.add_argument(
        "--patience", type=float, metavar="SECONDS", help="a pod that is not bound by then is refused"
    )
    parser.add_argument("--output", type=Path, help="another file than that of the two")
    parser.add_argument("--sides", default="plain,slicewise", help=f"of: {', '.join(SIDES)}")
    options = parser.parse_args(arguments)
    sides = options.sides.split(",")
    for side in sides:
        if side not in SIDES:
            parser.error(f"--sides: got {side!r}, expected any of {', '.join(SIDES)}")
    model, mix = mig_model(MODEL), parse_mix(options.mix)
    options.profiles = [full_name(model, name) for name in mix]
    options.weights = list(mix.values())
    slices = [profile.compute_slices for profile in map(model.profile, options.profiles) if profile]
    capacity = options.nodes * options.gpus * model.compute_slices
    report: dict[str, Any] = {
        "command": f"python -m benchmarks.mig_on_cluster --jobs {options.jobs} --load {options.load:g} "
        f"--speed {options.speed:g} --nodes {options.nodes} --gpus {options.gpus} --seed {options.seed} "
        + (f"--seeds {options.seeds} " if options.seeds > 1 else "")
        + ("--together " if options.together else "")
        + f"--mix {options.mix} --sides {options.sides}"
        + (f" --patience {options.patience:g}" if options.patience is not None else ""),
        "machine": {"python": platform.python_version(), "cores": os.cpu_count(), "cpu": platform.machine()},
        "target_milliseconds": TARGET_MILLISECONDS,
        "jobs": options.jobs,
        "sides": {},
        "runs": [],
    }
    output = options.output or (OUTPUT if options.patience is None else REFUSING_OUTPUT)
    for seed in range(options.seed, options.seed + options.seeds):
        arrivals = draw(
            options.weights, slices, capacity=capacity, load=options.load, jobs=options.jobs, seed=seed
        )
        length = arrivals.at[-1] / options.speed
        say(f"seed {seed}: {options.jobs} jobs, about {length:.0f} s of arrivals on each side")
        run: dict[str, Any] = {"seed": seed, "sides": {}}
        try:
            with ThreadPoolExecutor(len(sides) if options.together else 1) as pool:
                pending = {
                    side: pool.submit(side_run, side, options, arrivals, options.profiles) for side in sides
                }
                for side, found in pending.items():
                    run["sides"][side] = found.result()
                    say(f"seed {seed}, {side}: {json.dumps(run['sides'][side])}")
        except (RunFailed, RequestRefused) as failed:
            say(f"mig_on_cluster: seed {seed}: {failed}")
            return 1
        if seed == options.seed:
            report["sides"] = run["sides"]
        report["runs"].append(run)
        report |= summary(report["runs"], sides)
        write(output, report)
    print(f"written: {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
