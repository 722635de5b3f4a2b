"""The controller's part that speaks of nodes: the expander's server, hints and scale-down advice, put
together.

Every replica serves the expander and the routes; only the leader annotates nodes, and only where the policy
says so.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from autoscaler.nodes.expander import Expander, Tls, sentences
from autoscaler.nodes.node_options import Choice
from autoscaler.nodes.node_prices import FleetPrices
from autoscaler.side import Side
from cluster import event_reasons
from cluster.events import EventRecorder
from cluster.wire import ObjectReference
from metrics.exposition import Exposition

log = logging.getLogger(__name__)


class NodesSide:
    """``start`` after the watches, ``stop`` before them."""

    def __init__(
        self,
        side: Side,
        *,
        policy_namespace: str,
        policy_name: str,
        expander_address: str | None = None,
        tls: Tls | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``expander_address``: HOST:PORT, None: no expander. Raises OSError for an unreadable PEM file."""
        live = side.live
        self.prices = FleetPrices(live.service, live.policy, clock)
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
        """Serve. Raises AddressTaken."""
        if self.expander is not None:
            self.expander.start()

    def stop(self) -> None:
        """End the threads."""
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
