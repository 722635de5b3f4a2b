"""Nodes for the tests of slices, claims and the allocator."""

import msgspec

from dra.catalog import models
from dra.classes import device_classes
from dra.inventory import Gpu, NodeInventory, from_slices
from dra.mig import geometry
from dra.nvlink import nvswitch, pcie_only
from dra.resource_api import DeviceClaim, DeviceClass, slices_from_json
from dra.slices import nvidia_slices, to_slices

PROFILES = sorted({profile.name for model in models().values() for profile in model.profiles})


def node(name="n1", model="A100-40GB", gpus=2, partitionable=True, topology=None):
    """An inventory as our driver would find it, before anything is published."""
    found = models()[model]
    listed = tuple(
        Gpu(i, f"GPU-{name}-{i}", found, partitionable and bool(found.profiles), found.products[0])
        for i in range(gpus)
    )
    wired = topology or (nvswitch(found, gpus) if found.nvlink else pcie_only(found, gpus))
    orders = tuple(geometry(found).placements if gpu.partitionable else () for gpu in listed)
    return NodeInventory(name, "slicewise", "gpu.slicewise.io", name, listed, wired, orders, {}, {})


def ours(inventory, masks=None, weights=None, **options):
    return slices_from_json(
        to_slices(inventory, masks or [0] * len(inventory.gpus), weights or {}, **options)
    )


def nvidias(inventory, **options):
    return slices_from_json(nvidia_slices(inventory, **options))


def read_back(slices, name="n1") -> NodeInventory:
    """The inventory in slices that must hold one."""
    inventory = from_slices(name, slices)
    assert inventory is not None
    return inventory


def classes():
    """Our classes and, by their published selectors, NVIDIA's."""
    found = msgspec.convert(device_classes(PROFILES), list[DeviceClass])
    for kind in ("gpu", "mig"):
        expression = (
            f"device.driver == 'gpu.nvidia.com' && device.attributes['gpu.nvidia.com'].type == '{kind}'"
        )
        found.append(
            msgspec.convert(
                {
                    "metadata": {"name": f"{kind}.nvidia.com"},
                    "spec": {"selectors": [{"cel": {"expression": expression}}]},
                },
                DeviceClass,
            )
        )
    return {item.metadata.name: item for item in found}


def claim(*requests, constraints=()):
    """A claim's devices: each request is a class name or a dictionary for ``exactly``."""
    listed = []
    for index, request in enumerate(requests):
        if isinstance(request, str):
            request = {"exactly": {"deviceClassName": request}}
        listed.append({"name": f"r{index}", **request})
    return msgspec.convert({"requests": listed, "constraints": list(constraints)}, DeviceClaim)


def exactly(class_name, **fields):
    return {"exactly": {"deviceClassName": class_name, **fields}}


def cel(expression):
    return [{"cel": {"expression": expression}}]


def nvidia_mig(profile):
    expression = f"device.attributes['gpu.nvidia.com'].profile == '{profile}'"
    return claim(exactly("mig.nvidia.com", selectors=cel(expression)))


def our_mig(profile):
    return claim(f"mig-{profile.replace('+', '.')}.slicewise.io")
