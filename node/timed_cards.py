"""Measures the time inside the GPU driver's library, and counts what it refuses."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from dra.cards import Card, CardRefused, Cards, HealthEvent, LiveInstance
from metrics.groups import NodeMetrics


class TimedCards:
    """``Cards`` around ``Cards``."""

    def __init__(self, inner: Cards, metrics: NodeMetrics) -> None:
        self._inner = inner
        self._metrics = metrics

    def cards(self) -> tuple[Card, ...]:
        """See ``Cards``."""
        with self._timed("cards"):
            return self._inner.cards()

    def live(self, gpu_uuid: str) -> tuple[LiveInstance, ...]:
        """See ``Cards``."""
        with self._timed("live"):
            return self._inner.live(gpu_uuid)

    def create(self, gpu_uuid: str, profile_id: int, start: int) -> LiveInstance:
        """See ``Cards``."""
        with self._timed("create"):
            return self._inner.create(gpu_uuid, profile_id, start)

    def destroy(self, gpu_uuid: str, gpu_instance_id: int) -> None:
        """See ``Cards``."""
        with self._timed("destroy"):
            self._inner.destroy(gpu_uuid, gpu_instance_id)

    def set_mig_mode(self, gpu_uuid: str, enabled: bool) -> bool:
        """See ``Cards``."""
        with self._timed("set_mig_mode"):
            return self._inner.set_mig_mode(gpu_uuid, enabled)

    def wait_event(self, timeout_seconds: float) -> HealthEvent | None:
        """See ``Cards``; not measured, as it waits on purpose."""
        return self._inner.wait_event(timeout_seconds)

    def close(self) -> None:
        """See ``Cards``."""
        self._inner.close()

    @contextmanager
    def _timed(self, call: str) -> Iterator[None]:
        since = time.perf_counter()
        try:
            yield
        except CardRefused as problem:
            self._metrics.card_refusals.labels(call, problem.kind).inc()
            raise
        finally:
            self._metrics.card_call_duration_seconds.labels(call).observe(time.perf_counter() - since)
