"""``slicewise-node discover``: the node's GPUs as NVML shows them, for people or for programs.

JSON (``-o json``), keys are stable, null means that the card or its driver does not tell:
  schema       "slicewise.io/discover/v1"
  driver       {driver, nvml, cuda}: versions
  gpus         one object a GPU, in NVML's order: the fields of ``dra.cards.Card`` and ``model`` (the
               catalogue's name), ``placement_status`` (who says where MIG instances may lie), ``island``
               (indices of the GPUs that this one reaches over NVLink, itself included)
  topology     {kind, clique, gigabytes_per_second}: matrix by position, both directions, 0 without NVLink
  differences  where a card and the catalogue do not agree: {gpu_uuid, model, fact, profile, catalogue, card}

Reads only. Exit status: 0 done, 1 no NVML or no file to write, as ``node.__main__`` passes it on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dra.card_model import differences, model_of
from dra.card_wiring import topology_of
from dra.cards import Card, CardRefused, DriverVersions, NoDriver, identified
from dra.nvlink import MOST_GPUS, Topology, islands
from dra.nvml import SYSTEM_FILES, Nvml, open_cards
from dra.nvml_capture import Capture

SCHEMA = "slicewise.io/discover/v1"
NOT_TOLD = "-"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``slicewise-node discover``."""
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    parser.add_argument(
        "--capture",
        type=Path,
        metavar="FILE",
        help="also write every NVML call with its raw answer (JSON; holds UUIDs and serial numbers)",
    )
    parser.add_argument(
        "--sys",
        type=Path,
        default=SYSTEM_FILES,
        metavar="FOLDER",
        help="the kernel's /sys, for PCIe roots and NUMA nodes (default: %(default)s)",
    )


def run(options: argparse.Namespace) -> int:
    """Print the node's GPUs; the exit status."""
    capture = Capture() if options.capture is not None else None
    cards = open_cards(system_files=options.sys, record=capture.record if capture is not None else None)
    if isinstance(cards, NoDriver):
        return _refuse(cards.advice)
    try:
        text = _rendered(cards, options.output)
    except CardRefused as refusal:
        return _refuse(f"NVML failed while the GPUs were read: {refusal.call}, {refusal.detail}.")
    finally:
        cards.close()
    if capture is not None:
        try:
            options.capture.write_text(json.dumps(capture.document(), indent=1) + "\n")
        except OSError as error:
            return _refuse(f"cannot write the capture to {options.capture}: {error.strerror}.")
    print(text)
    return 0


def _refuse(words: str) -> int:
    print(f"slicewise-node discover: {words}", file=sys.stderr)
    return 1


def _rendered(nvml: Nvml, output: str) -> str:
    versions, cards = nvml.versions(), nvml.cards()
    if output == "json":
        return json.dumps(document(versions, cards), indent=2)
    return table(versions, cards)


def _topology(cards: Sequence[Card]) -> tuple[tuple[Card, ...], Topology | None]:
    """The cards that a topology can speak of, and it; None for none or too many."""
    known = identified(cards)[:MOST_GPUS]
    return known, topology_of(known) if known else None


def _island_of(cards: Sequence[Card]) -> dict[int, list[int]]:
    known, topology = _topology(cards)
    if topology is None:
        return {}
    groups = [[known[p].index for p in range(len(known)) if bits >> p & 1] for bits in islands(topology)]
    return {index: group for group in groups for index in group}


def document(versions: DriverVersions, cards: Sequence[Card]) -> dict[str, Any]:
    """The JSON document that the module describes."""
    island_of = _island_of(cards)
    _, topology = _topology(cards)
    gpus = []
    for card in cards:
        model = model_of(card)
        gpus.append(
            {
                **asdict(card),
                "model": model.name,
                "placement_status": model.placement_status,
                "island": island_of.get(card.index, [card.index]),
            }
        )
    return {
        "schema": SCHEMA,
        "driver": asdict(versions),
        "gpus": gpus,
        "topology": None
        if topology is None
        else {
            "kind": topology.kind,
            "clique": topology.clique,
            "gigabytes_per_second": [list(row) for row in topology.links],
        },
        "differences": [asdict(difference) for difference in differences(identified(cards))],
    }


_HEADINGS = (
    "GPU",
    "PRODUCT",
    "MEMORY",
    "MIG",
    "INSTANCES",
    "NVLINK",
    "CLIQUE",
    "PCIE ROOT",
    "NUMA",
    "WATTS",
    "HEALTH",
)


def table(versions: DriverVersions, cards: Sequence[Card]) -> str:
    """A line a GPU, then what is wrong with any of them, then where the catalogue is."""
    if not cards:
        return "NVML works and finds no GPU."
    island_of = _island_of(cards)
    _, topology = _topology(cards)
    rows = [_HEADINGS, *(_row(card, island_of.get(card.index, []), topology) for card in cards)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines = [line.rstrip() for line in lines]
    cuda = ".".join(map(str, versions.cuda)) if versions.cuda is not None else NOT_TOLD
    lines += ["", f"Driver {versions.driver or NOT_TOLD}, NVML {versions.nvml or NOT_TOLD}, CUDA {cuda}."]
    lines += [f"GPU {card.index}: {reason}." for card in cards for reason in card.health.reasons]
    lines += [
        f"GPU {card.index}: the card may not be asked for placements without root; they are the catalogue's."
        for card in cards
        if not card.placements_told
    ]
    lines += [f"Catalogue differs, {difference}." for difference in differences(identified(cards))]
    if any(NOT_TOLD in row for row in rows[1:]):
        lines.append(f"{NOT_TOLD} : the card or its driver does not tell.")
    return "\n".join(lines)


def _row(card: Card, island: list[int], topology: Topology | None) -> tuple[str, ...]:
    return (
        str(card.index),
        card.product or NOT_TOLD,
        f"{card.memory_mib} MiB" if card.memory_mib is not None else NOT_TOLD,
        _mig(card),
        _instances(card),
        f"{_span(island)} {topology.kind}" if topology is not None and len(island) > 1 else "none",
        card.fabric.clique if card.fabric is not None else "none",
        card.pcie_root or NOT_TOLD,
        str(card.numa_node) if card.numa_node is not None else NOT_TOLD,
        _watts(card),
        card.health.state,
    )


def _mig(card: Card) -> str:
    if not card.mig_capable:
        return "no" if card.uuid else NOT_TOLD
    now = "on" if card.mig_enabled else "off"
    if card.mig_pending not in (None, card.mig_enabled):
        return f"{now}, {'on' if card.mig_pending else 'off'} after reset"
    return now


def _instances(card: Card) -> str:
    if not card.mig_enabled:
        return "none"
    if not card.live_told:
        return NOT_TOLD
    names = {profile.profile_id: profile.name for profile in card.profiles}
    listed = [
        f"{names.get(one.profile_id, f'profile {one.profile_id}')}@{one.start}"
        + ("" if one.compute_instance_id is not None else " (half-made)")
        for one in card.live
    ]
    return " ".join(listed) or "none"


def _span(island: list[int]) -> str:
    """Indices of an island: "0-7" when they follow one another, else "0,3"."""
    if len(island) > 2 and island == list(range(island[0], island[-1] + 1)):
        return f"{island[0]}-{island[-1]}"
    return ",".join(map(str, island))


def _watts(card: Card) -> str:
    if card.power_watts is None:
        return NOT_TOLD
    limit = f"/{card.power_limit_watts:.0f}" if card.power_limit_watts is not None else ""
    return f"{card.power_watts:.0f}{limit}"
