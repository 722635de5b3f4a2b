"""Many texts by name, spread over numbered ConfigMaps of ours, since one holds at most 1 MiB.

``NAME``, ``NAME-1``, ``NAME-2``, …: each holds one JSON object of texts under ``key``. A text lies in the map
of number crc32(its name) mod the number of maps, which starts at 1 and is doubled while one of them would be
larger than ``limit_bytes``; it never falls. The first map says under ``maps`` how many there are. So what one
ConfigMap held before is read as it is, and stays one ConfigMap as long as that suffices.

Only maps whose texts changed are written. When the number grows, the new maps are written first, then the
first one, which announces them, then those that lost texts to them; where a text is found twice because
that was broken off, the higher number has the newer one. Who may write them has to be granted by name:
``map_names``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from zlib import crc32

import msgspec

from cluster.client import Api
from cluster.kept_map import Keeper, KeptMap

MAPS_KEY: Final = "maps"
MOST_MAPS: Final = 16
LIMIT_BYTES: Final = 1_000_000


def map_names(name: str) -> tuple[str, ...]:
    """The names of all ConfigMaps that texts of this name may be spread over."""
    return (name, *(f"{name}-{number}" for number in range(1, MOST_MAPS)))


class SpreadTexts:
    """Reads and writes them; a failure is told by ``Keeper``. Belongs to one thread."""

    def __init__(
        self,
        api: Api,
        namespace: str,
        name: str,
        key: str,
        component: str,
        costs: str,
        *,
        limit_bytes: int = LIMIT_BYTES,
    ) -> None:
        """``costs`` as in ``Keeper``; ``limit_bytes``: of one map's object."""
        kept = (KeptMap(api, namespace, one, component) for one in map_names(name))
        self._keepers = [Keeper(one, costs) for one in kept]
        self._key, self._limit_bytes = key, limit_bytes
        self._maps = 1
        self._there: dict[int, Mapping[str, str]] = {}

    def read(self) -> dict[str, str] | None:
        """All texts; None while one of the maps cannot be read. What makes no sense is left out."""
        self._there = {}
        texts: dict[str, str] = {}
        number, maps = 0, 1
        while number < maps:
            data = self._keepers[number].read()
            if data is None:
                return None
            if number == 0:
                maps = self._announced(data)
            self._there[number] = data
            texts |= self._decoded(number, data)
            number += 1
        self._maps = maps
        return texts

    def write(self, texts: Mapping[str, str]) -> bool:
        """Make these the texts; whether that succeeded. After a failure the same may be tried again."""
        maps = self._maps
        objects = self._objects(texts, maps)
        while 2 * maps <= MOST_MAPS and max(map(len, objects)) > self._limit_bytes:
            maps *= 2
            objects = self._objects(texts, maps)
        for number in (*range(self._maps, maps), *range(self._maps)):
            if number == 0:
                self._maps = maps  # announced from here on, whether or not an answer comes
            data = {self._key: objects[number].decode()}
            if number == 0 and maps > 1:
                data[MAPS_KEY] = str(maps)
            if self._there.get(number) == data:
                continue
            if not self._keepers[number].write(data):
                self._there.pop(number, None)
                return False
            self._there[number] = data
        return True

    def _objects(self, texts: Mapping[str, str], maps: int) -> list[bytes]:
        parts: list[dict[str, str]] = [{} for _ in range(maps)]
        for name, text in texts.items():
            parts[crc32(name.encode()) % maps][name] = text
        return [msgspec.json.encode(part) for part in parts]

    def _announced(self, first: Mapping[str, str]) -> int:
        text = first.get(MAPS_KEY, "1")
        if text.isascii() and text.isdecimal() and 1 <= int(text) <= MOST_MAPS:
            return int(text)
        problem = f"{MAPS_KEY}: got {text!r}, expected a number of ConfigMaps from 1 to {MOST_MAPS}"
        self._keepers[0].refuse(ValueError(problem))
        return 1

    def _decoded(self, number: int, data: Mapping[str, str]) -> dict[str, str]:
        try:
            return msgspec.json.decode(data.get(self._key, "{}"), type=dict[str, str])
        except msgspec.DecodeError as problem:
            self._keepers[number].refuse(problem)
            return {}
