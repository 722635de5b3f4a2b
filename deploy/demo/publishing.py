"""How the demo's hardware appears in the API: inventories, ResourceSlices and DeviceClasses for either
driver.

Both sides of the demo offer the same GPUs, the same MIG placements and the same resource names
(``nvidia.com/gpu`` and ``nvidia.com/mig-<profile>`` by ``extendedResourceName``, KEP-5004), so that one pod
manifest serves both. What differs is what each side stands for:

- ``plain``: NVIDIA's driver ``gpu.nvidia.com``, devices sorted by name as it publishes them, never
  re-ordered.
- ``slicewise``: our driver ``gpu.slicewise.io``, placements in the order that ``dra.device_order`` gives for
  the present state, or in a fixed one to compare with.

Profiles with media extensions and others that no pod of the demo asks for are offered as well: the hardware
has them. Pure: JSON-ready dictionaries out; ``virtual_driver`` writes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from deploy.demo.fleet import DemoNode, gpu_uuid, node_labels, topology_of
from deploy.demo.placement_orders import Published
from dra.inventory import NVIDIA_DRIVER, SLICEWISE_DRIVER, DeviceRef, Gpu, NodeInventory, Regime, from_slices
from dra.mig import Placement, geometry
from dra.resource_api import slices_from_json
from dra.slices import device_name, nvidia_slices, to_slices

Side = Literal["plain", "slicewise"]

_DRIVERS: Mapping[str, tuple[str, Regime]] = {
    "plain": (NVIDIA_DRIVER, "nvidia"),
    "slicewise": (SLICEWISE_DRIVER, "slicewise"),
}


def hardware(node: DemoNode, side: Side, weights: Mapping[str, float]) -> NodeInventory:
    """The node's GPUs as the side's driver would find them, nothing allocated."""
    driver, regime = _DRIVERS[side]
    model, shape = node.model, node.shape
    gpus = tuple(
        Gpu(index=i, uuid=gpu_uuid(node, i), model=model, partitionable=shape.mig, product=shape.product)
        for i in range(shape.gpus)
    )
    order: tuple[Placement, ...] = geometry(model).least_harm_order(0, weights) if shape.mig else ()
    devices: dict[str, DeviceRef] = {}
    for gpu in gpus:
        devices[device_name(gpu)] = DeviceRef(gpu.index, None)
        for placement in order:
            devices[device_name(gpu, placement)] = DeviceRef(gpu.index, placement)
    return NodeInventory(
        node=node.name,
        regime=regime,
        driver=driver,
        pool=node.name,
        gpus=gpus,
        topology=topology_of(node),
        orders=tuple(order for _ in gpus),
        devices=devices,
        static={},
    )


def slices(
    inventory: NodeInventory,
    masks: Sequence[int],
    weights: Mapping[str, float],
    side: Side,
    order: Published | None = None,
) -> list[dict[str, Any]]:
    """The node's ResourceSlices. The plain side's do not depend on what is allocated, nor on ``order``."""
    if side == "plain":
        return list(nvidia_slices(inventory))
    order = order or Published()
    return list(to_slices(inventory, masks, weights, version="1.35+", orders=order.orders, runs=order.runs))


def published(node: DemoNode, documents: Sequence[dict[str, Any]]) -> NodeInventory:
    """The inventory as a reader of the slices sees it: device names are the published ones.

    Raises ValueError when the slices cannot be read back, which would be an error of the publisher.
    """
    inventory = from_slices(node.name, slices_from_json(list(documents)), node_labels(node))
    if inventory is None:
        raise ValueError(f"node {node.name}: its own ResourceSlices do not make a complete pool")
    return inventory


def device_classes(nodes: Sequence[DemoNode], side: Side) -> list[dict[str, Any]]:
    """One DeviceClass for whole GPUs and one for each MIG profile without suffix that the fleet has."""
    driver, _ = _DRIVERS[side]
    profiles = sorted(
        {profile.name for node in nodes if node.shape.mig for profile in node.model.profiles if profile.plain}
    )
    whole = f"device.driver == '{driver}' && device.attributes['{driver}'].type == 'gpu'"
    classes = [_device_class(f"{driver.split('.')[1]}-gpu", whole, "nvidia.com/gpu")]
    for profile in profiles:
        part = (
            f"device.driver == '{driver}' && device.attributes['{driver}'].type == 'mig'"
            f" && device.attributes['{driver}'].profile == '{profile}'"
        )
        name = f"{driver.split('.')[1]}-mig-{profile.replace('.', '')}"
        classes.append(_device_class(name, part, f"nvidia.com/mig-{profile}"))
    return classes


def _device_class(name: str, expression: str, resource: str) -> dict[str, Any]:
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "DeviceClass",
        "metadata": {"name": name},
        "spec": {"selectors": [{"cel": {"expression": expression}}], "extendedResourceName": resource},
    }
