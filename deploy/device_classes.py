"""The DeviceClasses of our driver: ``python -m deploy.device_classes`` prints manifests/device-classes.yaml.

One class for whole GPUs, one for shares, one for each MIG profile that any model of the catalogue has. Each
answers for the extended resource of NVIDIA's device plugin (``extendedResourceName``, KEP-5004), so that
today's manifests get our devices. A test holds the committed file to this.
"""

from __future__ import annotations

import sys
from typing import Any

import yaml

from dra.catalog import models
from dra.slice_parts import SLICEWISE_DRIVER

_HEADER = """\
# Made by `python -m deploy.device_classes`; do not edit.
# A claim names a class; a pod may instead ask the extended resource of the class in its limits:
# nvidia.com/gpu, nvidia.com/gpu.shared, nvidia.com/mig-1g.10gb (Kubernetes 1.36, or the gate
# DRAExtendedResource). Where NVIDIA's DRA driver is installed too, remove extendedResourceName from one of
# the two classes that have the same.
"""


def device_classes() -> list[dict[str, Any]]:
    """All classes, JSON-ready."""
    profiles = sorted(
        {profile.name for model in models().values() for profile in model.profiles}, key=_by_size
    )
    return [
        _class("gpu.slicewise.io", "type == 'gpu'", "nvidia.com/gpu"),
        _class("gpu-shared.slicewise.io", "type == 'shared'", "nvidia.com/gpu.shared"),
        *(_profile_class(profile) for profile in profiles),
    ]


def class_name(profile: str) -> str:
    """The class of a MIG profile: "1g.10gb+me" has mig-1g.10gb.me.slicewise.io."""
    return f"mig-{_dotted(profile)}.slicewise.io"


def _profile_class(profile: str) -> dict[str, Any]:
    own = f"type == 'mig' && device.attributes['{SLICEWISE_DRIVER}'].profile == '{profile}'"
    return _class(class_name(profile), own, f"nvidia.com/mig-{_dotted(profile)}")


def _class(name: str, own: str, resource: str) -> dict[str, Any]:
    attribute = f"device.attributes['{SLICEWISE_DRIVER}']"
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "DeviceClass",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/name": "slicewise"}},
        "spec": {
            "selectors": [
                {"cel": {"expression": f"device.driver == '{SLICEWISE_DRIVER}' && {attribute}.{own}"}}
            ],
            "extendedResourceName": resource,
        },
    }


def _dotted(profile: str) -> str:
    return profile.replace("+", ".")


def _by_size(profile: str) -> tuple[int, int, str]:
    slices, _, rest = profile.partition("g.")
    gigabytes = rest.partition("gb")[0]
    return int(slices), int(gigabytes), profile


def main() -> int:
    """Print the manifest."""
    sys.stdout.write(_HEADER + yaml.safe_dump_all(device_classes(), sort_keys=False, width=200))
    return 0


if __name__ == "__main__":
    sys.exit(main())
