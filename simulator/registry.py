"""The packing policies by name, each made fresh for a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from simulator.cluster_state import ClusterState
from simulator.openb import Trace, demand
from simulator.policies.bestfit import BestFit
from simulator.policies.dotprod import DotProd
from simulator.policies.fgd import Fgd
from simulator.policies.gpuclustering import GpuClustering
from simulator.policies.gpupacking import GpuPacking
from simulator.policies.pwr_fgd import PwrFgd
from simulator.policies.random import Random
from simulator.policies.slicewise import Slicewise
from simulator.policies.slicewise_repack import SlicewiseRepack
from simulator.policy import Policy

Maker = Callable[[ClusterState, Trace, int], Policy]

POLICIES: Mapping[str, Maker] = MappingProxyType(
    {
        "slicewise": lambda state, trace, _seed: Slicewise(state, trace.target, demand(trace)),
        "slicewise-repack": lambda state, trace, _seed: SlicewiseRepack(state, trace.target, demand(trace)),
        "fgd": lambda state, trace, _seed: Fgd(state, trace.target),
        "bestfit": lambda _state, _trace, _seed: BestFit(),
        "dotprod": lambda _state, _trace, _seed: DotProd(),
        "gpupacking": lambda _state, _trace, _seed: GpuPacking(),
        "gpuclustering": lambda _state, _trace, _seed: GpuClustering(),
        "pwr-fgd": lambda state, trace, _seed: PwrFgd(state, trace.target),
        "random": lambda _state, _trace, seed: Random(seed),
    }
)
