"""``kubectl slicewise nodes``: one line a node from the fleet's view. Pure."""

from __future__ import annotations

from collections import Counter

import msgspec

from autoscaler.fleetpage.view import FleetView, GpuView, NodeView, SpanKind
from kubectl_slicewise.tables import table

_WORDS = "NODE, GPUS, LINKS, DRIVER, SLICES, FREE GPUS, UNITS USED, STRANDED, REGION, G/KWH"
HEADER = tuple(_WORDS.split(", "))


def as_table(view: FleetView) -> str:
    """The fleet as text; ``UNITS`` are MIG memory units, a GPU without MIG counts as one."""
    rows = [_row(node) for node in view.nodes]
    totals = view.totals
    share = f"{100 * totals.used_units / totals.units:.0f} %" if totals.units else "-"
    summary = (
        f"{totals.nodes} nodes, {totals.gpus} GPUs, "
        f"{totals.used_units} of {totals.units} units used ({share}), "
        f"{totals.stranded_units} stranded, {totals.waiting_pods} GPU pods waiting"
    )
    return table(HEADER, rows, right=frozenset((4, 5, 6, 7, 9))) + "\n\n" + summary if rows else summary


def as_json(view: FleetView) -> object:
    """The fleet as JSON-ready data, every GPU with its spans."""
    return msgspec.to_builtins({"totals": view.totals, "nodes": view.nodes})


def _row(node: NodeView) -> tuple[str, ...]:
    models = Counter(gpu.model for gpu in node.gpus)
    units = sum(gpu.units for gpu in node.gpus)
    return (
        node.name,
        " + ".join(f"{count} × {model}" for model, count in sorted(models.items())) or "-",
        _links(node),
        node.regime,
        str(node.slices) if node.slices else "-",
        str(sum(1 for gpu in node.gpus if _units(gpu, "free") == gpu.units)),
        f"{sum(_units(gpu, 'mig', 'whole', 'used') for gpu in node.gpus)}/{units}",
        str(sum(_units(gpu, "stranded") for gpu in node.gpus)),
        node.region or "-",
        "no data" if node.grams_per_kwh is None else f"{node.grams_per_kwh:.0f}",
    )


def _links(node: NodeView) -> str:
    """The kind of wiring, and the sizes of its islands: "NVSwitch 8", "NVLink pairs 2+2"."""
    joined = [str(size) for size in node.islands if size > 1]
    return f"{node.topology} {'+'.join(joined)}" if joined else node.topology


def _units(gpu: GpuView, *kinds: SpanKind) -> int:
    return sum(span.size for span in gpu.spans if span.kind in kinds)
