"""The controller's repacker put together, and what it tells the outside: metrics, Events, a route.

``GET /repack`` answers the newest plan as JSON. Events are written only when something is done: a dry run
leaves no trace in the cluster but its metrics and this process' log.
"""

from __future__ import annotations

import logging

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from autoscaler.evicting import Hands
from autoscaler.repack_loop import RepackLoop
from autoscaler.side import Side
from cluster import event_reasons
from cluster.events import EventRecorder
from cluster.wire import ObjectReference
from metrics.exposition import Exposition
from scheduler.repack.read import SceneReader
from scheduler.repack.scene import Move, Mover, Relief, RepackPlan, Waiter
from scheduler.repack.words import as_json

log = logging.getLogger(__name__)


class RepackSide:
    """The loop over one live fleet. ``start`` after the watches, ``stop`` before them."""

    def __init__(self, side: Side) -> None:
        live = side.live
        service, residents = live.service, live.residents
        reader = SceneReader(service.decider, residents.census, residents.budgets)
        self.loop = RepackLoop(
            decider=service.decider,
            census=residents.census,
            reader=reader,
            hands=Hands(side.api),
            policy=live.policy,
            active=lambda: side.is_leader() and residents.ready and service.prices.priced(),
            observer=_Observer(side.exposition, side.recorder),
            read_only=side.dry_run,
        )

    def routes(self) -> APIRouter:
        """The newest plan."""
        router = APIRouter()

        @router.get("/repack")
        def repack() -> JSONResponse:
            return JSONResponse(as_json(self.loop.latest))

        return router


class _Observer:
    """Metrics, Events and log lines."""

    def __init__(self, exposition: Exposition, recorder: EventRecorder) -> None:
        self._metrics = exposition.repack
        self._recorder = recorder
        self._said: tuple[str, ...] = ()

    def planned(self, made: RepackPlan, seconds: float, *, dry_run: bool) -> None:
        self._metrics.plan_duration_seconds.observe(seconds)
        self._metrics.proposed_moves.labels("waiting").set(sum(len(one.moves) for one in made.reliefs))
        self._metrics.proposed_moves.labels("savings").set(len(made.savings))
        self._metrics.unmet_pods.set(len(made.unmet))
        said = tuple(f"{move.pod.full_name} {move.source} {move.target}" for move in made.moves)
        if said != self._said:
            self._said = said
            for move in made.moves:
                log.info(
                    "repack%s: %s from %s to %s: it %s (cost %.2f)",
                    " (dry run)" if dry_run else "",
                    move.pod.full_name,
                    move.source,
                    move.target or "no place",
                    move.why,
                    move.cost,
                )

    def evicted(self, move: Move, verdict: str, reason: str) -> None:
        self._metrics.moves.labels(verdict).inc()
        pod = _reference(move.pod)
        if verdict == "evicted":
            held = f"; room for its successor is held on {move.target}" if move.target else ""
            note = f"evicted: it {move.why}{held}"
            self._tell(pod, event_reasons.REPACKED, note, event_reasons.NORMAL)
            if move.waiter is not None:
                where = f"moved from {move.source} to {move.target}" if move.target else "preempted"
                note = f"{move.pod.full_name} is {where} to make room"
                self._tell(_reference(move.waiter), event_reasons.ROOM_MADE, note, event_reasons.NORMAL)
        elif verdict != "gone":
            note = f"eviction refused, left alone for now: {reason}"
            self._tell(pod, event_reasons.REPACK_FAILED, note, event_reasons.WARNING)

    def settled(self, move: Move, outcome: str) -> None:
        self._metrics.moves.labels(outcome).inc()
        if outcome == "unsettled":
            log.warning("repack: the successor of %s has no node yet", move.pod.full_name)

    def relieved(self, relief: Relief, outcome: str) -> None:
        self._metrics.reliefs.labels(outcome).inc()
        log.info("repack: %s: %s (%d moves)", relief.waiter.full_name, outcome, len(relief.moves))
        if outcome == "timed_out":
            note = f"pods were moved away from {relief.node}, but it has not been scheduled there"
            self._tell(_reference(relief.waiter), event_reasons.REPACK_FAILED, note, event_reasons.WARNING)

    def _tell(self, about: ObjectReference, reason: str, note: str, kind: str) -> None:
        self._recorder.record(about, reason, note, kind, "Repack")


def _reference(pod: Mover | Waiter) -> ObjectReference:
    return ObjectReference(api_version="v1", kind="Pod", name=pod.name, namespace=pod.namespace, uid=pod.uid)
