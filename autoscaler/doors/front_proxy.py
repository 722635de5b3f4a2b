"""Who asks an aggregated API server: what kube-apiserver's front proxy says, when it is the front proxy.

kube-apiserver authenticates and authorises the caller, then forwards the request over TLS with its own client
certificate and the caller in headers. Which authority signs that certificate, which common names it may have
and what the headers are called stands in ConfigMap kube-system/extension-apiserver-authentication
(kubernetes.io/docs, "Configure the Aggregation Layer"; apiserver's headerrequest). Only that road is open:
without such a certificate the headers count for nothing. Pure; the TLS layer checks the chain.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

NAMESPACE: Final = "kube-system"
CONFIG_MAP: Final = "extension-apiserver-authentication"


class TrustRefused(ValueError):
    """The ConfigMap does not say whom to trust; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class User:
    """A caller as kube-apiserver knows it."""

    name: str
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class Trust:
    """``authority`` is PEM; no ``allowed_names`` means any certificate of that authority. Header names are in
    lower case.
    """

    authority: str
    allowed_names: frozenset[str]
    username_headers: tuple[str, ...]
    group_headers: tuple[str, ...]
    extra_prefixes: tuple[str, ...]

    def admits(self, common_names: Iterable[str]) -> bool:
        """Whether a certificate of the authority with these common names is the front proxy's."""
        return not self.allowed_names or not self.allowed_names.isdisjoint(common_names)


def read_trust(data: Mapping[str, str]) -> Trust:
    """Read the ConfigMap's data. Raises TrustRefused."""
    authority = data.get("requestheader-client-ca-file", "")
    if "BEGIN CERTIFICATE" not in authority:
        raise TrustRefused(
            f"ConfigMap {NAMESPACE}/{CONFIG_MAP}: got no certificate under requestheader-client-ca-file; "
            "expected the front proxy's authority; start kube-apiserver with --requestheader-client-ca-file"
        )
    return Trust(
        authority,
        frozenset(_names(data, "requestheader-allowed-names")),
        tuple(name.lower() for name in _names(data, "requestheader-username-headers")) or ("x-remote-user",),
        tuple(name.lower() for name in _names(data, "requestheader-group-headers")) or ("x-remote-group",),
        tuple(name.lower() for name in _names(data, "requestheader-extra-headers-prefix")),
    )


def user_of(trust: Trust, headers: Iterable[tuple[str, str]]) -> User | None:
    """Read the caller from the headers of a request of the front proxy; None when they name nobody.

    ``headers`` in the order received, names in lower case.
    """
    pairs = list(headers)
    named = next(
        (value for key in trust.username_headers for name, value in pairs if name == key and value), ""
    )
    if not named:
        return None
    extra: dict[str, list[str]] = {}
    for name, value in pairs:
        prefix = next((prefix for prefix in trust.extra_prefixes if name.startswith(prefix)), None)
        if prefix is not None:
            extra.setdefault(name.removeprefix(prefix), []).append(value)
    return User(
        named,
        tuple(value for name, value in pairs if name in trust.group_headers),
        tuple((name, tuple(values)) for name, values in sorted(extra.items())),
    )


def _names(data: Mapping[str, str], key: str) -> list[str]:
    text = data.get(key, "")
    if not text:
        return []
    try:
        return msgspec.json.decode(text.encode(), type=list[str])
    except msgspec.DecodeError as error:
        raise TrustRefused(
            f"ConfigMap {NAMESPACE}/{CONFIG_MAP} key {key}: got {text[:80]!r}, expected a JSON list of names "
            f"({error})"
        ) from None
