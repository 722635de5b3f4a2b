"""How fast one vLLM replica serves: a queueing model of continuous batching.

A replica runs up to ``slots`` sequences at once and keeps the rest in a first-come queue. A request holds a
slot while its prompt is read (``input_tokens / prefill_tokens_per_second``) and while its answer is written.
One decoding step gives every writing sequence one token and takes ``step_base_seconds +
step_per_sequence_seconds × n`` for n of them, the linear law that measured inter-token latencies of batched
decoding follow. So all writing sequences advance alike, and one counter, the tokens written since the start,
is enough to know when each is done: a request that joins at counter c with k tokens to write ends at c + k.

Time to first token = waiting + prompt + one step. Pure: time comes in as an argument and never goes back. Not
modelled: memory pressure and preemption of sequences, prefix caching, prompt reading slowing the writing of
others.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerSpeed:
    """An 8-billion-parameter model on half an 80 GB card (3g.40gb), order of magnitude of public vLLM
    figures.
    """

    slots: int = 16
    prefill_tokens_per_second: float = 8000.0
    step_base_seconds: float = 0.010
    step_per_sequence_seconds: float = 0.0004


@dataclass(frozen=True, slots=True)
class LlmRequest:
    number: int
    arrived_seconds: float
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Served:
    """A finished request: seconds from arrival to the first and the last token, and the replica that served
    it.
    """

    request: LlmRequest
    replica: str
    first_token_seconds: float
    total_seconds: float
    finished_at_seconds: float


class Replica:
    """One server's queue. ``advance`` moves its clock; ``submit`` and ``drain`` change what it holds."""

    def __init__(self, name: str, speed: ServerSpeed, now: float) -> None:
        self.name = name
        self.speed = speed
        self.now = now
        self.busy_seconds = 0.0
        self._written = 0.0
        self._waiting: deque[LlmRequest] = deque()
        self._reading: list[tuple[float, int, LlmRequest]] = []
        self._writing: list[tuple[float, int, LlmRequest, float]] = []

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> int:
        return len(self._reading) + len(self._writing)

    @property
    def in_flight(self) -> int:
        return self.waiting + self.running

    def submit(self, request: LlmRequest) -> None:
        """Queue a request that arrived now; call ``advance`` to the present first."""
        self._waiting.append(request)
        self._admit()

    def drain(self) -> tuple[LlmRequest, ...]:
        """Everything unfinished, oldest first; the replica is empty afterwards (its pod is gone)."""
        left = [
            *self._waiting,
            *(entry[2] for entry in self._reading),
            *(entry[2] for entry in self._writing),
        ]
        self._waiting.clear()
        self._reading.clear()
        self._writing.clear()
        return tuple(sorted(left, key=lambda request: request.number))

    def advance(self, to: float) -> tuple[Served, ...]:
        """Let time pass until ``to`` (seconds); the requests that ended meanwhile, in order."""
        done: list[Served] = []
        while True:
            step = self._step_seconds()
            next_write = self._writing[0][0] - self._written if self._writing else None
            next_read = self._reading[0][0] if self._reading else None
            moments = [to]
            if next_write is not None:
                moments.append(self.now + max(0.0, next_write) * step)
            if next_read is not None:
                moments.append(max(self.now, next_read))
            moment = min(moments)
            if moment > self.now:
                if self.running:
                    self.busy_seconds += moment - self.now
                if self._writing:
                    self._written += (moment - self.now) / step
                self.now = moment
            ended = self._finish(done)
            started = self._start_writing()
            if not ended and not started and self.now >= to:
                return tuple(done)

    def _step_seconds(self) -> float:
        return self.speed.step_base_seconds + self.speed.step_per_sequence_seconds * max(
            1, len(self._writing)
        )

    def _admit(self) -> None:
        while self._waiting and self.running < self.speed.slots:
            request = self._waiting.popleft()
            ready = self.now + request.input_tokens / self.speed.prefill_tokens_per_second
            heapq.heappush(self._reading, (ready, request.number, request))

    def _start_writing(self) -> bool:
        started = False
        while self._reading and self._reading[0][0] <= self.now:
            _, _, request = heapq.heappop(self._reading)
            tokens = max(1, request.output_tokens)
            first_token = self.now + self._step_seconds() - request.arrived_seconds
            heapq.heappush(self._writing, (self._written + tokens, request.number, request, first_token))
            started = True
        return started

    def _finish(self, done: list[Served]) -> bool:
        ended = False
        # A token counter is a sum of many quotients: half a millionth of a token is the same token.
        while self._writing and self._writing[0][0] <= self._written + 5e-7:
            _, _, request, first_token = heapq.heappop(self._writing)
            total = self.now - request.arrived_seconds
            done.append(Served(request, self.name, min(first_token, total), total, self.now))
            ended = True
        if ended:
            self._admit()
        return ended


def route(replicas: list[Replica]) -> Replica | None:
    """The replica with the fewest requests in flight; ties go to the first name. None when there is no
    replica.
    """
    return min(replicas, key=lambda replica: (replica.in_flight, replica.name), default=None)
