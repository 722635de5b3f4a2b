"""Which pools and slices the in-tree allocator looks at for a node, and in which order.

Follows ``GatherPools`` of k8s.io/dynamic-resource-allocation/structured; ``dra.releases`` names what
differs between versions. Slices that do not target the node are left out, but for counter slices; the highest
generation among the rest counts; a pool is complete when it has ``resourceSliceCount`` slices, from 1.35 on
also those for other nodes; an incomplete pool gives nothing (in 1.34 it does) and an invalid one neither
(duplicate device or counter set, unknown counter; in 1.34 reaching it is an error). In 1.36 pools are sorted
by driver, then name, those with binding conditions last; slices by object name.

Where nothing is sorted (1.34 and 1.35) the real order is that of a Go map, at random; the given order stands
for one of the possible ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from dra.quantity import amount
from dra.releases import Release
from dra.requirements import holds
from dra.resource_api import Device, NodeSelector, ResourceSlice

CounterSets = dict[str, dict[str, Fraction]]


@dataclass(slots=True)
class Pool:
    """A pool as seen from one node.

    ``slices`` have the devices for this node, ``elsewhere`` those for others. ``problem`` says why a pool
    is ``incomplete`` or ``invalid``; from 1.35 on nothing else is set then.
    """

    driver: str
    name: str
    slices: tuple[ResourceSlice, ...] = ()
    elsewhere: tuple[ResourceSlice, ...] = ()
    counters: CounterSets = field(default_factory=dict)
    problem: str | None = None
    incomplete: bool = False
    invalid: bool = False


def gather_pools(
    slices: Sequence[ResourceSlice], node: str, labels: Mapping[str, str], release: Release
) -> list[Pool]:
    """The pools that a node can take devices from."""
    grouped: dict[tuple[str, str], list[ResourceSlice]] = {}
    if not release.sorted:
        grouped = {(item.spec.driver, item.spec.pool.name): [] for item in slices}  # pools as given
    for item in _in_order(slices, node, release):
        if not _relevant(item, node, labels, release):
            continue
        key = (item.spec.driver, item.spec.pool.name)
        known = grouped.setdefault(key, [])
        if not known or item.spec.pool.generation > known[0].spec.pool.generation:
            grouped[key] = [item]
        elif item.spec.pool.generation == known[0].spec.pool.generation:
            known.append(item)
    pools: list[Pool] = []
    for (driver, name), own in grouped.items():
        pool = _pool(driver, name, own, slices, release) if own else None
        if pool is not None:
            pools.append(pool)
    if release.sorted:
        pools.sort(key=lambda p: (p.driver.encode(), p.name.encode()))
    if release.binding_last:
        pools.sort(key=lambda p: any(map(_binds, p.slices)))
    return pools


def node_matches(
    node: str,
    labels: Mapping[str, str],
    name: str | None,
    all_nodes: bool | None,
    selector: NodeSelector | None,
) -> bool:
    """Whether a slice's or device's node selection covers a node."""
    if name:
        return name == node
    if all_nodes:
        return True
    fields = {"metadata.name": node}
    return selector is not None and any(
        (term.match_expressions or term.match_fields)
        and all(holds(r.operator, labels.get(r.key), r.values) for r in term.match_expressions)
        and all(holds(r.operator, fields.get(r.key), r.values) for r in term.match_fields)
        for term in selector.node_selector_terms
    )


def consumed(device: Device) -> Iterable[tuple[str, str, Fraction]]:
    """(counter set, counter, amount) of everything a device consumes; an unreadable amount counts as
    infinite.
    """
    for consumption in device.consumes_counters:
        for counter, value in consumption.counters.items():
            number = amount(value.value)
            yield consumption.counter_set, counter, _UNREADABLE if number is None else number


_UNREADABLE = Fraction(1 << 62)


def _in_order(slices: Sequence[ResourceSlice], node: str, release: Release) -> list[ResourceSlice]:
    """The order in which slices are met, which decides whose ``resourceSliceCount`` is believed."""
    if release.sorted:
        return sorted(slices, key=lambda s: s.spec.node_name != node or bool(s.spec.shared_counters))
    if release.binding_last:
        return sorted(slices, key=_binds)
    return list(slices)


def _relevant(item: ResourceSlice, node: str, labels: Mapping[str, str], release: Release) -> bool:
    spec = item.spec
    if not release.partitionable and spec.per_device_node_selection is not None:
        return False
    if spec.shared_counters and release.counts_other_nodes:
        # Needed to use a pool, whatever nodes they are for.
        return release.partitionable
    if spec.node_name or spec.all_nodes or spec.node_selector is not None:
        return node_matches(node, labels, spec.node_name, spec.all_nodes, spec.node_selector)
    return bool(spec.per_device_node_selection) and any(
        node_matches(node, labels, d.node_name, d.all_nodes, d.node_selector) for d in spec.devices
    )


def _pool(
    driver: str, name: str, own: list[ResourceSlice], everything: Sequence[ResourceSlice], release: Release
) -> Pool | None:
    generation, wanted = own[0].spec.pool.generation, own[0].spec.pool.resource_slice_count
    there = own
    if len(own) != wanted and release.counts_other_nodes:
        there = [s for s in everything if s.spec.driver == driver and s.spec.pool.name == name]
        if any(s.spec.pool.generation > generation for s in there):
            return None  # being replaced by a generation that has nothing for this node
        there = [s for s in there if s.spec.pool.generation == generation]
    incomplete = len(there) != wanted
    pool = Pool(driver, name, incomplete=incomplete)
    if incomplete:
        pool.problem = f"pool {driver}/{name} is being updated: {len(there)} of {wanted} slices are there"
        if not release.takes_from_incomplete:
            return pool
    if release.sorted:
        own = sorted(own, key=lambda s: s.metadata.name.encode())
    names = {id(s) for s in own}
    elsewhere = tuple(s for s in there if id(s) not in names) if release.partitionable else ()
    devices = tuple(s for s in own if not (release.partitionable and s.spec.shared_counters))
    fault = _duplicate(devices)
    if fault is None and release.partitionable:
        pool.counters, fault = _counter_sets(own)
        fault = fault or _unknown_counter((*own, *elsewhere), pool.counters)
    if fault is not None:
        pool.problem, pool.invalid = f"pool {driver}/{name} is invalid: {fault}", True
        if not release.takes_from_incomplete:
            return pool
    pool.slices, pool.elsewhere = devices, elsewhere
    return pool


def _counter_sets(slices: Sequence[ResourceSlice]) -> tuple[CounterSets, str | None]:
    sets: CounterSets = {}
    for item in slices:
        for counter_set in item.spec.shared_counters:
            if counter_set.name in sets:
                return {}, f"counter set {counter_set.name} is there twice"
            sets[counter_set.name] = {
                counter: amount(value.value) or Fraction(0) for counter, value in counter_set.counters.items()
            }
    return sets, None


def _duplicate(slices: Sequence[ResourceSlice]) -> str | None:
    seen: set[str] = set()
    for item in slices:
        for device in item.spec.devices:
            if device.name in seen:
                return f"device {device.name} is there twice"
            seen.add(device.name)
    return None


def _unknown_counter(slices: Sequence[ResourceSlice], counters: CounterSets) -> str | None:
    for item in slices:
        for device in item.spec.devices:
            for consumption in device.consumes_counters:
                known = counters.get(consumption.counter_set)
                if known is None:
                    return f"device {device.name} consumes of {consumption.counter_set}, which is not there"
                for counter in consumption.counters:
                    if counter not in known:
                        where = f"{counter} of {consumption.counter_set}"
                        return f"device {device.name} consumes {where}, which is not there"
    return None


def _binds(item: ResourceSlice) -> bool:
    return any(device.binding_conditions for device in item.spec.devices)
