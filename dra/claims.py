"""What a resource claim asks for in terms of GPUs, and which units of which GPU the allocated claims hold.

``claim_requests`` reads a claim's requests before allocation. It recognises the classes of our driver and of
NVIDIA's, by their selectors or, when the class object is not at hand, by name; and selectors that are
conjunctions of the usual forms:
``device.driver == "..."``, equality (or a one-element ``in``) of ``type``, ``profile``, ``model`` and
``productName``, and guards such as ``"profile" in device.attributes["..."]``. Capacity requests are
understood where the device is a shared GPU, for its shares and its memory. Whatever else stands in a
selector, alternatives (firstAvailable) and ``All`` give ``understood=False``: never a guess.

``occupancy`` reads allocations. KEP-4815 stores free counters nowhere, so what is occupied is what the
devices named in all claims' results cover. A whole device occupies the whole GPU; of a shared GPU
``claim_parts`` tells the shares and memory that a claim holds. Admin access occupies nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dra.catalog import GpuModel, find_model
from dra.cel import Call, CelUnsupported, Index, ListOf, Literal, Name, Node, Operation, Select, parse
from dra.inventory import NVIDIA_DRIVER, SLICEWISE_DRIVER, NodeInventory
from dra.resource_api import DeviceClass, DeviceSelector, ResourceClaim, ResourceClaimSpec
from dra.shared_gpus import NOTHING, Part, Wish, consumed, plus, wish_of


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    """``count`` devices: MIG instances of ``profile``, or whole GPUs, of ``model`` if named.

    ``shared``: what is asked of each shared GPU, None for another kind of device. None of the three, and
    understood: nothing of a GPU is taken (another driver's device, admin access).
    ``constrained``: a constraint of the claim ties the devices to each other (same parent GPU, same NVLink
    island).
    """

    profile: str | None
    whole: bool
    count: int
    model: str | None
    understood: bool
    constrained: bool = False
    shared: Wish | None = None


@dataclass(slots=True)
class _Wanted:
    """What selectors pin down so far; ``puzzling`` once one of them is not understood."""

    driver: str | None = None
    kind: str | None = None
    profile: str | None = None
    model: str | None = None
    puzzling: bool = False

    def pin(self, field: str, value: str) -> None:
        known = getattr(self, field)
        if known is not None and known != value:
            self.puzzling = True  # a contradiction matches nothing; that is not ours to predict
        setattr(self, field, value)


_CLASS_NAMES: Mapping[str, tuple[str, str]] = {
    "gpu.nvidia.com": (NVIDIA_DRIVER, "gpu"),
    "mig.nvidia.com": (NVIDIA_DRIVER, "mig"),
    "gpu.slicewise.io": (SLICEWISE_DRIVER, "gpu"),
    "mig.slicewise.io": (SLICEWISE_DRIVER, "mig"),
    "gpu-shared.slicewise.io": (SLICEWISE_DRIVER, "shared"),
}
_PROFILE_CLASS = re.compile(r"mig-(\d+g\.\d+gb)(?:\.(me\.all|me|gfx)|(-me))?\.slicewise\.io")
_ATTRIBUTES = Select(Name("device"), "attributes")


def claim_requests(spec: ResourceClaimSpec, classes: Mapping[str, DeviceClass]) -> tuple[DeviceRequest, ...]:
    """One entry for each request of the claim, in order. ``classes``: DeviceClasses by name."""
    constrained = {name for c in spec.devices.constraints for name in (c.requests or ("",))}
    found: list[DeviceRequest] = []
    for request in spec.devices.requests:
        tied = bool({"", request.name} & constrained)
        exact = request.exactly
        if exact is None:
            found.append(DeviceRequest(None, False, 1, None, False, tied))
            continue
        if exact.admin_access:
            found.append(DeviceRequest(None, False, 0, None, True, tied))
            continue
        wanted = _wanted(exact.device_class_name, exact.selectors, classes)
        count = 1 if exact.count is None else exact.count
        if wanted.driver is not None and wanted.driver not in (NVIDIA_DRIVER, SLICEWISE_DRIVER):
            found.append(DeviceRequest(None, False, count, None, True, tied))
            continue
        mig = wanted.profile is not None and wanted.kind in (None, "mig")
        whole = wanted.kind == "gpu" and wanted.profile is None
        asked = exact.capacity.requests if exact.capacity is not None else {}
        shared = wish_of(asked) if wanted.kind == "shared" and wanted.profile is None else None
        kind = shared is not None or ((mig or whole) and not asked)
        if kind and not wanted.puzzling and exact.allocation_mode != "All":
            profile = wanted.profile if mig else None
            found.append(DeviceRequest(profile, whole, count, wanted.model, True, tied, shared))
        else:
            found.append(DeviceRequest(None, False, count, None, False, tied))
    return tuple(found)


def occupancy(
    claims: Iterable[ResourceClaim], inventories: Mapping[str, NodeInventory]
) -> dict[str, tuple[int, ...]]:
    """Occupied units of each GPU by position, for every node of ``inventories`` (keyed by node name)."""
    by_pool = {(inv.driver, inv.pool): node for node, inv in inventories.items() if inv.driver is not None}
    masks = {node: [0] * len(inv.gpus) for node, inv in inventories.items()}
    for claim in claims:
        allocation = claim.status.allocation
        for result in allocation.devices.results if allocation is not None else ():
            node = by_pool.get((result.driver, result.pool))
            if node is None or result.admin_access:
                continue
            taken = _device_bits(inventories[node], result.device)
            if taken is not None:
                masks[node][taken[0]] |= taken[1]
    return {node: tuple(occupied) for node, occupied in masks.items()}


def claim_masks(claim: ResourceClaim, inventory: NodeInventory) -> tuple[int, ...]:
    """The units that one claim holds on each GPU of one node; zeros where it holds none."""
    return occupancy((claim,), {inventory.node: inventory})[inventory.node]


def claim_parts(claim: ResourceClaim, inventory: NodeInventory) -> tuple[Part, ...]:
    """What one claim holds of each shared GPU of one node, by position; empty where it has none."""
    found = [NOTHING] * len(inventory.shared)
    allocation = claim.status.allocation
    if not found or allocation is None:
        return tuple(found)
    positions = {gpu.name: position for position, gpu in enumerate(inventory.shared)}
    for result in allocation.devices.results:
        if (result.driver, result.pool) == (inventory.driver, inventory.pool) and not result.admin_access:
            position = positions.get(result.device)
            if position is not None:
                found[position] = plus(found[position], consumed(inventory.shared[position], result))
    return tuple(found)


def _device_bits(inventory: NodeInventory, device: str) -> tuple[int, int] | None:
    reference = inventory.devices.get(device)
    if reference is None:
        return None  # withdrawn since: its units are published by no other device either
    if reference.placement is None:
        return reference.gpu, inventory.whole_mask(reference.gpu)
    return reference.gpu, reference.placement.bits


def _wanted(
    class_name: str, selectors: tuple[DeviceSelector, ...], classes: Mapping[str, DeviceClass]
) -> _Wanted:
    wanted = _Wanted()
    device_class = classes.get(class_name)
    if device_class is not None:
        selectors = (*device_class.spec.selectors, *selectors)
    elif class_name in _CLASS_NAMES:
        wanted.driver, wanted.kind = _CLASS_NAMES[class_name]
    elif match := _PROFILE_CLASS.fullmatch(class_name):
        wanted.driver, wanted.kind = SLICEWISE_DRIVER, "mig"
        plus, minus = match.group(2), match.group(3)
        wanted.profile = match.group(1) + (f"+{plus}" if plus else "") + (minus or "")
    else:
        wanted.puzzling = True
    for selector in selectors:
        try:
            tree = parse(selector.cel.expression) if selector.cel is not None else None
        except CelUnsupported:
            tree = None
        if tree is None:
            wanted.puzzling = True
        else:
            _conjunction(tree, wanted)
    return wanted


def _conjunction(node: Node, wanted: _Wanted) -> None:
    """Read ``a && b && ...`` into ``wanted``."""
    match node:
        case Operation("&&", (left, right)):
            _conjunction(left, wanted)
            _conjunction(right, wanted)
        case Operation("==", (Literal(str(value)), other)) | Operation("==", (other, Literal(str(value)))):
            _equality(other, value, wanted)
        case Operation("in", (other, ListOf((Literal(str(value)),)))):
            _equality(other, value, wanted)
        case Operation("in", (Literal(str()), Index(operand, Literal(str())))) if operand == _ATTRIBUTES:
            pass  # a guard against the error of an absent attribute
        case Call(None, "has", (Select(Index(operand, Literal(str())), _),)) if operand == _ATTRIBUTES:
            pass
        case _:
            wanted.puzzling = True


def _equality(node: Node, value: str, wanted: _Wanted) -> None:
    if node == Select(Name("device"), "driver"):
        wanted.pin("driver", value)
        return
    match node:
        case Select(Index(operand, Literal(str(domain))), field) | Index(
            Index(operand, Literal(str(domain))), Literal(str(field))
        ) if operand == _ATTRIBUTES and domain in (NVIDIA_DRIVER, SLICEWISE_DRIVER):
            if wanted.driver is None:
                wanted.driver = domain  # an attribute of the domain exists on that driver's devices only
            if field == "type":
                wanted.pin("kind", value)
            elif field == "profile":
                wanted.pin("profile", value)
            elif field in ("model", "productName"):
                found = find_model(value)
                if isinstance(found, GpuModel) and (field == "productName" or found.name == value):
                    wanted.pin("model", found.name)
                else:
                    wanted.puzzling = True
            else:
                wanted.puzzling = True
        case _:
            wanted.puzzling = True
