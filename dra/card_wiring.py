"""The NVLink topology of a node as its cards show it.

A pair of GPUs is wired by the links that end at one another, or, where both have links into a switch, by the
smaller of their two numbers: the far end of such a link is the switch and says nothing of the other GPU.
Peer-to-peer status then tells whether the switch joins the two (a fabric manager may split it); it is not
asked of a GPU in MIG mode, which has no peers whatever its wires. Where a card tells no links at all,
"peer-to-peer over NVLink works" stands for a switch. Speed of a link: the catalogue's (both directions), else
twice what the card tells for one direction.

A matrix that equals one of the usual wirings becomes exactly that topology, so that tables made for it are
shared and readers that know only its kind rebuild it. Else the matrix is kept as it was seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from dra.card_model import model_of
from dra.cards import Card
from dra.catalog import GpuModel
from dra.nvlink import MOST_GPUS, Kind, Topology, bridges, clique, cube_mesh, direct, nvswitch, pcie_only

MEGABYTES_PER_GIGABYTE = 1000.0
CUBE_MESH_GPUS = 8


def topology_of(cards: Sequence[Card]) -> Topology:
    """Topology by position in ``cards``. Raises ValueError for none or more than 16."""
    count = len(cards)
    if not 1 <= count <= MOST_GPUS:
        raise ValueError(f"a topology has 1 to {MOST_GPUS} GPUs, got {count}")
    models = [model_of(card) for card in cards]
    rows = [[0.0] * count for _ in cards]
    switched = False
    for a, card in enumerate(cards):
        for b, other in enumerate(cards):
            if a != b:
                links, by_switch = _links(card, other, models[a])
                rows[a][b] = links * min(_per_link(card, models[a]), _per_link(other, models[b]))
                switched = switched or by_switch
    return _named(models[0], rows, switched, _clique(cards))


def _links(card: Card, other: Card, model: GpuModel) -> tuple[int, bool]:
    """Links between two cards, and whether they go through a switch."""
    straight = min(_to(card, other.index), _to(other, card.index))
    if straight:
        return straight, False
    up, down = _into_switch(card), _into_switch(other)
    if up and down:
        in_mig_mode = card.mig_enabled or other.mig_enabled
        joined = in_mig_mode or card.nvlink_peers is None or other.index in card.nvlink_peers
        return (min(up, down), True) if joined else (0, False)
    told_nothing = card.links_down is None and other.links_down is None
    if told_nothing and card.nvlink_peers is not None and other.index in card.nvlink_peers:
        return (model.nvlink.links if model.nvlink is not None else 1), True
    return 0, False


def _to(card: Card, index: int) -> int:
    return sum(link.links for link in card.links if link.kind == "gpu" and link.peer_gpu == index)


def _into_switch(card: Card) -> int:
    return sum(link.links for link in card.links if link.kind == "switch")


def _per_link(card: Card, model: GpuModel) -> float:
    """GB/s of one link, both directions."""
    if model.nvlink is not None:
        return model.nvlink.gigabytes_per_second / model.nvlink.links
    return 2.0 * (card.nvlink_megabytes_per_second or 0) / MEGABYTES_PER_GIGABYTE


def _clique(cards: Sequence[Card]) -> str | None:
    """The rack-scale domain when every card has joined the same one."""
    joined = {card.fabric.clique if card.fabric is not None else None for card in cards}
    return joined.pop() if len(joined) == 1 else None


def _named(model: GpuModel, rows: list[list[float]], switched: bool, clique_id: str | None) -> Topology:
    seen = tuple(tuple(row) for row in rows)
    for usual in _usual(model, len(rows), clique_id, switched):
        topology = usual()
        if topology.links == seen:
            return topology
    kind: Kind = "nvswitch" if switched else "direct"
    return Topology(
        f"{model.name} {kind} as seen", kind, len(rows), seen, model.pcie_gigabytes_per_second, clique_id
    )


def _usual(
    model: GpuModel, gpus: int, clique_id: str | None, switched: bool
) -> Iterator[Callable[[], Topology]]:
    yield lambda: pcie_only(model, gpus)
    if model.nvlink is None:
        return
    if switched:
        yield lambda: clique(model, gpus, clique_id) if clique_id else nvswitch(model, gpus)
        return
    yield lambda: bridges(model, gpus)
    yield lambda: direct(model, gpus)
    if gpus <= CUBE_MESH_GPUS:
        yield lambda: cube_mesh(model, gpus)
