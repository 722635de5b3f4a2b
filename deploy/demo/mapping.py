"""Which Kubernetes resource a pod of the openb trace asks for.

The trace knows shares of one GPU in thousandths; a MIG cluster knows profiles. The rule, in three lines:

1. A whole-GPU pod asks for ``nvidia.com/gpu: k``. With k of 2, 4 or 8 it counts as tensor-parallel and says
   that it prefers NVLink.
2. A share of m thousandths is taken as ``m × CARD_SHARE`` of an 80 GB card. The trace's own cards are mostly
   an undisclosed model beside 16 and 32 GB ones, so half an 80 GB card for one of them is an assumption, and
   the only one here. The pod gets the smallest profile that gives at least this share of both the compute
   slices (of 7) and the memory units (of 8).
3. Every second best-effort pod of at most ``SMALL_CARD_LIMIT`` thousandths asks for a 24 GB card (A30)
   instead, with its share taken as it is (of 4 compute slices and 4 memory units).

Pure: a row in, a request out. Profiles and their sizes are NVIDIA's (MIG user guide); they are spelled out
here because the rule is about names that a pod can ask for, not about what a node holds.
"""

from __future__ import annotations

from dataclasses import dataclass

CARD_SHARE = 0.5
SMALL_CARD_LIMIT = 330


@dataclass(frozen=True, slots=True)
class TraceRow:
    """One pod of the trace: CPU and GPU share in thousandths, memory in MiB, times in trace seconds."""

    name: str
    cpu_milli: int
    memory_mib: int
    gpus: int
    gpu_milli: int
    best_effort: bool
    created_seconds: float
    deleted_seconds: float


@dataclass(frozen=True, slots=True)
class Request:
    """What the pod asks for. ``units`` is the memory-grid units taken in its pool (GPUs for the pool
    ``whole``).
    """

    resource: str
    count: int
    profile: str | None
    pool: str
    units: int


@dataclass(frozen=True, slots=True)
class _Step:
    profile: str
    compute: float
    memory: float
    units: int


_LARGE_CARD = (
    _Step("1g.10gb", 1 / 7, 1 / 8, 1),
    _Step("2g.20gb", 2 / 7, 2 / 8, 2),
    _Step("3g.40gb", 3 / 7, 4 / 8, 4),
    _Step("4g.40gb", 4 / 7, 4 / 8, 4),
    _Step("7g.80gb", 1.0, 1.0, 8),
)
_SMALL_CARD = (
    _Step("1g.6gb", 1 / 4, 1 / 4, 1),
    _Step("2g.12gb", 2 / 4, 2 / 4, 2),
    _Step("4g.24gb", 1.0, 1.0, 4),
)
POOLS = ("mig-80gb", "mig-24gb", "whole")
UNITS_BY_PROFILE = {step.profile: step.units for step in (*_LARGE_CARD, *_SMALL_CARD)}


def _smallest(steps: tuple[_Step, ...], share: float) -> _Step:
    for step in steps:
        if step.compute >= share and step.memory >= share:
            return step
    return steps[-1]


def request_of(row: TraceRow, number: int) -> Request:
    """The request of the trace's ``number``-th pod (rule 3 alternates on it)."""
    if row.gpus > 1 or row.gpu_milli >= 1000:
        return Request("nvidia.com/gpu", row.gpus, None, "whole", row.gpus)
    if row.best_effort and row.gpu_milli <= SMALL_CARD_LIMIT and number % 2 == 0:
        step, pool = _smallest(_SMALL_CARD, row.gpu_milli / 1000), "mig-24gb"
    else:
        step, pool = _smallest(_LARGE_CARD, row.gpu_milli / 1000 * CARD_SHARE), "mig-80gb"
    return Request(f"nvidia.com/mig-{step.profile}", 1, step.profile, pool, step.units)
