"""A card that reported a fault gets no new work until this process starts anew.

NVML tells of an XID or a double-bit ECC error once, as an event; asked afterwards, the card looks well. So
the event is kept here and joined to what the card says of itself. A card that NVML had lost is asked again
each time: it says itself when it is back. Restarting the node's process, as an operator does after a reset,
clears it.
"""

from __future__ import annotations

import threading
from dataclasses import replace

from dra.card_health import harmful, reason_of
from dra.cards import Card, Cards, Health, HealthEvent, LiveInstance


class RememberedHealth:
    """``Cards`` around ``Cards``."""

    def __init__(self, inner: Cards) -> None:
        self._inner = inner
        self._lock = threading.Lock()
        self._faults: dict[str, tuple[str, ...]] = {}

    def cards(self) -> tuple[Card, ...]:
        """See ``Cards``."""
        found = self._inner.cards()
        with self._lock:
            return tuple(
                replace(
                    card, health=Health("unhealthy", tuple(dict.fromkeys((*faults, *card.health.reasons))))
                )
                if (faults := self._faults.get(card.uuid))
                else card
                for card in found
            )

    def live(self, gpu_uuid: str) -> tuple[LiveInstance, ...]:
        """See ``Cards``."""
        return self._inner.live(gpu_uuid)

    def create(self, gpu_uuid: str, profile_id: int, start: int) -> LiveInstance:
        """See ``Cards``."""
        return self._inner.create(gpu_uuid, profile_id, start)

    def destroy(self, gpu_uuid: str, gpu_instance_id: int) -> None:
        """See ``Cards``."""
        self._inner.destroy(gpu_uuid, gpu_instance_id)

    def set_mig_mode(self, gpu_uuid: str, enabled: bool) -> bool:
        """See ``Cards``."""
        return self._inner.set_mig_mode(gpu_uuid, enabled)

    def wait_event(self, timeout_seconds: float) -> HealthEvent | None:
        """See ``Cards``; what is harmful is remembered, of every card where NVML does not say which."""
        event = self._inner.wait_event(timeout_seconds)
        if event is not None and event.kind != "lost" and harmful(event):
            uuids = [event.gpu_uuid] if event.gpu_uuid else [card.uuid for card in self._inner.cards()]
            reason = reason_of(event)
            with self._lock:
                for uuid in uuids:
                    known = self._faults.get(uuid, ())
                    if reason not in known:
                        self._faults[uuid] = (*known, reason)
        return event

    def close(self) -> None:
        """See ``Cards``."""
        self._inner.close()
