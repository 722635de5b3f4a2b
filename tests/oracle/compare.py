"""Compares the replay with an oracle's answers to the same case.

Where an order is random in the real allocator (pools before 1.36), the replay is asked once for every order
of the pools, and each answer of the oracle must be among its answers. When all orders give one
answer the comparison is exact. A search that either side gave up is left undecided.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import msgspec

from dra.allocator import Allocation, DeviceId, allocate
from dra.quantity import amount
from dra.releases import RELEASES, Version
from dra.resource_api import DeviceClaim, DeviceClass, ResourceSlice

Answer = tuple[Any, ...]
"""("allocated", results of each claim), ("none",), ("error",) or ("unknown", reason)."""

_GAVE_UP = "no answer after trying"


@dataclass(frozen=True, slots=True)
class Verdict:
    """``same``: every answer of the oracle is one of the replay's; ``orders``: so many answers the replay has
    for the possible orders; ``seen``: so many of them the oracle gave.
    """

    outcome: Literal["same", "different", "undecided"]
    kind: str
    orders: int
    seen: int
    detail: str = ""


def judge(version: Version, case: dict[str, Any], replayed: set[Answer], line: dict[str, Any]) -> Verdict:
    """Compare ``replay`` of a case with the oracle's answer line."""
    real = {_real(answer) for answer in line["answers"]}
    kind = min(answer[0] for answer in real)
    orders, seen = len(replayed), len(real)
    gave_up = any(answer[0] == "unknown" and answer[1].startswith(_GAVE_UP) for answer in replayed)
    if gave_up or any(answer[0] == "timeout" for answer in real):
        return Verdict("undecided", kind, orders, seen)
    messages = sorted({answer["message"] for answer in line["answers"] if answer.get("message")})
    # The API server would have refused a selector that does not compile: a fault of the case.
    if real <= replayed and not any("CEL compile error" in message for message in messages):
        return Verdict("same", kind, orders, seen)
    detail = f"{version} case {case['id']}: real {sorted(real, key=repr)} {messages}, replay {replayed}"
    return Verdict("different", kind, orders, seen, detail)


def replay(version: Version, case: dict[str, Any], most_steps: int = 200_000) -> set[Answer]:
    """What the replay says to a case, for every order that the pools may be met in."""
    slices = msgspec.convert(case["slices"], tuple[ResourceSlice, ...])
    claims = msgspec.convert(case["claims"], tuple[DeviceClaim, ...])
    classes = {c.metadata.name: c for c in msgspec.convert(case["classes"], tuple[DeviceClass, ...])}
    allocated = {_id(entry) for entry in case["allocated"]}
    shares = {
        _id(entry): {name: amount(value) or Fraction(0) for name, value in entry["capacity"].items()}
        for entry in case["consumed"]
    }
    node = case["node"]
    answers: set[Answer] = set()
    for ordered in _orders(slices) if not RELEASES[version].sorted else [slices]:
        result = allocate(
            claims,
            ordered,
            allocated,
            classes,
            node["name"],
            node["labels"],
            version,
            shares=shares,
            most_steps=most_steps,
        )
        if isinstance(result, Allocation):
            answers.add(("allocated", _replayed(result)))
        elif result.kind == "unsupported":
            answers.add(("unknown", result.reason))
        else:
            answers.add(("none",) if result.kind == "no-fit" else ("error",))
    return answers


def _orders(slices: Sequence[ResourceSlice]) -> list[list[ResourceSlice]]:
    pools: dict[tuple[str, str], list[ResourceSlice]] = {}
    for item in slices:
        pools.setdefault((item.spec.driver, item.spec.pool.name), []).append(item)
    return [
        [item for pool in order for item in pool]
        for order in itertools.permutations(pools.values(), len(pools))
    ]


def _id(entry: dict[str, Any]) -> DeviceId:
    return DeviceId(entry["driver"], entry["pool"], entry["device"])


def _replayed(result: Allocation) -> Answer:
    return tuple(
        tuple(
            (
                one.request,
                one.device.driver,
                one.device.pool,
                one.device.device,
                one.admin_access,
                one.share or (),
            )
            for one in claim
        )
        for claim in result.claims
    )


def _real(answer: dict[str, Any]) -> Answer:
    if answer["outcome"] != "allocated":
        return (answer["outcome"],)
    return (
        "allocated",
        tuple(
            tuple(
                (
                    one["request"],
                    one["driver"],
                    one["pool"],
                    one["device"],
                    one["adminAccess"],
                    tuple(sorted((n, amount(v)) for n, v in one.get("consumedCapacity", {}).items())),
                )
                for one in claim
            )
            for claim in answer["claims"]
        ),
    )
