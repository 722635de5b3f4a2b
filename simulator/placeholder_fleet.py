"""Replicas that may start in the room of a placeholder: the plant of ``autoscaling_fleet``, and these GPUs.

A start-up has two parts: the node comes (``node_seconds``), then the replica starts on it (its cold start). A
placeholder is asked for like a replica and holds its node from when it has come; a replica that is asked for
then takes the room of one, as far as there are any, and skips the first part. Placeholders hold GPUs from
being asked for to being let go or taken, and these are counted (``held_gpu_seconds``).

How many there shall be is the product's own decision (``autoscaler.warm.placeholder_count``) on the
product's own forecast. The start-up that it is told is the median of the last starts that really ended,
short ones among them (``autoscaler.cold_start``).

Simpler than a cluster: every replica has a node of its own; a node that a deleted replica leaves is gone (a
waiting placeholder would get it), so placeholders are somewhat better than this; a replica never waits for
one that comes sooner than its own node would. The time that is counted as wasted takes every start for one
of full length, and is not to be used here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from autoscaler.cold_start import ColdStarts
from autoscaler.warm.placeholder_count import Moment, Wanted, placeholders_wanted
from cluster.autoscaling_policy import AutoscalingPolicy
from cluster.warm_policy import Placeholders
from metrics.samples import NoData
from simulator.autoscaling_demand import Demand, Ints
from simulator.autoscaling_fleet import Fleet
from simulator.autoscaling_policies.slicewise import Slicewise
from simulator.autoscaling_policy import Seen
from simulator.autoscaling_server import ServerModel
from simulator.autoscaling_trace import Floats


class PlaceholderFleet(Fleet):
    """``held``: placeholders that have a node; ``asked``: those that wait for one; ``taken_room``: replicas
    that started in the room of one.
    """

    def __init__(
        self,
        demand: Demand,
        server: ServerModel,
        rows: Ints,
        cold_start_seconds: float,
        node_seconds: float,
        replicas: Ints,
        wanted: Callable[[], Ints],
        started: Callable[[int, float], None] = lambda run, seconds: None,
    ) -> None:
        """``wanted``: how many placeholders there shall be, asked after every change of replicas;
        ``started``: told of every start that has ended, of replicas killed meanwhile too: the run and its
        length.
        """
        runs = len(rows)
        super().__init__(demand, server, rows, np.full(runs, cold_start_seconds + node_seconds), replicas)
        dt = demand.step_seconds
        self._short_steps = max(1, round(cold_start_seconds / dt))
        self._node_steps = max(1, round(node_seconds / dt))
        self._wanted, self._started = wanted, started
        self._nodes = np.zeros((self._node_steps + 1, runs), dtype=np.int64)
        # Starts by the step in which they end: of full length, and in a placeholder's room.
        self._ending = np.zeros((2, int(self.startup_steps.max()) + 1, runs), dtype=np.int64)
        self.held, self.asked = np.zeros(runs, dtype=np.int64), np.zeros(runs, dtype=np.int64)
        self.held_gpu_seconds, self.taken_room = np.zeros(runs), np.zeros(runs, dtype=np.int64)

    def step(self, step: int) -> None:
        """Let one step of time pass."""
        come = self._nodes[step % len(self._nodes)]
        self.held += come
        self.asked -= come
        come[:] = 0
        super().step(step)
        self._tell(step)
        self.held_gpu_seconds += (self.held + self.asked) * self._demand.step_seconds

    def scale(self, step: int, first: int, wanted: Ints) -> None:
        """Set the replicas, then the placeholders."""
        scaled = slice(first, first + len(wanted))
        before = self.replicas[scaled]
        super().scale(step, first, wanted)
        more = np.maximum(wanted - before, 0)
        taken = np.minimum(more, self.held[scaled])
        runs = first + np.arange(len(wanted))
        self.held[scaled] -= taken
        self.taken_room[scaled] += taken
        late = step + self.startup_steps[runs]
        self._coming[late % self._ring, runs] -= taken
        self._coming[(step + self._short_steps) % self._ring, runs] += taken
        ring = self._ending.shape[1]
        self._ending[0, late % ring, runs] += more - taken
        self._ending[1, (step + self._short_steps) % ring, runs] += taken
        self._hold(step, runs)

    def _hold(self, step: int, runs: Ints) -> None:
        change = self._wanted() - self.held[runs] - self.asked[runs]
        for place in change.nonzero()[0].tolist():
            run, by = int(runs[place]), int(change[place])
            if by > 0:
                self.asked[run] += by
                self._nodes[(step + self._node_steps) % len(self._nodes), run] += by
            else:
                self._let_go(step, run, -by)

    def _let_go(self, step: int, run: int, count: int) -> None:
        """Those without a node first, the newest of them first."""
        for later in range(self._node_steps, 0, -1):
            if not count or not self.asked[run]:
                break
            slot = (step + later) % len(self._nodes)
            fewer = min(count, int(self._nodes[slot, run]))
            self._nodes[slot, run] -= fewer
            self.asked[run] -= fewer
            count -= fewer
        self.held[run] -= min(count, int(self.held[run]))

    def _tell(self, step: int) -> None:
        dt, slot = self._demand.step_seconds, step % self._ending.shape[1]
        for kind, lengths in enumerate((self.startup_steps * dt, None)):
            ended = self._ending[kind, slot]
            for run in ended.nonzero()[0].tolist():
                seconds = self._short_steps * dt if lengths is None else float(lengths[run])
                for _ in range(int(ended[run])):
                    self._started(run, seconds)
            ended[:] = 0


class SlicewiseWarm(Slicewise):
    """Slicewise with ``warm.placeholders`` in its policies."""

    def __init__(
        self, policies: Sequence[AutoscalingPolicy], startup_seconds: Floats, asked: Placeholders
    ) -> None:
        super().__init__(policies, startup_seconds)
        self._asked = asked
        self._starts = [ColdStarts() for _ in policies]
        self._records = [Wanted() for _ in policies]
        self._count: Ints = np.zeros(len(policies), dtype=np.int64)

    def wanted(self) -> Ints:
        """How many placeholders there shall be now."""
        return self._count

    def started(self, run: int, seconds: float) -> None:
        """Take note of a start that has ended."""
        self._starts[run] = self._starts[run].add(seconds)
        measured = self._starts[run].measured()
        if not isinstance(measured, NoData):
            self._startup_seconds[run] = measured

    def decide(self, seen: Seen, now: float) -> Ints:
        replicas = super().decide(seen, now)
        for run, (policy, state) in enumerate(zip(self._policies, self._states, strict=True)):
            learned = None if state is None else state.learned
            given = None if policy.in_flight is None else policy.in_flight.per_replica
            if learned is None or given is None:
                continue
            moment = Moment(
                planned=max(int(replicas[run]), int(seen.current[run])),
                max_replicas=policy.max_replicas,
                cold_start_seconds=self._startup_seconds[run],
                now=now,
                unix_seconds=now,
            )
            self._records[run], self._count[run] = placeholders_wanted(
                self._asked, learned.forecast, given, self._records[run], moment
            )
        return replicas
