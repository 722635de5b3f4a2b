"""The MIG devices of a node, slice by slice: one slice for each profile of each model (``dra.node_order``).

Remembers the order that was published last. While no pod would lose enough by it, it stays: nothing is
written, and kube-scheduler is not made to look again at every pod that waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from dra.driver.devices import Circumstances, Wiring, device_depends_on, part, parted, taken
from dra.driver.hardware import Hardware, OfferedGpu
from dra.node_order import Run, Runs
from dra.placement import Placement
from dra.slice_parts import Json

_Devices = dict[Placement, Json | None]


class MigSlices:
    """For one thread."""

    def __init__(self) -> None:
        self._runs = Runs()
        self._devices: dict[int, tuple[object, _Devices]] = {}

    def forget_devices(self) -> None:
        """The hardware is another: build every device again. Orders are kept where they still hold."""
        self._devices.clear()

    def slices(
        self, node: Hardware, now: Circumstances, wires: Wiring
    ) -> Iterator[tuple[object, Callable[[], list[Json]]]]:
        """(a value that is equal only where the devices are, what gives the devices) of each slice, in their
        order. A device that has not changed is the same object as before.
        """
        gpus = {gpu.number: gpu for gpu in node.gpus if parted(gpu, now)}
        masks = {number: taken(gpu, now) for number, gpu in gpus.items()}
        known = {number: self._of(node, gpu, now, wires) for number, gpu in gpus.items()}
        for run in self._runs.now({n: gpu.model for n, gpu in gpus.items()}, masks, now.tables):
            basis = run, tuple(known[number][0] for number in sorted({number for number, _ in run}))
            yield basis, partial(self._listed, node, gpus, run, now, known)

    def _listed(
        self,
        node: Hardware,
        gpus: Mapping[int, OfferedGpu],
        run: Run,
        now: Circumstances,
        known: Mapping[int, tuple[object, _Devices]],
    ) -> list[Json]:
        found = (self._device(node, gpus[n], placement, now, known[n][1]) for n, placement in run)
        return [device for device in found if device is not None]

    def _of(
        self, node: Hardware, gpu: OfferedGpu, now: Circumstances, wires: Wiring
    ) -> tuple[object, _Devices]:
        basis = device_depends_on(node, gpu, now, wires)
        known = self._devices.get(gpu.number)
        if known is None or known[0] != basis:
            known = self._devices[gpu.number] = basis, {}
        return known

    def _device(
        self, node: Hardware, gpu: OfferedGpu, placement: Placement, now: Circumstances, known: _Devices
    ) -> Json | None:
        if placement not in known:
            known[placement] = part(node, gpu, placement, now)
        return known[placement]
