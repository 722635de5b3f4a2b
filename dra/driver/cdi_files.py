"""Device nodes found on the node, and the CDI documents written where the container runtime looks.

A MIG instance is used through the node of its GPU and two capability nodes, whose numbers the kernel driver
tells in ``/proc/driver/nvidia/capabilities/gpu<minor>/mig/gi<GI>/{access,ci<CI>/access}``. A device node that
is not there is an error before the container runtime meets it, unless the cluster is one without hardware
(``allow_missing``).

A document is replaced as a whole but not synced: the folder is emptied by a reboot, and what is missing is
written again at the driver's start.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dra.driver.cdi import CLASS, VENDOR, DeviceNode, document
from dra.driver.checkpoint import ClaimRecord, HeldDevice
from dra.driver.checkpoint_file import replace_file
from dra.driver.hardware import Hardware

COMMON = ("nvidiactl", "nvidia-uvm")
OPTIONAL = ("nvidia-uvm-tools", "nvidia-modeset")
_PREFIX = f"{VENDOR}-{CLASS}_"


class DeviceNodeMissing(Exception):
    """A device node that a container needs does not exist on this node."""


class CdiFolder:
    """Writes and removes the documents of claims in ``folder``.

    ``driver_root``: the folder of the host whose ``dev/`` has the GPU's nodes; ``host_root``: where the
    host's root is seen by this process; ``proc_root``: where ``driver/nvidia/`` is.
    """

    def __init__(
        self,
        folder: Path,
        *,
        driver_root: Path = Path("/"),
        host_root: Path = Path("/"),
        proc_root: Path = Path("/proc"),
        allow_missing: bool = False,
        base: dict[str, Any] | None = None,
    ) -> None:
        self._folder = folder
        self._dev = driver_root / "dev"
        self._seen_dev = host_root / self._dev.relative_to("/")
        self._capabilities = proc_root / "driver" / "nvidia" / "capabilities"
        self._allow_missing = allow_missing
        self._base = base

    def write(self, record: ClaimRecord, node: Hardware) -> None:
        """Write the document of a prepared claim. Raises DeviceNodeMissing, OSError."""
        common = [*self._present(COMMON), *self._present(OPTIONAL, optional=True)]
        own = [self._own(device, node) for device in record.devices]
        made = document(record, common, own, node.targets, self._base)
        self._folder.mkdir(parents=True, exist_ok=True)
        replace_file(self._path(record.uid), json.dumps(made, separators=(",", ":")).encode())

    def exists(self, uid: str) -> bool:
        """Whether the claim's document is there."""
        return self._path(uid).exists()

    def remove(self, uid: str) -> None:
        """Remove the document of a claim, if there is one. Raises OSError."""
        self._path(uid).unlink(missing_ok=True)

    def claims(self) -> set[str]:
        """UIDs of the claims that have a document."""
        return {path.stem.removeprefix(_PREFIX) for path in self._folder.glob(f"{_PREFIX}*.json")}

    def _path(self, uid: str) -> Path:
        return self._folder / f"{_PREFIX}{uid}.json"

    def _own(self, device: HeldDevice, node: Hardware) -> list[DeviceNode]:
        gpu = node.gpu(device.gpu_uuid)
        minor = gpu.card.minor if gpu is not None else None
        if minor is None:
            if self._allow_missing:
                return []
            raise DeviceNodeMissing(
                f"device {device.device}: the driver does not tell the minor number of GPU {device.gpu_uuid}"
            )
        names = [f"nvidia{minor}"]
        if device.gpu_instance_id is not None:
            names += self._capability_names(device, minor)
        return self._present(names)

    def _capability_names(self, device: HeldDevice, minor: int) -> list[str]:
        instance = self._capabilities / f"gpu{minor}" / "mig" / f"gi{device.gpu_instance_id}"
        found = []
        for access in (instance / "access", instance / f"ci{device.compute_instance_id}" / "access"):
            number = self._file_minor(access, device)
            if number is not None:
                found.append(f"nvidia-caps/nvidia-cap{number}")
        return found

    def _file_minor(self, access: Path, device: HeldDevice) -> int | None:
        """The number after "DeviceFileMinor:" of a capability file."""
        try:
            text = access.read_text()
        except OSError as problem:
            if self._allow_missing:
                return None
            raise DeviceNodeMissing(
                f"device {device.device}: {access}: got {problem.strerror}, expected the MIG instance's "
                "capability; give --proc-root where the host's /proc is mounted elsewhere"
            ) from problem
        for line in text.splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "DeviceFileMinor" and value.strip().isdecimal():
                return int(value)
        raise DeviceNodeMissing(f"device {device.device}: {access}: no line DeviceFileMinor in it")

    def _present(self, names: tuple[str, ...] | list[str], *, optional: bool = False) -> list[DeviceNode]:
        found = []
        for name in names:
            path = self._seen_dev / name
            if path.exists():
                found.append(DeviceNode(str(self._dev / name), f"/dev/{name}"))
            elif not (optional or self._allow_missing):
                raise DeviceNodeMissing(
                    f"{path}: got no such device node, expected one made by the NVIDIA driver "
                    "(nvidia-modprobe -u -c 0; for MIG nvidia-modprobe -f); --driver-root says where the "
                    "driver's /dev is on the host, --host-root where the host's root is mounted here"
                )
        return found
