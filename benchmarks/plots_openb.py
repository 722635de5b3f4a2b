"""The openb runs (build/bench/packing.json) as plots: allocation against arrivals, and what is left over."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, TypeAlias

from matplotlib.figure import Figure

from benchmarks.plot_style import BOUND_COLOUR, COLOURS, OTHERS, drawn_last, label_ends, panels, style

Json: TypeAlias = Mapping[str, Any]

_FROM, _TO = 80, 130


def allocation(packing: Json) -> Figure | None:
    """Allocated against asked for, from 80 % on: before that nearly every policy places everything."""
    lists = {
        name: found
        for name, found in packing.get("lists", {}).items()
        if any(item.get("curve") for item in found["policies"].values())
    }
    if not lists:
        return None
    with style():
        figure, every = panels(len(lists), "GPUs asked for, % of the cluster's", "GPUs allocated, %")
        for axes, (name, found) in zip(every, lists.items(), strict=True):
            ends: list[tuple[float, str]] = []
            for policy in drawn_last(found["policies"]):
                curve, spread = curve_of(found["policies"][policy])
                at = [percent for percent in sorted(curve) if _FROM <= percent <= _TO]
                if not at:
                    continue
                means = [curve[percent] for percent in at]
                colour, strong = COLOURS.get(policy, OTHERS), policy in COLOURS
                axes.plot(
                    at, means, color=colour, linewidth=1.6 if strong else 0.7, zorder=3 if strong else 2
                )
                if strong and spread:
                    low = [curve[percent] - spread.get(percent, 0.0) for percent in at]
                    high = [curve[percent] + spread.get(percent, 0.0) for percent in at]
                    axes.fill_between(at, low, high, color=colour, alpha=0.18, linewidth=0.0)
                ends.append((means[-1], policy))
            bound = 100.0 - found["bound"]["unallocated_percent"]
            axes.axhline(bound, color=BOUND_COLOUR, linewidth=0.9, linestyle=(0, (4, 3)))
            axes.annotate(
                f"bound {bound:.1f} at 100 %",
                (_FROM, bound),
                (0, 2),
                textcoords="offset points",
                fontsize=7.5,
            )
            axes.set_title(name)
            axes.set_xlim(_FROM, min(_TO, _last(found)))
            axes.set_ylim(_FROM, bound + 2.5)
            label_ends(axes, [end for end in ends if end[0] >= _FROM])
        figure.suptitle(
            f"GPUs allocated as pods arrive, mean over {_seeds(packing)} (band: standard deviation)",
            fontsize=11,
        )
    return figure


def curve_of(item: Json) -> tuple[dict[int, float], dict[int, float]]:
    """Mean allocation by whole % asked for, and its standard deviation where that was kept."""
    found = item.get("curve") or {}
    if "arrived_percent" in found:
        at = [int(value) for value in found["arrived_percent"]]
        spread = found.get("allocated_percent_sd") or found.get("sd") or []
        return dict(zip(at, found["allocated_percent"], strict=True)), dict(zip(at, spread, strict=False))
    spread = item.get("curve_sd") or {}
    return {int(at): value for at, value in found.items()}, {int(at): value for at, value in spread.items()}


def _last(found: Json) -> int:
    """The last % asked for that any policy has a value at."""
    return max(max(curve_of(item)[0], default=100) for item in found["policies"].values())


def unallocated(packing: Json) -> Figure | None:
    """One row a list: what each policy leaves at 100 % asked for, and the least that anybody can."""
    lists: Json = packing.get("lists", {})
    if not lists:
        return None
    with style():
        figure = Figure(figsize=(7.6, 0.62 * len(lists) + 1.2), layout="constrained")
        axes = figure.subplots()
        named, names = _clearest(lists), 0
        for row, found in enumerate(lists.values()):
            bound = found["bound"]["unallocated_percent"]
            axes.plot(
                [bound, bound],
                [row - 0.32, row + 0.32],
                color=BOUND_COLOUR,
                linewidth=1.2,
                linestyle=(0, (3, 2)),
            )
            for policy in drawn_last(found["policies"]):
                left = found["policies"][policy]["unallocated_percent"]
                colour, strong = COLOURS.get(policy, OTHERS), policy in COLOURS
                axes.errorbar(
                    left["mean"],
                    row,
                    xerr=left["sd"] or 0.0,
                    fmt="o" if strong else "|",
                    color=colour,
                    markersize=6 if strong else 7,
                    linewidth=1.0,
                    zorder=3 if strong else 2,
                )
                if strong and row == named:
                    names += 1
                    axes.annotate(
                        policy,
                        (left["mean"], row),
                        (0, 8.5 * names - 2.0),
                        textcoords="offset points",
                        ha="center",
                        color=colour,
                        fontsize=8,
                    )
            if row == named:
                axes.annotate(
                    "bound", (bound, row - 0.32), (0, 3), textcoords="offset points", ha="center", fontsize=8
                )
        axes.set_yticks(range(len(lists)), list(lists))
        axes.set_ylim(len(lists) - 0.5, -0.75)
        axes.set_xlim(0.0, 1.06 * _furthest(lists))
        axes.set_xlabel("GPUs left unallocated when as many were asked for as there are, %")
        axes.set_title(
            f"Stranded by placement on the openb lists, {_seeds(packing)} (grey: other policies, but random)"
        )
    return figure


def _furthest(lists: Json) -> float:
    """The most that any policy but chance leaves."""
    return max(
        float(item["unallocated_percent"]["mean"] + (item["unallocated_percent"]["sd"] or 0.0))
        for found in lists.values()
        for name, item in found["policies"].items()
        if name != "random" or len(found["policies"]) == 1
    )


def _clearest(lists: Json) -> int:
    """The row whose named policies and bound stand furthest apart: there is room for their names."""

    def room(found: Json) -> float:
        named = [
            item["unallocated_percent"]["mean"] for name, item in found["policies"].items() if name in COLOURS
        ]
        at = sorted([found["bound"]["unallocated_percent"], *named])
        return min((after - before for before, after in pairwise(at)), default=0.0)

    rooms = [room(found) for found in lists.values()]
    return rooms.index(max(rooms))


def _seeds(packing: Json) -> str:
    number = len(packing.get("seeds", ()))
    return f"{number} seed{'' if number == 1 else 's'}"
