"""One server's trial: a steady load, a step to five times of it, and back.

    trial = Trial(rig, RAY_SERVE, seed=1)
    trial.up()      # one replica, base load, the step, until it is back within its objective
    trial.down()    # the base load again, until replicas were taken away
    trial.result()

The base load keeps one replica less than half busy; the step asks for more than one replica can serve, so
without more of them the queue grows for as long as the step lasts. The start-up time that recovery is
compared with is the median of the trial's own starts, created to Ready, as the controller measures it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from statistics import median
from typing import Any

from deploy.model_servers.load import OpenLoop
from deploy.model_servers.manifests import OBJECTIVE_SECONDS, SERVICE_SECONDS, SLOTS
from deploy.model_servers.recovery import STEADY_SECONDS, Bin, attainment, bins, p95, recovered_after
from deploy.model_servers.rig import START_SECONDS, Rig
from deploy.model_servers.servers import ModelServer

BASE_RATE = 4.0
STEP = 5.0
BEFORE_SECONDS = 6.0
_LONGEST_BEFORE_SECONDS = 120.0
_LONGEST_STEP_SECONDS = 120.0
_LONGEST_STEP_STARTS = 6.0  # a machine that starts a server slowly also needs longer for a further one
_LONGEST_DOWN_SECONDS = 120.0
_LONGEST_DOWN_STARTS = (
    12.0  # the controller's window to scale down is three start-ups at least, for each step
)
_NOTE_SECONDS = 0.25
_PAUSE = threading.Event()  # never set: waiting on it is a pause


@dataclass(frozen=True, slots=True)
class Result:
    """What was seen; times in seconds after the step, latencies in seconds, rates in requests a second.
    ``down_after_seconds`` is from the end of the step until few enough replicas were left; ``failed`` says in
    which ways requests failed.
    """

    server: str
    base_rate: float
    step_rate: float
    one_replica_rate: float
    objective_seconds: float
    starts_seconds: tuple[float, ...]
    first_start_seconds: float
    start_seconds: float
    p95_before_seconds: float | None
    p95_worst_seconds: float | None
    p95_after_seconds: float | None
    attainment_after: float | None
    recovered_after_seconds: float | None
    starts_to_recover: float | None
    most_replicas: int
    replicas: tuple[tuple[float, int], ...]
    down_after_seconds: float | None
    requests: int
    failed_requests: int
    failed: tuple[str, ...]
    bins: tuple[Bin, ...]
    decisions: tuple[tuple[float, str], ...]


class Trial:
    """One server on the rig."""

    def __init__(self, rig: Rig, server: ModelServer, *, seed: int) -> None:
        self._rig, self._server = rig, server
        pods = rig.pods
        self._load = OpenLoop(
            server, lambda: pods.serving(server.name), rate=BASE_RATE, seed=seed, clock=rig.clock
        )
        self._step_at = self._back_at = rig.clock()
        self._calm_since = self._step_at
        self._down_at: float | None = None
        self._decisions: list[tuple[float, str]] = []
        self._said = ""

    def up(self) -> None:
        """Start the server, load it, make the step, wait until it is back within its objective (or give up),
        take the step back. Raises ServerFailed when the server does not start.
        """
        rig, name = self._rig, self._server.name
        rig.progress(f"{name}: starting")
        rig.deploy(self._server)
        rig.until(f"a replica of {name} serves", lambda: rig.pods.serving(name), START_SECONDS)
        self._load.start()
        self._calm()
        self._load.set_rate(BASE_RATE * STEP)
        self._step_at = rig.clock()
        rig.progress(f"{name}: {BASE_RATE:g} -> {BASE_RATE * STEP:g} requests a second")
        longest = max(_LONGEST_STEP_SECONDS, _LONGEST_STEP_STARTS * max(self._starts()))
        while rig.clock() - self._step_at < longest and not self._settled():
            self._pass(0.5)
        self._load.set_rate(BASE_RATE)
        self._back_at = rig.clock()

    def down(self, to: int = 1) -> bool:
        """Wait until at most ``to`` replicas are left, then send no more; whether that came in time."""
        rig = self._rig
        within = max(_LONGEST_DOWN_SECONDS, _LONGEST_DOWN_STARTS * max(self._starts()))
        deadline = rig.clock() + within
        while rig.clock() < deadline and self._down_at is None:
            self._pass(0.5)
            if self._is_down(to):
                self._down_at = rig.clock()
        self.close()
        return self._down_at is not None

    def close(self) -> None:
        """Send no more requests. May be called twice."""
        self._load.stop()

    def result(self) -> Result:
        """What was seen so far."""
        requests = self._load.requests()
        step, name = self._step_at, self._server.name
        found = self._bins()
        back = recovered_after(found, OBJECTIVE_SECONDS)
        before = [one for one in requests if self._calm_since <= one.due_seconds < step]
        during = [one for one in requests if step <= one.due_seconds < self._back_at]
        after = [] if back is None else [one for one in during if one.due_seconds >= step + back]
        starts = self._starts()
        history = self._rig.pods.replicas(name)
        usual = median(starts)
        seen = [one.p95_seconds for one in found if one.p95_seconds is not None]
        return Result(
            server=name,
            base_rate=BASE_RATE,
            step_rate=BASE_RATE * STEP,
            one_replica_rate=SLOTS / SERVICE_SECONDS,
            objective_seconds=OBJECTIVE_SECONDS,
            starts_seconds=tuple(starts),
            first_start_seconds=starts[0],
            start_seconds=usual,
            p95_before_seconds=p95(before),
            p95_worst_seconds=max(seen, default=None),
            p95_after_seconds=p95(after),
            attainment_after=attainment(after, OBJECTIVE_SECONDS),
            recovered_after_seconds=back,
            starts_to_recover=None if back is None else back / usual,
            most_replicas=max((count for _, count in history), default=0),
            replicas=tuple((at - step, count) for at, count in history),
            down_after_seconds=None if self._down_at is None else self._down_at - self._back_at,
            requests=len(requests),
            failed_requests=sum(1 for one in requests if one.problem),
            failed=tuple(sorted({one.problem for one in requests if one.problem})),
            bins=found,
            decisions=tuple((at - step, words) for at, words in self._decisions),
        )

    def _starts(self) -> list[float]:
        lives = self._rig.pods.lives(self._server.name)
        return [life.start_seconds for life in lives if life.start_seconds is not None]

    def _bins(self) -> tuple[Bin, ...]:
        now = self._back_at if self._back_at > self._step_at else self._rig.clock()
        return bins(self._load.requests(), self._step_at, now)

    def _settled(self) -> bool:
        """Back within the objective for the whole of the steady stretch, everything of it answered."""
        now = self._rig.clock()
        judged = bins(self._load.requests(), self._step_at, now - OBJECTIVE_SECONDS)
        left = any(one.p95_seconds is not None and one.p95_seconds > OBJECTIVE_SECONDS for one in judged)
        back = recovered_after(judged, OBJECTIVE_SECONDS)
        enough = now - self._step_at > 2.0 * STEADY_SECONDS  # where the step has not been felt at all
        return back is not None and (left or enough)

    def _is_down(self, to: int) -> bool:
        rig, name = self._rig, self._server.name
        return rig.wanted(self._server) <= to and 1 <= len(rig.pods.serving(name)) <= to

    def _calm(self) -> None:
        """Wait until one replica serves the base load within the objective: a server's first requests are
        slow, and may have called for another.
        """
        rig, began = self._rig, self._rig.clock()
        while (now := rig.clock()) - began < _LONGEST_BEFORE_SECONDS:
            self._pass(0.5)
            seen = bins(self._load.requests(), began, now - OBJECTIVE_SECONDS)
            back = recovered_after(seen, OBJECTIVE_SECONDS)
            calm = back is not None and now - began - back >= BEFORE_SECONDS
            if back is not None and calm and self._is_down(1):
                self._calm_since = began + back
                return
        self._calm_since = rig.clock() - BEFORE_SECONDS

    def _pass(self, seconds: float) -> None:
        """Let the load run, noting what the controller decides."""
        end = self._rig.clock() + seconds
        while (left := end - self._rig.clock()) > 0:
            self._note()
            _PAUSE.wait(min(left, _NOTE_SECONDS))

    def _note(self) -> None:
        decision: dict[str, Any] | None = self._rig.decision(self._server)
        if decision is None:
            return
        words = f"{decision['replicas']['desired']}: {decision['reasons'][0]['code']}"
        if words != self._said:
            self._said = words
            sentence = f"{words}: {decision['reasons'][0]['sentence']}"
            self._decisions.append((self._rig.clock(), sentence))
