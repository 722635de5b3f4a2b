"""``nvidia-dra``: kube-scheduler as it comes, with the devices of NVIDIA's DRA driver.

Nothing scores claims by packing, so the node is what NodeResourcesFit's LeastAllocated makes of it: the one
with the fewest pods, of equals any. On the node the in-tree allocator is first-fit over the published order:
GPU after GPU, placements sorted by device name (``gpu-0-mig-1g10gb-19-0``, ``dra.slices.nvidia_slices``).
"""

from __future__ import annotations

import random
from functools import lru_cache

from dra.catalog import GpuModel
from scheduler.packing.mig_space import CardSpace
from simulator.mig_policy import Choice, Fleet


class NvidiaDra:
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def choose(self, fleet: Fleet, profile: int) -> Choice | None:
        first: dict[int, int] = {}
        pods: dict[int, int] = {}
        steps = fleet.space.steps[profile]
        for card, state in enumerate(fleet.states):
            node = fleet.node[card]
            pods[node] = pods.get(node, 0) + len(fleet.running[card])
            if steps[state]:
                first.setdefault(node, card)
        if not first:
            return None
        fewest = min(pods[node] for node in first)
        card = first[self._random.choice([node for node in first if pods[node] == fewest])]
        order = name_order(fleet.space, profile)
        number = min(steps[fleet.states[card]], key=lambda step: order.index(step[0]))[1]
        return card, number


@lru_cache(maxsize=1024)
def name_order(space: CardSpace, profile: int) -> tuple[int, ...]:
    """Starts of a profile in the order of the driver's device names, which sort as text."""
    found = _profile_id(space.model, space.profiles[profile])
    starts = [start for start, _ in space.steps[profile][0]]
    return tuple(sorted(starts, key=lambda start: f"{found}-{start}"))


def _profile_id(model: GpuModel, name: str) -> int:
    profile = model.profile(name)
    return profile.profile_id or 0 if profile is not None else 0
