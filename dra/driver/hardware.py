"""What this node's GPUs offer: from the cards themselves to device names and what each stands for.

A card in MIG mode offers every legal placement and no whole GPU: a process in MIG mode sees one instance and
no NVLink, so a full-size instance is not what a pod that asks for whole GPUs expects. A card out of MIG mode
is offered whole, or in shares where the operator says so; where MIG mode is on demand, a card that can be
switched without a reset is offered whole and in parts (``mig_mode``), whatever its mode is now. Profiles and
placements are the card's own; the catalogue only lends the model's name and what the card does not tell.

A GPU keeps the number in its device names for as long as it is here, by UUID: NVML counts anew when a card
has dropped out, and then a name would mean another card than the one that a running claim holds.

Placements that overlap a foreign instance (one that no claim of ours made) are not offered. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from dra.card_model import model_of
from dra.cards import Card
from dra.catalog import GpuModel
from dra.driver.mig_mode import on_demand
from dra.driver.sharing import SharedGpu, Sharing
from dra.placement import Placement, placements
from dra.slice_parts import name_of

Kind = Literal["whole", "mig", "shared", "either"]


@dataclass(frozen=True, slots=True)
class OfferedGpu:
    """One GPU as it is offered. ``model``: with the card's own placements. ``withheld``: units of foreign
    instances. ``number``: in its device names.
    """

    number: int
    card: Card
    model: GpuModel
    kind: Kind
    shared: SharedGpu | None = None
    withheld: int = 0

    @property
    def cut(self) -> bool:
        """Whether MIG instances can be made on it."""
        return self.kind in ("mig", "either")

    @property
    def full_mask(self) -> int:
        """All units."""
        return (1 << self.model.units) - 1


@dataclass(frozen=True, slots=True)
class Target:
    """What a device name stands for. ``placement`` and ``profile_id``: of MIG devices only."""

    gpu: OfferedGpu
    placement: Placement | None = None
    profile_id: int | None = None


@dataclass(frozen=True, slots=True)
class Hardware:
    """The node's GPUs in the order of their numbers, and every device name that they may have, withheld ones
    included.
    """

    gpus: tuple[OfferedGpu, ...]
    targets: Mapping[str, Target]

    def gpu(self, uuid: str) -> OfferedGpu | None:
        """The GPU with that UUID, or None."""
        return next((gpu for gpu in self.gpus if gpu.card.uuid == uuid), None)


def assign_numbers(known: Mapping[str, int], cards: Sequence[Card], held: Collection[str]) -> dict[str, int]:
    """A number for each card: its former one, else NVML's index, else the lowest that is free.

    ``held``: UUIDs of GPUs that claims hold; they keep their numbers even while the card is gone.
    """
    present = [card.uuid for card in cards if card.uuid]
    numbers = {uuid: number for uuid, number in known.items() if uuid in held or uuid in present}
    for card in cards:
        if card.uuid and card.uuid not in numbers:
            taken = set(numbers.values())
            free = (n for n in (card.index, *range(len(taken) + len(present) + 1)) if n not in taken)
            numbers[card.uuid] = next(free)
    return numbers


def hardware(
    cards: Sequence[Card],
    numbers: Mapping[str, int],
    sharing: Sharing,
    foreign: Mapping[str, int],
    switched: Collection[str] | None = None,
) -> Hardware:
    """What the cards offer. ``foreign``: bits of foreign instances by GPU UUID; ``switched``: UUIDs of cards
    in MIG mode because of us, None where modes stay as configured.
    """
    gpus = sorted(
        (
            _offered(card, numbers[card.uuid], sharing, foreign.get(card.uuid, 0), switched)
            for card in cards
            if card.uuid in numbers
        ),
        key=lambda gpu: gpu.number,
    )
    targets: dict[str, Target] = {}
    for gpu in gpus:
        if gpu.cut:
            for placement in placements(gpu.model):
                profile = gpu.card.profile_named(placement.profile)
                if profile is not None:
                    targets[name_of(gpu.number, placement)] = Target(gpu, placement, profile.profile_id)
        if gpu.kind != "mig":
            targets[name_of(gpu.number)] = Target(gpu)
    return Hardware(tuple(gpus), targets)


def _offered(
    card: Card, number: int, sharing: Sharing, foreign: int, switched: Collection[str] | None
) -> OfferedGpu:
    model = model_of(card)
    shared = sharing.rule(number, model.name)
    if shared is None and switched is not None and on_demand(card, switched):
        return OfferedGpu(number, card, model, "either", withheld=foreign)
    if card.mig_enabled:
        return OfferedGpu(number, card, model, "mig", withheld=foreign)
    return OfferedGpu(number, card, model, "whole" if shared is None else "shared", shared, foreign)
