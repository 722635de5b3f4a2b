"""In which order a GPU's MIG placements are published, so that the allocator's first-fit takes the best.

The in-tree allocator takes the first device that satisfies a request, in published order. An ``OrderTable``
says what a GPU of one model is worth by what is occupied; of the places that fit, the one that takes the
least worth goes first, of equals the low start (as in the study of these tables). What does not fit follows
in the order for an empty GPU, so that every placement is always published. Without a table: the least-harm
order with equal weights (``dra.placement``).

The tables come from whoever knows the demand: the controller writes them to ConfigMap ``CONFIG_MAP`` under
``KEY``, the node's driver watches that one object. The text is JSON:

    {"version": 1, "tables": {"H100-80GB": {"units": 8, "worth": [1000000, ...], "expected": ["1g.10gb"]}}}

``worth`` holds one whole number for each of the 2 ** units masks, millionths of an empty GPU. Whole numbers
compare the same everywhere, and text made of them is small (2 KiB a model of 8 units). ``expected`` names the
profiles that pods are expected to ask for; where it is missing all are.

Pure; no numpy. Where the masks come from, and when to publish, is the driver's to decide.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from dra.catalog import GpuModel
from dra.placement import Placement, least_harm_order, placements

CONFIG_MAP = "slicewise-device-order"
KEY = "tables.json"
VERSION = 1
SCALE = 1_000_000  # the worth of an empty GPU

_MOST_UNITS = 16


class OrderRefused(ValueError):
    """The text or the numbers are not an order: the message says where, what was found and what is needed."""


@dataclass(frozen=True, slots=True)
class OrderTable:
    """What a GPU is worth by occupied mask: 2 ** units whole numbers, ``SCALE`` when empty; hashable.
    ``expected``: profiles that pods will ask for, None where that is not told.
    """

    worth: tuple[int, ...]
    expected: frozenset[str] | None = None

    @property
    def units(self) -> int:
        """Memory units of the GPUs it is for."""
        return len(self.worth).bit_length() - 1

    def lost(self, mask: int, bits: int) -> int:
        """What a GPU with ``mask`` occupied loses of its worth when ``bits`` are taken as well."""
        return self.worth[mask] - self.worth[mask | bits]


def order_table(worth: Sequence[float], expected: Iterable[str] | None = None) -> OrderTable:
    """The table of any worths by mask (money, slices), scaled so that an empty GPU counts ``SCALE``.

    Raises OrderRefused when their number is not a power of 2 or one of them is not finite.
    """
    if not _is_grid(len(worth)):
        raise OrderRefused(f"device order: got {len(worth)} worths, expected 2 ** units, at most 16 units")
    least, most = float(min(worth)), float(worth[0])
    if not all(abs(float(value)) < float("inf") for value in worth):
        raise OrderRefused("device order: got a worth that is not finite, expected a number for each mask")
    span = most - least
    scale = SCALE / span if span > 0.0 else 0.0
    return OrderTable(
        tuple(round((float(value) - least) * scale) for value in worth),
        None if expected is None else frozenset(expected),
    )


@lru_cache(maxsize=2048)
def device_order(model: GpuModel, mask: int, table: OrderTable | None) -> tuple[Placement, ...]:
    """All placements of a GPU with ``mask`` occupied, fitting ones first, best first; plain profiles and
    those with suffixes alike.

    A table for another number of units says nothing about this model and counts as none.
    """
    if table is None or table.units != model.units:
        return least_harm_order(model, mask, {})
    lost = table.lost

    def key(placement: Placement, occupied: int) -> tuple[int, int]:
        return lost(occupied, placement.bits), placement.start

    every = placements(model)
    fitting = sorted((p for p in every if not p.bits & mask), key=lambda p: key(p, mask))
    others = sorted((p for p in every if p.bits & mask), key=lambda p: key(p, 0))
    return (*fitting, *others)


def same_order(model: GpuModel, one: OrderTable | None, other: OrderTable | None) -> bool:
    """Whether both give every state that instances lead to the same order of the places that fit, profile by
    profile: no pod could tell them apart.
    """
    return one == other or all(
        _choices(device_order(model, mask, one), mask) == _choices(device_order(model, mask, other), mask)
        for mask in _reachable(model)
    )


def parse_tables(text: str) -> Mapping[str, OrderTable]:
    """Tables by model from the ConfigMap's text.

    Raises OrderRefused; a later ``version`` is refused too, so that the driver keeps what it has.
    """
    try:
        document = json.loads(text)
    except ValueError as problem:
        raise OrderRefused(f"{CONFIG_MAP}, key {KEY}: not JSON: {problem}") from problem
    if not isinstance(document, dict) or document.get("version") != VERSION:
        found = document.get("version") if isinstance(document, dict) else type(document).__name__
        raise OrderRefused(f"{CONFIG_MAP}, key {KEY}: got version {found!r}, expected {VERSION}")
    tables = document.get("tables")
    if not isinstance(tables, dict):
        raise OrderRefused(
            f"{CONFIG_MAP}, key {KEY}: tables: got {type(tables).__name__}, expected an object"
        )
    return MappingProxyType({name: _table(name, entry) for name, entry in sorted(tables.items())})


def render_tables(tables: Mapping[str, OrderTable]) -> str:
    """The ConfigMap's text; ``parse_tables`` reads it back."""
    document = {
        "version": VERSION,
        "tables": {
            name: {"units": table.units, "worth": list(table.worth)}
            | ({} if table.expected is None else {"expected": sorted(table.expected)})
            for name, table in sorted(tables.items())
        },
    }
    return json.dumps(document, separators=(",", ":"))


def _table(name: str, entry: object) -> OrderTable:
    where = f"{CONFIG_MAP}, key {KEY}: tables[{name!r}]"
    if not isinstance(entry, dict):
        raise OrderRefused(f"{where}: got {type(entry).__name__}, expected an object")
    units, worth = entry.get("units"), entry.get("worth")
    if type(units) is not int or not 0 <= units <= _MOST_UNITS:
        raise OrderRefused(f"{where}.units: got {units!r}, expected a whole number up to {_MOST_UNITS}")
    if not isinstance(worth, list) or len(worth) != 1 << units:
        found = len(worth) if isinstance(worth, list) else type(worth).__name__
        raise OrderRefused(f"{where}.worth: got {found}, expected {1 << units} numbers")
    if not all(type(value) is int for value in worth):
        raise OrderRefused(f"{where}.worth: expected whole numbers only")
    expected = entry.get("expected")
    if expected is None:
        return OrderTable(tuple(worth))
    if not isinstance(expected, list) or not all(isinstance(profile, str) for profile in expected):
        raise OrderRefused(f"{where}.expected: got {expected!r}, expected a list of profile names")
    return OrderTable(tuple(worth), frozenset(expected))


def _is_grid(count: int) -> bool:
    return count > 0 and count & (count - 1) == 0 and count <= 1 << _MOST_UNITS


def _choices(order: Sequence[Placement], mask: int) -> list[tuple[str, int]]:
    """The places that fit, (profile, start), by profile and then in order."""
    fitting = [(p.profile, p.start) for p in order if not p.bits & mask]
    return sorted(fitting, key=lambda one: one[0])


@lru_cache(maxsize=64)
def _reachable(model: GpuModel) -> tuple[int, ...]:
    """Masks that some set of instances occupies."""
    found, todo = {0}, [0]
    while todo:
        mask = todo.pop()
        for placement in placements(model):
            if not placement.bits & mask and mask | placement.bits not in found:
                found.add(mask | placement.bits)
                todo.append(mask | placement.bits)
    return tuple(sorted(found))
