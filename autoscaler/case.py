"""One workload in the middle of a round: decided as if there were room for all, then with the room there is.

The fleet is asked only about workloads that would grow, so each is decided first with placeability out of the
way. Where the answer leaves less than that, or the scheduler refuses replicas, it is decided again from the
same state with the answer. ``decide`` is pure, so deciding twice costs a little time and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from autoscaler.collect import Workload
from autoscaler.decide import Decision, decide
from autoscaler.placement import Wish
from autoscaler.replacing import replace
from autoscaler.signals import Signals
from autoscaler.state import State
from metrics.samples import NoData

_ROOM_FOR_ALL: Final = 2**31


@dataclass(frozen=True, slots=True)
class Case:
    """``state`` is what the decision starts from, ``now`` its time; ``first`` what would be decided were
    there room for all.
    """

    workload: Workload
    signals: Signals
    state: State | None
    now: float
    first: Decision

    @classmethod
    def of(cls, workload: Workload, signals: Signals, state: State | None, now: float) -> Case:
        """Begin with a workload."""
        roomy = replace(signals, placeable=_ROOM_FOR_ALL)
        return cls(workload, signals, state, now, decide(workload.policy, roomy, state, now))

    @property
    def wish(self) -> Wish | None:
        """What the fleet is to be asked; None where all that is wanted runs."""
        seen, wanted = self.signals, self.first.replicas
        if seen.other_writer is not None:
            return None
        if wanted <= seen.current and not seen.unschedulable and seen.ready >= seen.current:
            return None
        newest = min(self.first.state.windows.newest, self.workload.policy.max_replicas)
        return Wish(self.workload.sight, seen, wanted, self._missed, newest)

    def decided(self, placeable: int | NoData | None) -> tuple[Signals, Decision]:
        """Decide with the fleet's answer; None where it was not asked."""
        if placeable is None:
            return self.signals, self.first
        signals = replace(self.signals, placeable=placeable)
        enough = isinstance(placeable, int) and placeable >= max(self.first.replicas, signals.current)
        if enough or (isinstance(placeable, NoData) and not signals.unschedulable):
            return signals, self.first
        return signals, decide(self.workload.policy, signals, self.state, self.now)

    @property
    def _missed(self) -> float:
        slo, missed = self.workload.policy.slo, self.signals.slo_missed
        return 0.0 if slo is None or isinstance(missed, NoData) else missed / (1.0 - slo.attainment)
