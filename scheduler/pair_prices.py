"""Many demands, each on rows of its own, priced in one go: ``pricing.priced`` for pairs of demand and row.

The terms are those of ``scheduler.scoring``: a term that knows the demand only by what it takes is asked once
for all pairs; the two that look at the demand itself (links and what a node has loaded) are asked once for
each of the few ways in which demands differ there. Equal to pricing each demand alone, refusals and their
words too. Pure but for the numbers of reasons, which the caller keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from metrics.samples import NoData
from scheduler.columns import Columns
from scheduler.demand import Demand
from scheduler.feasibility import CODE_FIELD, Reason, free_run_table, has_device, refusal_text
from scheduler.pair_prediction import Wants, allowed_pairs, is_common, predict_pairs
from scheduler.prediction import Flags, Prediction, certain, expected, nothing
from scheduler.scoring import carbon, fragmentation, locality, money, nvlink
from scheduler.scoring.context import Floats, TermContext, World, term_context

Ints = NDArray[np.int64]


@dataclass(slots=True)
class Reasons:
    """The reasons told about one demand, and their numbers: position among them, 0 for none."""

    told: list[Reason] = field(default_factory=lambda: [Reason("", False)])
    ids: dict[tuple[str, bool], int] = field(default_factory=dict)
    by_code: dict[int, int] = field(default_factory=dict)

    def number(self, text: str, unresolvable: bool) -> int:
        """The number of a reason, new or not."""
        key = (text, unresolvable)
        if key not in self.ids:
            self.ids[key] = len(self.told)
            self.told.append(Reason(text, unresolvable))
        return self.ids[key]


def stands_with_others(demand: Demand, world: World) -> bool:
    """Whether the demand may be priced here; if not, ``pricing.priced`` does it."""
    return (
        is_common(demand)
        and not demand.on_demand
        and isinstance(world.interference, NoData)
        and world.policy.carbon.classes.get(demand.carbon_class or "") is None
        and nvlink.link_need(demand, world.policy) != "required"
    )


def priced_pairs(
    wants: Wants, of: Ints, world: World, columns: Columns, reasons: Sequence[Reasons]
) -> tuple[Floats, NDArray[np.int32]]:
    """float64[k] price of demand ``of[i]`` on row i, infinite where it does not fit or is refused, and
    int32[k] the reason's number (0: not refused). ``reasons``: by demand; new ones are added.
    """
    allowed = allowed_pairs(columns, wants, of)
    before, known = expected(columns), certain(columns)
    fits = predict_pairs(columns, before, wants, of, allowed, world.hardware)
    sure = predict_pairs(columns, known, wants, of, allowed, world.hardware)
    told = _refusals(wants, of, world, columns, allowed, sure, reasons)
    nobody = Demand(())
    context = term_context(
        nobody,
        world,
        columns,
        before.masks,
        fits,
        cpu_milli=wants.cpu_milli[of],
        memory_mib=wants.memory_mib[of],
    )
    total = np.zeros(len(columns))
    multipliers = world.policy.terms
    for multiplier, price in (
        (multipliers.fragmentation, fragmentation.price),
        (multipliers.nvlink, lambda context: _links(wants, of, context)),
        (multipliers.carbon, carbon.price),
        (multipliers.money, money.price),
        (multipliers.locality, lambda context: _loaded(wants, of, context)),
    ):
        values = price(context) if multiplier else 0.0
        if not isinstance(values, NoData):
            total += values * multiplier
    short = (columns.cpu_free < context.cpu_milli) | (columns.memory_free < context.memory_mib)
    return np.where(fits.feasible & (told == 0) & ~short, total, np.inf), told


def _links(wants: Wants, of: Ints, context: TermContext) -> Floats:
    total = np.zeros(len(of))
    for demand, alike in wants.linked:
        rows = np.flatnonzero(alike[of])
        if rows.size:
            total[rows] = nvlink.price_on(demand, context, rows)
    return total


def _loaded(wants: Wants, of: Ints, context: TermContext) -> Floats:
    total = np.zeros(len(of))
    for demand, alike in wants.loading:
        total += np.where(alike[of], locality.saving(context, demand.image, demand.weights), 0.0)
    return total


def _refusals(
    wants: Wants,
    of: Ints,
    world: World,
    columns: Columns,
    allowed: Flags,
    sure: Prediction,
    reasons: Sequence[Reasons],
) -> NDArray[np.int32]:
    found = np.zeros(len(columns), dtype=np.int32)
    offers = has_device(columns)
    for index in np.flatnonzero(columns.valid & ~offers).tolist():
        demand = wants.demands[of[index]]
        found[index] = reasons[of[index]].number(f"needs {demand}; the node offers no GPU", True)
    failing = np.flatnonzero(columns.valid & offers & ~sure.feasible)
    if not failing.size:
        return found
    columns, of, allowed = columns.take(failing), of[failing], allowed[failing]
    ever = predict_pairs(columns, nothing(columns), wants, of, allowed, world.hardware)
    no_model = ~allowed.any(axis=1) & (columns.gpu_count > 0)
    kind = np.where(no_model, 2, np.where(ever.feasible, 0, 1))
    first, second = _numbers(wants, of, columns, allowed)
    codes = ((kind * CODE_FIELD + first) * CODE_FIELD + second) * CODE_FIELD + columns.row_model + 1
    for index, (demand, code) in enumerate(zip(of.tolist(), codes.tolist(), strict=True)):
        known = reasons[demand].by_code.get(code)
        if known is None:
            words = (int(kind[index]), int(first[index]), int(second[index]))
            text = refusal_text(wants.demands[demand], world, columns, index, *words)
            known = reasons[demand].by_code[code] = reasons[demand].number(text, bool(kind[index]))
        found[failing[index]] = known
    return found


def _numbers(wants: Wants, of: Ints, columns: Columns, allowed: Flags) -> tuple[Ints, Ints]:
    """As in ``feasibility``: free GPUs and GPUs, free replicas and replicas, longest free run and units."""
    whole, shared = wants.whole[of] > 0, wants.shared[of] > 0
    free = ((columns.certain == 0) & allowed & columns.whole).sum(axis=1)
    runs = np.where(allowed, free_run_table()[columns.certain | ~columns.full], 0).max(axis=1)
    units = np.bitwise_count(np.where(columns.model_id >= 0, columns.full, 0)).max(axis=1)
    left = columns.shared_total - columns.shared_certain
    first = np.where(whole, free, np.where(shared, left, runs)).astype(np.int64)
    second = np.where(whole, columns.gpu_count, np.where(shared, columns.shared_total, units)).astype(
        np.int64
    )
    return first, second
