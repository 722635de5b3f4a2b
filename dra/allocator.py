"""Replays the in-tree device allocator: which devices a pod's claims would get on a node.

Kubernetes 1.36 with default gates ("incubating" in k8s.io/dynamic-resource-allocation/structured): claims in
pod order, requests in spec order, alternatives of ``firstAvailable`` in order; then pools, slices and
devices in the order of
``dra.pools``; depth first with backtracking, only increasing positions inside one request; the first full
solution wins. Checks for each device: in use, selectors of class and request, capacity, counters, taints,
constraints.

An error aborts the attempt as it does there: a selector that fails, a class that does not exist, ``All``
over a pool that is being updated. A selector that this replay cannot evaluate is told apart
(``unsupported``): the cluster may well allocate, so nothing may be concluded.

Differences: counters are kept for each (driver, pool); upstream keys them by pool name alone, so two drivers
with equal pool names on a node can hide each other's counters. The number of results is limited to 32 for
each claim as there, but the search does not skip ahead when it is exceeded. Not replayed: node-allocatable
mappings, share ids, the 10 s time limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from dra.capacity import Share, share_of
from dra.cel import CelUnsupported
from dra.cel_eval import CelError, device_matches
from dra.constraints import Constraint, constraint_for
from dra.counters import CounterLedger
from dra.pools import Order, Pool, gather_pools, node_matches
from dra.resource_api import (
    ClaimRequest,
    Device,
    DeviceClaim,
    DeviceClass,
    DeviceSubRequest,
    ExactDeviceRequest,
    ResourceSlice,
)
from dra.taints import tolerated

MOST_RESULTS = 32
"""Allocation results a claim may have."""


@dataclass(frozen=True, slots=True, order=True)
class DeviceId:
    """A device's identity across the cluster."""

    driver: str
    pool: str
    device: str


@dataclass(frozen=True, slots=True)
class Allocated:
    """One device for one request ("name" or "name/subrequest"); ``share`` is what it takes of a shared
    device.
    """

    request: str
    device: DeviceId
    admin_access: bool = False
    share: tuple[tuple[str, Fraction], ...] | None = None


@dataclass(frozen=True, slots=True)
class Allocation:
    """The results of each claim, in claim order."""

    claims: tuple[tuple[Allocated, ...], ...]

    @property
    def devices(self) -> tuple[DeviceId, ...]:
        """All devices in the order they were taken."""
        return tuple(result.device for claim in self.claims for result in claim)


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """No allocation. ``no-fit``: nothing free matches; ``aborted``: the scheduler would fail too;
    ``unsupported``: not known, because the replay does not cover what the claim uses.
    """

    reason: str
    kind: Literal["no-fit", "aborted", "unsupported"] = "no-fit"


class _Aborted(Exception):
    """Allocation must stop with an error."""


class _OutOfSteps(Exception):
    """The search was given up."""


@dataclass(frozen=True, slots=True)
class _Alternative:
    """A request, or one of its alternatives, ready for the search."""

    name: str
    parent: str | None
    request: ExactDeviceRequest | DeviceSubRequest
    device_class: DeviceClass
    count: int
    everything: tuple[_Candidate, ...] | None
    admin: bool

    @property
    def result_name(self) -> str:
        return self.name if self.parent is None else f"{self.parent}/{self.name}"


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A device with where it stands."""

    pool: Pool
    slice: ResourceSlice
    device: Device
    id: DeviceId


def allocate(
    requests: Sequence[DeviceClaim],
    slices: Sequence[ResourceSlice],
    allocated: Set[DeviceId],
    classes: Mapping[str, DeviceClass],
    node: str,
    node_labels: Mapping[str, str] | None = None,
    order: Order = "sorted",
    *,
    shares: Mapping[DeviceId, Mapping[str, Fraction]] | None = None,
    most_steps: int = 200_000,
) -> Allocation | Unsatisfiable:
    """The devices that the claims of one pod get on ``node``.

    ``slices`` may be those of the node alone: others cost time and change nothing, but for mode All.
    ``requests``: the device part of each claim's spec, in pod order. ``allocated``: devices that other claims
    hold; ``shares``: what is held of devices that allow several allocations. ``order``: "sorted" for 1.36,
    "listed" for older. ``most_steps``: devices tried before giving up.
    """
    labels = node_labels or {}
    try:
        pools = gather_pools(slices, node, labels, order)
        search = _Search(requests, pools, allocated, classes, node, labels, shares or {}, most_steps)
        if search.run():
            return Allocation(tuple(tuple(results) for results in search.results))
    except CelUnsupported as error:
        return Unsatisfiable(str(error), "unsupported")
    except _OutOfSteps:
        return Unsatisfiable(f"no answer after trying {most_steps} devices", "unsupported")
    except (CelError, _Aborted) as error:
        return Unsatisfiable(str(error), "aborted")
    problems = [pool.problem for pool in pools if pool.problem is not None]
    if problems:
        return Unsatisfiable(f"no free devices match; left out: {'; '.join(problems)}")
    return Unsatisfiable("no free devices on the node match all requests")


class _Search:
    """State of one depth-first search; everything it changes on the way down is undone on the way back."""

    def __init__(
        self,
        claims: Sequence[DeviceClaim],
        pools: list[Pool],
        allocated: Set[DeviceId],
        classes: Mapping[str, DeviceClass],
        node: str,
        labels: Mapping[str, str],
        shares: Mapping[DeviceId, Mapping[str, Fraction]],
        most_steps: int,
    ) -> None:
        self._pools = pools
        self.results: list[list[Allocated]] = [[] for _ in claims]
        self._claims = claims
        self._allocated = allocated
        self._node = node
        self._labels = labels
        self._held: dict[DeviceId, Share] = {device: dict(share) for device, share in shares.items()}
        self._taking: dict[DeviceId, set[int]] = {}
        self._matches: dict[tuple[DeviceId, int, int, int], bool] = {}
        self._most_steps = most_steps
        self._steps = 0
        self._counters = CounterLedger()
        for pool in pools:
            self._counters.open(pool, self._allocated_devices(pool))
        self._candidates = tuple(
            _Candidate(pool, item, device, DeviceId(pool.driver, pool.name, device.name))
            for pool in pools
            for item in pool.slices
            for device in item.spec.devices
        )
        self._alternatives = [
            [self._prepared(claim, c, r, request, classes) for r, request in enumerate(claim.requests)]
            for c, claim in enumerate(claims)
        ]
        self._constraints: list[list[Constraint]] = []
        for claim in claims:
            made = [constraint_for(constraint) for constraint in claim.constraints]
            if any(constraint is None for constraint in made):
                raise _Aborted("a constraint is empty (of a type that this version does not know)")
            self._constraints.append([constraint for constraint in made if constraint is not None])

    def _allocated_devices(self, pool: Pool) -> Iterator[Device]:
        for item in (*pool.slices, *pool.elsewhere):
            for device in item.spec.devices:
                identity = DeviceId(pool.driver, pool.name, device.name)
                if identity in self._allocated or identity in self._held:
                    yield device

    def run(self) -> bool:
        """Search; True leaves the solution in ``results``."""
        return self._claim(0, 0)

    def _prepared(
        self, claim: DeviceClaim, c: int, r: int, request: ClaimRequest, classes: Mapping[str, DeviceClass]
    ) -> list[_Alternative]:
        if request.exactly is not None:
            exact = request.exactly
            admin = bool(exact.admin_access)
            return [self._alternative(c, r, 0, request.name, None, exact, classes, admin)]
        return [
            self._alternative(c, r, s, sub.name, request.name, sub, classes, False)
            for s, sub in enumerate(request.first_available)
        ]

    def _alternative(
        self,
        c: int,
        r: int,
        s: int,
        name: str,
        parent: str | None,
        request: ExactDeviceRequest | DeviceSubRequest,
        classes: Mapping[str, DeviceClass],
        admin: bool,
    ) -> _Alternative:
        device_class = classes.get(request.device_class_name)
        if device_class is None:
            raise _Aborted(f"request {name}: device class {request.device_class_name!r} does not exist")
        if any(selector.cel is None for selector in request.selectors):
            raise _Aborted(f"request {name}: a selector has no CEL expression")
        if request.allocation_mode not in ("ExactCount", "All", ""):
            raise _Aborted(f"request {name}: unknown allocation mode {request.allocation_mode!r}")
        count = 1 if request.count is None else request.count
        alternative = _Alternative(name, parent, request, device_class, count, None, admin)
        if request.allocation_mode != "All":
            return alternative
        for pool in self._pools:
            if pool.problem is not None:
                raise _Aborted(f"request {name} asks for all devices, but {pool.problem}")
        everything = tuple(
            candidate
            for candidate in self._candidates
            if self._selectable(candidate, alternative, (c, r, s))
            and share_of(candidate.device, _wanted(alternative), self._held.get(candidate.id, {})) is not None
        )
        return _Alternative(name, parent, request, device_class, len(everything), everything, admin)

    def _claim(self, c: int, r: int) -> bool:
        """Serve request ``r`` of claim ``c`` and everything after it."""
        if c >= len(self._claims):
            return True
        if r >= len(self._claims[c].requests):
            return self._claim(c + 1, 0)
        return any(
            self._fill(c, r, s, alternative, 0, 0) for s, alternative in enumerate(self._alternatives[c][r])
        )

    def _fill(self, c: int, r: int, s: int, alternative: _Alternative, have: int, begin: int) -> bool:
        """Take the devices of one alternative from position ``have`` on, looking at candidates from
        ``begin`` on.
        """
        if alternative.everything is not None and not alternative.everything:
            return False
        if have >= alternative.count:
            return self._claim(c, r + 1)
        if len(self.results[c]) + alternative.count - have > MOST_RESULTS:
            return False
        if alternative.everything is not None:
            candidate = alternative.everything[have]
            give_back = self._take(c, alternative, candidate, must=True)
            if give_back is None:
                return False
            if self._fill(c, r, s, alternative, have + 1, 0):
                return True
            give_back()
            return False
        for position in range(begin, len(self._candidates)):
            candidate = self._candidates[position]
            if self._in_use(candidate.id, c, alternative):
                continue
            if not self._selectable(candidate, alternative, (c, r, s)):
                continue
            give_back = self._take(c, alternative, candidate, must=False)
            if give_back is None:
                continue
            if self._fill(c, r, s, alternative, have + 1, position + 1):
                return True
            give_back()
        return False

    def _in_use(self, device: DeviceId, c: int, alternative: _Alternative) -> bool:
        if alternative.admin:
            return c in self._taking.get(device, ())
        return device in self._allocated or bool(self._taking.get(device))

    def _selectable(
        self, candidate: _Candidate, alternative: _Alternative, key: tuple[int, int, int]
    ) -> bool:
        memo = (candidate.id, *key)
        known = self._matches.get(memo)
        if known is None:
            selectors = (*alternative.device_class.spec.selectors, *alternative.request.selectors)
            device, spec = candidate.device, candidate.slice.spec
            known = all(
                selector.cel is not None
                and device_matches(selector.cel.expression, candidate.id.driver, device)
                for selector in selectors
            ) and (
                not spec.per_device_node_selection
                or node_matches(
                    self._node, self._labels, device.node_name, device.all_nodes, device.node_selector
                )
            )
            self._matches[memo] = known
        return known

    def _take(
        self, c: int, alternative: _Alternative, candidate: _Candidate, *, must: bool
    ) -> Callable[[], None] | None:
        """Take a device for claim ``c``; returns how to give it back, or None when it cannot be taken.

        With ``must`` (mode All) a broken constraint is an error, as no other device would do.
        """
        self._steps += 1
        if self._steps > self._most_steps:
            raise _OutOfSteps
        device, pool = candidate.device, candidate.pool
        if self._in_use(candidate.id, c, alternative):
            return None
        shared = bool(device.allow_multiple_allocations)
        held = self._held.get(candidate.id)
        share = share_of(device, _wanted(alternative), held or {})
        # A shared device's counters are taken by its first holder.
        counted = not (shared and held is not None)
        if share is None or (counted and not self._counters.suffice(pool, device)):
            return None
        if not tolerated(device.taints, alternative.request.tolerations):
            return None
        parent = alternative.parent or alternative.name
        sub = alternative.name if alternative.parent is not None else None
        added: list[Constraint] = []
        for constraint in self._constraints[c]:
            if not constraint.add(parent, sub, device, candidate.id.driver):
                for earlier in reversed(added):
                    earlier.remove(parent, sub)
                if must:
                    problem = f"device {candidate.id.device} breaks a constraint"
                    raise _Aborted(f"request {alternative.name} asks for all devices, but {problem}")
                return None
            added.append(constraint)
        if counted:
            self._counters.take(pool, device)
        if shared:
            so_far = held or {}
            self._held[candidate.id] = {
                name: so_far.get(name, Fraction(0)) + value for name, value in share.items()
            }
        else:
            self._taking.setdefault(candidate.id, set()).add(c)
        shares = tuple(sorted(share.items())) if shared else None
        self.results[c].append(Allocated(alternative.result_name, candidate.id, alternative.admin, shares))

        def give_back() -> None:
            self.results[c].pop()
            if not shared:
                self._taking[candidate.id].discard(c)
            elif held is None:
                del self._held[candidate.id]
            else:
                self._held[candidate.id] = held
            if counted:
                self._counters.give_back(pool, device)
            for constraint in reversed(added):
                constraint.remove(parent, sub)

        return give_back


def _wanted(alternative: _Alternative) -> Mapping[str, str | int]:
    capacity = alternative.request.capacity
    return capacity.requests if capacity is not None else {}
