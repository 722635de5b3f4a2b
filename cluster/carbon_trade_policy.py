"""The part of an autoscaling policy that lets an online service keep less in reserve while the grid is dirty.
Pure; what becomes of it: ``autoscaler.carbon_trade``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from cluster.policy_model import PolicyModel, Positive

Attainment = Annotated[float, Field(strict=True, ge=0.5, lt=1, allow_inf_nan=False)]


class CarbonTrade(PolicyModel):
    """From which intensity on, and down to which attainment."""

    above_grams_per_kwh: Positive = Field(
        alias="aboveGramsPerKwh",
        description="grid intensity from which less is kept in reserve, gCO2e per kWh",
    )
    fully_at_grams_per_kwh: Positive | None = Field(
        default=None,
        alias="fullyAtGramsPerKwh",
        description="intensity at which leastAttainment is reached, in proportion before; null: at once",
    )
    least_attainment: Attainment = Field(
        description="share of requests in time that is kept however dirty the grid, below slo.attainment"
    )

    def against(self, attainment: float | None) -> Sequence[tuple[tuple[str | int, ...], object, str, str]]:
        """What speaks against it in a policy with this objective (None: without one)."""
        found: list[tuple[tuple[str | int, ...], object, str, str]] = []
        if attainment is None:
            found.append(
                (("carbon",), "carbon", "an objective (slo) to trade from", "state slo, or delete carbon")
            )
        elif self.least_attainment >= attainment:
            found.append(
                (
                    ("carbon", "leastAttainment"),
                    self.least_attainment,
                    f"less than slo.attainment ({attainment:g})",
                    "lower it, or delete carbon",
                )
            )
        full = self.fully_at_grams_per_kwh
        if full is not None and full <= self.above_grams_per_kwh:
            found.append(
                (
                    ("carbon", "fullyAtGramsPerKwh"),
                    full,
                    f"more than aboveGramsPerKwh ({self.above_grams_per_kwh:g})",
                    "raise it, or delete it",
                )
            )
        return found
