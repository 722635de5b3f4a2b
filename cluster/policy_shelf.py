"""Which policies are in force, given what the ConfigMaps say: the last good one survives a bad edit.

Pure. A ConfigMap is offered; the shelf answers whether it was loaded, refused or brought nothing new. The
same bad text is refused once, not at every re-list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from cluster.policy_text import PolicyRefused, Problem
from cluster.wire import ConfigMap

P = TypeVar("P")

Key = tuple[str, str]  # namespace, name


@dataclass(frozen=True, slots=True)
class Loaded(Generic[P]):
    """A policy took effect."""

    key: Key
    policy: P


@dataclass(frozen=True, slots=True)
class Refused:
    """A text cannot be used; ``kept`` tells whether an earlier policy stays in force."""

    key: Key
    refusal: PolicyRefused
    kept: bool


class PolicyShelf(Generic[P]):
    """The policies in force by ConfigMap. Not thread-safe: one thread offers, others read ``in_force``."""

    def __init__(self, load: Callable[[str, str], P], *, data_key: str = "policy.yaml") -> None:
        """``load(text, where)`` returns a policy or raises PolicyRefused."""
        self._load = load
        self._data_key = data_key
        self._texts: dict[Key, str | None] = {}
        self.in_force: Mapping[Key, P] = {}
        self.refused: Mapping[Key, PolicyRefused] = {}

    def offer(self, config_map: ConfigMap) -> Loaded[P] | Refused | None:
        """Take the present content of a ConfigMap; None when it brings nothing new."""
        key = (config_map.metadata.namespace, config_map.metadata.name)
        text = config_map.data.get(self._data_key)
        if key in self._texts and self._texts[key] == text:
            return None
        self._texts[key] = text
        where = f"ConfigMap {key[0]}/{key[1]} key {self._data_key}"
        try:
            policy = self._load(self._required(text, config_map, where), where)
        except PolicyRefused as refusal:
            self.refused = {**self.refused, key: refusal}
            return Refused(key, refusal, key in self.in_force)
        self.in_force = {**self.in_force, key: policy}
        self.refused = {other: why for other, why in self.refused.items() if other != key}
        return Loaded(key, policy)

    def withdraw(self, key: Key, *, keep: bool) -> bool:
        """Forget a deleted ConfigMap; ``keep`` leaves its last good policy in force.

        Return whether it was known.
        """
        known = self._texts.pop(key, self) is not self
        self.refused = {other: why for other, why in self.refused.items() if other != key}
        if not keep:
            self.in_force = {other: policy for other, policy in self.in_force.items() if other != key}
        return known

    def known(self) -> frozenset[Key]:
        """Return the ConfigMaps that exist."""
        return frozenset(self._texts)

    def _required(self, text: str | None, config_map: ConfigMap, where: str) -> str:
        if text is not None:
            return text
        keys = ", ".join(sorted(config_map.data)) or "none"
        problem = Problem("", f"no such key (keys: {keys})", "a policy under it", "add the key")
        raise PolicyRefused(where, [problem])
