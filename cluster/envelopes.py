"""What wraps API objects, and how bytes become objects: Status, lists, watch lines, and the shared decoders.

A decoder is made once a type. Source: k8s.io/apimachinery meta/v1; the objects are in ``cluster.wire``.
"""

from __future__ import annotations

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


@lru_cache(maxsize=128)
def _decoder(kind: Any) -> Any:
    return msgspec.json.Decoder(kind)


def object_decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    """Return the shared decoder of one object of ``kind``."""
    return _decoder(kind)  # type: ignore[arg-type, no-any-return]


def list_decoder(kind: type[T]) -> msgspec.json.Decoder[ObjectList[T]]:
    """Return the shared decoder of a list page of ``kind``."""
    return _decoder(ObjectList[kind])  # type: ignore[no-any-return, valid-type]


def raw_list_decoder() -> msgspec.json.Decoder[ObjectList[msgspec.Raw]]:
    """Return the decoder that leaves each item as bytes, to find the one item that does not decode."""
    return list_decoder(msgspec.Raw)


def watch_decoder() -> msgspec.json.Decoder[WatchEvent]:
    """Return the decoder of one watch line."""
    return object_decoder(WatchEvent)
