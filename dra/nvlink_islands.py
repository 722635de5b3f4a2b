"""The wiring of a node as its driver tells it GPU by GPU, where that is not the usual one.

A driver publishes the kind of wiring and, of each whole GPU, its island: GPUs with equal numbers are joined
by NVLink. The kind alone stands for the usual wiring (bridges join 0-1 and 2-3); cards may be joined
otherwise (0-2 and 1-3), and links may be down. So where the islands are not those of the usual wiring, they
decide: nothing connects two islands; two GPUs of one island have the link of the usual wiring or, but for the
cube mesh, whose islands are not joined all to all, the usual speed of one. GPUs of which no island is told
(in MIG mode) stay as usual.

Not told and so not known: how many links join two GPUs of one island. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dra.catalog import GpuModel
from dra.nvlink import Topology, bridges, islands


def as_told(usual: Topology, told: Sequence[int | None], model: GpuModel) -> Topology:
    """The wiring that agrees with ``told``: the island of each GPU by position, None where nobody says.

    Raises ValueError when ``told`` is not one for each GPU.
    """
    if len(told) != usual.gpus:
        raise ValueError(f"topology {usual.name}: got {len(told)} islands for {usual.gpus} GPUs")
    if usual.kind == "pcie" or all(island is None for island in told):
        return usual
    # ``dra.slices`` numbers the sets in which all pairs are linked, the driver all that links reach.
    if any(_agree(numbers, told) for numbers in (_numbers(islands(usual)), _reached(usual))):
        return usual
    speed = _speed(usual, model)
    links = tuple(
        tuple(_link(usual, told, a, b, speed) for b in range(usual.gpus)) for a in range(usual.gpus)
    )
    words = ",".join("?" if island is None else str(island) for island in told)
    return replace(usual, name=f"{usual.name} islands {words}", links=links)


def _link(usual: Topology, told: Sequence[int | None], a: int, b: int, speed: float) -> float:
    if a == b or told[a] is None or told[b] is None:
        return usual.links[a][b]
    return (usual.links[a][b] or speed) if told[a] == told[b] else 0.0


def _speed(usual: Topology, model: GpuModel) -> float:
    """Of a link that the usual wiring has not, GB/s."""
    if usual.kind == "cube-mesh":
        return 0.0
    most = max((speed for row in usual.links for speed in row), default=0.0)
    if most or model.nvlink is None:
        return most
    return bridges(model, 2).links[0][1]


def _numbers(sets: Sequence[int]) -> dict[int, int]:
    return {
        gpu: number for number, bits in enumerate(sets) for gpu in range(bits.bit_length()) if bits >> gpu & 1
    }


def _reached(topology: Topology) -> dict[int, int]:
    """By GPU the lowest one that links reach from it."""
    found: dict[int, int] = {}
    for first in range(topology.gpus):
        todo = [] if first in found else [first]
        while todo:
            gpu = todo.pop()
            if gpu not in found:
                found[gpu] = first
                todo += [
                    other for other, speed in enumerate(topology.links[gpu]) if speed > 0.0 and other != gpu
                ]
    return found


def _agree(numbers: dict[int, int], told: Sequence[int | None]) -> bool:
    known = [gpu for gpu, island in enumerate(told) if island is not None]
    return all(
        (numbers[a] == numbers[b]) == (told[a] == told[b])
        for place, a in enumerate(known)
        for b in known[:place]
    )
