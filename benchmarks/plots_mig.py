"""MIG studies (build/bench/mig.json) and plans (build/bench/planner.json) as plots."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from matplotlib.figure import Figure

from benchmarks.plot_style import BOUND_COLOUR, COLOURS, OTHERS, drawn_last, label_ends, panels, style

Json: TypeAlias = Mapping[str, Any]


def studies(found: Any) -> Iterator[Json]:
    """Every MIG study in a document, wherever it stands."""
    if isinstance(found, Mapping):
        if "policies" in found and "load" in found:
            yield found
        else:
            for inner in found.values():
                yield from studies(inner)
    elif isinstance(found, list):
        for inner in found:
            yield from studies(inner)


def mig(measure: str, label: str, title: str) -> Callable[[Json], Figure | None]:
    """A plot of one measure by load, one panel a grid."""

    def draw(found: Json) -> Figure | None:
        by_grid: dict[str, list[Json]] = {}
        for study in studies(found):
            if all(measure in item for item in study["policies"].values()):
                by_grid.setdefault(str(study.get("grid", "")), []).append(study)
        if not by_grid:
            return None
        with style():
            figure, every = panels(len(by_grid), "load, GPU work asked for over capacity", label, wide=True)
            for axes, (grid, members) in zip(every, by_grid.items(), strict=True):
                members = sorted(members, key=lambda study: float(study["load"]))
                policies = list(dict.fromkeys(name for study in members for name in study["policies"]))
                ends: list[tuple[float, str]] = []
                for policy in drawn_last(dict.fromkeys(policies)):
                    points = [
                        (float(study["load"]), study["policies"][policy][measure])
                        for study in members
                        if policy in study["policies"]
                    ]
                    colour, strong = COLOURS.get(policy, OTHERS), policy in COLOURS
                    axes.errorbar(
                        [load for load, _ in points],
                        [value["mean"] for _, value in points],
                        yerr=[value["sd"] or 0.0 for _, value in points] if strong else None,
                        color=colour,
                        marker="o",
                        markersize=4 if strong else 2.5,
                        linewidth=1.6 if strong else 0.7,
                        capsize=2,
                        zorder=3 if strong else 2,
                    )
                    ends.append((points[-1][1]["mean"], policy))
                axes.set_title(f"{grid} grid" if grid else "")
                axes.set_ylim(bottom=0.0)
                axes.set_xticks(sorted({float(study["load"]) for study in members}))
                label_ends(axes, ends)
            seeds = max(int(study["seeds"]) for members in by_grid.values() for study in members)
            figure.suptitle(f"{title}, mean and standard deviation over {seeds} seeds", fontsize=11)
        return figure

    return draw


def planner_gap(found: Json) -> Figure | None:
    """Distance of plans to their bound by mix of pods, a point a run."""
    gaps = {
        name: [run["gap_percent"] for run in mix["runs"] if run.get("gap_percent") is not None]
        for name, mix in found.get("mixes", {}).items()
    }
    if not any(gaps.values()):
        return None
    with style():
        figure = Figure(figsize=(7.2, 0.5 * len(gaps) + 1.2), layout="constrained")
        axes = figure.subplots()
        for row, values in enumerate(gaps.values()):
            axes.plot(values, [row] * len(values), "o", color=COLOURS["slicewise"], markersize=4.5, alpha=0.6)
        axes.axvline(1.0, color=BOUND_COLOUR, linewidth=0.9, linestyle=(0, (4, 3)))
        axes.annotate("1 %", (1.0, -0.45), (3, 0), textcoords="offset points", fontsize=8)
        axes.set_yticks(range(len(gaps)), list(gaps))
        axes.set_ylim(len(gaps) - 0.5, -0.6)
        axes.set_xlim(left=0.0)
        axes.set_xlabel("distance of a plan's objective to its bound, % (a point a run)")
        axes.set_title("Plans of waiting pods against a bound that no plan can beat")
    return figure
