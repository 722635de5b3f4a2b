"""Which pools and slices the in-tree allocator looks at for a node, and in which order.

Follows ``GatherPools`` of k8s.io/dynamic-resource-allocation/structured (1.36): slices that do not target
the node are left out, but for counter slices; the highest generation counts; a pool is complete when it has
``resourceSliceCount`` slices in all, also those for other nodes; an incomplete pool gives nothing and an
invalid one (duplicate device or counter set, unknown counter) neither. Pools are sorted by driver, then
name, those with binding conditions last; slices by object name.

With ``listed`` order nothing is sorted: Kubernetes 1.34 and 1.35 read slices as the lister gives them and
pools as a Go map does, at random; the given order stands for one of the possible ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from dra.quantity import amount
from dra.requirements import holds
from dra.resource_api import Device, NodeSelector, ResourceSlice

Order = Literal["sorted", "listed"]
CounterSets = dict[str, dict[str, Fraction]]


@dataclass(slots=True)
class Pool:
    """A pool as seen from one node. ``problem`` is set when it is incomplete or invalid, and then nothing
    else is.
    """

    driver: str
    name: str
    slices: tuple[ResourceSlice, ...] = ()
    elsewhere: tuple[ResourceSlice, ...] = ()
    counters: CounterSets = field(default_factory=dict)
    problem: str | None = None
    incomplete: bool = False


def gather_pools(
    slices: Sequence[ResourceSlice], node: str, labels: Mapping[str, str], order: Order
) -> list[Pool]:
    """The pools that a node can take devices from."""
    grouped: dict[tuple[str, str], list[ResourceSlice]] = {}
    for item in slices:
        if _relevant(item, node, labels):
            key = (item.spec.driver, item.spec.pool.name)
            newest = grouped.setdefault(key, [item])[0].spec.pool.generation
            if item.spec.pool.generation > newest:
                grouped[key] = [item]
            elif item.spec.pool.generation == newest and item is not grouped[key][0]:
                grouped[key].append(item)
    pools: list[Pool] = []
    for (driver, name), own in grouped.items():
        pool = _pool(driver, name, own, slices, order)
        if pool is not None:
            pools.append(pool)
    if order == "sorted":
        pools.sort(key=lambda p: (_binds(p), p.driver.encode(), p.name.encode()))
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


def _relevant(item: ResourceSlice, node: str, labels: Mapping[str, str]) -> bool:
    spec = item.spec
    if spec.shared_counters:
        # Counters of another node's pool belong to a pool of which no device is relevant; they do no harm.
        return not spec.node_name or spec.node_name == node or not spec.devices
    if spec.node_name or spec.all_nodes or spec.node_selector is not None:
        return node_matches(node, labels, spec.node_name, spec.all_nodes, spec.node_selector)
    return bool(spec.per_device_node_selection) and any(
        node_matches(node, labels, d.node_name, d.all_nodes, d.node_selector) for d in spec.devices
    )


def _pool(
    driver: str, name: str, own: list[ResourceSlice], everything: Sequence[ResourceSlice], order: Order
) -> Pool | None:
    generation = own[0].spec.pool.generation
    whole_pool = [s for s in everything if s.spec.driver == driver and s.spec.pool.name == name]
    wanted = own[0].spec.pool.resource_slice_count
    if len(own) != wanted:
        if any(s.spec.pool.generation > generation for s in whole_pool):
            return None  # being replaced by a generation that has nothing for this node
        whole_pool = [s for s in whole_pool if s.spec.pool.generation == generation]
        if len(whole_pool) != wanted:
            problem = f"pool {driver}/{name} is being updated: {len(whole_pool)} of {wanted} slices are there"
            return Pool(driver, name, problem=problem, incomplete=True)
    else:
        whole_pool = own
    if order == "sorted":
        own = sorted(own, key=lambda s: s.metadata.name.encode())
    names = {id(s) for s in own}
    elsewhere = tuple(s for s in whole_pool if id(s) not in names)
    counters: CounterSets = {}
    fault: str | None = None
    for item in own:
        for counter_set in item.spec.shared_counters:
            if counter_set.name in counters:
                fault = f"counter set {counter_set.name} is there twice"
            counters[counter_set.name] = {
                counter: amount(value.value) or Fraction(0) for counter, value in counter_set.counters.items()
            }
    devices = tuple(s for s in own if s.spec.devices)
    fault = fault or _fault(devices, elsewhere, counters)
    if fault is not None:
        return Pool(driver, name, problem=f"pool {driver}/{name} is invalid: {fault}")
    return Pool(driver, name, devices, elsewhere, counters)


def _fault(
    devices: tuple[ResourceSlice, ...], elsewhere: tuple[ResourceSlice, ...], counters: CounterSets
) -> str | None:
    seen: set[str] = set()
    for item in devices:
        for device in item.spec.devices:
            if device.name in seen:
                return f"device {device.name} is there twice"
            seen.add(device.name)
    for item in (*devices, *elsewhere):
        for device in item.spec.devices:
            for counter_set, counter, _ in consumed(device):
                if counter not in counters.get(counter_set, {}):
                    return f"device {device.name} consumes {counter} of {counter_set}, which is not there"
    return None


def _binds(pool: Pool) -> bool:
    return any(device.binding_conditions for item in pool.slices for device in item.spec.devices)
