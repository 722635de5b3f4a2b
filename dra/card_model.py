"""The GPU model that a card itself declares, and where it disagrees with the catalogue.

The card wins: its profiles, starts, sizes and memory replace the catalogue's. The catalogue fills what the
card does not tell (power range, links, PCIe), and everything when the card tells no profiles. A card that
agrees keeps the catalogue's own object, so that tables made for the model are shared.

Every difference is a ``Difference`` for people to act on: a wrong entry misleads nodes whose driver does not
publish placements. A fact that the catalogue does not have is no difference.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from dra.cards import Card, InstanceProfile
from dra.catalog import GpuModel, MigProfile, UnknownModel, find_model, whole_gpu_model

Fact = Literal[
    "model",
    "memory_mib",
    "profile",
    "profile_id",
    "size",
    "starts",
    "max_instances",
    "compute_slices",
    "capacities",
    "nvlink_links",
]

_PROFILE = re.compile(r"(\d+)g\.(\d+)gb(.*)")
_MEMORY_TOLERANCE = 0.02
"""Cards show a little less memory than their name says (ECC, firmware); only more than this is reported."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A card and the catalogue do not agree on ``fact``; "none" where one of them has nothing."""

    gpu_uuid: str
    model: str
    fact: Fact
    profile: str
    catalogue: str
    card: str

    def __str__(self) -> str:
        where = f"{self.model} {self.profile}".strip()
        return f"{where}, {self.fact}: catalogue {self.catalogue}, card {self.card} ({self.gpu_uuid})"


def model_of(card: Card) -> GpuModel:
    """The model of a card: what the card tells, the catalogue for the rest."""
    found = find_model(card.product)
    base = whole_gpu_model(card.product, card.memory_mib or 0) if isinstance(found, UnknownModel) else found
    return _told(base, card.memory_mib, card.profiles)


def differences(cards: Sequence[Card]) -> tuple[Difference, ...]:
    """Where cards and catalogue disagree; one card stands for all of the same product and profiles."""
    seen: set[tuple[object, ...]] = set()
    found: list[Difference] = []
    for card in cards:
        key = (card.product, card.memory_mib, card.profiles, sum(link.links for link in card.links))
        if key not in seen:
            seen.add(key)
            found.extend(_differences(card))
    return tuple(found)


@lru_cache(maxsize=256)
def _told(base: GpuModel, memory_mib: int | None, profiles: tuple[InstanceProfile, ...]) -> GpuModel:
    told = dataclasses.replace(base, memory_mib=memory_mib or base.memory_mib)
    if profiles:
        known = {profile.name: profile for profile in base.profiles}
        rank = {profile.name: place for place, profile in enumerate(base.profiles)}
        ordered = sorted(profiles, key=lambda p: (rank.get(p.name, len(rank)), p.size, p.name))
        own = tuple(_profile(profile, known.get(profile.name)) for profile in ordered)
        told = dataclasses.replace(
            told,
            units=max(start + profile.size for profile in own for start in profile.starts),
            compute_slices=max(profile.compute_slices for profile in own),
            profiles=own,
            placement_status="told by the card",
        )
    same = dataclasses.replace(told, placement_status=base.placement_status) == base
    return base if same else told


def _profile(profile: InstanceProfile, known: MigProfile | None) -> MigProfile:
    match = _PROFILE.fullmatch(profile.name)
    capacities = dict(known.capacities if known is not None else ()) | _capacities(profile)
    return MigProfile(
        name=profile.name,
        profile_id=profile.profile_id,
        compute_slices=profile.compute_slices,
        memory_gb=int(match[2]) if match else round(profile.memory_mib / 1024),
        size=profile.size,
        starts=profile.starts,
        max_instances=profile.max_instances,
        media=known.media if known is not None else "+me" in profile.name,
        capacities=tuple(capacities.items()),
    )


def _capacities(profile: InstanceProfile) -> dict[str, int]:
    told = {
        "multiprocessors": profile.multiprocessors,
        "copy-engines": profile.copy_engines,
        "decoders": profile.decoders,
        "encoders": profile.encoders,
        "jpeg-engines": profile.jpeg_engines,
        "ofa-engines": profile.ofa_engines,
        "memory_mib": profile.memory_mib,
    }
    return {name: use for name, use in told.items() if use is not None}


def _differences(card: Card) -> Iterator[Difference]:
    found = find_model(card.product)
    if isinstance(found, UnknownModel):
        yield Difference(card.uuid, card.product, "model", "", "none", card.product)
        return

    def differ(fact: Fact, profile: str, catalogue: object, told: object) -> Difference:
        return Difference(card.uuid, found.name, fact, profile, str(catalogue), str(told))

    if card.memory_mib and abs(card.memory_mib - found.memory_mib) > _MEMORY_TOLERANCE * found.memory_mib:
        yield differ("memory_mib", "", found.memory_mib, card.memory_mib)
    links = sum(link.links for link in card.links)
    if links > (found.nvlink.links if found.nvlink is not None else 0):
        # Fewer is usual: a card without its bridge, a form factor with fewer connectors.
        yield differ("nvlink_links", "", found.nvlink.links if found.nvlink is not None else "none", links)
    if not card.profiles:
        return
    for known in found.profiles:
        if card.profile_named(known.name) is None:
            yield differ("profile", known.name, known.name, "none")
    for profile in card.profiles:
        entry = found.profile(profile.name)
        if entry is None:
            yield differ("profile", profile.name, "none", profile.name)
            continue
        if entry.profile_id is not None and entry.profile_id != profile.profile_id:
            yield differ("profile_id", profile.name, entry.profile_id, profile.profile_id)
        for fact in _GEOMETRY:
            if getattr(entry, fact) != getattr(profile, fact):
                yield differ(fact, profile.name, getattr(entry, fact), getattr(profile, fact))
        told = _capacities(profile)
        for name, use in entry.capacities:
            if name in told and told[name] != use:
                yield differ("capacities", profile.name, f"{name} {use}", f"{name} {told[name]}")


_GEOMETRY: tuple[Fact, ...] = ("size", "starts", "max_instances", "compute_slices")
