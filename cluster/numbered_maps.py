"""ConfigMaps of ours that belong together: ``NAME``, ``NAME-1``, ``NAME-2``, …: one holds at most 1 MiB.

The first says under ``maps`` how many there are, always a power of two; without that there is one. Each is
read by itself: one that is away or cannot be read takes nothing along but what it held. Should the first be
gone, the others are looked for by name. Who may read and write them has to be granted by name
(``map_names``). Writes nothing; ``cluster.spread_texts`` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cluster.api_errors import ApiError, ApiRefused
from cluster.client import Api
from cluster.kept_map import KeptMap

MAPS_KEY: Final = "maps"
MOST_MAPS: Final = 16


def map_names(name: str) -> tuple[str, ...]:
    """The names of all ConfigMaps that there may be of this name."""
    return (name, *(f"{name}-{number}" for number in range(1, MOST_MAPS)))


@dataclass(frozen=True, slots=True)
class Found:
    """What was found of ``maps`` ConfigMaps: by number, the data of those that are there and why others
    could not be read; ``gone`` should be there and are not. ``problem`` with their number, or empty.
    """

    maps: int
    data: Mapping[int, Mapping[str, str]]
    unread: Mapping[int, ApiError]
    gone: tuple[int, ...] = ()
    problem: str = ""


def look(api: Api, namespace: str, name: str) -> Found:
    """Read all of them. Raises ApiError when the first one cannot be read: then nothing is known."""
    kept = [KeptMap(api, namespace, one) for one in map_names(name)]
    first = kept[0].read()
    announced, problem = (None, "") if first is None else _announced(first)
    data: dict[int, Mapping[str, str]] = {} if first is None else {0: first}
    unread: dict[int, ApiError] = {}
    for number in range(1, announced or MOST_MAPS):
        try:
            found = kept[number].read()
        except ApiError as why:
            if announced is None and not isinstance(why, ApiRefused):
                raise
            unread[number] = why
            continue
        if found is not None:
            data[number] = found
    if not data:
        return Found(1, {}, {}, problem=problem)
    maps = announced or 1 << max(data).bit_length()
    unread = {number: why for number, why in unread.items() if number < maps}
    gone = tuple(number for number in range(maps) if number not in data and number not in unread)
    return Found(maps, data, unread, gone, problem)


def _announced(first: Mapping[str, str]) -> tuple[int | None, str]:
    """How many the first one says there are, or None and what is wrong with what it says."""
    text = first.get(MAPS_KEY, "1")
    if text in {str(1 << power) for power in range(MOST_MAPS.bit_length())}:
        return int(text), ""
    return None, f"{MAPS_KEY}: got {text!r}, expected a power of two from 1 to {MOST_MAPS}"
