"""What the LP may fill: free capacity counted by state, with no node names.

Identical states are one row with a count, which keeps the LP small: 5,000 nodes come to a few hundred rows.
Four kinds of rows:

- ``gpu_states[(model, mask)]``: GPUs on which MIG instances can be cut and some units are occupied (``mask``
  = occupied units);
- ``free_nodes[(model, F)]``: nodes with F entirely free GPUs of that model that can take MIG instances or
  whole-GPU pods;
- ``whole_nodes[(model, F)]``: the same for GPUs that serve whole-GPU pods only (MIG mode off under the device
  plugin);
- ``static_instances[(model, profile)]``: free instances of a fixed MIG layout, which serve that one profile.

The same rows once more by host pool (``hosts``): nodes that are about equally short of CPU and memory, with
what they have free of both. Without pools the LP sees GPUs only. Nodes with more CPU and memory than their
free GPUs could ever use need no pool of their own: one pool, of infinite room, is that of all of them.

Entries of ``gpu_states`` that are entirely free or entirely full are ignored: the first are counted by node,
the second hold nothing. Shared replicas are no row here: a time-sliced GPU serves only shared pods, so they
compete with no other class (``shared_fleet`` prices them).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf

from dra.catalog import GpuModel
from scheduler.packing.shared_fleet import SharedNodes


@dataclass(frozen=True, slots=True)
class HostPool:
    """The states of nodes alike in CPU and memory, and the sums of what these have free of both (infinite:
    plenty).
    """

    gpu_states: Mapping[tuple[str, int], int] = field(default_factory=dict)
    free_nodes: Mapping[tuple[str, int], int] = field(default_factory=dict)
    whole_nodes: Mapping[tuple[str, int], int] = field(default_factory=dict)
    static_instances: Mapping[tuple[str, str], int] = field(default_factory=dict)
    cpu_milli: float = inf
    memory_mib: float = inf


@dataclass(frozen=True, slots=True)
class FleetSummary:
    """Free capacity by state; ``models`` describes every model named in the other fields. ``hosts``: the
    same capacity by host pool, empty where CPU and memory are not looked at. ``shared``: nodes with GPUs in
    shared mode.
    """

    models: Mapping[str, GpuModel]
    gpu_states: Mapping[tuple[str, int], int] = field(default_factory=dict)
    free_nodes: Mapping[tuple[str, int], int] = field(default_factory=dict)
    whole_nodes: Mapping[tuple[str, int], int] = field(default_factory=dict)
    static_instances: Mapping[tuple[str, str], int] = field(default_factory=dict)
    hosts: tuple[HostPool, ...] = ()
    shared: SharedNodes | None = None

    def free_gpus(self) -> float:
        """Free capacity in GPU equivalents (units / units of the model)."""
        total = float(sum(gpus * count for (_, gpus), count in self.free_nodes.items()))
        total += float(sum(gpus * count for (_, gpus), count in self.whole_nodes.items()))
        for (name, mask), count in self.gpu_states.items():
            units = self.models[name].units
            total += count * (units - (mask & ((1 << units) - 1)).bit_count()) / units if mask else 0.0
        for (name, profile_name), count in self.static_instances.items():
            profile = self.models[name].profile(profile_name)
            total += count * profile.size / self.models[name].units if profile is not None else 0.0
        return total
