"""``slicewise-node``: what runs on a GPU node. For now: ``discover`` prints the node's GPUs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from dra.catalog import UnknownModel, find_model
from dra.nvml import Card, NoDriver, discover


def _row(card: Card) -> dict[str, object]:
    model = find_model(card.product)
    return {**asdict(card), "model": None if isinstance(model, UnknownModel) else model.name}


def _line(row: dict[str, object]) -> str:
    told = {key: "not told" if value is None else value for key, value in row.items()}
    return (
        f"{told['index']}  {told['product']}  catalogue {told['model']}  {told['memory_mib']} MiB  "
        f"MIG {told['mig_enabled']}  {told['power_watts']} W of {told['power_limit_watts']} W  {told['uuid']}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; exit status 0 done, 1 no NVML here, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="slicewise-node", description="GPU discovery on a node")
    commands = parser.add_subparsers(dest="command", required=True)
    found = commands.add_parser("discover", help="print the node's GPUs as NVML shows them")
    found.add_argument("-o", "--output", choices=("table", "json"), default="table")
    options = parser.parse_args(arguments)
    cards = discover()
    if isinstance(cards, NoDriver):
        print(
            f"slicewise-node discover: {cards.reason}. Expected an NVIDIA driver with libnvidia-ml.so.1; "
            "run this on a GPU node, or check that the driver is loaded (nvidia-smi).",
            file=sys.stderr,
        )
        return 1
    rows = [_row(card) for card in cards]
    print(json.dumps(rows, indent=2) if options.output == "json" else "\n".join(_line(row) for row in rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
