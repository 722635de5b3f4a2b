"""A fake GPU node: writes and reads the state file that the fake ``libnvidia-ml.so.1`` serves.

The file holds "key<TAB>value" lines and is replaced atomically under a lock, by us and by the library alike,
so a test may look and meddle while the driver under test runs, and after it was killed.

Environment of a process that shall see the node: ``FAKE_NVML_STATE`` (the file), ``LD_LIBRARY_PATH`` (the
library's folder), and if wanted ``FAKE_NVML_LOG`` (a file that gets a line "symbol answer" for each call).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.fake_nvml.profiles import NODES, bus_id, facts

ProfileName = Literal["dgx-a100", "hgx-a100-16", "dgx-h100", "a100-pcie-pairs", "nvl72", "l40s"]
Action = Literal["error", "slow", "kill", "kill-after"]

INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND = 2, 3, 4, 6
GPU_IS_LOST, IN_USE, INSUFFICIENT_RESOURCES, UNKNOWN = 15, 19, 23, 999
SINGLE_BIT_ECC, DOUBLE_BIT_ECC, XID, MIG_CHANGED = 1, 2, 8, 0x100
NO_INSTANCE = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class FakeInstance:
    """A GPU instance in the state file. ``compute``: ids of its compute instances."""

    gpu: int
    gpu_instance_id: int
    profile: str
    profile_id: int
    start: int
    size: int
    compute: tuple[int, ...]


class FakeNode:
    """The state file of one fake node."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(
        cls,
        path: Path,
        profile: ProfileName = "dgx-h100",
        *,
        gpus: int | None = None,
        mig: bool | tuple[int, ...] = False,
    ) -> FakeNode:
        """A fresh node in ``path``; ``mig``: GPUs in MIG mode, or True for all that can."""
        values = facts(profile, gpus) | {"profile": profile, "privileged": "1"}
        count = int(values["gpus"])
        chosen = range(count) if mig is True else () if mig is False else mig
        for gpu in chosen:
            if f"gpu.{gpu}.mig_current" in values:
                values[f"gpu.{gpu}.mig_current"] = "1"
        node = cls(path)
        node.write(values)
        return node

    def environment(self, library: Path) -> dict[str, str]:
        """Variables that make a process see this node through ``library``."""
        folder = os.environ.get("LD_LIBRARY_PATH")
        paths = [str(library.parent), *([folder] if folder else [])]
        return {"FAKE_NVML_STATE": str(self.path), "LD_LIBRARY_PATH": ":".join(paths)}

    # Looking

    def values(self) -> dict[str, str]:
        """All keys and values as they are now."""
        with self._locked():
            return self._read()

    def instances(self, gpu: int | None = None) -> tuple[FakeInstance, ...]:
        """The live GPU instances of one GPU or of all, by GPU, then start."""
        values = self.values()
        found = []
        for key, value in values.items():
            parts = key.split(".")
            if parts[0] != "gpu" or parts[2:3] != ["gi"] or gpu not in (None, int(parts[1])):
                continue
            enum, start, size = map(int, value.split())
            profile = values[f"gpu.{parts[1]}.profile.{enum}"].split()
            prefix = f"gpu.{parts[1]}.ci.{parts[3]}."
            compute = sorted(int(k.removeprefix(prefix)) for k in values if k.startswith(prefix))
            found.append(
                FakeInstance(
                    int(parts[1]), int(parts[3]), profile[-1], int(profile[0]), start, size, tuple(compute)
                )
            )
        return tuple(sorted(found, key=lambda one: (one.gpu, one.start)))

    def uuid(self, gpu: int) -> str:
        """NVML's UUID of a GPU."""
        return self.values()[f"gpu.{gpu}.uuid"]

    def profile_id(self, gpu: int, profile: str) -> int:
        """The id of a profile by its name, as the card tells it."""
        for key, value in self.values().items():
            if key.startswith(f"gpu.{gpu}.profile.") and value.split()[-1] == profile:
                return int(value.split()[0])
        raise KeyError(f"GPU {gpu} of the fake node has no profile {profile}")

    # Meddling

    def write(self, values: Mapping[str, str]) -> None:
        """Replace everything."""
        with self._locked():
            self._write(values)

    def set(self, key: str, value: str | None) -> None:
        """Set a key; None takes it away."""
        self.update({key: value})

    def update(self, changes: Mapping[str, str | None]) -> None:
        """Set or take away several keys at once."""
        with self._locked():
            values = self._read()
            for key, value in changes.items():
                values.pop(key, None)
                if value is not None:
                    values[key] = value
            self._write(values)

    def fault(self, symbol: str, action: Action, argument: int = 0, *, skip: int = 0, times: int = 1) -> None:
        """Let calls of a C symbol fail after ``skip`` good ones, ``times`` times (-1: for ever).

        "error": answer ``argument``; "slow": ``argument`` milliseconds; "kill" and "kill-after": SIGKILL to
        the calling process before or after the call took effect. Symbol "*": any but the wait for events.
        """
        with self._locked():
            values = self._read()
            number = 1 + max((int(k[6:]) for k in values if k.startswith("fault.")), default=0)
            values[f"fault.{number}"] = f"{symbol} {skip} {times} {action} {argument}"
            self._write(values)

    def no_faults(self) -> None:
        """Take all injected faults away."""
        self.update({key: None for key in self.values() if key.startswith("fault.")})

    def add_instance(self, gpu: int, profile: str, start: int, *, compute: bool = True) -> FakeInstance:
        """An instance that someone else made, past all rules; without ``compute`` a half-made one."""
        with self._locked():
            values = self._read()
            prefix = f"gpu.{gpu}.profile."
            enum, fields = next(
                (key.removeprefix(prefix), value.split())
                for key, value in values.items()
                if key.startswith(prefix) and value.split()[-1] == profile
            )
            taken = {key for key in values if key.startswith(f"gpu.{gpu}.gi.")}
            identity = next(i for i in range(1, 64) if f"gpu.{gpu}.gi.{i}" not in taken)
            values[f"gpu.{gpu}.gi.{identity}"] = f"{enum} {start} {fields[10]}"
            if compute:
                index = sum(key.startswith(f"gpu.{gpu}.ci.") for key in values)
                uuid = f"MIG-{values[f'gpu.{gpu}.uuid'][4:27]}-00ff{identity:08x}"
                slices = int(fields[1])
                number = {1: 0, 2: 1, 3: 2, 4: 3, 7: 4, 8: 5, 6: 6}[slices]
                values[f"gpu.{gpu}.ci.{identity}.0"] = f"{number} 0 {slices} {index} {uuid}"
            self._write(values)
        return next(i for i in self.instances(gpu) if i.gpu_instance_id == identity)

    def lose(self, gpu: int) -> None:
        """The GPU falls off the bus; its instances are gone when it comes back, as after a reset."""
        self.set(f"gpu.{gpu}.lost", "1")

    def find(self, gpu: int) -> None:
        """A lost GPU is back."""
        gone = {key: None for key in self.values() if key.startswith((f"gpu.{gpu}.gi.", f"gpu.{gpu}.ci."))}
        self.update({f"gpu.{gpu}.lost": None, **gone})

    def event(self, gpu: int, kind: int, data: int = 0, gpu_instance: int = NO_INSTANCE) -> None:
        """Deliver an NVML event to whoever registered before."""
        with self._locked():
            values = self._read()
            number = 1 + max((int(k[6:]) for k in values if k.startswith("event.")), default=0)
            compute = NO_INSTANCE if gpu_instance == NO_INSTANCE else 0
            values[f"event.{number}"] = f"{gpu} {kind} {data} {gpu_instance} {compute}"
            self._write(values)

    def xid(self, gpu: int, code: int, gpu_instance: int = NO_INSTANCE) -> None:
        """Deliver an XID error."""
        self.event(gpu, XID, code, gpu_instance)

    def unprivileged(self) -> None:
        """Calls that need root are refused from now on."""
        self.set("privileged", "0")

    def unsupported(self, gpu: int, *symbols: str) -> None:
        """The card answers NOT_SUPPORTED to these C symbols."""
        self.update({f"gpu.{gpu}.unsupported.{symbol}": "1" for symbol in symbols})

    def busy(self, gpu: int, gpu_instance_id: int, busy: bool = True) -> None:
        """A process runs in the instance, or has ended: while it runs the instance cannot be destroyed."""
        self.set(f"gpu.{gpu}.busy.{gpu_instance_id}", "1" if busy else None)

    def system_files(self, folder: Path) -> Path:
        """A /sys with the GPUs' PCIe roots and NUMA nodes in ``folder``; returns ``folder``."""
        values = self.values()
        node = NODES[values["profile"]]
        for gpu in range(int(values["gpus"])):
            domain, bus = bus_id(node, gpu)[4:8].lower(), node.buses[gpu].lower()
            root = f"pci{domain}:{node.roots[gpu]}"
            device = folder / "devices" / root / f"{domain}:{node.roots[gpu]}:01.0" / f"{domain}:{bus}:00.0"
            device.mkdir(parents=True)
            (device / "numa_node").write_text(f"{node.numa[gpu]}\n")
            link = folder / "bus" / "pci" / "devices" / device.name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(device)
        return folder

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with open(f"{self.path}.lock", "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _read(self) -> dict[str, str]:
        lines = self.path.read_text().splitlines()
        return dict(line.split("\t", 1) for line in lines if "\t" in line)

    def _write(self, values: Mapping[str, str]) -> None:
        beside = self.path.with_name(f"{self.path.name}.python")
        beside.write_text("".join(f"{key}\t{value}\n" for key, value in values.items()))
        beside.replace(self.path)
