"""What interference is learned from: each running GPU pod, its neighbours, and how fast it was.

``standings`` reads off the fleet who stands beside whom; ``samples`` joins that with what Prometheus says of
each pod. Speed is the median time between tokens (else of a whole request) over the last window; where the
server exports no latency, 1 / SM activity of the pod's own GPUs or MIG instances, which is a speed for pods
that never lack work and noise for others. Pods on shared GPUs have no SM activity of their own: DCGM measures
the GPU, and names one pod of several.

Pods of one namespace, image, size and GPU model are one workload: each workload is its own yardstick. Of u
replicas on g GPUs, spread evenly, a replica has on average (r(q+1)q + (g − r)q(q − 1)) / u beside it, where
q, r = divmod(u, g). Pure: values in, values out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from cluster.interference_policy import UNAFFECTED
from dra.inventory import NodeInventory
from metrics.dcgm import sm_activity, sm_activity_query
from metrics.histogram import buckets_by_pod, quantile_from_buckets
from metrics.interference import Beside, Sample
from metrics.samples import NoData, Vector
from metrics.servers import EVERYTHING, PRESETS, Measure, Scope, ServerPreset
from scheduler.facts import Facts
from scheduler.occupancy import Holding
from scheduler.scoring.interference import NODE, PCIE_ROOT, SHARED_GPU

PodKey: TypeAlias = tuple[str, str]
Answers: TypeAlias = Mapping[str, Vector | NoData]

WINDOW_SECONDS: Final = 60.0
_MEASURES: Final[tuple[Measure, ...]] = ("itl", "e2e")
_ACTIVITY: Final = "sm activity"
_IDLE: Final = 0.05
"""SM activity below which a pod is taken to lack work."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One running pod: its workload, its class in force, and amounts of neighbours by what is shared. Under
    ``shares_gpu`` nothing that DCGM says of a GPU is its own.
    """

    pod: PodKey
    workload: str
    own_class: str
    beside: Mapping[Beside, float]
    shares_gpu: bool


def standings(
    inventory: NodeInventory,
    holdings: Sequence[Holding],
    shared_gpus: int,
    facts: Facts,
    class_of: Callable[[str | None], str],
    places: frozenset[str],
) -> list[Standing]:
    """The pods that run on one node, except those that nothing affects. ``places``: what is shared, where a
    slowdown is declared; empty: nothing is.
    """
    parts: dict[object, _Part] = {}
    for index, held in enumerate(holdings):
        part = parts.setdefault(held.pod or index, _Part(class_of(held.interference)))
        part.add(inventory, held, shared_gpus)
    affected = {key: part for key, part in parts.items() if part.name != UNAFFECTED}
    model = inventory.gpus[0].model.name if inventory.gpus else ""
    found = []
    for key, own in affected.items():
        pod = facts.pods.get(key) if isinstance(key, str) else None
        if pod is None or pod.node != inventory.node:
            continue
        others = [part for part in affected.values() if part is not own]
        found.append(
            Standing(
                pod=(pod.namespace, pod.name),
                workload=f"{pod.namespace} {pod.shape.image} {pod.demand} {model}",
                own_class=own.name,
                beside=_beside(own, others, shared_gpus, places),
                shares_gpu=own.shared > 0,
            )
        )
    return found


def queries(scope: Scope = EVERYTHING, presets: Iterable[ServerPreset] = ()) -> dict[str, str]:
    """What to ask Prometheus, a few queries for the whole cluster: GPU activity, and two for each of
    ``presets``, the servers that run.
    """
    asked = {_ACTIVITY: sm_activity_query(matchers=scope.matchers)}
    for preset in presets:
        measure = _measure(preset)
        if measure is None:
            continue
        asked[f"{preset.name} load"] = preset.in_flight_query(scope)
        buckets = preset.latency_buckets_query(measure, WINDOW_SECONDS, scope)
        if buckets is not None:
            asked[f"{preset.name} latency"] = buckets
    return asked


def samples(
    found: Iterable[Standing],
    answers: Answers,
    scope: Scope = EVERYTHING,
    presets: Iterable[ServerPreset] = PRESETS.values(),
) -> list[Sample]:
    """One sample of each pod whose speed is known."""
    latencies: dict[PodKey, float] = {}
    loads: dict[PodKey, float] = {}
    for preset in presets:
        latencies |= _latencies(preset, answers.get(f"{preset.name} latency"), scope)
        answer = answers.get(f"{preset.name} load")
        for sample in answer.samples if isinstance(answer, Vector) else ():
            labels = sample.labels
            loads[labels.get(scope.namespace_label, ""), labels.get(scope.pod_label, "")] = sample.value
    activity = sm_activity(answers.get(_ACTIVITY) or NoData("not asked"))
    result = []
    for standing in found:
        if standing.pod in latencies:
            load = loads.get(standing.pod, 0.0)
            result.append(_sample(standing, "latency", latencies[standing.pod], load))
        elif not standing.shares_gpu and activity.get(standing.pod, 0.0) >= _IDLE:
            result.append(_sample(standing, "activity", 1.0 / activity[standing.pod], 0.0))
    return result


@dataclass(eq=False, slots=True)
class _Part:
    """What one pod holds: replicas, GPU equivalents in all and by PCIe root."""

    name: str
    shared: float = 0.0
    equivalents: float = 0.0
    by_root: dict[str, float] = field(default_factory=dict)

    def add(self, inventory: NodeInventory, held: Holding, shared_gpus: int) -> None:
        for gpu, bits in zip(inventory.gpus, held.masks, strict=False):
            if bits:
                amount = bits.bit_count() / gpu.model.units
                self.by_root[gpu.pcie_root] = self.by_root.get(gpu.pcie_root, 0.0) + amount
                self.equivalents += amount
        model = inventory.static_model
        for profile, count in held.static:
            spec = model.profile(profile) if model is not None else None
            units = model.units if model is not None else 1
            self.equivalents += count * (spec.size if spec is not None else 1) / units
        self.shared += held.shared
        self.equivalents += held.shared * shared_gpus / max(inventory.shared_replicas, 1)


def _beside(
    own: _Part, others: Sequence[_Part], shared_gpus: int, places: frozenset[str]
) -> dict[Beside, float]:
    amounts: dict[Beside, float] = {}

    def add(where: str, name: str, amount: float) -> None:
        if where in places:
            amounts[where, name] = amounts.get((where, name), 0.0) + amount

    # One effect has one name: without a declaration a replica's neighbours are those on its GPU, others'
    # those on the node.
    places = places or frozenset({SHARED_GPU if own.shared else NODE})
    among = sum(other.shared for other in others)
    next_to = _mean_beside(own.shared + among, shared_gpus)
    taken = sum(own.by_root.values())
    for other in others:
        if own.shared and among:
            add(SHARED_GPU, other.name, next_to * other.shared / among)
        for root, equivalents in own.by_root.items():
            add(PCIE_ROOT, other.name, equivalents / taken * other.by_root.get(root, 0.0))
        add(NODE, other.name, other.equivalents)
    return amounts


def _mean_beside(replicas: float, gpus: int) -> float:
    if replicas < 1.0:
        return 0.0
    each, more = divmod(replicas, max(gpus, 1))
    return (more * (each + 1) * each + (gpus - more) * each * (each - 1)) / replicas


def _sample(standing: Standing, how: str, value: float, load: float) -> Sample:
    return Sample(f"{standing.workload} {how}", standing.own_class, value, standing.beside, load)


def _measure(preset: ServerPreset) -> Measure | None:
    return next((measure for measure in _MEASURES if measure in preset.latency), None)


def _latencies(preset: ServerPreset, answer: Vector | NoData | None, scope: Scope) -> dict[PodKey, float]:
    measure = _measure(preset)
    if measure is None or not isinstance(answer, Vector):
        return {}
    unit = preset.latency[measure].unit
    by_pod = buckets_by_pod(answer, unit, scope.namespace_label, scope.pod_label)
    medians = {pod: quantile_from_buckets(buckets, 0.5) for pod, buckets in by_pod.items()}
    return {pod: value for pod, value in medians.items() if not isinstance(value, NoData)}
