"""MIG mode on demand: which cards may be switched, and how a card's wiring is told while it is switched.

From Hopper on, MIG mode changes without a reset of the card when no instance and no program is on it; older
cards keep it until a reset. Such a card, found out of MIG mode, is offered whole and in parts, and counters
make the two exclude each other. The mode follows what is prepared: on for the first instance, off when the
card is asked whole again, so that a card that is cut all day is not switched each time. A card that an
operator put in MIG mode stays as it is: only what the driver itself switched (``Checkpoint.switched``) is
switched back.

A card in MIG mode tells no NVLink. What it told before is kept, for itself and for the cards that are linked
to it, or every change of mode would be news to the whole pool. Pure.

Source: NVIDIA Multi-Instance GPU User Guide, "Enable MIG Mode" (Hopper and later: no reset, not kept over a
reboot; every client of the GPU, monitoring included, has to be stopped).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from dra.cards import Card

_HOPPER = (9, 0)


def switchable(card: Card) -> bool:
    """Whether the card's MIG mode can be changed without a reset, and what it offers in it is known."""
    capable = card.mig_capable and card.compute_capability is not None
    return capable and (card.compute_capability or (0, 0)) >= _HOPPER and bool(card.profiles)


def on_demand(card: Card, switched: Collection[str]) -> bool:
    """Whether the card is offered whole and in parts; ``switched``: in MIG mode because of us."""
    return switchable(card) and (not card.mig_enabled or card.uuid in switched)


def with_former_wires(
    cards: Sequence[Card], told: Mapping[str, Card], switched: Collection[str]
) -> tuple[Card, ...]:
    """The cards, with the NVLinks to and from switched ones as they were ``told`` last, by UUID."""
    cut = {card.index for card in cards if card.mig_enabled and card.uuid in switched}
    if not cut:
        return tuple(cards)
    return tuple(_wired(card, told.get(card.uuid), cut) for card in cards)


def _wired(card: Card, before: Card | None, cut: Collection[int]) -> Card:
    if before is None or before.nvlink_peers is None or before.index != card.index:
        return card
    if card.index in cut:
        return replace(card, nvlink_peers=before.nvlink_peers, links=card.links or before.links)
    former = [peer for peer in before.nvlink_peers if peer in cut]
    return replace(card, nvlink_peers=tuple(sorted({*(card.nvlink_peers or ()), *former})))
