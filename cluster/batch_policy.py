"""The part of the cluster policy that holds batch work until its best hours. Pure.

Nothing is held that does not ask for it (annotation ``slicewise.io/completion-window``), so it is on by
default.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from cluster.policy_model import Name, NonNegative, PolicyModel, Positive
from cluster.repack_policy import Mode

HOURS_OF_A_DAY = 24
Factor = Annotated[float, Field(strict=True, ge=1, le=20, allow_inf_nan=False)]


class Batch(PolicyModel):
    """When jobs with a completion window are released."""

    mode: Mode = Field(
        default="on",
        description="on plans; dry-run only says what would be released when, and releases at the latest "
        "start; off leaves every job to that",
    )
    period_seconds: Positive = Field(default=120.0, description="seconds between two plans without a change")
    expected_seconds: Positive = Field(
        default=3600.0,
        description="seconds that a job is taken to run which says nothing and whose like has not ended yet",
    )
    longest_factor: Factor = Field(
        default=1.5,
        description="how many times longer than expected a job may run, until that is learned from 30 jobs",
    )
    queue_seconds: NonNegative = Field(
        default=900.0,
        description="seconds that a released job may wait for GPUs at least; longer waits are learned",
    )
    delay_hour: NonNegative = Field(
        default=0.0,
        description="money that an hour of waiting costs per job; 0: free within the window",
    )
    energy_by_hour: tuple[NonNegative, ...] = Field(
        default=(),
        description="money per kWh by hour of the day (UTC), 24 numbers; empty: always the same",
    )
    addable_gpus: dict[Name, NonNegative] = Field(
        default_factory=dict,
        description="GPUs of a model that a node autoscaler adds for released jobs, beside the free ones",
    )

    def contradictions(self) -> Sequence[tuple[tuple[str | int, ...], object, str, str]]:
        count = len(self.energy_by_hour)
        if count in (0, HOURS_OF_A_DAY):
            return ()
        path = ("batch", "energyByHour")
        return [(path, f"{count} numbers", "24 numbers, or none", "give one for each hour of the day in UTC")]
