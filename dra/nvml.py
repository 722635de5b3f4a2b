"""The node's GPUs through NVML: ``Cards`` on real hardware.

``open_cards`` starts NVML. What never changes on a card (its name, place, placements in one MIG mode) is read
once; what exists, health, power and wires are read each time. Every call that a card may not support leaves
None. A card that is lost keeps what it told before and is unhealthy, so that others keep their places.

Threads: all methods may be called from any. Changes to one card go one after another; changes to different
cards do not wait for each other, since making an instance takes the card a while.

Source: NVIDIA Management Library reference and ``nvml.h``. Decides nothing: which instance is made where is
the driver's matter.
"""

from __future__ import annotations

import dataclasses
import threading
from collections import defaultdict
from pathlib import Path
from typing import Literal

from dra.card_health import harmful, health_of, reason_of
from dra.cards import (
    Card,
    CardRefused,
    DriverVersions,
    Health,
    HealthEvent,
    InstanceProfile,
    LiveInstance,
    NoDriver,
)
from dra.nvml_events import Events
from dra.nvml_library import Handle, Library, Record, open_library
from dra.nvml_links import peers_by_links, read_ancestors, read_fabric, read_peers, read_wires
from dra.nvml_mig import create, destroy, read_live, read_profiles
from dra.nvml_names import ARCHITECTURES
from dra.nvml_system import kernel_address, numa_node, pcie_root

MIB = 1024 * 1024
MILLIWATTS_PER_WATT = 1000
SYSTEM_FILES = Path("/sys")
LOST = Health("unhealthy", ("the card is lost: it has fallen off the bus or does not answer",))
_UNCORRECTED, _SINCE_DRIVER_LOAD = 1, 0


class Nvml:
    """``Cards`` over an initialised NVML; made by ``open_cards``."""

    def __init__(self, library: Library, system_files: Path = SYSTEM_FILES) -> None:
        self._library = library
        self._system_files = system_files
        self._known: dict[int, Card] = {}
        self._profiles: dict[tuple[str, bool | None], tuple[tuple[InstanceProfile, ...], bool]] = {}
        self._reading = threading.Lock()
        self._faults: dict[str, tuple[str, ...]] = {}
        self._changing: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._events = Events(library, self._reachable())

    def versions(self) -> DriverVersions:
        """Driver, NVML and CUDA below us."""
        cuda = self._library.ask("nvmlSystemGetCudaDriverVersion")
        return DriverVersions(
            driver=self._library.ask("nvmlSystemGetDriverVersion"),
            nvml=self._library.ask("nvmlSystemGetNVMLVersion"),
            cuda=(cuda // 1000, cuda % 1000 // 10) if cuda is not None else None,
        )

    def cards(self) -> tuple[Card, ...]:
        """Every GPU in NVML's order, read now. Raises CardRefused when NVML cannot even count them."""
        with self._reading:
            handles: dict[int, Handle] = {}
            count = self._library.call("nvmlDeviceGetCount")
            self._forget_beyond(count)
            for index in range(count):
                try:
                    handles[index] = self._library.call("nvmlDeviceGetHandleByIndex", index)
                    self._identify(index, handles[index])
                except CardRefused as refusal:
                    handles.pop(index, None)
                    self._known[index] = self._gone(index, refusal)
            by_address = {
                kernel_address(card.pci_bus_id): index
                for index, card in self._known.items()
                if card.pci_bus_id
            }
            for index, handle in handles.items():
                others = {other: there for other, there in handles.items() if other != index}
                try:
                    self._known[index] = self._read(self._known[index], handle, by_address, others)
                except CardRefused as refusal:
                    self._known[index] = self._gone(index, refusal)
            return tuple(self._with_peers(card) for _, card in sorted(self._known.items()))

    def live(self, gpu_uuid: str) -> tuple[LiveInstance, ...]:
        """See ``Cards.live``; empty for a card out of MIG mode."""
        handle = self._handle(gpu_uuid)
        mode = self._mig_mode(handle)
        return (
            read_live(self._library, handle, gpu_uuid, self._offered(gpu_uuid, handle)[0]) if mode[0] else ()
        )

    def create(self, gpu_uuid: str, profile_id: int, start: int) -> LiveInstance:
        """See ``Cards.create``. Refused "invalid" for a profile that the card does not offer."""
        with self._changing[gpu_uuid]:
            handle = self._handle(gpu_uuid)
            profiles, _ = self._offered(gpu_uuid, handle)
            profile = next((p for p in profiles if p.profile_id == profile_id), None)
            if profile is None:
                offered = ", ".join(f"{p.name} (id {p.profile_id})" for p in profiles) or "none"
                detail = f"GPU {gpu_uuid} has no profile with id {profile_id}; it offers {offered}"
                raise CardRefused("create", "invalid", detail)
            return create(self._library, handle, gpu_uuid, profile, start)

    def destroy(self, gpu_uuid: str, gpu_instance_id: int) -> None:
        """See ``Cards.destroy``."""
        with self._changing[gpu_uuid]:
            destroy(self._library, self._handle(gpu_uuid), gpu_instance_id)

    def set_mig_mode(self, gpu_uuid: str, enabled: bool) -> bool:
        """See ``Cards.set_mig_mode``. Refused "in-use" while instances or programs are on the card."""
        with self._changing[gpu_uuid]:
            handle = self._handle(gpu_uuid)
            activation = self._library.call("nvmlDeviceSetMigMode", handle, int(enabled))
            now, pending = self._mig_mode(handle)
            if now is enabled:
                return True
            if pending is enabled:
                return False
            detail = f"GPU {gpu_uuid}: MIG mode stays {now}, NVML's activation status is {activation}"
            raise CardRefused("nvmlDeviceSetMigMode", "in-use", detail)

    def wait_event(self, timeout_seconds: float) -> HealthEvent | None:
        """See ``Cards.wait_event``; for one thread. A harmful event makes its card unhealthy from then on,
        all cards where NVML does not say which.
        """
        event = self._events.wait(timeout_seconds)
        if event is not None and harmful(event):
            with self._reading:
                for uuid in [event.gpu_uuid] if event.gpu_uuid else [c.uuid for c in self._known.values()]:
                    before = self._faults.get(uuid, ())
                    self._faults[uuid] = tuple(dict.fromkeys((*before, reason_of(event))))
        return event

    def close(self) -> None:
        """See ``Cards.close``; waits at most half a second for a running ``wait_event``."""
        self._events.close()
        self._library.close()

    # One card

    def _reachable(self) -> dict[str, Handle]:
        """Handles by UUID; a card that cannot be had now must not keep the others from being used."""
        found: dict[str, Handle] = {}
        for card in self.cards():
            try:
                found[card.uuid] = self._handle(card.uuid)
            except CardRefused:
                continue  # it is among the cards, unhealthy
        return found

    def _handle(self, gpu_uuid: str) -> Handle:
        return self._library.call("nvmlDeviceGetHandleByUUID", gpu_uuid)

    def _gone(self, index: int, refusal: CardRefused) -> Card:
        before = self._known.get(index, Card(index=index, uuid="", product=""))
        health = LOST
        if refusal.kind == "lost":
            self._faults.pop(before.uuid, None)  # when it comes back it has been reset
        else:
            health = Health("unhealthy", (f"the card cannot be read: {refusal.call}, {refusal.detail}",))
        return dataclasses.replace(before, health=health, live_told=False)

    def _with_peers(self, card: Card) -> Card:
        """Peers by the links where peer-to-peer status is not told and links are."""
        if card.nvlink_peers is not None or card.links_down is None:
            return card
        return dataclasses.replace(card, nvlink_peers=peers_by_links(card, self._known.values()))

    def _forget_beyond(self, count: int) -> None:
        """NVML counts fewer cards than before: what was last is now elsewhere, or gone."""
        for index in [index for index in self._known if index >= count]:
            del self._known[index]

    def _identify(self, index: int, handle: Handle) -> None:
        """Read what never changes, once for each card that sits at this index."""
        ask = self._library.ask
        uuid = str(self._library.call("nvmlDeviceGetUUID", handle))
        before = self._known.get(index)
        if before is not None and before.uuid == uuid:
            return
        pci = ask("nvmlDeviceGetPciInfo", handle)
        bus_id = _text(pci.busId) if pci is not None else None
        memory = ask("nvmlDeviceGetMemoryInfo", handle)
        architecture = ask("nvmlDeviceGetArchitecture", handle)
        numa = numa_node(self._system_files, bus_id) if bus_id is not None else None
        self._known[index] = Card(
            index=index,
            uuid=uuid,
            product=str(ask("nvmlDeviceGetName", handle) or ""),
            minor=ask("nvmlDeviceGetMinorNumber", handle),
            pci_bus_id=bus_id,
            pcie_root=pcie_root(self._system_files, bus_id) if bus_id is not None else None,
            numa_node=numa if numa is not None else ask("nvmlDeviceGetNumaNodeId", handle),
            module_id=ask("nvmlDeviceGetModuleId", handle),
            serial=ask("nvmlDeviceGetSerial", handle),
            architecture=ARCHITECTURES.get(architecture) if architecture is not None else None,
            compute_capability=ask("nvmlDeviceGetCudaComputeCapability", handle),
            memory_mib=memory.total // MIB if memory is not None else None,
        )

    def _read(
        self, card: Card, handle: Handle, by_address: dict[str, int], others: dict[int, Handle]
    ) -> Card:
        """Read what may change."""
        ask = self._library.ask
        enabled, pending = self._mig_mode(handle)
        profiles, placements_told = self._offered(card.uuid, handle) if enabled is not None else ((), True)
        live, live_told = self._live_or_untold(card.uuid, handle, profiles) if enabled else ((), True)
        wires = read_wires(self._library, handle, by_address)
        fabric, fabric_summary = read_fabric(self._library, handle)
        power = ask("nvmlDeviceGetPowerUsage", handle)
        limit = ask("nvmlDeviceGetPowerManagementLimit", handle)
        health = health_of(
            uncorrected_errors=ask("nvmlDeviceGetTotalEccErrors", handle, _UNCORRECTED, _SINCE_DRIVER_LOAD),
            remapped_rows=ask("nvmlDeviceGetRemappedRows", handle),
            links_down=(wires.down or 0) if wires.links else 0,
            fabric_summary=fabric_summary,
            faults=self._faults.get(card.uuid, ()),
        )
        return dataclasses.replace(
            card,
            mig_capable=enabled is not None,
            mig_enabled=enabled,
            mig_pending=pending,
            profiles=profiles,
            placements_told=placements_told,
            live=live,
            live_told=live_told,
            links=wires.links,
            links_down=wires.down,
            nvlink_peers=read_peers(self._library, handle, others),
            nvlink_version=wires.generation,
            nvlink_megabytes_per_second=wires.megabytes_per_second,
            fabric=fabric,
            common_ancestors=read_ancestors(self._library, handle, others),
            power_watts=power / MILLIWATTS_PER_WATT if power is not None else None,
            power_limit_watts=limit / MILLIWATTS_PER_WATT if limit is not None else None,
            energy_millijoules=ask("nvmlDeviceGetTotalEnergyConsumption", handle),
            health=health,
        )

    def _mig_mode(self, handle: Handle) -> tuple[bool | None, bool | None]:
        mode = self._library.ask("nvmlDeviceGetMigMode", handle)
        return (bool(mode[0]), bool(mode[1])) if mode is not None else (None, None)

    def _offered(self, gpu_uuid: str, handle: Handle) -> tuple[tuple[InstanceProfile, ...], bool]:
        """Profiles, read once in each MIG mode: NVML promises that they do not change within one."""
        key = gpu_uuid, self._mig_mode(handle)[0]
        known = self._profiles.get(key)
        if known is None:
            memory = self._library.ask("nvmlDeviceGetMemoryInfo", handle)
            product = str(self._library.ask("nvmlDeviceGetName", handle) or "")
            card_mib = memory.total // MIB if memory is not None else None
            known = self._profiles[key] = read_profiles(self._library, handle, product, card_mib)
        return known

    def _live_or_untold(
        self, gpu_uuid: str, handle: Handle, profiles: tuple[InstanceProfile, ...]
    ) -> tuple[tuple[LiveInstance, ...], Literal[True, False]]:
        try:
            return read_live(self._library, handle, gpu_uuid, profiles), True
        except CardRefused as refusal:
            if refusal.kind == "lost":
                raise
            return (), False


def open_cards(*, system_files: Path = SYSTEM_FILES, record: Record | None = None) -> Nvml | NoDriver:
    """Start NVML and read the node's GPUs; ``NoDriver`` with the reason where that cannot be.

    ``system_files``: the kernel's /sys. ``record``: gets every call with its raw answer.
    """
    library = open_library(record)
    if isinstance(library, NoDriver):
        return library
    try:
        return Nvml(library, system_files)
    except CardRefused as refusal:
        library.close()
        return NoDriver(f"NVML failed while listing the GPUs: {refusal.call}, {refusal.detail}")


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
