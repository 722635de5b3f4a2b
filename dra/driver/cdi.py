"""The Container Device Interface document of one claim: which device nodes, variables and mounts a container
gets.

One document a claim, kind ``k8s.gpu.slicewise.io/claim``, one device an allocated device, named
``<claim uid>-<device>``. The kubelet hands a container the names of the requests that it uses. The document
names the lowest version of the specification (tags.cncf.io/container-device-interface) that has all it uses,
0.6.0: any runtime that speaks CDI 1.0 reads it, and older ones do too.

Variables: ``NVIDIA_VISIBLE_DEVICES=void`` keeps NVIDIA's legacy hook out. Each device says itself by a
variable of its own, ``SLICEWISE_DEVICE_GPU_0_1G10GB_6=<UUID>``: one common list would be overwritten where a
container has several devices. ``CUDA_VISIBLE_DEVICES`` is left alone for the same reason; CUDA sees just the
devices whose nodes are in the container. Under MPS the client's limits are set.

The driver's libraries come from a base document where given (``nvidia-ctk cdi generate``): its common edits
are merged in. Pure; ``cdi_files`` finds device nodes and writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dra.driver.checkpoint import ClaimRecord, HeldDevice
from dra.driver.hardware import Target
from dra.quantity import amount

VENDOR = "k8s.gpu.slicewise.io"
CLASS = "claim"
VERSION = "0.6.0"

_MIB = 1024 * 1024
_MERGED = ("env", "deviceNodes", "mounts", "hooks", "additionalGids")

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class DeviceNode:
    """A device file: where it is on the host, and where a container finds it."""

    host_path: str
    path: str


def device_name(claim_uid: str, device: HeldDevice) -> str:
    """The name of an allocated device inside its kind."""
    return f"{claim_uid}-{device.device}" + (f"-{device.share_id}" if device.share_id else "")


def device_id(claim_uid: str, device: HeldDevice) -> str:
    """The qualified name that the kubelet passes to the container runtime."""
    return f"{VENDOR}/{CLASS}={device_name(claim_uid, device)}"


def document(
    record: ClaimRecord,
    common: Sequence[DeviceNode],
    own: Sequence[Sequence[DeviceNode]],
    targets: Mapping[str, Target],
    base: Json | None = None,
) -> Json:
    """The document of a prepared claim. ``common``: device nodes for every device (nvidiactl, nvidia-uvm);
    ``own``: those of each device of the record, in its order; ``base``: a CDI document whose common edits are
    taken over.
    """
    edits: Json = {"env": ["NVIDIA_VISIBLE_DEVICES=void"]}
    if common:
        edits["deviceNodes"] = [_node(node) for node in common]
    for key in _MERGED:
        edits[key] = _merged(edits.get(key, []), (base or {}).get("containerEdits", {}).get(key, []))
    return {
        "cdiVersion": _newer(VERSION, str((base or {}).get("cdiVersion", VERSION))),
        "kind": f"{VENDOR}/{CLASS}",
        "annotations": {"slicewise.io/claim": f"{record.namespace}/{record.name}"},
        "devices": [
            {"name": device_name(record.uid, device), "containerEdits": _edits(device, nodes, targets)}
            for device, nodes in zip(record.devices, own, strict=True)
        ],
        "containerEdits": {key: value for key, value in edits.items() if value},
    }


def _newer(one: str, other: str) -> str:
    """The higher of two versions: what is taken over may need the version of where it came from."""

    def key(version: str) -> tuple[int, ...]:
        return tuple(int(part) if part.isdecimal() else 0 for part in version.split("."))

    return max(one, other, key=key)


def _merged(ours: list[Any], theirs: Sequence[Any]) -> list[Any]:
    """Ours first; of theirs what we do not say already (a device node twice is an error of the runtime)."""
    said = {entry.get("path") for entry in ours if isinstance(entry, dict)}
    said |= {entry.partition("=")[0] for entry in ours if isinstance(entry, str)}
    return [
        *ours,
        *(
            entry
            for entry in theirs
            if not (isinstance(entry, dict) and entry.get("path") in said and "hookName" not in entry)
            and not (isinstance(entry, str) and entry.partition("=")[0] in said)
        ),
    ]


def _edits(device: HeldDevice, nodes: Sequence[DeviceNode], targets: Mapping[str, Target]) -> Json:
    name = device.device.upper().replace("-", "_")
    env = [f"SLICEWISE_DEVICE_{name}={device.mig_uuid or device.gpu_uuid}"]
    edits: Json = {"env": env}
    if nodes:
        edits["deviceNodes"] = [_node(node) for node in nodes]
    target = targets.get(device.device)
    rule = target.gpu.shared if target is not None else None
    if device.share_id is not None and rule is not None and rule.mode == "mps" and target is not None:
        total = target.gpu.card.memory_mib or target.gpu.model.memory_mib
        memory = _mib(device.consumed.get("memory")) or total // rule.shares
        shares = int(amount(device.consumed.get("share", "1")) or 1)
        threads = max(shares / rule.shares, memory / total)
        env += [
            f"CUDA_MPS_PIPE_DIRECTORY={rule.pipe_directory}",
            f"CUDA_MPS_PINNED_DEVICE_MEM_LIMIT=0={memory}M",
            f"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE={min(100, max(1, round(100 * threads)))}",
        ]
        edits["mounts"] = [
            {
                "hostPath": rule.pipe_directory,
                "containerPath": rule.pipe_directory,
                "options": ["rw", "nosuid", "nodev", "bind"],
            }
        ]
    return edits


def _mib(quantity: str | None) -> int | None:
    value = amount(quantity) if quantity is not None else None
    return int(value / _MIB) if value is not None else None


def _node(node: DeviceNode) -> Json:
    same = node.host_path == node.path
    return {"path": node.path} if same else {"path": node.path, "hostPath": node.host_path}
