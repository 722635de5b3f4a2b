"""What wraps API objects, and how bytes become objects: Status, lists, watch lines, and the shared decoders.

A decoder is made once a type. Source: k8s.io/apimachinery meta/v1; the objects are in ``cluster.wire``.

msgspec (0.22) looks into a Struct at its first use and keeps what it finds on the class before that is
complete, so that a type may contain itself. While it resolves the annotations another thread may run, take
the half for the whole, and the process dies of a null pointer. So first uses are made one at a time here,
and ``know_types`` makes them for all types before there are threads.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Generic, TypeVar

import msgspec

from cluster.wire import Wire


class Status(Wire, frozen=True):
    """meta/v1 Status: the body of a refusal and of a watch ERROR."""

    status: str = ""
    message: str = ""
    reason: str = ""
    code: int = 0


class ListMeta(Wire, frozen=True):
    """meta/v1 ListMeta; ``continue_token`` is empty on the last page."""

    resource_version: str = ""
    continue_token: str = msgspec.field(name="continue", default="")
    remaining_item_count: int | None = None


T = TypeVar("T")


class ObjectList(msgspec.Struct, Generic[T], rename="camel", frozen=True):
    """A page of a list; ``items`` is None where the server wrote null."""

    metadata: ListMeta = ListMeta()
    items: list[T] | None = None


class WatchEvent(Wire, frozen=True):
    """One line of a watch. The object is kept as bytes, since its type depends on ``type``."""

    type: str = ""
    object: msgspec.Raw = msgspec.Raw(b"{}")


_first_uses = threading.RLock()
_known: set[type] = set()


def know_types() -> None:
    """Have msgspec look into every Struct that is defined by now. Cheap when it was called before."""
    with _first_uses:
        for kind in set(_subclasses(msgspec.Struct)) - _known:
            _known.add(kind)
            try:
                msgspec.json.Decoder(kind)
            except (TypeError, NameError):  # one that is only written: nobody can ask to read it
                continue


def _subclasses(kind: type[Any]) -> Iterator[type[Any]]:
    one: type[Any]
    for one in kind.__subclasses__():
        yield one
        yield from _subclasses(one)


@lru_cache(maxsize=128)
def _made(kind: Any) -> Any:
    return msgspec.json.Decoder(kind)


def _decoder(kind: Any) -> Any:
    with _first_uses:
        return _made(kind)


def object_decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    """Return the shared decoder of one object of ``kind``."""
    return _decoder(kind)  # type: ignore[no-any-return]


def list_decoder(kind: type[T]) -> msgspec.json.Decoder[ObjectList[T]]:
    """Return the shared decoder of a list page of ``kind``."""
    return _decoder(ObjectList[kind])  # type: ignore[no-any-return, valid-type]


def raw_list_decoder() -> msgspec.json.Decoder[ObjectList[msgspec.Raw]]:
    """Return the decoder that leaves each item as bytes, to find the one item that does not decode."""
    return list_decoder(msgspec.Raw)


def watch_decoder() -> msgspec.json.Decoder[WatchEvent]:
    """Return the decoder of one watch line."""
    return object_decoder(WatchEvent)
