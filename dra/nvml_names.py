"""Names for what NVML gives as numbers: architectures, NVLink generations, MIG profiles.

A profile's own name ("MIG 1g.10gb+me") comes from drivers that fill the second version of its structure; for
older ones it is made as NVIDIA's tools make it: slices, then the card's memory rounded to eighths, then a
suffix by the number of the profile. Source: ``nvml.h`` (NVML_GPU_INSTANCE_PROFILE_*), go-nvlib's MIG names.
"""

from __future__ import annotations

import math

ARCHITECTURES = {
    2: "Kepler",
    3: "Maxwell",
    4: "Pascal",
    5: "Volta",
    6: "Turing",
    7: "Ampere",
    8: "Ada Lovelace",
    9: "Hopper",
    10: "Blackwell",
    13: "Rubin",
}
NVLINK_GENERATIONS = {1: 1, 2: 2, 3: 2, 4: 3, 5: 3, 6: 4, 7: 5, 8: 6}
_SUFFIXES = {
    0x7: "+me",
    0x8: "+me",
    0xA: "+gfx",
    0xB: "+gfx",
    0xC: "+gfx",
    0xD: "-me",
    0xE: "-me",
    0xF: "+me.all",
    0x10: "+me.all",
    0x11: "+gfx",
}
_EIGHTHS = 8


def profile_name(told: str, number: int, slices: int, memory_mib: int, card_mib: int | None) -> str:
    """A profile's name; ``told`` is NVML's ("" from old drivers), ``number`` the profile's enumeration."""
    if told:
        return told.removeprefix("MIG ").strip()
    return f"{slices}g.{_gigabytes(memory_mib, card_mib)}gb{_SUFFIXES.get(number, '')}"


def _gigabytes(memory_mib: int, card_mib: int | None) -> int:
    if not card_mib:
        return round(memory_mib / 1024)
    share = round(memory_mib * _EIGHTHS / card_mib) / _EIGHTHS
    # Halves go up (Python's round would send 46.5 down).
    return math.floor(share * math.ceil(card_mib / 1024) + 0.5)
