"""The MIG policies by name, each made fresh for a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from simulator.mig_grid import Grid
from simulator.mig_policies.fgd import Fgd
from simulator.mig_policies.hami import fullest_newest, newest, release_2_10
from simulator.mig_policies.nvidia_dra import NvidiaDra
from simulator.mig_policies.product import FixedOrder, GpuSlices, Installed
from simulator.mig_policies.ranked import Ranked
from simulator.mig_policies.simple import FirstFit, Random, ascending
from simulator.mig_policies.slicewise import Slicewise, SlicewiseNode, SlicewisePlan
from simulator.mig_policy import MigPolicy

Maker = Callable[[Sequence[float], int], MigPolicy]
"""(weights of the mix, seed) → a policy. Only ``fgd`` is told the mix."""

MIG_POLICIES: Mapping[str, Maker] = MappingProxyType(
    {
        "slicewise": lambda _weights, _seed: SlicewisePlan(),
        "slicewise-webhook": lambda _weights, _seed: Slicewise(),
        "slicewise-node": lambda _weights, _seed: SlicewiseNode(),
        "slicewise-installed": lambda _weights, _seed: Installed(),
        "slicewise-gpu-slices": lambda _weights, _seed: GpuSlices(),
        "driver-ascending": lambda _weights, _seed: FixedOrder(1),
        "driver-descending": lambda _weights, _seed: FixedOrder(-1),
        "hami": lambda _weights, _seed: Ranked(newest),
        "hami-2.10": lambda _weights, _seed: Ranked(release_2_10),
        "fullest-hami": lambda _weights, _seed: Ranked(fullest_newest),
        "nvidia-dra": lambda _weights, seed: NvidiaDra(seed),
        "first-fit": lambda _weights, _seed: FirstFit(),
        "ascending": lambda _weights, _seed: Ranked(ascending),
        "fgd": lambda weights, _seed: Fgd(weights),
        "random": lambda _weights, seed: Random(seed),
    }
)

MEMORY_ONLY = frozenset(
    {"slicewise-installed", "slicewise-gpu-slices", "driver-ascending", "driver-descending"}
)
"""They place by the product's own code, which knows the hardware's grid only."""


def policies_for(names: Iterable[str], grid: Grid) -> tuple[str, ...]:
    """Those of the policies that can place on the grid."""
    return tuple(name for name in names if grid == "memory" or name not in MEMORY_ONLY)
