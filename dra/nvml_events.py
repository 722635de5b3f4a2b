"""NVML events as health events: one event set for all cards of the node.

Registered when the set is made, so that nothing after that is missed; a card takes part with those kinds of
event that it supports. NVML's wait ends early when the process gets a signal, and tells of a lost card
without saying which: the cards are then asked one by one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from dra.cards import CardRefused, EventKind, HealthEvent
from dra.nvml_library import Handle, Library, address_of

_DOUBLE_BIT_ECC, _XID, _MIG_CHANGED, _UNAVAILABLE = 0x2, 0x8, 0x100, 0x4000
_WANTED = _DOUBLE_BIT_ECC | _XID | _MIG_CHANGED | _UNAVAILABLE
_KINDS: Mapping[int, EventKind] = {
    _DOUBLE_BIT_ECC: "ecc",
    _XID: "xid",
    _MIG_CHANGED: "mig-changed",
    _UNAVAILABLE: "lost",
}
_NO_INSTANCE = 0xFFFFFFFF
_LONGEST_WAIT_SECONDS = 0.5
"""A wait in NVML cannot be cut short, so long ones are made of these, and ``close`` waits for one at most."""


class Events:
    """The event set. ``wait`` belongs to one thread at a time; ``close`` to any."""

    def __init__(self, library: Library, cards: Mapping[str, Handle]) -> None:
        self._library = library
        self._cards = dict(cards)
        self._lost: set[str] = set()
        self._closed = threading.Event()
        self._waiting = threading.Lock()
        self._set = library.ask("nvmlEventSetCreate")
        registered = [uuid for uuid, handle in self._cards.items() if self._register(handle)]
        if self._set is not None and not registered:
            library.ask("nvmlEventSetFree", self._set)
            self._set = None

    def _register(self, handle: Handle) -> bool:
        if self._set is None:
            return False
        try:
            offered = self._library.ask("nvmlDeviceGetSupportedEventTypes", handle)
            if not offered or not offered & _WANTED:
                return False
            self._library.call("nvmlDeviceRegisterEvents", handle, offered & _WANTED, self._set)
        except CardRefused:
            return False  # a lost or old card has no events; the others still have theirs
        return True

    def wait(self, timeout_seconds: float) -> HealthEvent | None:
        """The next event, or None after the time. Raises CardRefused when NVML itself fails."""
        until = time.monotonic() + timeout_seconds
        while not self._closed.is_set():
            left = until - time.monotonic()
            event = self._one(max(0.0, min(left, _LONGEST_WAIT_SECONDS)))
            if event is not None or left <= _LONGEST_WAIT_SECONDS:
                return event
        return None

    def _one(self, seconds: float) -> HealthEvent | None:
        with self._waiting:
            if self._closed.is_set():
                return None
            if self._set is not None:
                return self._from_nvml(seconds)
        self._closed.wait(seconds)
        return None

    def _from_nvml(self, seconds: float) -> HealthEvent | None:
        try:
            told = self._library.call("nvmlEventSetWait", self._set, round(1000 * seconds))
        except CardRefused as refusal:
            if refusal.kind == "timeout":
                return None
            if refusal.kind == "lost":
                return self._newly_lost()
            raise
        kind = _KINDS.get(int(told.eventType), "other")
        instance = None if told.gpuInstanceId == _NO_INSTANCE else int(told.gpuInstanceId)
        return HealthEvent(self._uuid(told.device), kind, int(told.eventData), instance)

    def _uuid(self, device: Handle) -> str:
        try:
            return str(self._library.ask("nvmlDeviceGetUUID", device) or "")
        except CardRefused:
            # The event came from a card that is gone by now; handles of one card have the same address.
            address = address_of(device)
            return next((uuid for uuid, own in self._cards.items() if address_of(own) == address), "")

    def _newly_lost(self) -> HealthEvent | None:
        for uuid, handle in self._cards.items():
            try:
                self._library.ask("nvmlDeviceGetUUID", handle)
            except CardRefused:
                if uuid not in self._lost:
                    self._lost.add(uuid)
                    return HealthEvent(uuid, "lost", 0)
            else:
                self._lost.discard(uuid)
        return None

    def close(self) -> None:
        """End the waiting and free the set."""
        self._closed.set()
        with self._waiting:
            if self._set is not None:
                self._library.ask("nvmlEventSetFree", self._set)
                self._set = None
