"""What others see of a decision: the newest one about each workload, with what it was made of."""

from __future__ import annotations

from dataclasses import dataclass

from autoscaler.decide import Decision
from autoscaler.signals import Signals
from autoscaler.targets import Target


@dataclass(frozen=True, slots=True)
class View:
    """The newest decision about a workload, for people and for the doors: what was seen, what was decided and
    why. ``decided_at_seconds`` is of the controller's clock; ``server`` is what was recognised where the
    policy names none.
    """

    target: Target
    signals: Signals
    decision: Decision
    written: bool
    decided_at_seconds: float = 0.0
    server: str = ""
