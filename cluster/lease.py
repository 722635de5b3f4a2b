"""Elect one leader among replicas by a Lease (coordination.k8s.io/v1).

The algorithm is client-go's: a candidate may take the lease when its record has not changed for
``leaseDurationSeconds`` *of its own clock* (clocks of different machines are never compared), and every
write carries the resourceVersion that was read, so of two takers one is refused.

Fencing: ``is_leader`` is true only within ``renew_deadline_seconds`` of the moment at which the last
successful renewal was *sent*. It turns false by itself, also while this thread hangs in a request, and
does so before another replica may take the lease (deadline < duration). Check it before every write.

The official client's loop (kubernetes.leaderelection, 37.0.2) was not taken: it cannot be stopped, does not
release the lease and compares local wall clocks.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec

from cluster.client import Api, ApiError, ApiRefused, ApiUnreachable
from cluster.envelopes import object_decoder
from cluster.times import micro_time
from cluster.wire import Lease, LeaseSpec

log = logging.getLogger(__name__)


def may_take(spec: LeaseSpec, identity: str, unchanged_seconds: float) -> bool:
    """Return whether ``identity`` may write itself into a lease that stood still for so many seconds."""
    if not spec.holder_identity or spec.holder_identity == identity:
        return True
    return unchanged_seconds >= (spec.lease_duration_seconds or 0)


def taken(spec: LeaseSpec, identity: str, duration_seconds: int, now_text: str) -> dict[str, Any]:
    """Return the spec with ``identity`` as the holder, renewed at ``now_text``."""
    mine = spec.holder_identity == identity
    transitions = spec.lease_transitions or 0
    return {
        "holderIdentity": identity,
        "leaseDurationSeconds": duration_seconds,
        "acquireTime": (spec.acquire_time or now_text) if mine else now_text,
        "renewTime": now_text,
        "leaseTransitions": transitions if mine else transitions + (1 if spec.acquire_time else 0),
    }


class LeaderElection:
    """Takes part in an election from ``start`` to ``stop``.

    ``on_started`` and ``on_stopped`` run in the election's thread, alternately, beginning with
    ``on_started``; they must return quickly. An ``on_started`` that raises gives the lease back and tries
    again later.
    """

    def __init__(
        self,
        api: Api,
        namespace: str,
        name: str,
        identity: str,
        *,
        on_started: Callable[[], None] = lambda: None,
        on_stopped: Callable[[], None] = lambda: None,
        duration_seconds: int = 15,
        renew_deadline_seconds: float = 10.0,
        retry_seconds: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        jitter: random.Random | None = None,
    ) -> None:
        """Raise ValueError unless duration > renew deadline > retry period > 0."""
        if not duration_seconds > renew_deadline_seconds > retry_seconds > 0:
            raise ValueError(
                f"lease {namespace}/{name}: got duration {duration_seconds} s, renew deadline "
                f"{renew_deadline_seconds} s, retry {retry_seconds} s; expected each above the next, and "
                "the last above 0"
            )
        self.identity = identity
        self.holder = ""  # who holds the lease as last seen, for people and metrics
        self.transitions = 0  # how often we gained or lost the lead
        self.last_error: str | None = None
        self._api = api
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._path = f"{self._collection}/{name}"
        self._name, self._namespace = name, namespace
        self._on_started, self._on_stopped = on_started, on_stopped
        self._duration = duration_seconds
        self._deadline = renew_deadline_seconds
        self._retry = retry_seconds
        self._clock, self._wall_clock = clock, wall_clock
        self._jitter = jitter or random.Random()
        self._seen: tuple[LeaseSpec, float] | None = None
        self._lease: Lease | None = None
        self._leading = False
        self._fence = float("-inf")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"lease {name}", daemon=True)

    @property
    def is_leader(self) -> bool:
        """Whether we may act as the leader at this moment."""
        return self._leading and self._clock() < self._fence

    def start(self) -> None:
        """Take part."""
        self._thread.start()

    def stop(self, timeout_seconds: float = 10.0) -> None:
        """Leave; a lease that we hold is released, so that another replica need not wait."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_seconds)

    def _run(self) -> None:
        while not self._stop.is_set():
            self.step()
            # Followers spread out, so that two do not collide at every attempt.
            pause = self._retry if self._leading else self._retry * self._jitter.uniform(1.0, 1.2)
            self._stop.wait(pause)
        self._step_down("stopped")
        self._release()

    def step(self) -> None:
        """Make one attempt to gain or keep the lead. Called by the thread; tests call it by hand."""
        sent = self._clock()
        try:
            held = self._attempt(sent)
            self.last_error = None
        except ApiError as error:
            held = False
            self._lease = None
            if str(error) != self.last_error:
                log.warning("lease %s/%s: %s", self._namespace, self._name, error)
            self.last_error = str(error)
        if held:
            self._fence = sent + self._deadline
            if not self._leading:
                self._step_up()
        elif self._leading and (self._clock() >= self._fence or self.holder != self.identity):
            self._step_down(self.last_error or f"the lease went to {self.holder or 'nobody'}")

    def _attempt(self, now: float) -> bool:
        """Read and, where allowed, write the lease; return whether we hold it. Raises ApiError."""
        lease = self._lease if self._leading else None
        if lease is None:
            try:
                lease = self._decoded(self._request("GET", self._path, None))
            except ApiRefused as refused:
                if refused.status != 404:
                    raise
                lease = Lease()
        if self._seen is None or self._seen[0] != lease.spec:
            self._seen = (lease.spec, now)
        self.holder = lease.spec.holder_identity or ""
        if not may_take(lease.spec, self.identity, now - self._seen[1]):
            return False
        spec = taken(lease.spec, self.identity, self._duration, micro_time(self._wall_clock()))
        try:
            self._lease = self._write(lease, spec)
        except ApiRefused as refused:
            self._lease = None
            if refused.status == 409:  # another replica was faster; the next attempt reads who
                return False
            raise
        self._seen = (self._lease.spec, now)
        self.holder = self.identity
        return True

    def _write(self, lease: Lease, spec: dict[str, Any]) -> Lease:
        metadata: dict[str, Any] = {"name": self._name, "namespace": self._namespace}
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
        if lease.metadata.resource_version:
            metadata["resourceVersion"] = lease.metadata.resource_version
            data = self._request("PUT", self._path, body)
        else:
            data = self._request("POST", self._collection, body)
        return self._decoded(data)

    def _decoded(self, data: bytes) -> Lease:
        try:
            return object_decoder(Lease).decode(data)
        except msgspec.DecodeError as error:
            raise ApiUnreachable(f"{self._path}: got an answer that is not a Lease ({error})") from error

    def _request(self, method: str, path: str, body: object) -> bytes:
        # Half of the deadline: one hung request leaves time for a second attempt.
        return self._api.request(method, path, body=body, read_timeout_seconds=self._deadline / 2)

    def _step_up(self) -> None:
        self._leading = True
        self.transitions += 1
        log.info("lease %s/%s: %s leads", self._namespace, self._name, self.identity)
        try:
            self._on_started()
        except Exception as error:
            log.exception("lease %s/%s: could not begin to lead", self._namespace, self._name)
            self.last_error = f"on_started raised {type(error).__name__}: {error}"
            self._step_down(self.last_error)
            self._release()

    def _step_down(self, why: str) -> None:
        if not self._leading:
            return
        self._leading = False
        self.transitions += 1
        log.info("lease %s/%s: %s no longer leads: %s", self._namespace, self._name, self.identity, why)
        try:
            self._on_stopped()
        except Exception as error:
            log.exception("lease %s/%s: could not end leading cleanly", self._namespace, self._name)
            self.last_error = f"on_stopped raised {type(error).__name__}: {error}"

    def _release(self) -> None:
        """Give the lease back if it is ours, after the work has stopped."""
        lease, self._lease = self._lease, None
        self._fence = float("-inf")
        if lease is None or lease.spec.holder_identity != self.identity:
            return
        now = micro_time(self._wall_clock())
        spec = {
            "holderIdentity": "",
            "leaseDurationSeconds": 1,
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": lease.spec.lease_transitions or 0,
        }
        try:
            self._write(lease, spec)
        except ApiError as error:
            log.warning("lease %s/%s: not released, it expires: %s", self._namespace, self._name, error)
