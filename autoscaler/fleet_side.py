"""The controller's side of placement: its own view of the fleet, the planner that nominates, the page that
shows it.

The same parts as in slicewise-scheduler (``scheduler.live``), so a plan and a webhook answer follow from one
price. Every replica keeps the view and serves the page; only the leader plans.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from fastapi import APIRouter
from numpy.typing import NDArray

from autoscaler.batch.side import BatchSide
from autoscaler.device_order import DeviceOrderWriter
from autoscaler.fleetpage.page import fleet_routes
from autoscaler.fleetpage.reader import FleetReader
from autoscaler.grids import grid_under
from autoscaler.recut_side import RecutSide
from autoscaler.repack_side import RepackSide
from autoscaler.side import Side
from cluster import event_reasons
from cluster.api_errors import ApiRefused
from cluster.client import Api
from cluster.events import EventRecorder
from cluster.reflector import Handler
from cluster.wire import Node, ObjectReference, Pod
from dra.device_order import CONFIG_MAP
from metrics.exposition import Exposition
from metrics.samples import NoData
from scheduler.bill import Bill
from scheduler.decider import Decider
from scheduler.interference_loop import Source
from scheduler.live import Live
from scheduler.packing.plan_problem import PlanAnswer
from scheduler.planner.admission import Constraints
from scheduler.planner.chooser import DeciderChooser
from scheduler.planner.follow import Fate
from scheduler.planner.loop import PlannerLoop
from scheduler.planner.nominate import Nominator, Outcome
from scheduler.planner.order import UrgencyOrder
from scheduler.planner.plan import Plan
from scheduler.planner.pod_groups import PodGroups
from scheduler.planner.queue import WaitingPod
from scheduler.planner.room import FreedClaims, NewHardware
from scheduler.planner.solver_client import SolverProcess
from scheduler.planner.solving import Solving

log = logging.getLogger(__name__)


class FleetSide:
    """Watches, prices, planner and page of one controller."""

    def __init__(
        self,
        api: Api,
        *,
        policy_namespace: str,
        policy_name: str,
        exposition: Exposition,
        recorder: EventRecorder,
        is_leader: Callable[[], bool],
        pod_readers: Sequence[Handler[Pod]],
        node_readers: Sequence[Handler[Node]] = (),
        dry_run: bool,
        prometheus: Source | None = None,
    ) -> None:
        """``pod_readers`` and ``node_readers`` are served from the one watch of their kind."""
        self._api = api
        self.live = Live(
            api,
            policy_namespace=policy_namespace,
            policy_name=policy_name,
            exposition=exposition,
            recorder=recorder,
            prometheus=prometheus,
        )
        service = self.live.service
        self._chooser = DeciderChooser(service.decider)
        policy = self.live.policy
        self._solver = SolverProcess()
        self._groups = PodGroups(api, lambda: self._planner.room_changed())
        observer = _Observer(exposition, recorder)
        self._planner = PlannerLoop(
            asks_for_gpus=self._chooser.asks_for_gpus,
            chooser=self._chooser,
            nominator=Nominator(api, policy().planner.max_patch_concurrency),
            policy=lambda: policy().planner,
            active=lambda: is_leader() and not dry_run and service.prices.priced(),
            observer=observer,
            solving=Solving(self._solver, self._chooser, observer.solved),
            group_size=self._groups.size,
            still_holds=self._chooser.still_holds,
            urgency=UrgencyOrder(
                service.fleet, service.decider.demand, lambda: service.prices.current().coming
            ),
        )
        self._chooser.nodes_changed = self._planner.nodes_changed
        self.live.feed.listen("nodes", self._chooser)
        for node_reader in node_readers:
            self.live.feed.listen("nodes", node_reader)
        for reader in (*pod_readers, self._planner):
            self.live.feed.listen("pods", reader)
        self.live.feed.listen("resourceclaims", FreedClaims(self._planner.room_changed))
        for kind in ("nodes", "resourceslices"):
            self.live.feed.listen(kind, NewHardware(self._planner.room_changed))
        exposition.planner.waiting_pods.set_function(lambda: float(self._planner.waiting()))
        self.side = Side(api, self.live, exposition, recorder, is_leader, dry_run)
        self._repack, self._recut = RepackSide(self.side), RecutSide(self.side)
        self._batch = BatchSide(self.side, policy_namespace)
        self.live.feed.listen("pods", self._batch.loop.pods)
        self._order = DeviceOrderWriter(
            api,
            policy_namespace,
            service.prices.current,
            active=lambda: is_leader() and not dry_run and service.prices.priced(),
            observer=_OrderObserver(exposition, recorder, policy_namespace),
        )
        self._reader = FleetReader(service.fleet, policy, service.carbon, time.monotonic)

    def admitted(self, constraints: Constraints) -> NDArray[np.bool_]:
        """bool[rows]: the nodes that pods of these constraints may use; with the fleet's lock held."""
        return self._chooser.admitted(constraints)

    @property
    def ready(self) -> dict[str, bool]:
        """What must be known before placements can be priced, and whether it is."""
        return dict(self.live.service.ready())

    @property
    def decider(self) -> Decider:
        """The prices that place pods."""
        return self.live.service.decider

    def nodes(self) -> Mapping[str, Node]:
        """The nodes as the watch shows them, by name."""
        return self.live.residents.census.all_nodes()

    def grid_under(self, nodes: Sequence[str]) -> float | NoData:
        """Mean carbon intensity of the grids that these nodes stand in, g/kWh."""
        service = self.live.service
        return grid_under(service.fleet, service.carbon(), nodes)

    def routes(self) -> APIRouter:
        """The fleet page, and the newest plans of the repacker and of batch work."""
        routes = fleet_routes(self._reader, self._bills)
        routes.include_router(self._repack.routes())
        routes.include_router(self._batch.routes())
        return routes

    def start(self) -> None:
        """Start watches, pricing, the planner and the repacker."""
        self.live.start()
        self._groups.start()
        self._solver.start()
        self._planner.start()
        self._repack.loop.start()
        self._recut.loop.start()
        self._order.start()
        self._batch.start()

    def stop(self) -> None:
        """Stop them, those that write first."""
        self._batch.stop()
        self._order.stop()
        self._recut.loop.stop()
        self._repack.loop.stop()
        self._planner.stop()
        self._groups.stop()
        self.live.stop()

    def _bills(self, namespace: str, name: str) -> list[Bill]:
        try:
            pod = self._api.get(f"/api/v1/namespaces/{namespace}/pods/{name}", Pod)
        except ApiRefused as refused:
            raise LookupError(refused.message) from refused
        return self.live.service.decider.bills(pod)


class _Observer:
    """Metrics and Events of the planner."""

    def __init__(self, exposition: Exposition, recorder: EventRecorder) -> None:
        self._metrics = exposition.planner
        self._recorder = recorder

    def planned(self, made: Plan, outcomes: Sequence[Outcome], seconds: float) -> None:
        self._metrics.plan_duration_seconds.observe(seconds)
        for outcome in outcomes:
            failed = outcome is Outcome.FAILED
            self._metrics.nominations.labels("error" if failed else "written").inc()
        for one in made.unplaced:
            self._recorder.record(
                _reference(one.waiting),
                event_reasons.NOT_PLACEABLE,
                one.reason,
                event_reasons.WARNING,
                "Plan",
            )

    def gates_timed_out(self, pods: Sequence[WaitingPod]) -> None:
        self._metrics.gate_timeouts.inc(len(pods))
        for pod in pods:
            self._recorder.record(
                _reference(pod),
                event_reasons.GATE_RELEASED,
                "no plan came in time; left to the scheduler",
                event_reasons.WARNING,
                "Plan",
            )

    def settled(self, fate: Fate) -> None:
        self._metrics.nominations.labels(fate).inc()

    def solved(self, answer: PlanAnswer | None) -> None:
        self._metrics.solves.labels("none" if answer is None else answer.status).inc()


class _OrderObserver:
    """Metrics and Events of the device order."""

    def __init__(self, exposition: Exposition, recorder: EventRecorder, namespace: str) -> None:
        self._metrics = exposition.device_order
        self._recorder = recorder
        self._namespace = namespace

    def written(self, changed: tuple[str, ...]) -> None:
        self._metrics.writes.labels("written").inc()
        log.info("device order: new for %s", ", ".join(changed))

    def refused(self, problem: str) -> None:
        self._metrics.writes.labels("error").inc()
        about = ObjectReference(
            api_version="v1", kind="ConfigMap", name=CONFIG_MAP, namespace=self._namespace
        )
        note = f"the order of MIG placements could not be written; drivers keep theirs; {problem}"
        log.warning("device order: %s", note)
        self._recorder.record(
            about, event_reasons.DEVICE_ORDER_REFUSED, note, event_reasons.WARNING, "WriteOrder"
        )


def _reference(pod: WaitingPod) -> ObjectReference:
    return ObjectReference(api_version="v1", kind="Pod", name=pod.name, namespace=pod.namespace, uid=pod.uid)
