"""Looks at the fleet now and then, advises which nodes may go, and marks those that must be kept.

Marks are annotations that node autoscalers obey: ``cluster-autoscaler.kubernetes.io/scale-down-disabled`` and
``karpenter.sh/do-not-disrupt``. They are written only while this process leads and the policy's mode is
``on``, together with notes of ours that say why, and which marks are ours: only these are ever taken away,
and one that somebody else had set before is neither changed nor taken. Stopping or another mode leaves the
marks of before: the next leader, in mode ``on`` or not, takes away what is stale.

Karpenter obeys its mark, which must read "true", for consolidation, emptiness and drift; not once a node's
``expireAfter`` has passed, nor when it repairs a node or somebody deletes the NodeClaim.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Final, Protocol
from urllib.parse import quote

from autoscaler.nodes.node_prices import FleetPrices
from autoscaler.nodes.scale_down import NodeAdvice, advise, demands_of
from autoscaler.warm.interruption import interruption
from cluster.api_errors import ApiError, ApiRefused
from cluster.client import Api
from cluster.periodic import Periodic
from cluster.policy import ClusterPolicy
from cluster.wire import Node
from scheduler.packing.prices import PriceTables
from scheduler.repack.read import SceneReader

log = logging.getLogger(__name__)

CLUSTER_AUTOSCALER: Final = "cluster-autoscaler.kubernetes.io/scale-down-disabled"
KARPENTER: Final = "karpenter.sh/do-not-disrupt"
MARKS: Final = (CLUSTER_AUTOSCALER, KARPENTER)
NOTE: Final = "slicewise.io/scale-down-kept"
OURS: Final = "slicewise.io/scale-down-marks"
"""Which marks are ours, by comma; where only the note is there, all."""
_TICK_SECONDS: Final = 5.0


class ScaleDownObserver(Protocol):
    """What the loop tells the outside."""

    def advised(self, advice: tuple[NodeAdvice, ...]) -> None:
        """A new look at the fleet."""

    def marked(self, node: str, why: str) -> None:
        """The node is kept from now on ("": it no longer is)."""


class ScaleDownLoop(Periodic):
    """Owns the thread; ``turn`` is called by it, and by tests."""

    def __init__(
        self,
        api: Api,
        reader: SceneReader,
        prices: FleetPrices,
        tables: Callable[[], PriceTables],
        nodes: Callable[[], Mapping[str, Node]],
        policy: Callable[[], ClusterPolicy],
        observer: ScaleDownObserver,
        *,
        active: Callable[[], bool],
        dry_run: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``nodes``: as the watch shows them; ``active``: whether this process leads and prices are known;
        ``clock``: Unix seconds.
        """
        super().__init__("scale-down", self.turn, _TICK_SECONDS, if_failed="scale-down advice: a turn failed")
        self.latest: tuple[NodeAdvice, ...] = ()
        self._api, self._reader, self._prices, self._tables = api, reader, prices, tables
        self._nodes, self._policy, self._observer = nodes, policy, observer
        self._active, self._dry_run, self._clock = active, dry_run, clock
        self._looked_at: float | None = None

    def turn(self) -> None:
        """Look when it is due."""
        policy, now = self._policy().scale_down, self._clock()
        if policy.mode == "off" or not self._active():
            if self.latest:
                self._observer.advised(())
            self.latest, self._looked_at = (), None
            return
        if self._looked_at is None or now - self._looked_at >= policy.interval_seconds:
            self._looked_at = now
            self.look()

    def look(self) -> tuple[NodeAdvice, ...]:
        """Advise once, and mark where the mode is on."""
        policy, nodes = self._policy(), self._nodes()
        self.latest = advice_for(self._reader, self._prices, self._tables(), nodes, policy, self._clock())
        self._observer.advised(self.latest)
        if not self._dry_run:
            keep = {one.node: one.why for one in self.latest if one.verdict == "keep"}
            self._mark(keep if policy.scale_down.mode == "on" else {}, nodes)
        return self.latest

    def _mark(self, keep: Mapping[str, str], nodes: Mapping[str, Node]) -> None:
        for name, node in nodes.items():
            notes = node.metadata.annotations
            said, why = notes.get(NOTE), keep.get(name)
            if why is not None and said is None:
                ours = [mark for mark in MARKS if mark not in notes]
                if not ours:
                    continue  # somebody else keeps it already
                self._annotate(name, {**dict.fromkeys(ours, "true"), NOTE: why, OURS: ",".join(ours)})
            elif why is not None and said != why:
                self._annotate(name, {NOTE: why})
            elif why is None and said is not None:
                ours = [mark for mark in MARKS if mark in notes.get(OURS, ",".join(MARKS)).split(",")]
                self._annotate(name, dict.fromkeys((*ours, NOTE, OURS)))
            else:
                continue
            if said is None or why is None:
                self._observer.marked(name, why or "")

    def _annotate(self, node: str, notes: Mapping[str, str | None]) -> None:
        try:
            self._api.patch(f"/api/v1/nodes/{quote(node)}", {"metadata": {"annotations": notes}})
        except ApiRefused as refused:
            if refused.status != 404:
                log.warning("scale-down advice: node %s could not be annotated: %s", node, refused)
        except ApiError as error:
            log.warning("scale-down advice: node %s could not be annotated: %s", node, error)


def advice_for(
    reader: SceneReader,
    prices: FleetPrices,
    tables: PriceTables,
    nodes: Mapping[str, Node],
    policy: ClusterPolicy,
    now: float,
) -> tuple[NodeAdvice, ...]:
    """The advice for the fleet as it is; the same for the controller and the command line."""
    # Who may be moved is asked for, whatever the repacker itself is told to do.
    movable = policy.model_copy(update={"repack": policy.repack.model_copy(update={"savings": True})})
    scene = reader.scene(movable, now)
    classes = {*tables.demand, *tables.coming, *policy.demand.classes, *policy.scale_down.keep_for}
    usable = frozenset(
        name for name, node in nodes.items() if not node.spec.unschedulable and not interruption(node)
    )
    expected = demands_of(sorted({name.partition("/")[0] for name in classes}))
    return advise(scene, expected, prices.hours(), usable)
