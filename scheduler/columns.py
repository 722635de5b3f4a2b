"""The fleet's state as columns: one row a node, numpy, growing by doubling.

Shapes: n rows, G GPUs a row (as many as the largest node has), P fixed MIG profiles. Two occupancies stand
side by side:

- ``certain``: what facts say (allocated claims; under the device plugin, bound pods). The filter vetoes on
  nothing else.
- ``occupied``: facts plus what is expected (bound pods whose claims are not seen yet, nominations,
  reservations). Prices use this.

Masks are uint16 bitmasks of occupied MIG memory units; positions beyond a node's GPUs are ``BEYOND`` (all
ones) in both, so they are never free. Rows of deleted nodes have ``valid`` False and no GPUs. Holds no lock
and knows no Kubernetes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

BEYOND = 0xFFFF
NO_ID = -1
WHOLE_IS_GPU = -1
WHOLE_IS_SHARED = -2

Rows: TypeAlias = NDArray[np.int64]
Masks: TypeAlias = NDArray[np.uint16]
Ids: TypeAlias = NDArray[np.int32]


@dataclass(slots=True)
class Columns:
    """All columns, or those of some rows (then plain copies).

    uint16[n, G] ``occupied``, ``certain``, ``full`` (mask of a whole GPU, BEYOND past the node's count);
    int32[n, G] ``model_id`` (-1 beyond), ``order_id`` (0 where no MIG instance can be made); int64[n, G]
    ``turns`` (``dra.turns.packed``: when first-fit comes to the GPU, by profile); int32[n]
    ``topology_id``, ``zone_id``, ``class_id``, ``row_model`` (-1: none); bool[n, G] ``whole`` (offered as a
    whole GPU); bool[n] ``valid``, ``mixed`` (several models), ``best_links`` (the device plugin prefers
    linked GPUs); int32[n] ``whole_as`` (what ``nvidia.com/gpu`` stands for: WHOLE_IS_GPU, WHOLE_IS_SHARED
    or the column of a fixed MIG profile); int32[n, P] fixed MIG instances; int32[n] shared replicas;
    where a DRA driver tells shared GPUs one by one also ``share_step_mib`` (memory of one share),
    ``share_most`` (shares of the GPU that has the most), ``share_left`` and ``step_left`` (shares, and
    shares' memories, left on the GPU that has the most of them left) and what facts say of these, else 0;
    int32[n, *] ids of images and weights present (-1: none); int32[n] ``shared_company``, ``node_company``
    and int32[n, G] ``root_company``: who stands there already (``scheduler.neighbours``; 0: nobody); int32[n]
    ``cpu_free``, ``memory_free``: milli-CPU and MiB that facts and expectations leave, 0 without a GPU.
    """

    valid: NDArray[np.bool_]
    occupied: Masks
    certain: Masks
    full: Masks
    model_id: Ids
    order_id: Ids
    turns: NDArray[np.int64]
    whole: NDArray[np.bool_]
    topology_id: Ids
    zone_id: Ids
    class_id: Ids
    row_model: Ids
    mixed: NDArray[np.bool_]
    best_links: NDArray[np.bool_]
    whole_as: Ids
    gpu_count: Ids
    static_total: Ids
    static_used: Ids
    static_certain: Ids
    shared_total: Ids
    shared_gpus: Ids
    shared_used: Ids
    shared_certain: Ids
    share_step_mib: Ids
    share_most: Ids
    share_left: Ids
    share_left_certain: Ids
    step_left: Ids
    step_left_certain: Ids
    image_ids: Ids
    weight_ids: Ids
    shared_company: Ids
    node_company: Ids
    root_company: Ids
    cpu_free: Ids
    memory_free: Ids
    changed_at: NDArray[np.int64]

    def contents(self) -> list[bytes]:
        """All that a price can depend on in each row, as bytes; equal for equal rows."""
        count = len(self)
        if not count:
            return []
        parts = [
            np.ascontiguousarray(column).reshape(count, -1).view(np.uint8)
            for column in _CONTENT(self)
            if column.size
        ]
        packed = np.concatenate(parts, axis=1)
        data, width = packed.tobytes(), packed.shape[1]
        return [data[start : start + width] for start in range(0, len(data), width)]

    def __len__(self) -> int:
        return len(self.valid)

    @property
    def gpus(self) -> int:
        """Width of the per-GPU columns."""
        return int(self.occupied.shape[1])

    def take(self, rows: Rows | slice) -> Columns:
        """The columns of some rows: views for a slice, copies for an index array."""
        if isinstance(rows, slice):
            return Columns(*[column[rows] for column in _ALL(self)])
        return Columns(*[column.take(rows, axis=0) for column in _ALL(self)])


_ALL = attrgetter(*(field.name for field in fields(Columns)))
_CONTENT = attrgetter(*(field.name for field in fields(Columns) if field.name != "changed_at"))


def empty_columns(rows: int, gpus: int, profiles: int, images: int, weights: int) -> Columns:
    """Columns of rows without a node."""

    def ids(*shape: int, value: int = NO_ID) -> Ids:
        return np.full(shape, value, dtype=np.int32)

    def masks() -> Masks:
        return np.full((rows, gpus), BEYOND, dtype=np.uint16)

    def flags() -> NDArray[np.bool_]:
        return np.zeros(rows, dtype=np.bool_)

    return Columns(
        valid=flags(),
        occupied=masks(),
        certain=masks(),
        full=masks(),
        model_id=ids(rows, gpus),
        order_id=ids(rows, gpus, value=0),
        turns=np.zeros((rows, gpus), dtype=np.int64),
        whole=np.zeros((rows, gpus), dtype=np.bool_),
        topology_id=ids(rows),
        zone_id=ids(rows),
        class_id=ids(rows),
        row_model=ids(rows),
        mixed=flags(),
        best_links=flags(),
        whole_as=ids(rows, value=WHOLE_IS_GPU),
        gpu_count=ids(rows, value=0),
        static_total=ids(rows, profiles, value=0),
        static_used=ids(rows, profiles, value=0),
        static_certain=ids(rows, profiles, value=0),
        shared_total=ids(rows, value=0),
        shared_gpus=ids(rows, value=0),
        shared_used=ids(rows, value=0),
        shared_certain=ids(rows, value=0),
        share_step_mib=ids(rows, value=0),
        share_most=ids(rows, value=0),
        share_left=ids(rows, value=0),
        share_left_certain=ids(rows, value=0),
        step_left=ids(rows, value=0),
        step_left_certain=ids(rows, value=0),
        image_ids=ids(rows, images),
        weight_ids=ids(rows, weights),
        shared_company=ids(rows, value=0),
        node_company=ids(rows, value=0),
        root_company=ids(rows, gpus, value=0),
        cpu_free=ids(rows, value=0),
        memory_free=ids(rows, value=0),
        changed_at=np.zeros(rows, dtype=np.int64),
    )


def joined(first: Columns, second: Columns) -> Columns:
    """The rows of both, one after the other (copies)."""
    parts = zip(_ALL(first), _ALL(second), strict=True)
    return Columns(*[np.concatenate(pair) for pair in parts])


def grown(columns: Columns, *, rows: int, gpus: int, profiles: int, images: int, weights: int) -> Columns:
    """The same columns with room for at least so many rows, GPUs, profiles and assets; unchanged when they
    have it.
    """
    have = (
        len(columns),
        columns.gpus,
        columns.static_total.shape[1],
        columns.image_ids.shape[1],
        columns.weight_ids.shape[1],
    )
    want = tuple(
        _doubled(size, need) for size, need in zip(have, (rows, gpus, profiles, images, weights), strict=True)
    )
    if want == have:
        return columns
    larger = empty_columns(*want)
    for field in fields(columns):
        old: NDArray[Any] = getattr(columns, field.name)
        new: NDArray[Any] = getattr(larger, field.name)
        if old.ndim == 1:
            new[: len(old)] = old
        else:
            new[: len(old), : old.shape[1]] = old
    return larger


def blank_row(columns: Columns, row: int, *, assets: bool = True) -> None:
    """Make a row that of no node; ``assets`` False keeps its images and weights."""
    blank = empty_columns(1, columns.gpus, 0, 0, 0)
    for name in Columns.__slots__:
        if name == "changed_at" or (name in ("image_ids", "weight_ids") and not assets):
            continue
        column: NDArray[Any] = getattr(columns, name)
        if name.startswith("static_"):
            column[row] = 0
        elif name in ("image_ids", "weight_ids"):
            column[row] = NO_ID
        else:
            column[row] = getattr(blank, name)[0]


def _doubled(size: int, need: int) -> int:
    while size < need:
        size = max(1, size * 2)
    return size
