"""The intensities in force, kept fresh by one thread, read by many without waiting.

Scoring a node must not wait for a web API. The board asks the provider for each zone in use, off the request
path, and serves the last answers from memory; an answer past its validity is not served.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from metrics.carbon.intensity import CarbonProvider, Intensity
from metrics.samples import NoData

Observer: TypeAlias = Callable[[str, Intensity | NoData], None]
"""Told (zone, answer) each time a zone was asked for."""


class CarbonBoard:
    """``zones`` names the zones in use now; ``clock`` gives Unix seconds. A provider of ``None`` leaves the
    board empty.
    """

    def __init__(
        self,
        provider: CarbonProvider | None,
        zones: Callable[[], Iterable[str]],
        clock: Callable[[], float],
        period_seconds: float = 15.0,
        observer: Observer | None = None,
    ) -> None:
        self._provider = provider
        self._zones = zones
        self._clock = clock
        self._period_seconds = period_seconds
        self._observer = observer
        self._answers: Mapping[str, Intensity | NoData] = {}
        self._round = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def current(self) -> dict[str, Intensity]:
        """Zone -> intensity for the zones that have one that is still valid."""
        now = self._clock()
        return {
            zone: answer
            for zone, answer in self._answers.items()
            if isinstance(answer, Intensity) and now < answer.valid_until_seconds
        }

    def absent(self) -> dict[str, NoData]:
        """Zone -> why it has no intensity."""
        now = self._clock()
        out: dict[str, NoData] = {}
        for zone, answer in self._answers.items():
            if isinstance(answer, NoData):
                out[zone] = answer
            elif now >= answer.valid_until_seconds:
                out[zone] = NoData(f"the last intensity of zone {zone!r} has expired", "stale")
        return out

    def forecast(self, zone: str) -> tuple[Intensity, ...] | NoData:
        """What the provider foresees for ``zone``. Asks in the caller's thread: not for the request path."""
        provider = self._provider
        if provider is None:
            return NoData("the policy names no carbon provider", "misconfigured")
        return provider.forecast(zone, self._clock())

    def replace(self, provider: CarbonProvider | None) -> None:
        """Use another provider (the policy changed). Answers of the old one are dropped: they may be of
        another kind.
        """
        with self._round:
            self._provider = provider
            self._answers = {}
        self._wake.set()

    def refresh(self) -> None:
        """One round over all zones in use, in the caller's thread."""
        with self._round:
            provider = self._provider
            if provider is None:
                return
            answers: dict[str, Intensity | NoData] = {}
            for zone in sorted(set(self._zones())):
                answers[zone] = answer = provider.latest(zone, self._clock())
                if self._observer is not None:
                    self._observer(zone, answer)
            self._answers = answers

    def start(self) -> None:
        """Refresh in a thread of its own until ``stop``."""
        self._thread = threading.Thread(target=self._run, name="carbon-board", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            self.refresh()
            if not self._stopping:
                self._wake.wait(self._period_seconds)
