"""The controller's batch release put together, and what it tells the outside: metrics, Events, a route.

``GET /batch`` answers the newest plan as JSON.
"""

from __future__ import annotations

import logging

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from autoscaler.batch.grid_forecast import GridForecast
from autoscaler.batch.loop import BatchLoop, Released, View
from autoscaler.batch.memory import BatchMemory
from autoscaler.batch.outlook import lead_error
from autoscaler.batch.work import Plan
from autoscaler.side import Side
from cluster import event_reasons
from cluster.events import EventRecorder
from cluster.job_wire import JOBS_PATH, Job
from cluster.reflector import Reflector
from cluster.times import rfc3339
from cluster.wire import ObjectReference
from metrics.exposition import Exposition
from metrics.samples import NoData
from scheduler.windows.release import Outcome
from scheduler.windows.shelf import JobShelf, reference_to

log = logging.getLogger(__name__)

_ERROR_HOURS = 12


class BatchSide:
    """The loop over one live fleet, and the watch of Jobs. ``pods`` of the loop hears of the process' own pod
    watch: register it before the watches start.
    """

    def __init__(self, side: Side, namespace: str) -> None:
        live = side.live
        self.loop = BatchLoop(
            side.api,
            live.service.fleet,
            live.service.board,
            BatchMemory(side.api, namespace),
            policy=live.policy,
            demand_of=live.service.decider.demand,
            active=lambda: side.is_leader() and live.service.synced() and self._reflector.synced.is_set(),
            observer=_Observer(side.exposition, side.recorder),
            read_only=side.dry_run,
        )
        # By the view, which goes with the lead: a replica that lost it must not be counted besides the next.
        side.exposition.batch.held_jobs.set_function(
            lambda: 0.0 if (view := self.loop.view) is None else float(len(view.items))
        )
        self._reflector: Reflector[Job] = Reflector(
            side.api, JOBS_PATH, Job, self.loop.jobs, keep=JobShelf.keep
        )

    def routes(self) -> APIRouter:
        """The newest plan."""
        router = APIRouter()

        @router.get("/batch")
        def batch() -> JSONResponse:
            return JSONResponse(as_json(self.loop.view))

        return router

    def start(self) -> None:
        """Start the watch of Jobs and the loop."""
        self._reflector.start()
        self.loop.start()

    def stop(self) -> None:
        """Stop both, the loop first."""
        self.loop.stop()
        self._reflector.stop()


def as_json(view: View | None) -> dict[str, object]:
    """The newest plan for people: each held item, its start, where, and how much time is left at worst."""
    if view is None:
        return {"planned_at": None, "jobs": []}
    jobs = []
    for item in sorted(view.items, key=lambda one: (view.plan.starts[one.job.key].at_seconds, one.job.key)):
        start = view.plan.starts[item.job.key]
        jobs.append(
            {
                "objects": [
                    f"{held.kind} {held.metadata.namespace}/{held.metadata.name}" for held in item.objects
                ],
                "family": item.family,
                "start": rfc3339(start.at_seconds),
                "pool": start.pool,
                "deadline": rfc3339(item.job.deadline_seconds),
                "latest_start": rfc3339(item.job.latest_start_seconds),
                "expected_seconds": round(item.job.expected_seconds),
                "margin_seconds": round(view.plan.margins[item.job.key]),
                "at_risk": start.late or start.crowded,
            }
        )
    return {
        "planned_at": rfc3339(view.at_seconds),
        "method": view.plan.method,
        "cost": round(view.plan.cost, 6),
        "jobs": jobs,
    }


class _Observer:
    """Metrics, Events and log lines."""

    def __init__(self, exposition: Exposition, recorder: EventRecorder) -> None:
        self._metrics = exposition.batch
        self._recorder = recorder

    def planned(self, plan: Plan, seconds: float) -> None:
        self._metrics.plans.labels(plan.method).inc()
        self._metrics.plan_duration_seconds.observe(seconds)

    def released(self, one: Released, outcome: Outcome) -> None:
        if outcome is Outcome.GONE:
            return
        about, latest = one.held.reference, rfc3339(one.job.latest_start_seconds)
        name = f"{about.kind} {about.namespace}/{about.name}"
        if outcome is not Outcome.DONE:
            self._metrics.releases.labels("error").inc()
            note = f"could not be released ({outcome}); tried again, and slicewise-scheduler does at {latest}"
            log.warning("%s: %s", name, note)
            self._tell(about, event_reasons.BATCH_RELEASE_FAILED, note, event_reasons.WARNING)
            return
        self._metrics.releases.labels(one.why).inc()
        self._metrics.expected_saving_grams.inc(max(0.0, one.saved_grams))
        saved = f"{one.saved_grams / 1000.0:.3g} kg CO2e less than when it came"
        notes = {
            "planned": f"the best hour within its window: {saved}",
            "latest": f"its latest safe start: {saved}",
            "late": f"its latest safe start was {latest}: its deadline may not hold",
            "crowded": "no GPUs are expected to be free before its latest start: it queues from now on",
            "unreadable": "; ".join(one.held.window.problems),
        }
        reasons = {
            "late": event_reasons.BATCH_AT_RISK,
            "crowded": event_reasons.BATCH_AT_RISK,
            "unreadable": event_reasons.BATCH_WINDOW_REFUSED,
        }
        reason = reasons.get(one.why, event_reasons.BATCH_RELEASED)
        kind = event_reasons.NORMAL if reason == event_reasons.BATCH_RELEASED else event_reasons.WARNING
        log.info("%s: released: %s", name, notes[one.why])
        self._tell(about, reason, notes[one.why], kind)

    def ended(self, job: Job, late_seconds: float) -> None:
        if late_seconds <= 0.0:
            return
        self._metrics.missed_deadlines.inc()
        about = reference_to("Job", job.metadata)
        note = f"ended {late_seconds:.0f} s after its completion window"
        self._tell(about, event_reasons.BATCH_MISSED, note, event_reasons.WARNING)

    def forecast(self, zone: str, own: GridForecast | NoData) -> None:
        error = lead_error(own, _ERROR_HOURS)
        if not isinstance(error, NoData):
            self._metrics.forecast_error_ratio.labels(zone).set(error)

    def _tell(self, about: ObjectReference, reason: str, note: str, kind: str) -> None:
        self._recorder.record(about, reason, note, kind, "Release")
