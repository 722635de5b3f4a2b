"""Frontiers of the autoscaling study (build/bench/autoscaling.json): late requests against GPU-hours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.plot_style import BOUND_COLOUR, OTHERS, panels, style

Json: TypeAlias = Mapping[str, Any]

LEAST_LATE_PERCENT: Final = 0.01
"""Less is drawn here: the axis is logarithmic."""
WIDEST: Final = 4.0
"""GPU-hours are drawn up to so many times the clairvoyant's."""
LINES: Final[Mapping[str, tuple[str, str]]] = {
    "slicewise": ("#0072B2", "o"),
    "hpa-inflight": ("#D55E00", "s"),
    "hpa-gpu": ("#E69F00", "v"),
    "kpa": ("#009E73", "^"),
    "ray-serve": ("#CC79A7", "D"),
    "wva": ("#56B4E9", "P"),
    "keda-queue": (OTHERS, "X"),
    "static": ("#5b5b5b", "."),
    "clairvoyant": (BOUND_COLOUR, "*"),
}
"""Colour and marker by policy: Okabe and Ito's colours."""


def frontier(trace: str, title: str) -> Callable[[Json], Figure | None]:
    """A plot of one trace: a panel a start-up time, a line a policy, what ships marked by a ring."""

    def draw(found: Json) -> Figure | None:
        members = [study for study in found.get("studies", []) if study["trace"] == trace]
        if not members:
            return None
        with style():
            figure, every = panels(len(members), "", "requests out of the objective, %")
            for axes, study in zip(every, members, strict=True):
                _panel(axes, study)
                axes.set_xlabel("GPU-hours, multiple of the clairvoyant's")
            handles, labels = every[0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside lower center", ncols=9, fontsize=7.5, frameon=False)
            figure.suptitle(
                f"{title}, mean over {members[0]['seeds']} seeds (ring: as it ships)", fontsize=11
            )
        return figure

    return draw


def _panel(axes: Axes, study: Json) -> None:
    unit = study["policies"]["clairvoyant"]["at_slo"]["0.99"]["gpu_hours"]
    for name, (colour, marker) in LINES.items():
        policy = study["policies"].get(name)
        if policy is None:
            continue
        strong = name == "slicewise"
        # Points far off to the right would only make the file longer.
        shown = [point for point in policy["frontier"] if point["gpu_hours"] < 1.5 * WIDEST * unit]
        axes.plot(
            [point["gpu_hours"] / unit for point in shown],
            [_late(point) for point in shown],
            color=colour,
            marker=marker,
            markersize=5.0 if strong else 3.0,
            linewidth=1.8 if strong else 0.9,
            label=name,
            zorder=4 if strong else 2,
        )
        axes.plot(
            [policy["default"]["gpu_hours"] / unit],
            [_late(policy["default"])],
            marker="o",
            markersize=9.0,
            markerfacecolor="none",
            markeredgecolor=colour,
            linestyle="none",
            zorder=5,
        )
    axes.axhline(1.0, color=BOUND_COLOUR, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set_yscale("log")
    axes.minorticks_off()
    axes.set_ylim(LEAST_LATE_PERCENT * 0.8, 100.0)
    axes.set_xlim(0.9, WIDEST)
    axes.set_title(f"start-up {study['startup_seconds']} s")


def _late(point: Json) -> float:
    return max(LEAST_LATE_PERCENT, 100.0 * (1.0 - float(point["slo_attainment"])))
