"""Building blocks of small cases for the oracles: rules, devices, pools, requests, claims."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dra.releases import Version

Json = dict[str, Any]
GPU, NIC = "gpu.slicewise.io", "nic.example.com"


@dataclass(frozen=True, slots=True)
class Rule:
    """``answer``: "none", "error", or for each claim its "request=device" results."""

    name: str
    source: str
    version: Version
    case: Json
    answer: str | list[list[str]]


def device(name: str, **fields: Any) -> Json:
    return {"name": name, **fields}


def index(name: str, value: int | str, **fields: Any) -> Json:
    """A device with one attribute."""
    kind = "int" if isinstance(value, int) else "string"
    return device(name, attributes={"index": {kind: value}}, **fields)


def rev(name: str) -> Json:
    return device(name, attributes={"rev": {"version": "1.2.3"}})


def takes(name: str, amount: int, counter_set: str = "s", **fields: Any) -> Json:
    """A device that consumes of the counter c."""
    consumed = [{"counterSet": counter_set, "counters": {"c": {"value": str(amount)}}}]
    return device(name, consumesCounters=consumed, **fields)


def counters(amount: int, name: str = "s") -> list[Json]:
    return [{"name": name, "counters": {"c": {"value": str(amount)}}}]


def pool(
    *specs: list[Json] | Json, driver: str = GPU, name: str = "n1", count: int = 0, **fields: Any
) -> list[Json]:
    """Slices of one pool in this order: lists of devices, or the rest of a spec."""
    found = []
    for number, spec in enumerate(specs):
        rest = spec if isinstance(spec, dict) else {"devices": spec}
        place = {} if {"allNodes", "nodeName"} & rest.keys() else {"nodeName": "n1"}
        named = {"name": name, "generation": 1, "resourceSliceCount": count or len(specs)}
        spec = {"driver": driver, "pool": named, **place, **rest}
        found.append({"metadata": {"name": f"{number}-{driver}-{name}"}, "spec": spec})
    return found


def told(count: int) -> Json:
    """A pool that says it has so many slices."""
    return {"name": "n1", "generation": 1, "resourceSliceCount": count}


def one(count: int = 1, expression: str | None = None, **fields: Any) -> Json:
    """A request for devices of the class that all belong to."""
    selectors = [{"cel": {"expression": expression}}] if expression else []
    return {
        "deviceClassName": "any",
        "selectors": selectors,
        "allocationMode": "ExactCount",
        "count": count,
        **fields,
    }


def every(expression: str | None = None, **fields: Any) -> Json:
    found = one(expression=expression, **fields)
    del found["count"]
    return found | {"allocationMode": "All"}


def claim(*requests: Json | list[Json], constraints: tuple[Json, ...] = ()) -> Json:
    """A claim; a list is a firstAvailable list."""
    listed: list[Json] = []
    for number, request in enumerate(requests):
        if isinstance(request, list):
            subs = [{"name": f"s{i}", **sub} for i, sub in enumerate(request)]
            listed.append({"name": f"r{number}", "firstAvailable": subs})
        else:
            listed.append({"name": f"r{number}", "exactly": request})
    return {"requests": listed, "constraints": list(constraints)}


def case(
    slices: list[Json],
    *claims: Json,
    allocated: tuple[str, ...] = (),
    consumed: tuple[tuple[str, Json], ...] = (),
) -> Json:
    """A whole case on node n1; what is held is of the first slice's pool."""
    spec = slices[0]["spec"]
    identity = {"driver": spec["driver"], "pool": spec["pool"]["name"]}
    return {
        "id": 0,
        "node": {"name": "n1", "labels": {}},
        "slices": slices,
        "classes": [{"metadata": {"name": "any"}, "spec": {"selectors": []}}],
        "claims": list(claims),
        "allocated": [{**identity, "device": name} for name in allocated],
        "consumed": [{**identity, "device": name, "capacity": held} for name, held in consumed],
        "repeat": 1,
        "timeoutMilliseconds": 0,
    }
