"""Which GPU nodes may go without taking away the last room for a demand that is expected.

A node may go when it holds no GPU pod, or when each of its GPU pods may be moved and has another place now
(the repacker's own rules: owners, budgets, age; ``scheduler.repack``), and when every expected demand that
finds room somewhere now still does after that, on another node. Where the node itself is that last room it is
to be kept: whoever removes nodes by utilisation would take the very node that a large profile needs.

Nodes are looked at one after the other, the emptiest first, then the dearest; what is advised before counts,
so that of two nodes either of which may go, one is advised, and a node that takes the pods of another stays.
Pods without a GPU are left to the node autoscaler's own drain. Pure: scene in, advice out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np

from scheduler.demand import Demand, GpuRequest
from scheduler.packing.mix import DemandClass, parse_class
from scheduler.repack.overlay import Overlay
from scheduler.repack.resources import NOTHING
from scheduler.repack.scene import Mover, Scene

Verdict = Literal["may_go", "keep", "in_use"]
MOST_DRAINS = 64
_NO_LIMIT = 1_000_000


@dataclass(frozen=True, slots=True)
class NodeAdvice:
    """``why``: for people; ``saves_per_hour``: what the node costs; ``moves``: pods and where they go."""

    node: str
    verdict: Verdict
    why: str
    saves_per_hour: float = 0.0
    moves: tuple[tuple[str, str], ...] = ()


def advise(
    scene: Scene,
    expected: Iterable[Demand],
    hours: Mapping[str, float],
    usable: frozenset[str],
) -> tuple[NodeAdvice, ...]:
    """Advise about every GPU node, by name. ``expected``: demands that must keep finding room; ``hours``:
    money per hour by node; ``usable``: nodes that take new pods.
    """
    classes = sorted(set(expected), key=lambda demand: (-_weight(demand), str(demand)))
    overlay, rooms = Overlay(scene, _NO_LIMIT), _Rooms(scene, usable)
    gone: set[str] = set()
    takers: set[str] = set()
    found: dict[str, NodeAdvice] = {}
    drains = 0
    for name in sorted(scene.holdings, key=lambda one: _order(scene, hours, one)):
        hour, bound = hours.get(name, 0.0), scene.holdings[name].bound
        if name in takers:
            found[name] = NodeAdvice(name, "in_use", "takes the pods of nodes that may go", hour)
            continue
        if bound and drains >= MOST_DRAINS:
            found[name] = NodeAdvice(name, "in_use", f"holds {len(bound)} GPU pods", hour)
            continue
        drains += bool(bound)
        trial = overlay.fork() if bound else overlay
        emptied = _emptied(trial, name, gone, usable)
        if isinstance(emptied, str):
            found[name] = NodeAdvice(name, "in_use", emptied, hour)
            continue
        lost = next(
            (
                one
                for one in classes
                if not rooms.any(trial, one, gone, without=name) and rooms.any(overlay, one, gone)
            ),
            None,
        )
        if lost is not None:
            here = overlay.place_now(name, lost, NOTHING, linked=False) is not None
            found[name] = NodeAdvice(
                name,
                "keep" if here else "in_use",
                f"no other node has room for {lost}"
                if here
                else f"moving its pods would take the last room for {lost}",
                hour,
            )
            continue
        overlay = trial
        gone.add(name)
        takers |= {target for _, target in emptied}
        why = f"its {len(emptied)} GPU pods have room elsewhere" if emptied else "holds no GPU pod"
        found[name] = NodeAdvice(name, "may_go", why, hour, emptied)
    return tuple(found[name] for name in sorted(found))


def demands_of(classes: Iterable[str]) -> list[Demand]:
    """The demands that class names stand for; what is none of ours is left out."""
    return [demand for name in classes if (cls := parse_class(name)) and (demand := _demand(cls)) is not None]


def _demand(cls: DemandClass) -> Demand | None:
    if cls.kind == "shared":
        return None
    request = GpuRequest("mig", cls.profile, 1) if cls.kind == "mig" else GpuRequest("whole", None, cls.gpus)
    return Demand((request,), models=cls.models)


def _emptied(
    trial: Overlay, node: str, gone: set[str], usable: frozenset[str]
) -> tuple[tuple[str, str], ...] | str:
    """The moves that empty the node, counted in ``trial``; or why it cannot be emptied."""
    scene = trial.scene
    movers: list[Mover] = []
    for uid in sorted(scene.holdings[node].bound):
        mover = scene.movers.get(uid)
        if mover is None or mover.why_not is not None:
            who = "a GPU pod" if mover is None else mover.full_name
            why = "may not be moved" if mover is None else mover.why_not
            return f"{who} {why}"
        movers.append(mover)
    movers.sort(key=lambda one: (-_weight(one.demand), one.full_name))
    moves = []
    for mover in movers:
        if not trial.may_move(mover):
            return f"{mover.full_name} is under a budget that spares none now"
        target = _place(trial, mover, gone | {node}, usable)
        if target is None:
            return f"{mover.full_name} ({mover.demand}) has no other place"
        moves.append((mover.full_name, target))
        trial.evict(mover)
    return tuple(moves)


def _place(trial: Overlay, mover: Mover, without: set[str], usable: frozenset[str]) -> str | None:
    scene = trial.scene
    prices = np.where(trial.usable(mover), scene.prices(trial.demand(mover)), np.inf)
    for row in np.argsort(np.round(prices, 9), kind="stable").tolist():
        name: str = scene.names[row]
        if not np.isfinite(prices[row]):
            return None
        if name in without or name not in usable:
            continue
        room = trial.place_now(name, mover.demand, mover.resources, linked=mover.linked)
        if room is not None:
            trial.take(name, room, mover.resources)
            return name
    return None


class _Rooms:
    """Where demands find room, cheapest first: sorted once, since prices hold for one round of advice."""

    def __init__(self, scene: Scene, usable: frozenset[str]) -> None:
        self._scene, self._usable = scene, usable
        self._order: dict[Demand, list[str]] = {}
        self._start: dict[Demand, int] = {}

    def any(self, overlay: Overlay, demand: Demand, gone: set[str], *, without: str = "") -> bool:
        """Whether a usable node that is neither ``gone`` nor ``without`` has room. ``gone`` only grows."""
        names = self._order.get(demand)
        if names is None:
            prices, rows = self._scene.prices(demand), self._scene.names
            ranked = (
                rows[row] for row in np.argsort(prices, kind="stable").tolist() if np.isfinite(prices[row])
            )
            names = self._order[demand] = [name for name in ranked if name in self._usable]
        start = self._start.get(demand, 0)
        while start < len(names) and names[start] in gone:
            start += 1
        self._start[demand] = start
        return any(
            name not in gone
            and name != without
            and overlay.place_now(name, demand, NOTHING, linked=False) is not None
            for name in islice(names, start, None)
        )


def _order(scene: Scene, hours: Mapping[str, float], node: str) -> tuple[int, float, str]:
    return len(scene.holdings[node].bound), -hours.get(node, 0.0), node


def _weight(demand: Demand) -> float:
    size = 0.0
    for request in demand.requests:
        digits = (request.profile or "").partition("g")[0]
        each = int(digits) / 8.0 if digits.isdecimal() else 1.0
        size += each * request.count
    return size
