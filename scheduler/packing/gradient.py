"""Fragmentation Gradient Descent's F on MIG masks: the share of a GPU's free space that the expected demand
cannot use.

Weng et al., "Beware of Fragmentation" (USENIX ATC'23): F = Σ_m p_m · (free GPU that cannot serve class m).
Their GPUs are divisible anywhere; on a MIG grid a free unit serves profile m only if it lies in a free legal
window of m, so

    F(mask) = Σ_m p_m · (free units in no free window of m) / units,

in GPU equivalents. A whole-GPU class finds all free units of a partly occupied GPU useless and none of a free
one. The popularity p_m is by number of requests, as in the paper, over the classes that the model can serve
at all: a GPU is not called fragmented for pods that would never run on it. It sees one GPU at a time; what a
node's free GPUs are worth together is W's part.
"""

from __future__ import annotations

import numpy as np

from scheduler.packing.columns import Floats, ModelClasses


def fragmentation(offer: ModelClasses, popularity: Floats) -> Floats:
    """F over the occupied masks of one model; ``popularity``: expected requests per class index, any
    scale.
    """
    units, geometry = offer.model.units, offer.geometry
    masks = np.arange(geometry.n_states, dtype=np.int64)
    free = ~masks & ((1 << units) - 1)
    wasted, weight = np.zeros(geometry.n_states), 0.0
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
        wasted += share * np.bitwise_count(free & ~usable)
        weight += share
    return wasted / (weight * units) if weight > 0.0 else wasted
