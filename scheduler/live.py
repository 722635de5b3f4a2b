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
from collections.abc import Callable

from cluster.client import Api, ApiError
from cluster.events import EventRecorder
from cluster.policy import Carbon, ClusterPolicy, PolicyRefused
from cluster.policy_source import PolicySource
from scheduler.extender.server import settle_memory
from scheduler.extender.verbs import Binder
from scheduler.feed import Feed
from scheduler.fleet import Fleet
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
        bind: bool,
        draining: Callable[[], bool],
    ) -> None:
        self._started_at = time.time()
        self._carbon: Carbon | None = None
        self._stopping = threading.Event()
        fleet = Fleet()
        self._feed = Feed(api, fleet)
        self._events = EventRecorder(api, COMPONENT)
        self._policy = PolicySource(
            api,
            policy_namespace,
            policy_name,
            check=self._check,
            recorder=self._events,
            on_loaded=self._loaded,
            on_refused=self._refused,
        )
        binder: Binder | None = ApiBinder(api) if bind else None
        sources = Sources(
            policy=lambda: self._policy.current,
            parts=lambda: {"fleet": self._feed.synced(), "policy": self._policy.ready.is_set()},
            age_seconds=self._feed.age_seconds,
            carbon={},
        )
        provider = carbon_provider(self._policy.current, "the default policy", self._started_at)
        self.service = Service(fleet, sources, provider=provider, draining=draining, binder=binder)
        self._starter = threading.Thread(target=self._price_once_synced, name="start-pricing", daemon=True)

    def start(self) -> None:
        """Start the watches; pricing follows by itself."""
        self._policy.start()
        self._feed.start()
        self._starter.start()

    def stop(self) -> None:
        """Stop every thread."""
        self._stopping.set()
        self._starter.join(10.0)
        self._feed.stop()
        self._policy.stop()
        self.service.stop()

    def _price_once_synced(self) -> None:
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
