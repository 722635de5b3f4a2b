"""Fragmentation Gradient Descent's F on MIG masks: the share of a GPU's free space that the expected demand
cannot use.

Weng et al., "Beware of Fragmentation" (USENIX ATC'23): F = Σ_m p_m · (free GPU that cannot serve class m).
Their GPUs are divisible anywhere; on a MIG grid a free unit serves profile m only if it lies in a free legal
window of m, so

    F(mask) = Σ_m p_m · (free units in no free window of m) / units,

in GPU equivalents. A whole-GPU class finds all free units of a partly occupied GPU useless and none of a free
one. The popularity p_m is by number of requests, as in the paper, over the classes that the model can serve
at all: a GPU is not called fragmented for pods that would never run on it. It sees one GPU at a time; what a
node's free GPUs are worth together is W's part. As in the original, a class that asks for more CPU than the
node has free cannot use any of its GPUs: F is tabled for a few amounts of free CPU. Memory plays no part
there and none here.
"""

from __future__ import annotations

import numpy as np

from scheduler.packing.columns import Floats, ModelClasses

_THRESHOLDS = 8


def thresholds_of(cpu_milli: Floats, popularity: Floats) -> Floats:
    """The amounts of free CPU at which F is tabled, ascending: the needs of the classes or, where they are
    more than a few, quantiles of them by popularity, the largest always among them. Quantiles are rounded up
    to a quarter octave: a mix that drifts should not move all tables.
    """
    needs = np.unique(cpu_milli[(cpu_milli > 0.0) & (popularity > 0.0)])
    if len(needs) <= _THRESHOLDS:
        return needs
    order = np.argsort(cpu_milli)
    passed = np.cumsum(popularity[order]) / popularity.sum()
    at = np.searchsorted(passed, (np.arange(_THRESHOLDS) + 1) / _THRESHOLDS)
    found: Floats = cpu_milli[order[np.minimum(at, len(order) - 1)]]
    found = np.append(found[found > 0.0], needs[-1])
    return np.unique(np.round(2.0 ** (np.ceil(np.log2(found) * 4.0) / 4.0)))


def fragmentation(
    offer: ModelClasses, popularity: Floats, cpu_milli: Floats | None = None, thresholds: Floats | None = None
) -> Floats:
    """F over the occupied masks of one model, [thresholds + 1, masks]: row k where the free CPU reaches the
    first k of ``thresholds``. ``popularity``: expected requests per class index, any scale; ``cpu_milli``:
    what a class needs.
    """
    units, geometry = offer.model.units, offer.geometry
    steps = np.zeros(0) if thresholds is None else thresholds
    needs = np.zeros(len(popularity)) if cpu_milli is None else cpu_milli
    masks = np.arange(geometry.n_states, dtype=np.int64)
    free = ~masks & ((1 << units) - 1)
    wasted, weight = np.zeros((len(steps) + 1, geometry.n_states)), 0.0
    for index in sorted(offer.share):
        share = float(popularity[index])
        if share <= 0.0:
            continue
        if any(index in found for found in offer.by_gpus.values()):
            usable = np.where(masks == 0, free, 0)
        else:
            usable = np.zeros(geometry.n_states, dtype=np.int64)
            for row, found in enumerate(offer.by_placement):
                if index in found:
                    usable |= np.where(geometry.fits[row], offer.bits[row], 0)
        # A need between two thresholds is met from the next one on.
        enough = int(np.searchsorted(steps, needs[index])) + 1 if needs[index] > 0.0 else 0
        wasted[:enough] += share * np.bitwise_count(free)
        wasted[enough:] += share * np.bitwise_count(free & ~usable)
        weight += share
    return wasted / (weight * units) if weight > 0.0 else wasted
