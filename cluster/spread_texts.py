"""Many texts by name, spread over numbered ConfigMaps of ours (``numbered_maps``): one holds at most 1 MiB.

A text lies in the map of number crc32(its name) mod the number of maps; the empty name in the first. The
number starts at 1, is doubled while one of them would be larger than ``limit_bytes`` (16 at most; beyond
that what has no room is left out and told), and halved when all would be at most half as large even so. What
one ConfigMap held before is read as it is, and stays one ConfigMap as long as that suffices.

Only maps whose texts changed are written, and a map that is refused stops no other. One that could not be
read is not written before it was: what it holds is not known. One that is gone costs its own texts, which is
told. When the number grows, the new maps are written first, then the first one, which announces them, then
those that lost texts to them; when it falls, the maps that stay, then the others are deleted, then it is
announced. Where a text is found twice because that was broken off, the higher number has the newer one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from zlib import crc32

import msgspec

from cluster.api_errors import ApiError
from cluster.client import Api
from cluster.kept_map import Keeper, KeptMap
from cluster.numbered_maps import MAPS_KEY, MOST_MAPS, look, map_names

log = logging.getLogger(__name__)

LIMIT_BYTES: Final = 1_000_000

Texts = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Form:
    """How the texts of one map stand in it, under ``key``. ``unpack`` raises ValueError for anything else."""

    key: str
    pack: Callable[[Texts], bytes]
    unpack: Callable[[str], Texts]


def json_object(key: str) -> Form:
    """One JSON object, a text a name."""
    return Form(key, msgspec.json.encode, lambda text: msgspec.json.decode(text, type=dict[str, str]))


class SpreadTexts:
    """Reads and writes them; a failure is told by ``Keeper``. Belongs to one thread at a time."""

    def __init__(
        self,
        api: Api,
        namespace: str,
        name: str,
        form: Form,
        component: str,
        costs: str,
        *,
        limit_bytes: int = LIMIT_BYTES,
    ) -> None:
        """``component`` and ``costs`` as in ``KeptMap`` and ``Keeper``; ``limit_bytes``: of a map's text."""
        self.written_bytes = 0
        """How much the last ``write`` wrote."""
        self._api, self._namespace, self._name = api, namespace, name
        kept = (KeptMap(api, namespace, one, component) for one in map_names(name))
        self._keepers = [Keeper(one, costs) for one in kept]
        self._form, self._limit_bytes = form, limit_bytes
        self._maps, self._turn, self._left_out = 1, 0, 0
        self._unread: set[int] = set()
        self._there: dict[int, Texts] = {}
        self._sizes: dict[int, int] = {}
        self._may_delete = True

    def read(self) -> dict[str, str] | None:
        """All texts; None while nothing can be read. Without those of maps that are gone or cannot be read
        (``unread``), and without what makes no sense.
        """
        try:
            found = look(self._api, self._namespace, self._name)
        except ApiError as why:
            self._keepers[0].tell_unread(why)
            return None
        self._maps, self._there, self._sizes, self._may_delete = found.maps, {}, {}, True
        if found.problem:
            self._keepers[0].refuse(ValueError(found.problem))
        for number in found.gone:
            self._keepers[number].refuse(ValueError("it is gone, and what it held is lost"))
        self._unread = set(found.unread)
        for number, problem in found.unread.items():
            self._keepers[number].tell_unread(problem)
        if not found.data:
            self._there, self._sizes = {0: {}}, {0: 0}
        texts: dict[str, str] = {}
        for number, data in sorted(found.data.items()):
            texts |= self._unpacked(number, data)
        return texts

    def read_rest(self) -> dict[str, str]:
        """The texts of maps that could not be read before, as far as they can now."""
        texts: dict[str, str] = {}
        for number in sorted(self._unread):
            data = self._keepers[number].read()
            if data is not None:
                self._unread.discard(number)
                texts |= self._unpacked(number, data)
            elif self._keepers[number].unreachable:
                break
        return texts

    def unread(self, name: str) -> bool:
        """Whether the map of this name exists and could not be read yet."""
        return _number(name, self._maps) in self._unread

    @property
    def complete(self) -> bool:
        """Whether all maps were read."""
        return not self._unread

    def next_in_turn(self, least_bytes: int) -> Callable[[str], bool]:
        """Whose texts are to be renewed next where not all are at once: whole maps, one after the other in a
        circle, until they had so many bytes when they were written last.
        """
        numbers: set[int] = set()
        size = 0
        while size < least_bytes and len(numbers) < self._maps:
            number = (self._turn + len(numbers)) % self._maps
            numbers.add(number)
            size += self._sizes.get(number, 0)
        self._turn, maps = (self._turn + len(numbers)) % self._maps, self._maps
        return lambda name: _number(name, maps) in numbers

    def forget_written(self) -> None:
        """Take none of the maps for what it was when it was written: the next ``write`` writes all."""
        self._there = {}

    def write(self, texts: Texts) -> bool:
        """Make these the texts; whether that succeeded. What failed is tried again by the next ``write``."""
        self.written_bytes = 0
        wanted = self._layout(texts, self._maps)
        if not self._unread:
            while wanted.largest > self._limit_bytes and 2 * wanted.maps <= MOST_MAPS:
                wanted = self._layout(texts, 2 * wanted.maps)
            if wanted.maps > self._maps:
                return self._grown(wanted) and self._all_put(wanted)
            wanted = self._fewer(texts, wanted)
        self._leave_out(wanted)
        return self._all_put(wanted)

    def _grown(self, wanted: _Layout) -> bool:
        """Write the maps that come in addition, then announce them; whether that succeeded."""
        self._leave_out(wanted)
        if not all(self._put(wanted, number) for number in range(self._maps, wanted.maps)):
            return False
        self._maps = wanted.maps  # announced from here on, whether or not an answer comes
        self._there.pop(0, None)
        return self._put(wanted, 0)

    def _fewer(self, texts: Texts, wanted: _Layout) -> _Layout:
        """Take half of the maps away while the texts fit into the others with room to spare."""
        while wanted.maps > 1 and self._may_delete and 2 * wanted.largest_of_half <= self._limit_bytes:
            half = self._layout(texts, wanted.maps // 2)
            if not all(self._put(half, number, announced=wanted.maps) for number in range(half.maps)):
                break
            for number in range(half.maps, wanted.maps):
                self._there.pop(number, None)
                self._may_delete = self._may_delete and self._keepers[number].delete()
            if not self._may_delete:  # what stays there would be taken for the newer
                break
            wanted, self._maps = half, half.maps
            self._there.pop(0)  # it has yet to announce how many are left
        return wanted

    def _all_put(self, wanted: _Layout) -> bool:
        succeeded = True
        for number in range(wanted.maps):
            if not self._put(wanted, number):
                succeeded = False
                if self._keepers[number].unreachable:
                    break
        return succeeded

    def _put(self, wanted: _Layout, number: int, *, announced: int | None = None) -> bool:
        """Write one map, unless it holds that or may not be touched; whether nothing failed."""
        part = wanted.parts[number]
        if number in self._unread or self._there.get(number) == part:
            return True
        packed = wanted.packed(number)
        data = {self._form.key: packed.decode()}
        if number == 0:
            data[MAPS_KEY] = str(announced or wanted.maps)
        self._there.pop(number, None)
        if not self._keepers[number].write(data):
            return False
        self.written_bytes += len(packed)
        self._there[number], self._sizes[number] = part, len(packed)
        return True

    def _layout(self, texts: Texts, maps: int) -> _Layout:
        parts: list[dict[str, str]] = [{} for _ in range(maps)]
        for name, text in texts.items():
            parts[_number(name, maps)][name] = text
        known = {
            number: self._sizes[number]
            for number, part in enumerate(parts)
            if self._there.get(number) == part
        }
        return _Layout(parts, known, self._form.pack)

    def _unpacked(self, number: int, data: Texts) -> Texts:
        text = data.get(self._form.key, "")
        try:
            part = self._form.unpack(text)
        except ValueError as problem:
            self._keepers[number].refuse(problem)
            return {}
        self._there[number], self._sizes[number] = part, len(text.encode())
        return part

    def _leave_out(self, wanted: _Layout) -> None:
        left_out = wanted.cut(self._limit_bytes)
        if left_out and not self._left_out:
            names = f"ConfigMaps {self._namespace}/{self._name}"
            log.warning("%s: %d of them have no room for %d texts more", names, wanted.maps, left_out)
        self._left_out = left_out


class _Layout:
    """Which texts lie in which of so many maps, and how large each map is, packed where that is not known."""

    def __init__(
        self, parts: list[dict[str, str]], known: dict[int, int], pack: Callable[[Texts], bytes]
    ) -> None:
        self.parts = parts
        self._known, self._pack = known, pack
        self._packed: dict[int, bytes] = {}

    @property
    def maps(self) -> int:
        return len(self.parts)

    @property
    def largest(self) -> int:
        return max(map(self._size, range(self.maps)))

    @property
    def largest_of_half(self) -> int:
        """The same if there were half as many."""
        half = self.maps // 2
        return max(self._size(number) + self._size(number + half) for number in range(half))

    def packed(self, number: int) -> bytes:
        if number not in self._packed:
            self._packed[number] = self._pack(self.parts[number])
        return self._packed[number]

    def cut(self, limit_bytes: int) -> int:
        """Leave out what makes a map larger than that, always the same names; return how many."""
        left_out = 0
        for number, part in enumerate(self.parts):
            while part and self._size(number) > limit_bytes:
                most = int(len(part) * limit_bytes / self._size(number) * 0.99)
                for name in sorted(part, key=lambda name: (crc32(name.encode()), name))[most:]:
                    del part[name]
                    left_out += 1
                self._packed.pop(number, None)
                self._known.pop(number, None)
        return left_out

    def _size(self, number: int) -> int:
        known = self._known.get(number)
        return len(self.packed(number)) if known is None else known


def _number(name: str, maps: int) -> int:
    return crc32(name.encode()) % maps
