"""What a node saves by having the pod's image or model weights already.

    price = − seconds saved × GPU equivalents × gpu_hour / 3600

GPUs are held while image and weights load; the saving happens once and is written as money over the pod's
first hour, so that it adds to terms per hour. Presence comes from ``status.images`` of the node and its
``slicewise.io/weights`` label or annotation. Layers shared between images and the time the network really
takes are not known here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scheduler.columns import Ids
from scheduler.kept_objects import image_name
from scheduler.scoring.context import Floats, TermContext

_SECONDS_PER_HOUR = 3600.0


def price(context: TermContext) -> Floats:
    """Money per hour on each row, zero or negative."""
    return saving(context, context.demand.image, context.demand.weights)


def saving(context: TermContext, image: str | None, weights: str | None) -> Floats:
    """The price of a pod with this image and these weights."""
    world, columns = context.world, context.columns
    policy = world.policy.locality
    seconds = np.zeros(len(columns))
    if image is not None:
        here = _present(columns.image_ids, world.assets.find(image_name(image)))
        seconds += policy.image_pull_seconds * here
    if weights is not None:
        here = _present(columns.weight_ids, world.assets.find(f"weights {weights}"))
        seconds += policy.weights_load_seconds * here
    result: Floats = -seconds * context.equivalents * context.row_hour / _SECONDS_PER_HOUR
    return result


def _present(column: Ids, asset: int | None) -> NDArray[np.bool_]:
    if asset is None:
        return np.zeros(len(column), dtype=np.bool_)
    found: NDArray[np.bool_] = (column == asset).any(axis=1)
    return found
