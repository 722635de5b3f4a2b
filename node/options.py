"""The command line of ``slicewise-node serve``, checked before anything is touched."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dra.driver.sharing import Sharing, SharingRefused, parse_sharing
from dra.slice_parts import SLICEWISE_DRIVER


class OptionsRefused(Exception):
    """The command line or a file that it names cannot be used."""


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What ``serve`` was asked to do; see ``add_arguments`` for each."""

    node_name: str
    kubeconfig: str | None
    pod_uid: str
    kubelet_root: Path
    state_dir: Path
    cdi_root: Path
    driver_root: Path
    host_root: Path
    proc_root: Path
    sys_root: Path
    allow_missing_device_nodes: bool
    cdi_base: dict[str, Any] | None
    sharing: Sharing
    mig_on_demand: bool
    unhealthy_effect: str
    metrics_address: str
    refresh_seconds: float
    stale_claim_seconds: float
    watch_claims: bool
    policy_namespace: str
    withdraw: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``serve``."""
    add = parser.add_argument
    add("--node-name", default=os.environ.get("NODE_NAME", ""), help="this node's name [$NODE_NAME]")
    add("--kubeconfig", help="how to reach the API server, outside a pod")
    add("--pod-uid", default=os.environ.get("POD_UID", ""), help="in the sockets' names [$POD_UID]")
    add(
        "--kubelet-root",
        type=Path,
        default=Path("/var/lib/kubelet"),
        help="the kubelet's folder [%(default)s]",
    )
    add(
        "--state-dir",
        type=Path,
        help=f"checkpoint and locks; must outlive the pod [KUBELET_ROOT/plugins/{SLICEWISE_DRIVER}]",
    )
    add("--cdi-root", type=Path, default=Path("/var/run/cdi"), help="where CDI documents go [%(default)s]")
    add("--driver-root", type=Path, default=Path("/"), help="host folder with dev/ [%(default)s]")
    add("--host-root", type=Path, default=Path("/"), help="where the host is mounted [%(default)s]")
    add("--proc-root", type=Path, default=Path("/proc"), help="the host's /proc [%(default)s]")
    add("--sys-root", type=Path, default=Path("/sys"), help="the kernel's /sys [%(default)s]")
    add(
        "--allow-missing-device-nodes",
        action="store_true",
        help="leave out device nodes that do not exist, on clusters without hardware",
    )
    add(
        "--cdi-base-spec",
        type=Path,
        help="CDI document whose common edits are added, as nvidia-ctk writes it",
    )
    add("--sharing", type=Path, help="YAML file: which GPUs are offered in shares")
    add(
        "--mig-mode",
        choices=("as-configured", "on-demand"),
        default="as-configured",
        help="on-demand: switch MIG mode as claims need it, on cards that need no reset for it (Hopper and "
        "later) [%(default)s]",
    )
    add(
        "--unhealthy-effect",
        choices=("NoSchedule", "NoExecute"),
        default="NoSchedule",
        help="taint of an unhealthy GPU's devices: keep pods away, or evict them too [%(default)s]",
    )
    add("--metrics-address", default="0.0.0.0:8085", help="/metrics, /readyz, /healthz [%(default)s]")
    add("--refresh-seconds", type=float, default=30.0, help="between readings of the cards [%(default)g]")
    add(
        "--stale-claim-seconds",
        type=float,
        default=600.0,
        help="give back what a claim holds when it has been gone from the API server for so long "
        "[%(default)g]",
    )
    add(
        "--no-claim-watch",
        action="store_true",
        help="learn of allocations only when the kubelet prepares them; one watch a node less",
    )
    add(
        "--policy-namespace",
        default="slicewise-system",
        help="of ConfigMap slicewise-device-order [%(default)s]",
    )
    add("--withdraw", action="store_true", help="delete the node's slices at the end")


def serve_options(told: argparse.Namespace) -> ServeOptions:
    """Check the flags and read the files. Raises OptionsRefused."""
    if not told.node_name:
        raise OptionsRefused("--node-name: got nothing, expected this node's name (or set NODE_NAME)")
    for name in ("refresh_seconds", "stale_claim_seconds"):
        if not 0.1 <= getattr(told, name) <= 86400:
            flag = name.replace("_", "-")
            raise OptionsRefused(f"--{flag}: got {getattr(told, name)}, expected 0.1 to 86400")
    for name in ("driver_root", "host_root"):
        if not getattr(told, name).is_absolute():
            flag = name.replace("_", "-")
            raise OptionsRefused(f"--{flag}: got {getattr(told, name)}, expected an absolute path")
    return ServeOptions(
        node_name=told.node_name,
        kubeconfig=told.kubeconfig,
        pod_uid=told.pod_uid,
        kubelet_root=told.kubelet_root,
        state_dir=told.state_dir or told.kubelet_root / "plugins" / SLICEWISE_DRIVER,
        cdi_root=told.cdi_root,
        driver_root=told.driver_root,
        host_root=told.host_root,
        proc_root=told.proc_root,
        sys_root=told.sys_root,
        allow_missing_device_nodes=told.allow_missing_device_nodes,
        cdi_base=_base(told.cdi_base_spec),
        sharing=_sharing(told.sharing),
        mig_on_demand=told.mig_mode == "on-demand",
        unhealthy_effect=told.unhealthy_effect,
        metrics_address=told.metrics_address,
        refresh_seconds=told.refresh_seconds,
        stale_claim_seconds=told.stale_claim_seconds,
        watch_claims=not told.no_claim_watch,
        policy_namespace=told.policy_namespace,
        withdraw=told.withdraw,
    )


def _base(path: Path | None) -> dict[str, Any] | None:
    document = _document(path, "--cdi-base-spec")
    if document is None:
        return None
    if not isinstance(document, dict) or not isinstance(document.get("containerEdits", {}), dict):
        raise OptionsRefused(f"--cdi-base-spec {path}: expected a CDI document with containerEdits")
    return document


def _sharing(path: Path | None) -> Sharing:
    try:
        return parse_sharing(_document(path, "--sharing"), str(path))
    except SharingRefused as problem:
        raise OptionsRefused(str(problem)) from problem


def _document(path: Path | None, flag: str) -> Any:
    """A JSON or YAML file; None when none is named."""
    if path is None:
        return None
    try:
        text = path.read_text()
    except OSError as problem:
        raise OptionsRefused(f"{flag} {path}: {problem.strerror}") from problem
    try:
        return json.loads(text)
    except ValueError:
        import yaml  # rarely needed, and not small

        try:
            return yaml.safe_load(text)
        except yaml.YAMLError as problem:
            raise OptionsRefused(f"{flag} {path}: neither JSON nor YAML: {problem}") from problem
