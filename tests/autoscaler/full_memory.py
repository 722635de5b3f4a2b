"""What is kept about a workload that has been learned from for a day: about as long as it gets."""

from __future__ import annotations

import random
from dataclasses import replace

from autoscaler.forecast import Forecast
from autoscaler.headroom import Headroom
from autoscaler.shadows import CANDIDATES, Shadows
from autoscaler.state import Learned, State


def full_state(seed: int = 7, per_replica: float = 12.3456789123) -> State:
    """The state of one workload."""
    rare = random.Random(seed)
    begun = Forecast.begun(123.0, 0.0)
    season = replace(begun.season, days=tuple(rare.uniform(10.0, 9000.0) for _ in begun.season.days))
    shadows = replace(
        Shadows.begun(5, 0.0),
        late=tuple(rare.uniform(0.0, 86_400.0) for _ in CANDIDATES),
        cost=tuple(rare.uniform(1.0, 300.0) for _ in CANDIDATES),
    )
    headroom = replace(Headroom.begun(60.0, 0.99, 50.0, 0.0), usual_rps=123.4567891234, answered=86_000.0)
    learned = Learned(headroom, replace(begun, season=season), shadows, per_replica=per_replica)
    return replace(State.begun(5, 0.0), learned=learned)


def full_memory() -> str:
    """The text of one workload."""
    return full_state().remembered()
