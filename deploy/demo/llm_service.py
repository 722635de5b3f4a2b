"""All replicas of the LLM service together: routing, hand-over when a replica goes, and what was served.

A router sends each request to the replica with the fewest in flight. A replica that goes hands its unfinished
requests back; they start anew elsewhere and keep their arrival time, so a careless scale-down shows in the
latency. Requests that no replica can take wait at the router, and count as in flight there.

Pure: moments are arguments. The process around it is ``llm_server``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from deploy.demo.llm_model import LlmRequest, Replica, Served, ServerSpeed, route


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """What one replica reports now; ``active_share`` is the share of its slots in use, averaged since the
    last report.
    """

    name: str
    running: int
    waiting: int
    active_share: float


@dataclass(frozen=True, slots=True)
class LoadSample:
    at_seconds: float
    replicas: int
    in_flight: int
    waiting_at_router: int


class LlmService:
    """The service. Call ``advance`` with growing times, ``set_replicas`` when the set of serving pods
    changes.
    """

    def __init__(self, requests: Sequence[LlmRequest], speed: ServerSpeed) -> None:
        self.speed = speed
        self.now = 0.0
        self.served: list[Served] = []
        self.arrived = 0
        self._to_come = deque(sorted(requests, key=lambda request: request.arrived_seconds))
        self._at_router: deque[LlmRequest] = deque()
        self._replicas: dict[str, Replica] = {}
        self._slot_seconds: dict[str, float] = {}
        self._reported_at = 0.0

    @property
    def in_flight(self) -> int:
        return len(self._at_router) + sum(replica.in_flight for replica in self._replicas.values())

    @property
    def replicas(self) -> int:
        return len(self._replicas)

    def set_replicas(self, names: Iterable[str]) -> None:
        """The pods that serve from now on. Requests of those that went are routed again, oldest first."""
        wanted = set(names)
        for name in sorted(set(self._replicas) - wanted):
            self._at_router.extend(self._replicas.pop(name).drain())
            self._slot_seconds.pop(name, None)
        for name in sorted(wanted - set(self._replicas)):
            self._replicas[name] = Replica(name, self.speed, self.now)
        self._at_router = deque(sorted(self._at_router, key=lambda request: request.number))
        self._route_waiting()

    def advance(self, to: float) -> tuple[Served, ...]:
        """Let time pass until ``to``; what was finished meanwhile. Each arrival meets the queues of its own
        moment.
        """
        done: list[Served] = []
        while self._to_come and self._to_come[0].arrived_seconds <= to:
            request = self._to_come.popleft()
            done.extend(self._advance_all(max(self.now, request.arrived_seconds)))
            self.arrived += 1
            self._at_router.append(request)
            self._route_waiting()
        done.extend(self._advance_all(to))
        done.sort(key=lambda served: served.finished_at_seconds)
        self.served.extend(done)
        return tuple(done)

    def sample(self) -> LoadSample:
        return LoadSample(self.now, self.replicas, self.in_flight, len(self._at_router))

    def report(self) -> tuple[ReplicaState, ...]:
        """The state of every replica; averages restart with each call."""
        seconds = self.now - self._reported_at
        self._reported_at = self.now
        states = []
        for name, replica in sorted(self._replicas.items()):
            used = self._slot_seconds.get(name, 0.0)
            share = used / (seconds * self.speed.slots) if seconds > 0 else 0.0
            states.append(ReplicaState(name, replica.running, replica.waiting, min(1.0, share)))
        self._slot_seconds.clear()
        return tuple(states)

    def _advance_all(self, to: float) -> list[Served]:
        done: list[Served] = []
        for name, replica in self._replicas.items():
            used = replica.running * (to - self.now)
            self._slot_seconds[name] = self._slot_seconds.get(name, 0.0) + used
            done.extend(replica.advance(to))
        self.now = max(self.now, to)
        return done

    def _route_waiting(self) -> None:
        while self._at_router:
            replica = route(list(self._replicas.values()))
            if replica is None:
                return
            replica.submit(self._at_router.popleft())
