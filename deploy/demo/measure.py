"""What is measured on either side of the demo, from allocations and pod times alone.

- **Stranded**: free MIG memory units that the expected demand cannot use. For each profile p of the demo's
  own mix (weight w_p = its share of the units that the arrivals ask for) count the free units of the GPUs on
  which p does not fit now; stranded = Σ w_p × that, over all units of GPUs that may be cut. This is the
  fragmentation measure of FGD (Weng et al., ATC'23) on MIG's grid. ``unusable`` is the strict form: free
  units where not one profile of the mix fits.
- **NVLink share**: bandwidth of the devices a pod really got (slowest hop of the best ring, ``dra.nvlink``)
  over the full NVLink bandwidth of that GPU; cards without NVLink are measured against 600 GB/s (A100).
- **gCO2e/h**: a GPU draws idle power plus (peak − idle) × the share of its units that is allocated: what is
  allocated counts as busy. Times the grid intensity of the node's zone. Hosts, cooling and embodied carbon
  are left out.

Pure. Does not sample (``sampling``) and does not compare (``report``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf, nan

from deploy.demo.arrivals import Arrival
from deploy.demo.fleet import POOL_MODELS, DemoNode
from dra.catalog import GpuModel
from dra.mig import geometry
from dra.nvlink import Topology, set_bandwidth

REFERENCE_GIGABYTES_PER_SECOND = 600.0

Mix = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class FleetSample:
    """The fleet at one moment. Units are MIG memory units of GPUs that may be cut; ``busy_gpus`` in whole
    GPUs, parts added up.
    """

    at_seconds: float
    mig_units: int
    used_mig_units: int
    stranded_units: float
    unusable_units: int
    busy_gpus: float
    grams_per_hour: float
    idle_grams_per_hour: float
    waiting_pods: int


@dataclass(frozen=True, slots=True)
class PodRecord:
    """One pod's life in seconds since the start of the run; ``bound_seconds`` is None while it was never
    placed.
    """

    arrival: Arrival
    road: str
    created_seconds: float
    bound_seconds: float | None
    nvlink_share: float | None


def expected_mix(arrivals: Iterable[Arrival], more: Mapping[str, Mapping[str, float]]) -> Mix:
    """For each pool of cut GPUs: profile -> share of the units asked for by all arrivals and ``more``
    units.
    """
    units = {pool: dict(more.get(pool, {})) for pool in POOL_MODELS}
    for arrival in arrivals:
        request = arrival.request
        if request.profile is not None and request.pool in units:
            weights = units[request.pool]
            weights[request.profile] = weights.get(request.profile, 0.0) + request.units * request.count
    return {
        pool: {profile: amount / total for profile, amount in sorted(weights.items())}
        for pool, weights in units.items()
        if (total := sum(weights.values())) > 0
    }


def stranded(model: GpuModel, mask: int, weights: Mapping[str, float]) -> tuple[float, int]:
    """(stranded, unusable) units of one GPU with the occupied units ``mask``; see the module's words."""
    free = model.units - mask.bit_count()
    shapes = geometry(model)
    missing = [weight for profile, weight in weights.items() if not shapes.free_starts(profile, mask)]
    nothing_fits = len(missing) == len(weights) and bool(weights)
    return sum(missing) * free, free if nothing_fits else 0


def fleet_sample(
    nodes: Sequence[DemoNode],
    masks: Mapping[str, Sequence[int]],
    mix: Mix,
    grams_per_kwh: Mapping[str, float],
    *,
    at_seconds: float,
    waiting_pods: int,
) -> FleetSample:
    """``masks``: node -> occupied units of each GPU (absent = nothing occupied); ``grams_per_kwh``: by grid
    zone.
    """
    mig_units = used = unusable = 0
    lost = busy = grams = idle_grams = 0.0
    for node in nodes:
        model, intensity = node.model, grams_per_kwh[node.zone.grid]
        weights = _weights(node, mix)
        occupied = masks.get(node.name, ())
        for position in range(node.shape.gpus):
            mask = occupied[position] if position < len(occupied) else 0
            share = mask.bit_count() / model.units
            busy += share
            grams += intensity * (model.idle_watts + (model.peak_watts - model.idle_watts) * share) / 1000
            idle_grams += intensity * model.idle_watts / 1000
            if node.shape.mig:
                mig_units += model.units
                used += mask.bit_count()
                gpu_lost, gpu_unusable = stranded(model, mask, weights)
                lost += gpu_lost
                unusable += gpu_unusable
    return FleetSample(at_seconds, mig_units, used, lost, unusable, busy, grams, idle_grams, waiting_pods)


def _weights(node: DemoNode, mix: Mix) -> Mapping[str, float]:
    for pool, names in POOL_MODELS.items():
        if node.shape.model in names:
            return mix.get(pool, {})
    return {}


def nvlink_share(topology: Topology, model: GpuModel, gpus_bits: int) -> float | None:
    """Share of the full NVLink bandwidth that a set of GPUs of one node has, 0..1; None for fewer than two
    GPUs.
    """
    bandwidth = set_bandwidth(topology, gpus_bits)
    if bandwidth == inf:
        return None
    full = model.nvlink.gigabytes_per_second if model.nvlink is not None else REFERENCE_GIGABYTES_PER_SECOND
    return min(1.0, bandwidth / full)


def time_average(samples: Sequence[FleetSample], value: Mapping[float, float]) -> float:
    """Average of ``value`` (by ``at_seconds``), each sample holding until the next; nan without two
    samples.
    """
    total = weight = 0.0
    for now, following in pairwise(samples):
        seconds = following.at_seconds - now.at_seconds
        total += value[now.at_seconds] * seconds
        weight += seconds
    return total / weight if weight else nan


def served_seconds(record: PodRecord, end_seconds: float) -> tuple[float, float]:
    """(served, wanted) seconds of a pod within the run: it is wanted from arrival to leaving."""
    leaves = min(record.arrival.leaves_seconds, end_seconds)
    wanted = max(0.0, leaves - record.arrival.at_seconds)
    if record.bound_seconds is None:
        return 0.0, wanted
    return max(0.0, min(wanted, leaves - record.bound_seconds)), wanted


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest-rank percentile; nan when there is no value."""
    if not values:
        return nan
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered) + 0.5) - 1))]
