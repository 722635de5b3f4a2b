"""The depth-first search of the in-tree allocator, with its checks in its order.

Follows ``Allocate``, ``validateDeviceRequest``, ``allocateOne``, ``isSelectable`` and ``allocateDevice`` of
k8s.io/dynamic-resource-allocation/structured; ``dra.releases`` names what differs between versions. First
every request is prepared: class, mode, and for ``All`` the devices that match. Then devices are taken one by
one; a device that later leads nowhere is given back.

A claim has at most 32 results. A request that would exceed them is not just "no": the search goes back to
the last ``firstAvailable`` list, or to the end of the claim before, without trying other devices in
between; in the first claim it ends the attempt with an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from fractions import Fraction

from dra.allocation import Allocated, DeviceId
from dra.capacity import Share, share_of
from dra.cel_eval import device_matches
from dra.constraints import Constraint, constraint_for
from dra.counters import CounterLedger
from dra.pools import Pool, node_matches
from dra.releases import Release
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

Undo = Callable[[], None]


class Aborted(Exception):
    """Allocation must stop with an error."""


class OutOfSteps(Exception):
    """The search was given up."""


class TooManyResults(Exception):
    """A request would exceed the results of its claim."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A device with where it stands."""

    pool: Pool
    slice: ResourceSlice
    device: Device
    id: DeviceId


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

    @property
    def wanted(self) -> Mapping[str, str | int]:
        """Requested amounts of capacity by name."""
        return self.request.capacity.requests if self.request.capacity is not None else {}


class Search:
    """State of one search; everything it changes on the way down is undone on the way back."""

    def __init__(
        self,
        claims: Sequence[DeviceClaim],
        pools: Sequence[Pool],
        allocated: Set[DeviceId],
        classes: Mapping[str, DeviceClass],
        node: str,
        labels: Mapping[str, str],
        shares: Mapping[DeviceId, Mapping[str, Fraction]],
        release: Release,
        *,
        most_steps: int,
    ) -> None:
        """Prepare the claims' requests. Raises Aborted, CelError, CelCrash and CelUnsupported."""
        self.results: list[list[Allocated]] = [[] for _ in claims]
        self._claims = claims
        self._pools = pools
        self._allocated = allocated
        self._classes = classes
        self._node = node
        self._labels = labels
        self._shares = shares
        self._release = release
        self._steps_left = most_steps
        self._sharing: dict[DeviceId, Share] = {}
        self._taking: dict[DeviceId, set[int]] = {}
        self._matches: dict[tuple[DeviceId, int, int, int], bool] = {}
        self._counters = CounterLedger(lambda device: device in allocated or device in shares)
        self._wall: str | None = None
        self._candidates = tuple(self._reachable())
        self._alternatives: list[list[list[_Alternative]]] = []
        self._constraints: list[list[Constraint]] = []
        for c, claim in enumerate(claims):
            self._alternatives.append([self._prepared(c, r, q) for r, q in enumerate(claim.requests)])
            least = sum(min(a.count for a in alternatives) for alternatives in self._alternatives[-1])
            if least > MOST_RESULTS:
                raise Aborted(f"a claim asks for {least} devices, more than {MOST_RESULTS}")
            self._constraints.append(self._constraints_of(claim))
        self._matches.clear()  # what was remembered under another alternative must not outlive preparation

    def run(self) -> bool:
        """Search; True leaves the solution in ``results``.

        Raises Aborted, CelError, CelCrash, CelUnsupported, OutOfSteps and TooManyResults.
        """
        return self._claim(0, 0)

    def _reachable(self) -> Iterator[_Candidate]:
        for pool in self._pools:
            if pool.invalid and self._release.invalid_aborts:
                self._wall = pool.problem
                return
            if pool.problem is None or (pool.incomplete and self._release.takes_from_incomplete):
                yield from _devices_of(pool)

    def _constraints_of(self, claim: DeviceClaim) -> list[Constraint]:
        made: list[Constraint] = []
        for item in claim.constraints:
            constraint = constraint_for(item, self._release.distinct)
            if constraint is None:
                raise Aborted("a constraint is of a type that this version does not know")
            made.append(constraint)
        return made

    def _prepared(self, c: int, r: int, request: ClaimRequest) -> list[_Alternative]:
        if request.first_available:
            return [
                self._alternative((c, r, s), sub.name, request.name, sub)
                for s, sub in enumerate(request.first_available)
            ]
        if request.exactly is None:
            raise Aborted(f"request {request.name}: of a type that this version does not know")
        return [self._alternative((c, r, 0), request.name, None, request.exactly)]

    def _alternative(
        self,
        key: tuple[int, int, int],
        name: str,
        parent: str | None,
        request: ExactDeviceRequest | DeviceSubRequest,
    ) -> _Alternative:
        if request.capacity is not None and self._release.refuses_capacity:
            raise Aborted(f"request {name} asks for capacity, which this version does not share out")
        if any(selector.cel is None for selector in request.selectors):
            raise Aborted(f"request {name}: a selector has no CEL expression")
        device_class = self._classes.get(request.device_class_name)
        if device_class is None:
            raise Aborted(f"request {name}: device class {request.device_class_name!r} does not exist")
        admin = isinstance(request, ExactDeviceRequest) and bool(request.admin_access)
        count = 1 if request.count is None else request.count
        alternative = _Alternative(name, parent, request, device_class, count, None, admin)
        match request.allocation_mode:
            case "ExactCount" | "":
                return alternative
            case "All":
                everything = tuple(self._everything(alternative, key))
                return replace(alternative, count=len(everything), everything=everything)
        raise Aborted(f"request {name}: unknown allocation mode {request.allocation_mode!r}")

    def _everything(self, alternative: _Alternative, key: tuple[int, int, int]) -> Iterator[_Candidate]:
        if self._release.loses_alternative:
            key = (key[0], key[1], max(0, key[2] - 1))
        for pool in self._pools:
            if pool.problem is not None:
                raise Aborted(f"request {alternative.name} asks for all devices, but {pool.problem}")
            for candidate in _devices_of(pool):
                if not self._selectable(candidate, alternative, key):
                    continue
                if self._share(candidate, alternative) is not None:
                    yield candidate

    def _claim(self, c: int, r: int) -> bool:
        """Serve request ``r`` of claim ``c`` and everything after it."""
        if c >= len(self._claims):
            return True
        if r >= len(self._claims[c].requests):
            try:
                return self._claim(c + 1, 0)
            except TooManyResults:
                return False
        if not self._claims[c].requests[r].first_available:
            return self._fill(c, r, 0, 0, 0)
        only_too_many = True
        for s in range(len(self._alternatives[c][r])):
            try:
                if self._fill(c, r, s, 0, 0):
                    return True
                only_too_many = False
            except TooManyResults:
                continue
        if only_too_many:
            raise TooManyResults
        return False

    def _fill(self, c: int, r: int, s: int, have: int, begin: int) -> bool:
        """Take the devices of one alternative from number ``have`` on, looking at candidates from
        position ``begin`` on.
        """
        alternative = self._alternatives[c][r][s]
        if alternative.everything is not None and not alternative.everything:
            return False
        if have >= alternative.count:
            return self._claim(c, r + 1)
        if len(self.results[c]) + alternative.count - have > MOST_RESULTS:
            raise TooManyResults
        if alternative.everything is not None:
            undo = self._take(c, alternative, alternative.everything[have], must=True)
            next_alternative = 0 if self._release.loses_alternative else s
            return undo is not None and self._next(undo, c, r, next_alternative, have + 1, 0)
        for position in range(begin, len(self._candidates)):
            candidate = self._candidates[position]
            if self._in_use(candidate.id, c, alternative):
                continue
            if not self._selectable(candidate, alternative, (c, r, s)):
                continue
            if self._share(candidate, alternative) is None:
                continue
            undo = self._take(c, alternative, candidate, must=False)
            behind = position + 1 if self._release.increasing else 0
            if undo is not None and self._next(undo, c, r, s, have + 1, behind):
                return True
        if self._wall is not None:
            raise Aborted(self._wall)
        return False

    def _next(self, undo: Undo, c: int, r: int, s: int, have: int, begin: int) -> bool:
        """Go on after a device was taken; when that leads nowhere, give it back."""
        try:
            if self._fill(c, r, s, have, begin):
                return True
        except TooManyResults:
            undo()
            raise
        undo()
        return False

    def _in_use(self, device: DeviceId, c: int, alternative: _Alternative) -> bool:
        if alternative.admin:
            return c in self._taking.get(device, ())
        return device in self._allocated or bool(self._taking.get(device))

    def _selectable(
        self, candidate: _Candidate, alternative: _Alternative, key: tuple[int, int, int]
    ) -> bool:
        device, spec = candidate.device, candidate.slice.spec
        if device.binding_conditions and not self._release.binding:
            return False
        memo = (candidate.id, *key)
        known = self._matches.get(memo)
        if known is None:
            selectors = (*alternative.device_class.spec.selectors, *alternative.request.selectors)
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

    def _share(self, candidate: _Candidate, alternative: _Alternative) -> Share | None:
        """What the request takes of the device's capacity; None when it does not fit."""
        if not self._release.consumable:
            return {}
        held = dict(self._shares.get(candidate.id, {}))
        for name, value in self._sharing.get(candidate.id, {}).items():
            held[name] = held.get(name, Fraction(0)) + value
        return share_of(candidate.device, alternative.wanted, held)

    def _take(self, c: int, alternative: _Alternative, candidate: _Candidate, *, must: bool) -> Undo | None:
        """Take a device for claim ``c``; returns how to give it back, or None when it cannot be taken.

        With ``must`` (mode All) a broken constraint is an error, as no other device would do.
        """
        self._steps_left -= 1
        if self._steps_left < 0:
            raise OutOfSteps
        device, pool, id_ = candidate.device, candidate.pool, candidate.id
        if self._in_use(id_, c, alternative):
            return None
        shared = self._release.consumable and bool(device.allow_multiple_allocations)
        counted = bool(device.consumes_counters)
        if counted and not self._release.partitionable:
            return None
        if shared and (self._shares.get(id_) or id_ in self._sharing):
            counted = False  # a shared device's counters are taken by its first holder
        if counted and not self._counters.reserve(pool, device):
            return None
        parent = alternative.parent or alternative.name
        sub = alternative.name if alternative.parent is not None else None
        added: list[Constraint] = []

        def undo() -> None:
            for constraint in reversed(added):
                constraint.remove(parent, sub)
            if counted:
                self._counters.give_back(pool, device)

        if self._release.taints and not tolerated(device.taints, alternative.request.tolerations):
            undo()
            return None
        for constraint in self._constraints[c]:
            if not constraint.add(parent, sub, device, id_.driver):
                undo()
                if must:
                    problem = f"device {id_.device} breaks a constraint"
                    raise Aborted(f"request {alternative.name} asks for all devices, but {problem}")
                return None
            added.append(constraint)
        share = self._share(candidate, alternative)
        if share is None:
            undo()
            return None
        before = self._sharing.get(id_)
        if shared:
            so_far = before or {}
            self._sharing[id_] = {name: so_far.get(name, Fraction(0)) + part for name, part in share.items()}
        else:
            self._taking.setdefault(id_, set()).add(c)
        parts = tuple(sorted(share.items())) if shared else None
        self.results[c].append(Allocated(alternative.result_name, id_, alternative.admin, parts))

        def give_back() -> None:
            self.results[c].pop()
            if not shared:
                self._taking[id_].discard(c)
            elif before is None:
                del self._sharing[id_]
            else:
                self._sharing[id_] = before
            undo()

        return give_back


def _devices_of(pool: Pool) -> Iterator[_Candidate]:
    for item in pool.slices:
        for device in item.spec.devices:
            yield _Candidate(pool, item, device, DeviceId(pool.driver, pool.name, device.name))
