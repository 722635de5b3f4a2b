"""What differs between the device allocators of Kubernetes 1.34, 1.35 and 1.36 with default feature gates.

``structured.NewAllocator`` of k8s.io/dynamic-resource-allocation takes the first of its three implementations
that supports all features the scheduler hands over. In 1.34 and 1.35 "stable" supports none, and AdminAccess
and PrioritizedList are on by default, so it never runs there:

- 1.34: *experimental*, because the scheduler hands over DRAResourceClaimDeviceStatus (on since 1.33), which
  "incubating" of that version does not support;
- 1.35: *incubating* (the feature is handed over only together with binding conditions, which are off);
- 1.36: *incubating*, with partitionable devices, taints, consumable capacity and binding conditions on.

1.34 and 1.35 take pools in the random order of a Go map and slices as the lister gives them (a Go map again);
1.36 sorts both by name. The other fields are rules, some of them faults mended upstream since; each
names its place. Clusters with other gates than the default ones are not described here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from dra.constraints import Distinct

Version = Literal["1.34", "1.35", "1.36"]


@dataclass(frozen=True, slots=True)
class Release:
    """The rules of one version.

    ``sorted``: pools by driver and name, slices by object name (``GatherPools``).
    ``binding_last``: pools (1.34: slices too) with binding conditions come last (``GatherPools``).
    ``partitionable``, ``taints``, ``consumable``, ``binding``: the feature is on; with it off, devices that
    consume counters, respectively have binding conditions, are never taken, taints and sharing are ignored.
    ``refuses_capacity``: a request for capacity is an error; else, with sharing off, it is ignored.
    ``counts_other_nodes``: a pool is complete when all its slices exist, wherever they are for; before, only
    the node's own counted (``checkSlicesInPool``).
    ``takes_from_incomplete``: devices of incomplete pools are taken all the same (``allocateOne``).
    ``invalid_aborts``: reaching an invalid pool is an error (``allocateOne``).
    ``distinct``: whether distinctAttribute is an error, compares values, or compares where values are stored,
    so that any two devices that have the attribute are distinct (``matchesAttribute``).
    ``increasing``: the next device of a request is looked for behind the last one, not from the start
    (``startLocation`` of ``allocateOne``).
    ``loses_alternative``: after the first device of an alternative with mode All the search goes on with the
    first alternative (``subRequestIndex`` missing in ``allocateOne``), and while All is prepared, matches are
    remembered under the alternative before (``requestKey`` in ``Allocate``).
    """

    version: Version
    sorted: bool
    binding_last: bool
    partitionable: bool
    taints: bool
    consumable: bool
    refuses_capacity: bool
    binding: bool
    counts_other_nodes: bool
    takes_from_incomplete: bool
    invalid_aborts: bool
    distinct: Distinct
    increasing: bool
    loses_alternative: bool


RELEASES: Mapping[Version, Release] = MappingProxyType(
    {
        "1.34": Release(
            version="1.34",
            sorted=False,
            binding_last=True,
            partitionable=False,
            taints=False,
            consumable=False,
            refuses_capacity=True,
            binding=False,
            counts_other_nodes=False,
            takes_from_incomplete=True,
            invalid_aborts=True,
            distinct="place",
            increasing=False,
            loses_alternative=True,
        ),
        "1.35": Release(
            version="1.35",
            sorted=False,
            binding_last=False,
            partitionable=False,
            taints=False,
            consumable=False,
            refuses_capacity=False,
            binding=False,
            counts_other_nodes=True,
            takes_from_incomplete=False,
            invalid_aborts=False,
            distinct="error",
            increasing=False,
            loses_alternative=True,
        ),
        "1.36": Release(
            version="1.36",
            sorted=True,
            binding_last=True,
            partitionable=True,
            taints=True,
            consumable=True,
            refuses_capacity=False,
            binding=True,
            counts_other_nodes=True,
            takes_from_incomplete=False,
            invalid_aborts=False,
            distinct="value",
            increasing=True,
            loses_alternative=False,
        ),
    }
)
