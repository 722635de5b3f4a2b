"""Cards without a library, with MIG's rules, and a death that strikes at any step of the driver's work."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any

from dra.cards import Card, CardRefused, DriverVersions, Health, InstanceProfile, LiveInstance
from dra.driver.api import ApiAway
from dra.driver.cdi_files import CdiFolder
from dra.driver.checkpoint import Checkpoint
from dra.driver.checkpoint_file import CheckpointFile
from dra.driver.driver import Driver
from dra.driver.sharing import Sharing
from dra.plugin.handler import ClaimRef
from dra.resource_api import ResourceClaim

POOL = "slicewise/node-1"
VERSIONS = DriverVersions("580.65.06", "13.580", (13, 0))
_SHAPES = (
    ("1g.10gb", 19, 1, tuple(range(7)), 1, 9728, 7),
    ("1g.20gb", 15, 2, (0, 2, 4, 6), 1, 19968, 4),
    ("2g.20gb", 14, 2, (0, 2, 4), 2, 19968, 3),
    ("3g.40gb", 9, 4, (0, 4), 3, 40192, 2),
    ("4g.40gb", 5, 4, (0,), 4, 40192, 1),
    ("7g.80gb", 0, 8, (0,), 7, 80896, 1),
)
PROFILES = tuple(InstanceProfile(*shape) for shape in _SHAPES)
SIZES = {profile.profile_id: profile.size for profile in PROFILES}


class Killed(BaseException):
    """The process is dead: nothing of it runs any more."""


class Death:
    """Counts the driver's steps down and kills at the chosen one; None never."""

    def __init__(self) -> None:
        self.steps_left: int | None = None

    def step(self) -> None:
        if self.steps_left is not None:
            self.steps_left -= 1
            if self.steps_left < 0:
                self.steps_left = None
                raise Killed


def card(index: int, mig: bool = True, **changes) -> Card:
    made = Card(
        index=index,
        uuid=f"GPU-{index}",
        product="NVIDIA H100 80GB HBM3",
        minor=index,
        pci_bus_id=f"0000:{index:02x}:00.0",
        pcie_root=f"pci0000:{index // 2:02x}",
        numa_node=index // 4,
        architecture="Hopper",
        compute_capability=(9, 0),
        memory_mib=81559,
        mig_capable=True,
        mig_enabled=mig,
        profiles=PROFILES,
        nvlink_peers=None if mig else (),
    )
    return dataclasses.replace(made, **changes)


class MemoryCards:
    """``Cards`` in memory. ``instances`` by GPU UUID survive the driver, as the card's do."""

    def __init__(self, *cards: Card, death: Death | None = None) -> None:
        self.known = list(cards)
        self.instances: dict[str, list[LiveInstance]] = {c.uuid: [] for c in cards}
        self.death = death or Death()
        self.refuse: dict[str, CardRefused] = {}
        self.lost: set[str] = set()
        self._next = 0

    def cards(self):
        return tuple(
            dataclasses.replace(c, health=Health("unhealthy", ("lost",)))
            if c.uuid in self.lost
            else dataclasses.replace(c, live=tuple(self.instances[c.uuid]))
            for c in self.known
        )

    def live(self, gpu_uuid):
        if gpu_uuid in self.lost or gpu_uuid not in self.instances:
            raise CardRefused("live", "lost", gpu_uuid)
        return tuple(self.instances[gpu_uuid])

    def create(self, gpu_uuid, profile_id, start):
        self._maybe_refuse("create", gpu_uuid)
        self.death.step()
        instance = self.put(gpu_uuid, profile_id, start, half=True)
        self.death.step()  # the GPU instance is there, its compute instance is not
        whole = dataclasses.replace(
            instance,
            compute_instance_id=0,
            mig_uuid=f"MIG-{gpu_uuid}-{instance.gpu_instance_id}-{self._next}",
        )
        self.instances[gpu_uuid][-1] = whole
        self.death.step()
        return whole

    def destroy(self, gpu_uuid, gpu_instance_id):
        self._maybe_refuse("destroy", gpu_uuid)
        self.death.step()
        before = self.instances[gpu_uuid]
        after = [i for i in before if i.gpu_instance_id != gpu_instance_id]
        if len(after) == len(before):
            raise CardRefused("destroy", "not-found", str(gpu_instance_id))
        self.instances[gpu_uuid] = after
        self.death.step()

    def put(self, gpu_uuid, profile_id, start, *, half=False):
        """An instance, made by whoever calls."""
        if not self.mode(gpu_uuid):
            raise CardRefused("create", "not-supported", f"{gpu_uuid} is out of MIG mode")
        size = SIZES[profile_id]
        bits = ((1 << size) - 1) << start
        if any(bits & i.bits for i in self.instances[gpu_uuid]):
            raise CardRefused("create", "insufficient-resources", f"{gpu_uuid} {profile_id}@{start}")
        taken = {i.gpu_instance_id for i in self.instances[gpu_uuid]}
        number = next(n for n in range(1, 20) if n not in taken)  # NVML uses ids again
        self._next += 1
        made = LiveInstance(
            gpu_uuid,
            number,
            None if half else 0,
            profile_id,
            start,
            size,
            None if half else f"MIG-f{self._next}",
        )
        self.instances[gpu_uuid].append(made)
        return made

    def set_mig_mode(self, gpu_uuid, enabled):
        self._maybe_refuse("set_mig_mode", gpu_uuid)
        self.death.step()
        if enabled != self.mode(gpu_uuid) and self.instances[gpu_uuid]:
            raise CardRefused("set_mig_mode", "in-use", gpu_uuid)
        self.known = [
            dataclasses.replace(c, mig_enabled=enabled) if c.uuid == gpu_uuid else c for c in self.known
        ]
        self.death.step()
        return True

    def mode(self, gpu_uuid):
        return next(c.mig_enabled for c in self.known if c.uuid == gpu_uuid)

    def wait_event(self, timeout_seconds):
        threading.Event().wait(timeout_seconds)

    def close(self):
        pass

    def _maybe_refuse(self, call, gpu_uuid):
        if gpu_uuid in self.lost:
            raise CardRefused(call, "lost", gpu_uuid)
        if call in self.refuse:
            raise self.refuse[call]


class MortalFile(CheckpointFile):
    """A checkpoint file whose writer may die before and after each write."""

    def __init__(self, folder: Path, death: Death) -> None:
        super().__init__(folder)
        self._death = death

    def write(self, checkpoint: Checkpoint) -> None:
        self._death.step()
        super().write(checkpoint)
        self._death.step()


class MortalCdi(CdiFolder):
    def __init__(self, folder: Path, death: Death, **options) -> None:
        super().__init__(folder, **options)
        self._death = death

    def write(self, record, node):
        self._death.step()
        super().write(record, node)
        self._death.step()

    def remove(self, uid):
        self._death.step()
        super().remove(uid)


class Claims:
    """``ClaimReader``: allocated claims by name."""

    def __init__(self) -> None:
        self.objects: dict[str, ResourceClaim] = {}
        self.away = False

    def allocate(self, name: str, *devices: str, uid: str | None = None, **result) -> ClaimRef:
        import msgspec

        results = [
            {"request": "gpu", "driver": "gpu.slicewise.io", "pool": POOL, "device": device, **result}
            for device in devices
        ]
        self.objects[name] = msgspec.convert(
            {
                "metadata": {"name": name, "namespace": "default", "uid": uid or f"uid-{name}"},
                "status": {"allocation": {"devices": {"results": results}}},
            },
            ResourceClaim,
        )
        return ClaimRef("default", name, uid or f"uid-{name}")

    def claim(self, namespace, name):
        if self.away:
            raise ApiAway("GET claim: connection refused")
        return self.objects.get(name)


class Node:
    """A node whose driver may die and start again: what survives is the folder, the cards and the API."""

    def __init__(
        self, folder: Path, *cards: Card, sharing: Sharing | None = None, mig_on_demand: bool = False
    ) -> None:
        self.folder = folder
        self.death = Death()
        self.cards = MemoryCards(*cards, death=self.death)
        self.claims = Claims()
        self.boot = "boot-1"
        self.sharing = sharing
        self.mig_on_demand = mig_on_demand
        self.options: dict[str, Any] = {"allow_missing": True}
        self.changes = 0

    def _count(self) -> None:
        self.changes += 1

    def driver(self) -> Driver:
        """A new process."""
        made = Driver(
            self.cards,
            MortalFile(self.folder / "state", self.death),
            MortalCdi(self.folder / "cdi", self.death, **self.options),
            self.claims,
            pool=POOL,
            boot_id=self.boot,
            sharing=self.sharing,
            mig_on_demand=self.mig_on_demand,
            changed=self._count,
        )
        made.start()
        return made

    def live(self) -> set[tuple[str, int, int, int]]:
        return {
            (uuid, i.gpu_instance_id, i.profile_id, i.start)
            for uuid, found in self.cards.instances.items()
            for i in found
        }

    def documents(self) -> set[str]:
        return {path.stem.rpartition("_")[2] for path in (self.folder / "cdi").glob("*.json")}
