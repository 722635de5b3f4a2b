"""Put the autoscaler together: which part is made from which, and in which order they start and stop.

The only place that knows all of them. ``build`` connects nothing and starts nothing, so a bad flag is found
before any thread exists. ``Parts.start`` starts watches, then the election, then the loop; ``Parts.stop``
ends the loop first and gives the lease back only when no decision can follow.
"""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from autoscaler.controller import Controller, PolicyKey
from autoscaler.deletion_cost import DeletionCosts, healing_of
from autoscaler.doors.advice import Advice
from autoscaler.doors.side import CLOSED, DoorOptions, Doors
from autoscaler.fleet_side import FleetSide
from autoscaler.forecast_store import ForecastWriter
from autoscaler.learned_store import LearnedStore
from autoscaler.nodes.expander import Tls
from autoscaler.nodes.hints import Lacking
from autoscaler.nodes.side import NodesSide
from autoscaler.other_writer import OtherWriters
from autoscaler.pace import Pace
from autoscaler.placement import FleetPlacement
from autoscaler.pod_index import PodIndex
from autoscaler.pods import PodSight
from autoscaler.replica_shape import ReplicaShapes
from autoscaler.signals_side import SignalsSide
from autoscaler.targets import Target
from autoscaler.told_series import told
from autoscaler.variant_offers import VariantOffers
from autoscaler.warm.notices import NodeNotices
from autoscaler.warm.replacement import Replacements
from autoscaler.warm.warm_book import WarmBook
from autoscaler.warm.warm_loop import WarmLoop
from autoscaler.workload_page import WorkloadPage, rows
from cluster.client import Api
from cluster.events import EventRecorder
from cluster.lease import LeaderElection
from cluster.periodic import Gate
from cluster.policy import AutoscalingPolicy
from cluster.policy_source import AutoscalingPolicySource
from metrics.exposition import Exposition
from metrics.prometheus import Prometheus, token_in

log = logging.getLogger(__name__)

COMPONENT = "slicewise.io/controller"
_COLLECT_AFTER: Final = 50_000


@dataclass(frozen=True, slots=True)
class Options:
    """What a person may choose on the command line. ``namespace`` is where Lease and cluster policy live."""

    prometheus_url: str
    kubeconfig: str | None = None
    context: str | None = None
    namespace: str = "slicewise-system"
    policy_name: str = "slicewise-policy"
    lease: str = "slicewise-controller"
    identity: str = "slicewise-controller"
    prometheus_timeout_seconds: float = 5.0
    prometheus_matchers: str = ""
    prometheus_ca_file: str | None = None
    prometheus_token_file: str | None = None
    dry_run: bool = False
    version: str = "unknown"
    doors: DoorOptions = CLOSED
    expander_address: str | None = None
    expander_tls: Tls | None = None


@dataclass(slots=True)
class Parts:
    """The running pieces. Others may be composed beside them on the same ``api``, ``exposition`` and
    ``election``.
    """

    api: Api
    exposition: Exposition
    recorder: EventRecorder
    policies: AutoscalingPolicySource
    pods: PodIndex
    fleet: FleetSide
    prometheus: Prometheus
    slowdowns: Prometheus
    election: LeaderElection
    controller: Controller
    signals: SignalsSide
    forecasts: ForecastWriter
    doors: Doors
    nodes: NodesSide
    warm: WarmLoop
    rivals: OtherWriters
    page: WorkloadPage
    pace: Pace
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Start everything; returns at once. Decisions begin when the pods and policies are known.

        Raises AddressTaken before anything has started.
        """
        self.nodes.start()
        self.recorder.start()
        self.policies.start()
        self.fleet.start()
        self.signals.start()
        self.forecasts.start()
        self.rivals.start()
        self.page.start()
        self.election.start()
        self.warm.start()
        self.nodes.begin()
        self.doors.start()
        self._thread = threading.Thread(target=self._run, name="autoscaler", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop everything and wait. Safe to call twice."""
        self.doors.stop()
        self._stop.set()
        self.pace.nudge()
        if self._thread is not None:
            self._thread.join(30.0)
        self.warm.stop()
        self.page.stop()
        self.rivals.stop()
        self.forecasts.stop()
        self.signals.stop()
        self.election.stop()
        self.nodes.stop()
        self.fleet.stop()
        self.policies.stop()
        self.recorder.stop()
        self.prometheus.close()
        self.slowdowns.close()
        self.api.close()

    def _run(self) -> None:
        while not all(self.synced.values()):
            if self._stop.wait(0.2):
                self.controller.close()
                return
        # The fleet is known and stays: a collector that walked all of it again would stop a round for long.
        gc.collect()
        gc.freeze()
        # A round makes tens of thousands of objects that live until the next one and are in no cycle; at the
        # usual thresholds the collector walked all of them several times a round.
        gc.set_threshold(_COLLECT_AFTER, 20, 20)
        self.controller.run(self._stop)

    @property
    def synced(self) -> dict[str, bool]:
        """What must be known before decisions are possible, and whether it is."""
        return {
            **self.fleet.ready,
            "autoscaling policies": self.policies.reflector.synced.is_set(),
            "other autoscalers": self.rivals.ready,
        }

    def stuck_for(self, now: float, allowed_seconds: float) -> float | None:
        """Return for how many seconds no round has ended when that is more than allowed, else None.

        ``now`` is a reading of ``time.monotonic``.
        """
        last = self.controller.last_round_seconds
        if last is None or now - last <= allowed_seconds:
            return None
        return now - last


def build(options: Options) -> Parts:
    """Make the parts. Raises NotConfigured (no way to the API server) and ValueError (a bad URL)."""
    api = Api.connect(options.kubeconfig, options.context, user_agent="slicewise-controller")
    exposition = Exposition("controller", options.version)
    recorder = EventRecorder(api, COMPONENT, instance=options.identity)
    sources, leading, loads = exposition.sources, exposition.leader, exposition.policy
    leading.adopt(options.lease)

    def observe(result: str, seconds: float) -> None:
        sources.prometheus_queries.labels(result).inc()
        sources.prometheus_query_duration_seconds.observe(seconds)

    def began() -> None:
        scales.forget()
        leading.leader.labels(options.lease).set(1)
        leading.transitions.labels(options.lease).inc()

    def ended() -> None:
        scales.forget()
        leading.leader.labels(options.lease).set(0)
        leading.transitions.labels(options.lease).inc()

    def source() -> Prometheus:
        return Prometheus(
            options.prometheus_url,
            options.prometheus_timeout_seconds,
            bearer_token=token_in(options.prometheus_token_file),
            ca_file=options.prometheus_ca_file,
            observer=observe,
        )

    # Each asks a few questions at a time: those of a round do not queue behind seven about slowdowns.
    prometheus, slowdowns = source(), source()

    def policies_changed(changed: Mapping[PolicyKey, AutoscalingPolicy]) -> None:
        loads.accepted("autoscaling", time.time())
        scales.keep_only({Target.of(policy, key[0]) for key, policy in changed.items()})

    policies = AutoscalingPolicySource(
        api,
        recorder=recorder,
        on_changed=policies_changed,
        on_refused=lambda _key, _refusal: loads.refused("autoscaling"),
    )
    pods = PodIndex()
    election = LeaderElection(
        api, options.namespace, options.lease, options.identity, on_started=began, on_stopped=ended
    )
    notices, warm_pods, pace = NodeNotices(), WarmBook(), Pace()
    between_rounds = Gate()

    def doomed(pod: PodSight) -> bool:
        return bool(notices.of(pod.node))

    signals = SignalsSide(
        api,
        prometheus,
        pods,
        exposition.autoscaler,
        matchers=options.prometheus_matchers,
        burst=pace.nudge,
        doomed=doomed,
        grid=lambda seen: fleet.grid_under([pod.node for pod in seen if pod.node]),
    )

    def sets_replicas(target: Target) -> bool:
        if options.dry_run or not election.is_leader:
            return False
        return any(
            policy.actuator == "write" and Target.of(policy, key[0]) == target
            for key, policy in policies.policies.items()
        )

    scales = Replacements(signals.scales, pods, notices, recorder, exposition.warm, may_write=sets_replicas)
    fleet = FleetSide(
        api,
        policy_namespace=options.namespace,
        policy_name=options.policy_name,
        exposition=exposition,
        recorder=recorder,
        is_leader=lambda: election.is_leader,
        pod_readers=[pods, warm_pods],
        node_readers=[notices],
        dry_run=options.dry_run,
        prometheus=slowdowns,
    )
    rivals = OtherWriters(api, signals.scales.writers)
    shapes = ReplicaShapes(api, fleet.live.service.decider)
    controller = Controller(
        lambda: policies.policies,
        scales,
        signals.collector,
        recorder,
        exposition.autoscaler,
        is_leader=lambda: election.is_leader,
        dry_run=options.dry_run,
        store=LearnedStore(
            api,
            options.namespace,
            executor=ThreadPoolExecutor(1, thread_name_prefix="memory"),
            may_write=lambda: election.is_leader,
        ),
        placement=FleetPlacement(
            fleet.live.service,
            fleet.admitted,
            pods,
            shapes,
            held=warm_pods.held,
        ),
        rivals=rivals,
        variants=VariantOffers(fleet.live.service, fleet.admitted, pods, shapes),
        pace=pace,
        beside=(between_rounds,),
        victims=DeletionCosts(
            api,
            pods,
            signals.collector.pod_loads,
            healing_of(fleet.live.service.decider),
            doomed=doomed,
        ),
    )
    exposition.autoscaler.told.read = lambda: told(controller.views)
    forecasts = ForecastWriter(
        api,
        options.namespace,
        lambda: policies.policies,
        lambda: controller.views,
        signals.scales,
        pods,
        shapes,
        fleet.live.service.decider,
        active=lambda: election.is_leader and not options.dry_run and all(fleet.ready.values()),
    )
    warm = WarmLoop(
        api,
        lambda: policies.policies,
        policies.reference,
        lambda: controller.views,
        signals.scales,
        shapes,
        pods,
        warm_pods,
        fleet,
        recorder,
        exposition.warm,
        active=lambda: (
            election.is_leader and policies.reflector.synced.is_set() and all(fleet.ready.values())
        ),
        dry_run=options.dry_run,
    )
    nodes = NodesSide(
        fleet.side,
        policy_namespace=options.namespace,
        policy_name=options.policy_name,
        lacking=lambda: [
            Lacking(one.demand, one.constraints, one.replicas) for one in controller.node_requests
        ],
        expander_address=options.expander_address,
        tls=options.expander_tls,
    )
    advice = Advice(
        lambda: policies.policies,
        controller,
        is_leader=lambda: election.is_leader,
        leader=lambda: election.holder,
        dry_run=options.dry_run,
    )
    answers = exposition.doors.answers
    doors = Doors(
        options.doors,
        api,
        options.namespace,
        advice,
        lambda: election.is_leader,
        lambda door, result: answers.labels(door, result).inc(),
        dry_run=options.dry_run,
    )
    page = WorkloadPage(
        api,
        options.namespace,
        lambda: rows(controller.views, controller.node_requests),
        active=lambda: election.is_leader and not options.dry_run,
    )
    for loop in (forecasts, warm, page, fleet.live.service):
        loop.yield_to(between_rounds)
    return Parts(
        api=api,
        exposition=exposition,
        recorder=recorder,
        policies=policies,
        pods=pods,
        fleet=fleet,
        prometheus=prometheus,
        slowdowns=slowdowns,
        election=election,
        controller=controller,
        signals=signals,
        forecasts=forecasts,
        doors=doors,
        nodes=nodes,
        warm=warm,
        rivals=rivals,
        page=page,
        pace=pace,
    )
