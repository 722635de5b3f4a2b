"""A capture: every NVML call of a discovery with its raw answer, to compare cards, drivers and the fake.

Handles are named by what they were got for ("gpu 0", "mig 2 of gpu 0"), as their addresses differ each time.
A capture holds the cards' UUIDs and serial numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dra.nvml_library import HandleAt, Refused, plain

SCHEMA = "slicewise.io/nvml-capture/v1"


class Capture:
    """Give ``record`` to ``open_cards``, then take ``document``."""

    def __init__(self) -> None:
        self._calls: list[dict[str, Any]] = []
        self._names: dict[int | None, str] = {}

    def record(self, name: str, arguments: Sequence[object], answer: object, seconds: float) -> None:
        """Write one call down."""
        told = [self._named(plain(argument)) for argument in arguments]
        line: dict[str, Any] = {"call": name, "arguments": told}
        if isinstance(answer, Refused):
            line["error"] = answer.code
        else:
            value = plain(answer)
            if isinstance(value, HandleAt):
                self._name(name, told, value)
            line["answer"] = self._named(value)
        line["microseconds"] = round(1e6 * seconds)
        self._calls.append(line)

    def document(self) -> dict[str, Any]:
        """The capture, JSON-ready: calls in order, each with "answer" or "error" (NVML's code)."""
        return {"schema": SCHEMA, "calls": list(self._calls)}

    def _name(self, call: str, told: Sequence[object], handle: HandleAt) -> None:
        if call == "nvmlDeviceGetHandleByIndex":
            self._names[handle.address] = f"gpu {told[0]}"
        elif call == "nvmlDeviceGetMigDeviceHandleByIndex":
            self._names[handle.address] = f"mig {told[1]} of {told[0]}"
        else:
            self._names.setdefault(handle.address, f"handle {len(self._names)}")

    def _named(self, value: object) -> object:
        if isinstance(value, HandleAt):
            return self._names.get(value.address, "null" if value.address is None else "unknown handle")
        if isinstance(value, list):
            return [self._named(item) for item in value]
        if isinstance(value, dict):
            return {key: self._named(item) for key, item in value.items()}
        return value
