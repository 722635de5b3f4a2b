"""The price of one pod on one node, term by term, as shown to people. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Bill:
    """Money per hour by term, multiplied as the policy says; ``total`` is their sum (infinite where the pod
    does not fit).

    ``reason`` says why the node is not feasible ("" when it is). ``absent`` names the terms left out
    everywhere, and why.
    """

    node: str
    terms: Mapping[str, float]
    total: float
    feasible: bool
    reason: str = ""
    absent: Mapping[str, str] = field(default_factory=dict)
