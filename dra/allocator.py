"""Replays the in-tree device allocator: which devices a pod's claims would get on a node.

Follows k8s.io/dynamic-resource-allocation/structured as Kubernetes 1.34, 1.35 and 1.36 run it with default
feature gates (``dra.releases`` says which implementation that is and what differs). Claims in pod order,
requests in spec order, alternatives of ``firstAvailable`` in order; then pools, slices and devices in the
order of ``dra.pools``; depth first with backtracking (``dra.allocator_search``); the first full solution
wins. Checks for each device: in use, selectors of class and request, counters, taints, constraints, capacity.

An error aborts the attempt as it does there: a selector that fails, a class that does not exist, ``All``
over a pool that is being updated, more than 32 devices for a claim. A selector that this replay cannot
evaluate is told apart (``unsupported``): the cluster may well allocate, so nothing may be concluded.

Where the real order is random (pools and slices before 1.36), the given order stands for one of the possible
ones. Objects are taken to have passed the API server: nothing is validated that it validates, and what it
sets by default (mode ExactCount, count 1) is assumed. Not replayed: the cost limit of a selector, list
attributes and node-allocatable mappings (alpha), share ids, the 10 s time limit; and the allocator is asked
for one node, while the scheduler's keeps the counters it computed for the first node that needed
them under the pool's name.

``tests/oracle`` compares this with the real allocator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from fractions import Fraction

from dra.allocation import Allocated, Allocation, DeviceId, Unsatisfiable
from dra.allocator_search import MOST_RESULTS, Aborted, OutOfSteps, Search, TooManyResults
from dra.cel import CelUnsupported
from dra.cel_values import CelCrash, CelError
from dra.pools import gather_pools
from dra.releases import RELEASES, Version
from dra.resource_api import DeviceClaim, DeviceClass, ResourceSlice

__all__ = ["MOST_RESULTS", "Allocated", "Allocation", "DeviceId", "Unsatisfiable", "allocate"]


def allocate(
    requests: Sequence[DeviceClaim],
    slices: Sequence[ResourceSlice],
    allocated: Set[DeviceId],
    classes: Mapping[str, DeviceClass],
    node: str,
    node_labels: Mapping[str, str] | None = None,
    version: Version = "1.36",
    *,
    shares: Mapping[DeviceId, Mapping[str, Fraction]] | None = None,
    most_steps: int = 200_000,
) -> Allocation | Unsatisfiable:
    """The devices that the claims of one pod get on ``node``.

    ``slices`` may be those of the node alone: others cost time and change nothing, but for pools that span
    nodes. ``requests``: the device part of each claim's spec, in pod order. ``allocated``: devices that other
    claims hold alone; ``shares``: what is held of devices that allow several allocations, by capacity (an
    empty mapping when the device has none). ``version``: of the scheduler. ``most_steps``: devices tried
    before giving up.
    """
    release = RELEASES[version]
    labels = node_labels or {}
    try:
        pools = gather_pools(slices, node, labels, release)
        search = Search(
            requests, pools, allocated, classes, node, labels, shares or {}, release, most_steps=most_steps
        )
        if search.run():
            return Allocation(tuple(tuple(results) for results in search.results))
    except CelUnsupported as error:
        return Unsatisfiable(str(error), "unsupported")
    except OutOfSteps:
        return Unsatisfiable(f"no answer after trying {most_steps} devices", "unsupported")
    except RecursionError:
        return Unsatisfiable("the claims ask for more devices than can be searched for", "unsupported")
    except TooManyResults:
        return Unsatisfiable(f"a claim would get more than {MOST_RESULTS} devices", "aborted")
    except (CelError, CelCrash, Aborted) as error:
        return Unsatisfiable(str(error), "aborted")
    problems = [pool.problem for pool in pools if pool.problem is not None]
    if problems:
        return Unsatisfiable(f"no free devices match; left out: {'; '.join(problems)}")
    return Unsatisfiable("no free devices on the node match all requests")
