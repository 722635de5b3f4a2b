"""The DeviceClasses of our driver: ``python -m deploy.device_classes`` prints manifests/device-classes.yaml.

Those of ``dra.classes`` for every MIG profile that any model of the catalogue has, and one for shares of a
GPU.
A test holds the committed file to this.
"""

from __future__ import annotations

import sys
from typing import Any

import yaml

from dra.catalog import models
from dra.classes import device_classes
from dra.slice_parts import SLICEWISE_DRIVER

_HEADER = """\
# Made by `python -m deploy.device_classes`; do not edit.
# A claim names a class; a pod may instead ask the extended resource of the class in its limits:
# nvidia.com/gpu, nvidia.com/gpu.shared, nvidia.com/mig-1g.10gb (Kubernetes 1.36, or the gate
# DRAExtendedResource). Where NVIDIA's DRA driver is installed too, remove extendedResourceName from one of
# the two classes that have the same.
"""


def all_classes() -> list[dict[str, Any]]:
    """All classes, JSON-ready: whole GPUs, shares, any MIG instance, then one for each profile by size."""
    profiles = sorted({p.name for model in models().values() for p in model.profiles}, key=_by_size)
    whole, *rest = device_classes(profiles)
    return [whole, _shares(), *rest]


def _shares() -> dict[str, Any]:
    shared = f"device.attributes['{SLICEWISE_DRIVER}'].type == 'shared'"
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "DeviceClass",
        "metadata": {"name": "gpu-shared.slicewise.io"},
        "spec": {
            "selectors": [{"cel": {"expression": f"device.driver == '{SLICEWISE_DRIVER}' && {shared}"}}],
            "extendedResourceName": "nvidia.com/gpu.shared",
        },
    }


def _by_size(profile: str) -> tuple[int, int, str]:
    slices, _, rest = profile.partition("g.")
    gigabytes = rest.partition("gb")[0]
    return int(slices), int(gigabytes), profile


def main() -> int:
    """Print the manifest."""
    sys.stdout.write(_HEADER + yaml.safe_dump_all(all_classes(), sort_keys=False, width=200))
    return 0


if __name__ == "__main__":
    sys.exit(main())
