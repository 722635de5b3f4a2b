"""What the price loop reads of the fleet: free capacity by state, and how many pods ask for what.

Under the fleet's lock only a few columns are copied (5,000 nodes: well under a millisecond), since requests
wait for that lock. The counting is done on the copies.

Occupied here means facts plus expectations (``Columns.occupied``): room that is promised is not for sale.
GPUs that are cut on demand are counted by state; GPUs that are offered whole only, by how many a node has
free; fixed MIG instances by profile. The same counts are kept by host pool (``supply.HostPool``), because a
free GPU on a node without CPU is not what it seems.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import inf
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from cluster.policy import ClusterPolicy
from cluster.times import unix_seconds
from dra.catalog import GpuModel
from scheduler.arrivals import ArrivalBook
from scheduler.columns import Columns
from scheduler.fleet import Fleet
from scheduler.host_needs import UNLIMITED
from scheduler.kept_objects import PodFact
from scheduler.packing.forecast import Forecast
from scheduler.packing.mix import observe
from scheduler.packing.shared_fleet import PLENTY_MILLI, SharedNodes, replicas_per_gpu
from scheduler.packing.supply import FleetSummary, HostPool
from scheduler.price_loop import Conditions

_COPIED = (
    "valid",
    "occupied",
    "full",
    "model_id",
    "order_id",
    "whole",
    "row_model",
    "static_total",
    "static_used",
    "cpu_free",
    "memory_free",
    "gpu_count",
    "shared_total",
    "shared_gpus",
    "shared_used",
)
_CPU_EDGES_MILLI = 1000.0 * 2.0 ** np.arange(0.0, 6.0, 0.5)  # for each free GPU: 1 to 45 cores
_MEMORY_EDGES_MIB = 4096.0 * 2.0 ** np.arange(0.0, 6.0)  # 4 to 128 GiB
_MOST_POOLS = 64
_WAITS_AFTER_SECONDS = 2.0  # a pod that has just come is being placed; API times have whole seconds


def read_conditions(
    fleet: Fleet,
    policy: ClusterPolicy,
    forecast: Mapping[str, Forecast] = MappingProxyType({}),
    now: float = inf,
    book: ArrivalBook | None = None,
) -> Conditions:
    """Read everything that prices follow from. ``forecast``: requests on their way, by class name; ``now``:
    Unix seconds, from which it follows who waits and who has only just come; ``book``: what remembers
    arrivals from one reading to the next.
    """
    with fleet.lock:
        view = fleet.view()
        copies = {name: getattr(view, name).copy() for name in _COPIED}
        models = list(fleet.hardware.models)
        profiles = list(fleet.profiles.values)
        pods = list(fleet.facts.pods.values())
        promised = {pod.uid for pod in pods if not pod.node and pod.uid in fleet.facts.reservations}
        taken = fleet.facts.hosts.by_node()
        others = [need for node, need in taken.items() if fleet.inventory(node) is not None]
    # Pods of one shape share one Demand object: counting by identity spares hashing 50,000 of them.
    demands = [pod.demand for pod in pods]
    by_identity = {id(demand): demand for demand in demands}
    counts = Counter(map(id, demands))
    wanted = [(demand, counts[key]) for key, demand in by_identity.items() if demand is not None]
    return Conditions(
        summary=summarise(copies, models, profiles),
        observed=observe(wanted),
        prior=policy.demand.classes,
        half_life_seconds=policy.demand.half_life_seconds,
        gpu_hour=policy.prices.gpu_hour,
        gpu_hour_by_model=policy.prices.gpu_hour_by_model,
        forecast=forecast,
        arrivals=(book or ArrivalBook()).look(
            (pod.uid, pod.demand) for pod in pods if pod.demand is not None and not pod.stands_in
        ),
        waiting=_waiting((pod for pod in pods if not (pod.stands_in or pod.uid in promised)), now),
        without_gpu=(float(sum(cpu for cpu, _ in others)), float(sum(memory for _, memory in others))),
    )


def _waiting(pods: Iterable[PodFact], now: float) -> frozenset[str]:
    """Classes, needs of the node left out, of the pods that a moment after they came have no room and none
    promised.
    """
    demands = {
        pod.demand
        for pod in pods
        if not pod.node and not pod.nominated and _age_seconds(pod.since, now) >= _WAITS_AFTER_SECONDS
    }
    found = observe([(demand, 1) for demand in demands if demand is not None])
    return frozenset(name.partition("/")[0] for name in found)


def _age_seconds(created: str, now: float) -> float:
    """Since an RFC 3339 time; infinite where it cannot be read."""
    at = unix_seconds(created)
    return inf if at is None else now - at


def summary_of(columns: Columns, models: Sequence[GpuModel], profiles: Sequence[str]) -> FleetSummary:
    """Count the states of columns that the caller may read."""
    return summarise({name: getattr(columns, name) for name in _COPIED}, models, profiles)


def summarise(
    columns: Mapping[str, npt.NDArray[np.generic]], models: Sequence[GpuModel], profiles: Sequence[str]
) -> FleetSummary:
    """Count the states. ``columns``: those named in ``_COPIED``; ``models`` and ``profiles`` by id."""
    rows = _Rows(columns, models, profiles)
    pools = _pools(columns, rows)
    counted = [rows.count(np.flatnonzero(pools == pool)) for pool in range(int(pools.max(initial=-1)) + 1)]
    hosts = []
    for pool, (gpu_states, free_nodes, whole_nodes, static) in enumerate(counted):
        members = pools == pool
        cpu, memory = columns["cpu_free"][members], columns["memory_free"][members]
        hosts.append(
            HostPool(
                gpu_states,
                free_nodes,
                whole_nodes,
                static,
                inf if (cpu == UNLIMITED).any() else float(cpu.sum()),
                inf if (memory == UNLIMITED).any() else float(memory.sum()),
            )
        )
    totals = [Counter[tuple[str, int]](), Counter[tuple[str, int]](), Counter[tuple[str, int]]()]
    instances: Counter[tuple[str, str]] = Counter()
    for pool_counts in counted:
        for total, more in zip(totals, pool_counts[:3], strict=True):
            total.update(more)
        instances.update(pool_counts[3])
    names = {name for total in totals for name, _ in total} | {name for name, _ in instances}
    names |= {models[index].name for index in rows.present()}
    return FleetSummary(
        models={model.name: model for model in models if model.name in names},
        gpu_states=totals[0],
        free_nodes=totals[1],
        whole_nodes=totals[2],
        static_instances=instances,
        hosts=tuple(hosts),
        shared=_shared_nodes(columns, models),
    )


def _shared_nodes(
    columns: Mapping[str, npt.NDArray[np.generic]], models: Sequence[GpuModel]
) -> SharedNodes | None:
    """The rows with GPUs in shared mode; kinds in the order of model ids."""
    total, model = columns["shared_total"].astype(np.int64), columns["row_model"].astype(np.int64)
    rows = np.flatnonzero((total > 0) & (model >= 0) & columns["valid"].astype(np.bool_))
    if not rows.size:
        return None
    per_gpu = replicas_per_gpu(total[rows], columns["shared_gpus"].astype(np.int64)[rows])
    keys = np.stack([model[rows], per_gpu], axis=1)
    kinds, kind = np.unique(keys, axis=0, return_inverse=True)
    cpu = columns["cpu_free"].astype(np.int64)[rows]
    # Where whole GPUs stand beside the replicas, they are the ones to be charged for the CPU.
    alone = columns["gpu_count"].astype(np.int64)[rows] == 0
    return SharedNodes(
        kinds=tuple((models[index].name, replicas) for index, replicas in kinds.tolist()),
        kind=kind.reshape(-1),
        cpu=np.where(alone & (cpu < UNLIMITED), cpu, PLENTY_MILLI),
        free=(total[rows] - columns["shared_used"].astype(np.int64)[rows]).clip(min=0),
    )


_Counts = tuple[
    Counter[tuple[str, int]], Counter[tuple[str, int]], Counter[tuple[str, int]], Counter[tuple[str, str]]
]


class _Rows:
    """What each row has free, ready to be counted for any of them."""

    def __init__(
        self,
        columns: Mapping[str, npt.NDArray[np.generic]],
        models: Sequence[GpuModel],
        profiles: Sequence[str],
    ) -> None:
        self._models, self._profiles = models, profiles
        self._model_id = columns["model_id"].astype(np.int64)
        self._occupied = columns["occupied"].astype(np.int64)
        full = columns["full"].astype(np.int64)
        valid = columns["valid"].astype(np.bool_)
        self._exists = (self._model_id >= 0) & valid[:, None]
        self._cut = self._exists & (columns["order_id"].astype(np.int64) > 0)
        self._idle = self._exists & (self._occupied == 0)
        self._free = self._idle & columns["whole"].astype(np.bool_)
        self._partly = self._cut & (self._occupied > 0) & (self._occupied < full)
        total, used = columns["static_total"].astype(np.int64), columns["static_used"].astype(np.int64)
        self._left = (total - used).clip(min=0)
        self._row_model = columns["row_model"].astype(np.int64)
        self._units = np.array([model.units for model in models] + [1], dtype=np.int64)

    def present(self) -> list[int]:
        """The models of GPUs that exist."""
        return [int(index) for index in np.unique(self._model_id[self._exists]).tolist()]

    def free_gpus(self) -> npt.NDArray[np.float64]:
        """float64[rows]: free capacity in GPU equivalents; a fixed instance counts by its profile."""
        units = self._units[self._model_id]
        free = np.where(self._partly | self._idle, units - np.bitwise_count(self._occupied), 0) / units
        total: npt.NDArray[np.float64] = free.sum(axis=1)
        for column in range(min(self._left.shape[1], len(self._profiles))):
            share = np.zeros(len(self._models) + 1)
            for index, model in enumerate(self._models):
                profile = model.profile(self._profiles[column])
                share[index] = profile.size / model.units if profile is not None else 0.0
            total += self._left[:, column] * share[self._row_model]
        return total

    def count(self, rows: npt.NDArray[np.int64]) -> _Counts:
        """The states of some rows: GPUs by mask, nodes by free GPUs that can be cut and that cannot, fixed
        instances.
        """
        models, model_id = self._models, self._model_id[rows]
        occupied, partly = self._occupied[rows], self._partly[rows]
        gpu_states: Counter[tuple[str, int]] = Counter()
        keys, counts = np.unique(model_id[partly] << 16 | occupied[partly], return_counts=True)
        for key, count in zip(keys.tolist(), counts.tolist(), strict=True):
            gpu_states[models[key >> 16].name, key & 0xFFFF] += count

        free_nodes: Counter[tuple[str, int]] = Counter()
        whole_nodes: Counter[tuple[str, int]] = Counter()
        free, cut, idle = self._free[rows], self._cut[rows], self._idle[rows]
        for index in np.unique(model_id[self._exists[rows]]).tolist():
            own = model_id == index
            for found, cells in ((free_nodes, free & own & cut), (whole_nodes, free & own & ~cut)):
                numbers, nodes = np.unique(cells.sum(axis=1), return_counts=True)
                for number, count in zip(numbers.tolist(), nodes.tolist(), strict=True):
                    if number:
                        found[models[index].name, number] += count
            # GPUs offered in parts only (MIG mode on, no whole device): each for itself, so that no k-GPU
            # pod counts on them.
            parts_only = int((idle & cut & ~free & own).sum())
            if parts_only:
                free_nodes[models[index].name, 1] += parts_only

        static: Counter[tuple[str, str]] = Counter()
        left, row_model = self._left[rows], self._row_model[rows]
        for column in range(min(left.shape[1], len(self._profiles))):
            having = (left[:, column] > 0) & (row_model >= 0)
            for index in np.unique(row_model[having]).tolist():
                if models[index].profile(self._profiles[column]) is not None:
                    number = int(left[having & (row_model == index), column].sum())
                    static[models[index].name, self._profiles[column]] += number
        return gpu_states, free_nodes, whole_nodes, static


def _pools(columns: Mapping[str, npt.NDArray[np.generic]], rows: _Rows) -> npt.NDArray[np.int64]:
    """int64[rows]: the host pool of each row with something free, -1 for the others. Alike are nodes of one
    model with about as much CPU and memory for each free GPU.
    """
    free = rows.free_gpus()
    kept = np.flatnonzero(free > 0.0)
    pools = np.full(len(free), -1, dtype=np.int64)
    if not kept.size:
        return pools
    model = columns["row_model"].astype(np.int64)[kept]
    cpu, memory = columns["cpu_free"].astype(np.int64)[kept], columns["memory_free"].astype(np.int64)[kept]
    for coarseness in (1, 2, 4):
        keys = np.stack(
            [
                model,
                _tightness(cpu, free[kept], _CPU_EDGES_MILLI[::coarseness]),
                _tightness(memory, free[kept], _MEMORY_EDGES_MIB[::coarseness]),
            ],
            axis=1,
        )
        distinct, inverse = np.unique(keys, axis=0, return_inverse=True)
        if len(distinct) <= _MOST_POOLS:
            break
    pools[kept] = inverse.reshape(-1)
    return pools


def _tightness(
    left: npt.NDArray[np.int64], free: npt.NDArray[np.float64], edges: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    found = np.searchsorted(edges, left / free, side="right").astype(np.int64)
    unlimited: npt.NDArray[np.int64] = np.where(left == UNLIMITED, len(edges) + 1, found)
    return unlimited
