"""One demand on some rows, priced: predictions, refusals, terms and their sum. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metrics.samples import NoData
from scheduler.columns import Columns
from scheduler.demand import Demand
from scheduler.feasibility import Told, refusals
from scheduler.prediction import certain, expected, predict
from scheduler.scoring import carbon, fragmentation, interference, locality, money, nvlink
from scheduler.scoring.context import Floats, Price, TermContext, World, term_context

TERMS: tuple[tuple[str, Callable[[TermContext], Price]], ...] = (
    ("fragmentation", fragmentation.price),
    ("nvlink", nvlink.price),
    ("carbon", carbon.price),
    ("money", money.price),
    ("locality", locality.price),
    ("interference", interference.price),
)
"""Name (also the key of ``terms`` in the policy) and function of every term."""


@dataclass(frozen=True, slots=True)
class Priced:
    """float64[k] ``total`` (infinite where the demand does not fit or is refused), int32[k] ``reasons`` (0:
    not refused), float64[k] per term, the terms that are absent, and bool[k] ``short``: where CPU or memory
    is not enough, pods on their way counted. That is no reason to refuse a node, for kube-scheduler looks
    itself; but no plan should name it.
    """

    total: Floats
    reasons: NDArray[np.int32]
    terms: dict[str, Floats]
    absent: dict[str, NoData]
    short: NDArray[np.bool_]


def priced(demand: Demand, world: World, columns: Columns, told: Told) -> Priced:
    """Price ``demand`` on every row of ``columns``."""
    before = expected(columns)
    fits = predict(columns, before, demand, world.hardware, world.profiles)
    known = certain(columns)
    if (
        np.array_equal(before.masks, known.masks)
        and np.array_equal(before.static, known.static)
        and np.array_equal(before.shared, known.shared)
        and np.array_equal(before.share_left, known.share_left)
        and np.array_equal(before.step_left, known.step_left)
    ):
        sure = fits
    else:
        sure = predict(columns, known, demand, world.hardware, world.profiles)
    reasons = refusals(demand, world, columns, sure, told)
    context = term_context(demand, world, columns, before.masks, fits)
    terms: dict[str, Floats] = {}
    absent: dict[str, NoData] = {}
    total = np.zeros(len(columns))
    for name, price in TERMS:
        multiplier: float = getattr(world.policy.terms, name)
        if multiplier == 0.0:
            continue
        values = price(context)
        if isinstance(values, NoData):
            absent[name] = values
        else:
            terms[name] = values * multiplier
            total += terms[name]
    short = (columns.cpu_free < demand.cpu_milli) | (columns.memory_free < demand.memory_mib)
    feasible = fits.feasible & (reasons == 0) & ~short
    if nvlink.link_need(demand, world.policy) == "required":
        feasible &= nvlink.link_shares(columns, before.masks, demand, world.hardware)[1]
    return Priced(np.where(feasible, total, np.inf), reasons, terms, absent, short)
