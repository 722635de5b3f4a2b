"""Which nodes should have an image before a replica needs it: those where the next replicas would go.

First the nodes on which placeholders of the workload stand, since their room is the replicas'; then the
cheapest that can take one, by the scheduler's own prices. A node counts as having the image when it lists it
(kubelets list their 50 largest) or when it was brought there already. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from scheduler.kept_objects import image_name


def likely_nodes(
    held: Iterable[str], names: Sequence[str], prices: NDArray[np.float64], most: int
) -> tuple[str, ...]:
    """Return at most ``most`` nodes: those ``held``, then the cheapest. ``prices``: float64[names]."""
    found = dict.fromkeys(sorted(set(held)))
    for row in np.argsort(np.round(prices, 9), kind="stable").tolist():
        if len(found) >= most or not np.isfinite(prices[row]):
            break
        if names[row]:
            found.setdefault(names[row])
    return tuple(found)[:most]


def lacking(
    nodes: Iterable[str],
    images: Sequence[str],
    listed: Callable[[str], Iterable[str]],
    brought: Callable[[str, str], bool],
) -> tuple[str, ...]:
    """Return those of ``nodes`` that lack one of ``images``.

    ``listed``: images that a node lists, each spelled out; ``brought``: whether a node was given an image.
    """
    return tuple(
        node
        for node in nodes
        if any(
            image_name(image) not in known and not brought(node, image)
            for known in (frozenset(listed(node)),)
            for image in images
        )
    )
