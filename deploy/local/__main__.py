"""`python -m deploy.local up|down|status|kubeconfig|binaries`: a local cluster on the command line.

Exit status: 0 done; 1 it failed, with the reason on standard error; 2 wrong usage (also an unknown version or
name); 3 the cluster is not running; 4 `up`, but it is running already.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from deploy.local.apply import ManifestRefused
from deploy.local.binaries import CONTROL_PLANE, BinaryUnavailable, ensure
from deploy.local.control_plane import ControlPlane
from deploy.local.extras import ensure_extra, extras
from deploy.local.named import (
    DEFAULT_NAME,
    BadName,
    ClusterNotRunning,
    ClusterRunning,
    RunningCluster,
    is_running,
    look_up,
    ownership,
    publish,
    shut_down,
    state_folder,
)
from deploy.local.ports import NoFreePort
from deploy.local.processes import ServerFailed
from deploy.local.rest import RequestRefused
from deploy.local.versions import DEFAULT_KUBERNETES, UnknownVersion, kubernetes_minors, programs

FAILED, USAGE, NOT_RUNNING, ALREADY_RUNNING = 1, 2, 3, 4
EVERYTHING = (*CONTROL_PLANE, "prometheus")
_DOWN_SECONDS = 60.0
_UP_SECONDS = 120.0
_WATCH_SECONDS = 1.0
_REPOSITORY = Path(__file__).parents[2]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except (UnknownVersion, BadName) as problem:
        return _complain(problem, USAGE)
    except ClusterNotRunning as problem:
        return _complain(problem, NOT_RUNNING)
    except ClusterRunning as problem:
        return _complain(problem, ALREADY_RUNNING)
    except (BinaryUnavailable, ServerFailed, ManifestRefused, RequestRefused, NoFreePort, OSError) as problem:
        return _complain(problem, FAILED)
    except KeyboardInterrupt:
        return _complain("interrupted", 128 + signal.SIGINT)


def _run(options: argparse.Namespace) -> int:
    state_folder(options.name)  # a wrong name is refused before anything is done
    match options.command:
        case "up":
            programs(options.version)
            return _up_detached(options) if options.detach else _up(options)
        case "down":
            shut_down(options.name, _DOWN_SECONDS)
            print(f"cluster {options.name!r} is down")
        case "status":
            return _status(options)
        case "kubeconfig":
            print(look_up(options.name).kubeconfig)
        case "binaries":
            found = ensure(EVERYTHING, options.version, _say)
            for extra in options.extras:
                found.update(ensure_extra(extra, _say).programs)
            for name, path in found.items():
                print(f"{name + ':':<25}{path}")
    return 0


def _up(options: argparse.Namespace) -> int:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupt)
    ready = False
    with ownership(options.name) as folder:
        cluster = ControlPlane(options.version, folder, name=f"slicewise-{options.name}", progress=_say)
        try:
            with cluster:
                publish(_description(options.name, options.version, cluster))
                ready = True
                _describe(look_up(options.name))
                _say("Ctrl-C stops it")
                while True:
                    time.sleep(_WATCH_SECONDS)
                    cluster.processes.check()
        except KeyboardInterrupt:
            _say("stopped" if ready else "stopped before it was up")
    return 0 if ready else 128 + signal.SIGINT


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _description(name: str, version: str, cluster: ControlPlane) -> RunningCluster:
    return RunningCluster(
        name=name,
        version=programs(version)["kube-apiserver"].version,
        url=cluster.url,
        kubeconfig=str(cluster.kubeconfig),
        pid=os.getpid(),
        since_seconds=time.time(),
        processes=dict(cluster.processes.pids),
    )


def _up_detached(options: argparse.Namespace) -> int:
    if is_running(options.name):
        raise ClusterRunning(f"cluster {options.name!r} is running already")
    ensure(CONTROL_PLANE, options.version, _say)  # here, where its progress is seen
    folder = state_folder(options.name)
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "up.log"
    command = [
        sys.executable,
        "-m",
        "deploy.local",
        "up",
        "--name",
        options.name,
        "--version",
        options.version,
    ]
    path = os.pathsep.join(filter(None, [str(_REPOSITORY), os.environ.get("PYTHONPATH", "")]))
    with log.open("wb") as output:
        owner = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": path},
        )
    deadline = time.monotonic() + _UP_SECONDS
    while True:
        try:
            cluster = look_up(options.name)
            break
        except ClusterNotRunning:
            if owner.poll() is not None:
                print(log.read_text(), end="", file=sys.stderr)
                return owner.returncode or FAILED
            if time.monotonic() > deadline:
                owner.terminate()
                raise TimeoutError(f"the cluster was not up in {_UP_SECONDS:.0f} s; see {log}") from None
        time.sleep(0.05)
    _describe(cluster)
    _say(f"it runs until `python -m deploy.local down --name {options.name}`")
    return 0


def _status(options: argparse.Namespace) -> int:
    try:
        cluster = look_up(options.name)
    except ClusterNotRunning:
        if options.output == "json":
            print(json.dumps({"name": options.name, "running": False}))
        raise
    if options.output == "json":
        print(json.dumps({"running": True, **asdict(cluster)}, indent=2))
    else:
        _describe(cluster)
    return 0


def _describe(cluster: RunningCluster) -> None:
    minutes, seconds = divmod(int(time.time() - cluster.since_seconds), 60)
    lines = {
        "cluster": f"{cluster.name}, Kubernetes v{cluster.version}, up {minutes} min {seconds} s",
        "API server": cluster.url,
        "kubeconfig": cluster.kubeconfig,
        "processes": ", ".join(f"{name} {pid}" for name, pid in cluster.processes.items()),
    }
    for key, value in lines.items():
        print(f"{key + ':':<12}{value}", flush=True)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _complain(problem: BaseException | str, status: int) -> int:
    _say(f"deploy.local: {problem}")
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.local", description=(__doc__ or "").splitlines()[0]
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    helps = {
        "up": "start a cluster and keep it until Ctrl-C; an earlier one's data is not kept",
        "down": "stop a cluster and wait until all its processes have ended",
        "status": "say whether and where a cluster runs",
        "kubeconfig": "print the path of the administrator's kubeconfig",
        "binaries": "find or build every program that a cluster, the demo and the tests need",
    }
    for name, text in helps.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--name", default=DEFAULT_NAME, help="which cluster (default: %(default)s)")
        if name in ("up", "binaries"):
            known = ", ".join(kubernetes_minors())
            command.add_argument(
                "--version",
                default=DEFAULT_KUBERNETES,
                help=f"Kubernetes version, one of {known} (default: %(default)s)",
            )
        if name == "binaries":
            command.add_argument(
                "--with",
                dest="extras",
                action="append",
                default=[],
                choices=sorted(extras()),
                help="build this one too, which only tests against it need (may be repeated)",
            )
        if name == "up":
            command.add_argument("--detach", action="store_true", help="return when the cluster is ready")
        if name == "status":
            command.add_argument(
                "--output", choices=("text", "json"), default="text", help="form of the answer"
            )
    return parser


if __name__ == "__main__":
    sys.exit(main())
