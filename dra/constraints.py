"""Constraints between the devices of a claim, as the in-tree allocator applies them while it searches.

``matchAttribute``: all devices have the attribute, with the same type and value. ``distinctAttribute``: each
differs. Both are monotonic, so the search may stop at the first device that breaks one.

One quirk is kept on purpose (constraint.go, 1.36): the distinct constraint remembers one value for each
request, so the devices of a request with a count are compared with the last of them only.
"""

from __future__ import annotations

from typing import Literal, Protocol

from dra.resource_api import Device, DeviceConstraint

Distinct = Literal["error", "value", "place"]
Typed = tuple[str, int | bool | str]


class Constraint(Protocol):
    """Knows the devices taken so far."""

    def add(self, request: str, sub: str | None, device: Device, driver: str) -> bool:
        """Take a device, or return False and change nothing."""
        ...

    def remove(self, request: str, sub: str | None) -> None:
        """Undo the last ``add`` that returned True."""
        ...


def constraint_for(constraint: DeviceConstraint, distinct: Distinct = "value") -> Constraint | None:
    """The rule for one claim; None for a constraint type that is not known. ``distinct``: as in Release."""
    if constraint.match_attribute is not None:
        return _Match(frozenset(constraint.requests), constraint.match_attribute)
    if constraint.distinct_attribute is None or distinct == "error":
        return None
    return _Distinct(frozenset(constraint.requests), constraint.distinct_attribute, distinct == "value")


def attribute_of(device: Device, driver: str, name: str) -> Typed | None:
    """A fully qualified attribute; names without a domain are in the driver's."""
    found = device.attributes.get(name)
    domain, slash, key = name.partition("/")
    if found is None and slash and domain == driver:
        found = device.attributes.get(key)
    return found.typed if found is not None else None


def _affects(requests: frozenset[str], request: str, sub: str | None) -> bool:
    return not requests or request in requests or (sub is not None and f"{request}/{sub}" in requests)


class _Match:
    def __init__(self, requests: frozenset[str], attribute: str) -> None:
        self._requests = requests
        self._attribute = attribute
        self._value: Typed | None = None
        self._devices = 0

    def add(self, request: str, sub: str | None, device: Device, driver: str) -> bool:
        if not _affects(self._requests, request, sub):
            return True
        value = attribute_of(device, driver, self._attribute)
        if value is None or (self._devices and value != self._value):
            return False
        self._value = value
        self._devices += 1
        return True

    def remove(self, request: str, sub: str | None) -> None:
        if _affects(self._requests, request, sub):
            self._devices -= 1


class _Distinct:
    def __init__(self, requests: frozenset[str], attribute: str, compares: bool) -> None:
        self._requests = requests
        self._attribute = attribute
        self._compares = compares
        self._values: dict[str, Typed] = {}
        self._devices = 0

    def add(self, request: str, sub: str | None, device: Device, driver: str) -> bool:
        if not _affects(self._requests, request, sub):
            return True
        value = attribute_of(device, driver, self._attribute)
        if value is None or (self._compares and self._devices and value in self._values.values()):
            return False
        self._values[request] = value
        self._devices += 1
        return True

    def remove(self, request: str, sub: str | None) -> None:
        if _affects(self._requests, request, sub):
            self._values.pop(request, None)
            self._devices -= 1
