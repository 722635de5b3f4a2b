"""The controller's part that speaks of nodes: the expander's server, hints and scale-down advice, put
together.

Every replica serves the expander and the routes; only the leader annotates nodes, and only where the policy
says so.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from autoscaler.nodes.daemon_sets import DaemonSets
from autoscaler.nodes.expander import Expander, Tls, sentences
from autoscaler.nodes.hints import Hint, Lacking, Machine, hints, kinds_of
from autoscaler.nodes.karpenter import overlays
from autoscaler.nodes.node_kinds import NodeKind
from autoscaler.nodes.node_options import Choice
from autoscaler.nodes.node_prices import FleetPrices
from autoscaler.nodes.scale_down import NodeAdvice
from autoscaler.nodes.scale_down_loop import ScaleDownLoop
from autoscaler.nodes.standing import Standing, standing
from autoscaler.nodes.words import advice_as_json, hint_as_json
from autoscaler.side import Side
from cluster import event_reasons
from cluster.events import EventRecorder
from cluster.wire import ObjectReference
from metrics import label_values
from metrics.exposition import Exposition
from scheduler.repack.read import SceneReader

log = logging.getLogger(__name__)


class NodesSide:
    """``start`` after the watches, ``stop`` before them."""

    def __init__(
        self,
        side: Side,
        *,
        policy_namespace: str,
        policy_name: str,
        lacking: Callable[[], Iterable[Lacking]] = tuple,
        expander_address: str | None = None,
        tls: Tls | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``lacking``: replicas without a place. ``expander_address``: HOST:PORT, None: no expander. Raises
        OSError for an unreadable PEM file.
        """
        live = side.live
        self.daemon_sets = DaemonSets(side.api)
        self.prices = FleetPrices(live.service, live.policy, clock, self.daemon_sets)
        self._lacking, self._nodes = lacking, live.residents.census.all_nodes
        self.scale_down = ScaleDownLoop(
            side.api,
            SceneReader(live.service.decider, live.residents.census, live.residents.budgets),
            self.prices,
            live.service.prices.current,
            self._nodes,
            live.policy,
            _ScaleDownObserver(side.exposition, side.recorder),
            active=lambda: side.is_leader() and live.residents.ready and live.service.prices.priced(),
            dry_run=side.dry_run,
            clock=clock,
        )
        about = ObjectReference(
            api_version="v1", kind="ConfigMap", namespace=policy_namespace, name=policy_name
        )
        self.expander = (
            None
            if expander_address is None
            else Expander(
                self.prices,
                expander_address,
                _ExpanderObserver(side.exposition, side.recorder, about),
                tls,
            )
        )

    def start(self) -> None:
        """Serve the expander. Raises AddressTaken."""
        if self.expander is not None:
            self.expander.start()

    def begin(self) -> None:
        """Begin to look at the fleet; after its watches have started."""
        self.daemon_sets.start()
        self.scale_down.start()

    def hints(self) -> tuple[Hint, ...]:
        """Kinds of node for what lacks a place now, the cheapest first."""
        return hints(tuple(self._lacking()), self._kinds(), self.prices.now())

    def standing(self) -> tuple[Standing, ...]:
        """What a node of each kind costs beyond its list price, whatever waits."""
        return standing(self._kinds(), self.prices.now())

    def _kinds(self) -> dict[Machine, NodeKind]:
        running = tuple(self.prices.running())
        return kinds_of(self._nodes().values(), running, self.prices.daemons)

    def routes(self) -> APIRouter:
        """``GET /nodes/hints`` (with ``?form=overlays`` the NodeOverlays) and ``GET /nodes/scale-down``."""
        router = APIRouter()

        @router.get("/nodes/hints")
        def node_hints(form: str = "json") -> JSONResponse:
            if form == "overlays":
                # A List, which kubectl applies as it is.
                made = {"apiVersion": "v1", "kind": "List", "items": overlays(self.standing())}
                return JSONResponse(made)
            return JSONResponse([hint_as_json(hint) for hint in self.hints()])

        @router.get("/nodes/scale-down")
        def scale_down() -> JSONResponse:
            return JSONResponse(advice_as_json(self.scale_down.latest))

        return router

    def stop(self) -> None:
        """End the threads."""
        self.scale_down.stop()
        self.daemon_sets.stop()
        if self.expander is not None:
            self.expander.stop()


class _ExpanderObserver:
    """Metrics, Events and log lines of the expander."""

    def __init__(self, exposition: Exposition, recorder: EventRecorder, about: ObjectReference) -> None:
        self._metrics = exposition.node_advice
        self._recorder, self._about = recorder, about

    def chose(self, choice: Choice, seconds: float) -> None:
        self._metrics.duration_seconds.observe(seconds)
        self._metrics.answers.labels("chosen" if choice.about_gpus else "left").inc()
        if not choice.about_gpus:
            return
        for sentence in sentences(choice):
            log.info("expander: %s", sentence)
        self._recorder.record(
            self._about,
            event_reasons.NODE_GROUP_CHOSEN,
            choice.sentence,
            event_reasons.NORMAL,
            "ChooseNodeGroup",
        )

    def failed(self, problem: str) -> None:
        self._metrics.answers.labels("error").inc()
        log.warning("expander: %s; Cluster Autoscaler goes on with all its options", problem)


class _ScaleDownObserver:
    """Metrics, Events and log lines of the scale-down advice."""

    def __init__(self, exposition: Exposition, recorder: EventRecorder) -> None:
        self._metrics, self._recorder = exposition.node_advice, recorder

    def advised(self, advice: tuple[NodeAdvice, ...]) -> None:
        for verdict in label_values.SCALE_DOWN_ADVICE:
            count = sum(one.verdict == verdict for one in advice)
            self._metrics.scale_down_nodes.labels(verdict).set(count)

    def marked(self, node: str, why: str) -> None:
        about = ObjectReference(api_version="v1", kind="Node", name=node)
        reason = event_reasons.SCALE_DOWN_HELD if why else event_reasons.SCALE_DOWN_RELEASED
        note = (
            f"node autoscalers are told to keep it: {why}" if why else "node autoscalers may remove it again"
        )
        log.info("scale-down advice: node %s: %s", node, note)
        self._recorder.record(about, reason, note, event_reasons.NORMAL, "AdviseScaleDown")
