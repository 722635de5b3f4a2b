"""From the cards of a node to the inventory that its driver publishes, and to what is occupied on them.

Positions are those of ``identified(cards)``, in NVML's order: a card that was lost before it could tell its
UUID has no name to be published under. A card in MIG mode is partitionable; its
placements come from the card, in the order of the model, until the driver orders them by harm. A card out of
MIG mode is offered whole only. A lost card stays in the inventory: leaving it out would move the others and
make claims on it unreadable; taints say that it must not be used.

Pure. Does not decide health, order or taints.
"""

from __future__ import annotations

from collections.abc import Sequence

from dra.card_model import model_of
from dra.card_wiring import topology_of
from dra.cards import Card, LiveInstance
from dra.inventory import SLICEWISE_DRIVER, DeviceRef, Gpu, NodeInventory
from dra.mig import Placement, geometry
from dra.nvlink import MOST_GPUS
from dra.slices import device_name


def inventory_of(node: str, cards: Sequence[Card], *, pool: str | None = None) -> NodeInventory:
    """What ``node`` offers through our driver; ``pool`` is the node's name unless given.

    Raises ValueError for a node without cards or with more than 16, the most that topologies can hold.
    """
    cards = identified(cards)
    if not 1 <= len(cards) <= MOST_GPUS:
        raise ValueError(f"node {node}: expected 1 to {MOST_GPUS} GPUs, got {len(cards)}")
    models = [model_of(card) for card in cards]
    gpus = tuple(
        Gpu(
            index=card.index,
            uuid=card.uuid,
            model=model,
            partitionable=card.mig_enabled is True and bool(model.profiles),
            product=card.product,
            whole=True,
            pcie_root=card.pcie_root or "",
        )
        for card, model in zip(cards, models, strict=True)
    )
    orders = tuple(geometry(gpu.model).placements if gpu.partitionable else () for gpu in gpus)
    devices: dict[str, DeviceRef] = {}
    for place, gpu in enumerate(gpus):
        devices[device_name(gpu)] = DeviceRef(place, None)
        for placement in orders[place]:
            devices[device_name(gpu, placement)] = DeviceRef(place, placement)
    return NodeInventory(
        node=node,
        regime="slicewise",
        driver=SLICEWISE_DRIVER,
        pool=pool or node,
        gpus=gpus,
        topology=topology_of(cards, models),
        orders=orders,
        devices=devices,
        static={},
    )


def identified(cards: Sequence[Card]) -> tuple[Card, ...]:
    """The cards that have told who they are; position i of the inventory is card i of these."""
    return tuple(card for card in cards if card.uuid)


def occupied_masks(cards: Sequence[Card]) -> tuple[int, ...]:
    """Occupied memory units by position, whoever made the instances."""
    return tuple(card.occupied for card in identified(cards))


def placement_of(card: Card, instance: LiveInstance) -> Placement | None:
    """The placement that a live instance has; None when its profile is none of the card's."""
    model = model_of(card)
    for profile in model.profiles:
        if profile.profile_id == instance.profile_id:
            return Placement(profile.name, instance.start, instance.size)
    return None


def profile_id_of(card: Card, profile: str) -> int | None:
    """The id with which ``Cards.create`` makes ``profile`` on this card; None when it has no such profile."""
    found = model_of(card).profile(profile)
    return found.profile_id if found is not None else None
