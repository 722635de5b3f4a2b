"""What others hold in a random case."""

from __future__ import annotations

from random import Random
from typing import Any

from dra.quantity import amount

Json = dict[str, Any]


def identity(item: Json, device: Json) -> Json:
    spec = item["spec"]
    return {"driver": spec["driver"], "pool": spec["pool"]["name"], "device": device["name"]}


def holdable(draw: Random, slices: list[Json], number: int) -> list[tuple[Json, Json]]:
    """So many devices that others may hold: their counters suffice, but for one time in ten."""
    free = {
        (s["spec"]["driver"], s["spec"]["pool"]["name"], one["name"], counter): int(
            amount(value["value"]) or 0
        )
        for s in slices
        for one in s["spec"].get("sharedCounters", ())
        for counter, value in one["counters"].items()
    }
    careless = draw.random() < 0.1
    listed = [(s, d) for s in slices for d in s["spec"].get("devices", ())]
    found: list[tuple[Json, Json]] = []
    for item, device in draw.sample(listed, len(listed)):
        if len(found) >= number:
            break
        needed = {
            (item["spec"]["driver"], item["spec"]["pool"]["name"], one["counterSet"], counter): int(
                amount(value["value"]) or 0
            )
            for one in device.get("consumesCounters", ())
            for counter, value in one["counters"].items()
        }
        if careless or all(free.get(key, 0) >= value for key, value in needed.items()):
            found.append((item, device))
            for key, value in needed.items():
                free[key] = free.get(key, 0) - value
    return found
