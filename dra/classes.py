"""The DeviceClasses of our driver: whole GPUs, any MIG instance, and one class for each MIG profile.

Each class with a definite device also answers for the extended resource that pods ask for today (KEP-5004),
so
``nvidia.com/gpu: 1`` or ``nvidia.com/mig-1g.10gb: 1`` needs no change. A profile class covers all models
that have a profile of that name; a claim narrows it by the ``model`` attribute. Selectors are guarded: an
absent attribute is an error in CEL.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dra.inventory import SLICEWISE_DRIVER

_DRIVER = f"device.driver == '{SLICEWISE_DRIVER}'"
_ATTRIBUTES = f"device.attributes['{SLICEWISE_DRIVER}']"


def class_name(profile: str | None) -> str:
    """The class of whole GPUs (None) or of a MIG profile: "mig-1g.10gb.slicewise.io"."""
    return f"mig-{_dotted(profile)}.slicewise.io" if profile is not None else "gpu.slicewise.io"


def device_classes(profiles: Iterable[str]) -> list[dict[str, Any]]:
    """JSON-ready DeviceClasses for whole GPUs, for any MIG instance and for each of ``profiles``."""
    classes = [
        _class("gpu.slicewise.io", f"{_DRIVER} && {_ATTRIBUTES}.type == 'gpu'", "nvidia.com/gpu"),
        _class("mig.slicewise.io", f"{_DRIVER} && {_ATTRIBUTES}.type == 'mig'", None),
    ]
    for profile in profiles:
        selector = f"{_DRIVER} && 'profile' in {_ATTRIBUTES} && {_ATTRIBUTES}.profile == '{profile}'"
        classes.append(_class(class_name(profile), selector, f"nvidia.com/mig-{_dotted(profile)}"))
    return classes


def _dotted(profile: str) -> str:
    """As the device plugin spells profiles in resource names."""
    return profile.replace("+", ".")


def _class(name: str, expression: str, extended_resource: str | None) -> dict[str, Any]:
    spec: dict[str, Any] = {"selectors": [{"cel": {"expression": expression}}]}
    if extended_resource is not None:
        spec["extendedResourceName"] = extended_resource
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "DeviceClass",
        "metadata": {"name": name},
        "spec": spec,
    }
