"""In which order a node's MIG placements are published, over all its GPUs: what first-fit takes is the best
card of the node and the best place on it.

The in-tree allocator takes the first device that satisfies a request, slices in name order, devices in array
order. With a slice a GPU it would take the first GPU with room, whatever that costs. So placements of one
profile stand together, those of all GPUs of a model in one slice where it has room for them (64 devices): a
*run*. In a run the GPU that loses least worth comes first (``dra.device_order`` says what is lost), of equals
the lower position; all placements of one GPU follow one another, in its own order. GPUs without room stand at
the end. Without a table GPUs keep their positions.

A run is published anew only when a pod would otherwise lose more by first-fit than a write is worth
(``run_holds``): each write of a slice costs the API server some 20 ms and makes kube-scheduler look again at
every pod that waits. What a write is worth is a share of an empty GPU, larger for a profile that nobody is
expected to ask for (``benchmarks.order_writes`` says what that costs and saves). Without a table any other
device is reason enough. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

from dra.catalog import GpuModel
from dra.device_order import SCALE, OrderTable, device_order
from dra.placement import Placement
from dra.slice_parts import MOST_DEVICES

WRITE_WORTH = SCALE // 200
"""A pod of an expected profile may lose so much, in millionths of an empty GPU, before a slice is written."""
UNEXPECTED_WRITE_WORTH = SCALE // 5
"""The same of a profile that nobody is expected to ask for."""

Run = tuple[tuple[int, Placement], ...]
"""(position of the GPU, placement), in published order."""


class Runs:
    """The runs of one node as they were published last. For one thread."""

    def __init__(self) -> None:
        self._kept: dict[tuple[GpuModel, str, tuple[int, ...]], Run] = {}

    def now(
        self, models: Mapping[int, GpuModel], masks: Mapping[int, int], tables: Mapping[str, OrderTable]
    ) -> list[Run]:
        """The runs to publish: those of last time where they hold, else the best. ``models`` and ``masks``:
        of the GPUs that are cut, by position; ``tables``: by name of the model.
        """
        found = []
        for model, profile, positions in run_places(models):
            table = tables.get(model.name)
            if table is not None and table.units != model.units:
                table = None
            best = best_run(model, profile, positions, masks, table)
            key = model, profile, positions
            kept = self._kept.get(key)
            if kept is None or not run_holds(kept, best, masks, table):
                kept = self._kept[key] = best
            found.append(kept)
        return found


def run_places(models: Mapping[int, GpuModel]) -> Iterator[tuple[GpuModel, str, tuple[int, ...]]]:
    """(model, profile, positions) of each run, in the order of their slices. ``models``: by position."""
    by_model: dict[GpuModel, list[int]] = {}
    for position in sorted(models):
        by_model.setdefault(models[position], []).append(position)
    for model, positions in by_model.items():
        for profile in model.profiles:
            if profile.starts:
                most = max(1, MOST_DEVICES // len(profile.starts))
                for first in range(0, len(positions), most):
                    yield model, profile.name, tuple(positions[first : first + most])


def best_run(
    model: GpuModel,
    profile: str,
    positions: Iterable[int],
    masks: Mapping[int, int],
    table: OrderTable | None,
) -> Run:
    """All placements of a profile on the GPUs at ``positions``, best first. ``masks``: occupied units, by
    position.
    """
    turns = sorted(positions, key=lambda position: (_loss(model, profile, masks[position], table), position))
    return tuple(
        (position, placement)
        for position in turns
        for placement in _own_order(model, profile, masks[position], table)
    )


def run_holds(published: Run, wanted: Run, masks: Mapping[int, int], table: OrderTable | None = None) -> bool:
    """Whether first-fit takes the same device over both, which have the same devices, or loses too little
    over ``published`` to write it anew, while the masks stay as they are. ``table``: of the model's units.
    """
    taken, best = _first(published, masks), _first(wanted, masks)
    if taken == best or taken is None or best is None:
        return taken == best
    if table is None:
        return False
    expected = table.expected is None or taken[1].profile in table.expected
    worth = WRITE_WORTH if expected else UNEXPECTED_WRITE_WORTH
    lost, least = (table.lost(masks[position], placement.bits) for position, placement in (taken, best))
    return lost - least <= worth


@lru_cache(maxsize=8192)
def _own_order(model: GpuModel, profile: str, mask: int, table: OrderTable | None) -> tuple[Placement, ...]:
    return tuple(p for p in device_order(model, mask, table) if p.profile == profile)


@lru_cache(maxsize=8192)
def _loss(model: GpuModel, profile: str, mask: int, table: OrderTable | None) -> tuple[int, int]:
    """(0, worth that the best placement costs) where one fits, else (1, 0)."""
    first = _own_order(model, profile, mask, table)[0]
    if first.bits & mask:
        return 1, 0
    if table is None or table.units != model.units:
        return 0, 0
    return 0, table.lost(mask, first.bits)


def _first(run: Run, masks: Mapping[int, int]) -> tuple[int, Placement] | None:
    return next(((position, p) for position, p in run if not p.bits & masks[position]), None)
