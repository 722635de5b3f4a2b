"""How the plots look: colours, labels at the lines' ends, panels, SVG that depends on its numbers alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Json = Mapping[str, Any]

# Okabe and Ito's colours, told apart by colour-blind people too; whoever is not named is grey.
COLOURS: Final[Mapping[str, str]] = {
    "slicewise": "#0072B2",
    "slicewise-repack": "#009E73",
    "slicewise-webhook": "#CC79A7",
    "fgd": "#D55E00",
    "hami": "#D55E00",
    "first-fit": "#E69F00",
}
OTHERS: Final = "#9a9a9a"
BOUND_COLOUR: Final = "#000000"

_STYLE: Final[Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "slicewise",
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "path.simplify": False,
}


@contextmanager
def style() -> Iterator[None]:
    """Draw in the style of these plots."""
    with mpl.rc_context(_STYLE):
        yield


def save(figure: Figure, path: Path) -> int:
    """Write an SVG that depends on its numbers alone; return its size in bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with style():
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None}, bbox_inches="tight")
    # The generator pads with blanks at line ends, which the repository's rules refuse.
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(line.rstrip() for line in lines) + "\n", encoding="utf-8")
    return path.stat().st_size


def label_ends(axes: Axes, ends: Sequence[tuple[float, str]], gap: float = 0.052) -> None:
    """Write each line's name at its right end, moved apart so that none covers another."""
    low, high = axes.get_ylim()
    step = (high - low) * gap
    placed = sorted(ends)
    heights = apart([value for value, _ in placed], step)
    for (value, policy), height in zip(placed, heights, strict=True):
        axes.annotate(
            policy,
            xy=(1.0, value),
            xytext=(1.03, height),
            xycoords=axes.get_yaxis_transform(),
            textcoords=axes.get_yaxis_transform(),
            color=COLOURS.get(policy, "#6b6b6b"),
            fontsize=7.5 if policy in COLOURS else 6.5,
            fontweight="bold" if policy == "slicewise" else "normal",
            va="center",
            annotation_clip=False,
        )


def apart(values: Sequence[float], step: float) -> list[float]:
    """The nearest heights to ascending ``values`` (least squares) that keep ``step`` between neighbours:
    isotonic regression of value − index × step, by pooling neighbours that are out of order.
    """
    pools: list[tuple[float, int]] = []
    for index, value in enumerate(values):
        pools.append((value - index * step, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (upper, many), (lower, few) = pools.pop(), pools.pop()
            pools.append(((upper * many + lower * few) / (many + few), many + few))
    flat = [mean for mean, size in pools for _ in range(size)]
    return [height + index * step for index, height in enumerate(flat)]


def panels(count: int, across: str, up: str, *, wide: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure of ``count`` panels with common names of the axes."""
    columns = min(count, 2 if wide else 3)
    rows = -(-count // columns)
    figure = Figure(
        figsize=(4.4 * columns if wide else 3.7 * columns, 3.0 * rows + 0.5), layout="constrained"
    )
    grid = figure.subplots(rows, columns, squeeze=False)
    every = [axes for line in grid for axes in line]
    for spare in every[count:]:
        spare.set_axis_off()
    figure.supxlabel(across, fontsize=9)
    figure.supylabel(up, fontsize=9)
    return figure, every[:count]


def drawn_last(policies: Mapping[str, Any]) -> list[str]:
    """Grey ones first, ours on top."""
    order = list(COLOURS)
    return sorted(policies, key=lambda name: (-order.index(name) if name in order else -len(order) - 1, name))
