"""The extender over a live cluster: watches into the fleet, the policy ConfigMap, binding through the API
server.

The process serves from its first second: until the watches have synced every pod passes unjudged, and /readyz
says what is missing. A policy that is refused leaves the last good one in force; one whose carbon provider
cannot be built is refused as a whole.
"""

from __future__ import annotations

import logging
import threading
import time

from cluster.client import Api, ApiError
from cluster.events import EventRecorder
from cluster.policy import Carbon, ClusterPolicy, PolicyRefused
from cluster.policy_source import PolicySource
from metrics.exposition import Exposition
from scheduler.extender.preempting import Preemptor
from scheduler.extender.server import settle_memory
from scheduler.feed import Feed
from scheduler.fleet import Fleet
from scheduler.forecasts import ForecastBook, forecast_reflector
from scheduler.interference_loop import Source
from scheduler.residents import Residents
from scheduler.service import COMPONENT, Service, Sources, carbon_provider

log = logging.getLogger(__name__)


class Live:
    """A service, its watches, and the thread that starts pricing once they have synced."""

    def __init__(
        self,
        api: Api,
        *,
        policy_namespace: str,
        policy_name: str,
        exposition: Exposition | None = None,
        recorder: EventRecorder | None = None,
        prometheus: Source | None = None,
    ) -> None:
        """``exposition`` and ``recorder``: those of the process this is a part of; its own otherwise.
        ``prometheus``: see ``Service``.
        """
        self._started_at = time.time()
        self._carbon: Carbon | None = None
        self._stopping = threading.Event()
        fleet = Fleet()
        self.feed = Feed(api, fleet)
        self.residents = Residents(api, self.feed)
        self._own_events = None if recorder else EventRecorder(api, COMPONENT)
        self._events = recorder or self._own_events
        self._policy = PolicySource(
            api,
            policy_namespace,
            policy_name,
            check=self._check,
            recorder=self._events,
            on_loaded=self._loaded,
            on_refused=self._refused,
        )
        self._forecasts = ForecastBook()
        self._forecast_watch = forecast_reflector(api, policy_namespace, self._forecasts)
        sources = Sources(
            policy=lambda: self._policy.current,
            parts=lambda: {"fleet": self.feed.synced, "policy": self._policy.ready.is_set()},
            age_seconds=self.feed.age_seconds,
            carbon={},
            forecast=self._forecasts.known,
        )
        provider = carbon_provider(self._policy.current, "the default policy", self._started_at)
        self.service = Service(
            fleet, sources, provider=provider, exposition=exposition, prometheus=prometheus
        )
        self.service.preemptor = Preemptor(
            self.service.decider, self.residents.census, self.residents.budgets, self.policy
        )
        self._starter = threading.Thread(target=self._price_once_synced, name="start-pricing", daemon=True)

    def policy(self) -> ClusterPolicy:
        """The policy in force."""
        return self._policy.current

    def start(self) -> None:
        """Start the watches; pricing follows by itself."""
        if self._own_events is not None:
            self._own_events.start()
        self._policy.start()
        self._starter.start()

    def stop(self) -> None:
        """Stop every thread."""
        self._stopping.set()
        self._starter.join(10.0)
        self.residents.stop()
        self.feed.stop()
        self._forecast_watch.stop()
        self._policy.stop()
        self.service.stop()
        if self._own_events is not None:
            self._own_events.stop()

    def _price_once_synced(self) -> None:
        # Here and not in the main thread: it asks the API server, which may not answer yet.
        self.residents.start()
        self.feed.start()
        self._forecast_watch.start()
        while not self.service.synced():
            if self._stopping.wait(0.02):
                return
        settle_memory()
        self.service.start()
        nodes = len(self.service.fleet.rows)
        log.info("synced %d nodes in %.1f s; serving", nodes, time.time() - self._started_at)

    def _check(self, policy: ClusterPolicy, where: str) -> None:
        if policy.carbon != self._carbon:
            carbon_provider(policy, where, self._started_at)

    def _loaded(self, policy: ClusterPolicy) -> None:
        self.service.exposition.policy.accepted("cluster", time.time())
        if policy.carbon != self._carbon:
            self._carbon = policy.carbon
            self.service.board.replace(carbon_provider(policy, "policy", self._started_at))
        self.service.policy_changed(policy)

    def _refused(self, refusal: PolicyRefused) -> None:
        self.service.exposition.policy.refused("cluster")


class ApiBinder:
    """Binds through the pods/binding subresource."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def bind(self, namespace: str, name: str, uid: str, node: str) -> str:
        """Bind; returns why not, in the API server's words, or an empty text."""
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name, "namespace": namespace, **({"uid": uid} if uid else {})},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        try:
            self._api.post(f"/api/v1/namespaces/{namespace}/pods/{name}/binding", body)
        except ApiError as error:
            return str(error)
        return ""
