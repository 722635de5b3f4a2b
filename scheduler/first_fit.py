"""Which devices first-fit gives one demand on one node, with the allocator's backtracking.

The in-tree DRA allocator walks requests in order and, within a request, devices in published order, depth
first; the first full solution wins (k8s.io/dynamic-resource-allocation, structured allocator).
``scheduler.prediction`` answers the same for all nodes at once without backtracking; this is the exact
version for one node: for occupancy that has to be foretold, and for the rare node where the greedy walk
fails with several devices to place.

Shared GPUs that a DRA driver tells one by one are walked in published order too, each for what it has left of
shares and of memory; without backtracking, as one share is like another for nearly all pods.

Pure. Steps are bounded: a search that is cut off answers ``Unsure``, never a guess.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from dra.mig import Placement
from dra.shared_gpus import NOTHING, Part, SharedGpu, plus, taken
from dra.turns import Turns, in_turn
from scheduler.demand import GpuRequest

MOST_STEPS = 4000


@dataclass(frozen=True, slots=True)
class Room:
    """What is taken on a node: units by GPU, and counts under the device plugin. ``parts``: of each shared
    GPU, where they are told one by one; ``shared`` is then the sum of the shares that are gone.
    """

    masks: tuple[int, ...]
    static: tuple[tuple[str, int], ...] = ()
    shared: int = 0
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class Site:
    """The fixed side of a node: what first-fit walks over. ``fulls`` are the masks of fully occupied GPUs;
    ``orders`` are empty where no MIG instance can be made; ``whole`` says which GPUs are offered whole,
    ``allowed`` which are of a model that the pod accepts (None: all). ``whole_as``: what ``nvidia.com/gpu``
    stands for on a node of equal MIG instances (the profile) or of shared GPUs ("shared"); None where it is
    a whole GPU. ``shared``: the shared GPUs in published order, where they are told one by one. ``turns``: in
    which order the GPUs come, by profile (``dra.turns``).
    """

    fulls: tuple[int, ...]
    orders: tuple[tuple[Placement, ...], ...]
    whole: tuple[bool, ...]
    static_total: Mapping[str, int]
    shared_total: int
    whole_as: str | None = None
    allowed: tuple[bool, ...] | None = None
    shared: tuple[SharedGpu, ...] = ()
    turns: Turns = field(default_factory=dict)

    @property
    def full(self) -> Room:
        """All of the node taken."""
        parts = tuple((gpu.shares, gpu.shares) for gpu in self.shared)
        return Room(self.fulls, tuple(sorted(self.static_total.items())), self.shared_total, parts)

    def with_allowed(self, allowed: tuple[bool, ...]) -> Site:
        """The same node for a pod that accepts only some of its GPUs."""
        return replace(self, allowed=allowed)

    def is_allowed(self, gpu: int) -> bool:
        """Whether the pod accepts the GPU's model."""
        return self.allowed is None or self.allowed[gpu]

    def whole_ok(self, gpu: int) -> bool:
        """Whether the GPU can be had whole by the pod."""
        return self.whole[gpu] and self.is_allowed(gpu)

    def read(self, request: GpuRequest) -> GpuRequest:
        """The request as this node serves it."""
        if request.kind != "whole" or self.whole_as is None:
            return request
        if self.whole_as == "shared":
            return GpuRequest("shared", None, request.count)
        return GpuRequest("mig", self.whole_as, request.count)


class NoRoom:
    """The demand does not fit."""


class Unsure:
    """The search was cut off."""


NO_ROOM = NoRoom()
UNSURE = Unsure()


def first_fit(site: Site, room: Room, requests: Sequence[GpuRequest]) -> Room | NoRoom | Unsure:
    """Return the room after the demand is placed where first-fit puts it."""
    static = dict(room.static)
    shared, parts = room.shared, room.parts
    steps: list[tuple[str, str | None]] = []
    for asked in requests:
        request = site.read(asked)
        if request.kind == "shared":
            if site.shared:
                found_parts = _shares(site, parts, request)
                if found_parts is None:
                    return NO_ROOM
                parts, shared = found_parts, sum(taken(part) for part in found_parts)
                continue
            shared += request.count
            if shared > site.shared_total or request.wish is not None:
                return NO_ROOM
        elif request.profile is not None and request.profile in site.static_total:
            profile = request.profile
            static[profile] = static.get(profile, 0) + request.count
            if static[profile] > site.static_total[profile]:
                return NO_ROOM
        else:
            steps.extend([(request.kind, request.profile)] * request.count)
    if not steps:
        return Room(room.masks, tuple(sorted(static.items())), shared, parts)
    masks = list(room.masks)
    search = _Search(site, masks)
    found = search.place(steps, 0, 0)
    if found:
        return Room(tuple(masks), tuple(sorted(static.items())), shared, parts)
    return UNSURE if search.steps_left <= 0 else NO_ROOM


def _shares(site: Site, before: tuple[Part, ...], request: GpuRequest) -> tuple[Part, ...] | None:
    """What is taken of the shared GPUs once each of the request has the first with enough left."""
    parts = list(before or (NOTHING,) * len(site.shared))
    for _ in range(request.count):
        for position, gpu in enumerate(site.shared):
            after = plus(parts[position], request.part(gpu.step_mib))
            if taken(after) <= gpu.shares:
                parts[position] = after
                break
        else:
            return None
    return tuple(parts)


class _Search:
    def __init__(self, site: Site, masks: list[int]) -> None:
        self.site = site
        self.masks = masks
        self.steps_left = MOST_STEPS

    def place(self, steps: list[tuple[str, str | None]], index: int, first: int) -> bool:
        """Place steps from ``index`` on, positions from ``first`` on for the current request."""
        if index == len(steps):
            return True
        kind, profile = steps[index]
        repeats = index + 1 < len(steps) and steps[index + 1] == steps[index]
        position = 0
        for gpu in in_turn(self.site.turns, profile, len(self.site.fulls)):
            full = self.site.fulls[gpu]
            if not self.site.is_allowed(gpu):
                continue
            before = self.masks[gpu]
            if kind == "whole":
                choices: tuple[int, ...] = (full,) if self.site.whole[gpu] else ()
            else:
                choices = tuple(p.bits for p in self.site.orders[gpu] if p.profile == profile)
            for bits in choices:
                position += 1
                if position <= first or before & bits:
                    continue
                self.steps_left -= 1
                if self.steps_left <= 0:
                    return False
                self.masks[gpu] = before | bits
                if self.place(steps, index + 1, position if repeats else 0):
                    return True
                self.masks[gpu] = before
        return False
