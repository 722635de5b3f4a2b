"""Keeps what was learned about the workloads over restarts: ConfigMap ``slicewise-autoscaler-memory``.

One JSON object under ``memory.json``: by workload, the text that ``State.remembered`` gives. Above some
thousand workloads it is spread over further ConfigMaps, ``slicewise-autoscaler-memory-1`` and so on
(``cluster.spread_texts``), up to 16. It is read when this process begins to lead, before the first
decisions, and written at most once a minute, only when it has changed and never before it was read. A
workload that no policy names any more is dropped at the next write. Losing the ConfigMap costs hours of
learning and nothing else, so no failure here ever stops a decision: it is said once and tried again, a read
at the next round, a write a minute later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

from autoscaler.targets import Target
from cluster.client import Api
from cluster.spread_texts import SpreadTexts

CONFIG_MAP: Final = "slicewise-autoscaler-memory"
KEY: Final = "memory.json"
PERIOD_SECONDS: Final = 60.0


class LearnedStore:
    """What was learned, by target; used by the thread that runs the rounds, and by tests."""

    def __init__(
        self,
        api: Api,
        namespace: str,
        *,
        period_seconds: float = PERIOD_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._texts = SpreadTexts(
            api, namespace, CONFIG_MAP, KEY, "autoscaler-memory", "a restart forgets what was learned"
        )
        self._period_seconds, self._clock = period_seconds, clock
        self._known: Mapping[str, str] | None = None
        self._next_write_seconds = float("-inf")

    def begin(self) -> bool:
        """Read what is there, unless it was read since this process began to lead; whether it was now."""
        if self._known is not None:
            return False
        self._known = self._texts.read()
        return self._known is not None

    def text_of(self, target: Target) -> str:
        """What was learned about ``target``; empty when nothing is known."""
        return (self._known or {}).get(_name(target), "")

    @property
    def due(self) -> bool:
        """Whether ``keep`` would write now, were something new."""
        return self._known is not None and self._clock() >= self._next_write_seconds

    def keep(self, texts: Mapping[Target, str]) -> None:
        """Write what is learned now; a workload with an empty text keeps what was known about it."""
        if self._known is None or not self.due:
            return
        wanted = {_name(target): text or self.text_of(target) for target, text in texts.items()}
        wanted = {name: text for name, text in sorted(wanted.items()) if text}
        if wanted == self._known:
            return
        self._next_write_seconds = self._clock() + self._period_seconds
        if self._texts.write(wanted):
            self._known = wanted

    def forget(self) -> None:
        """The lead is lost: another process writes from here on."""
        self._known = None
        self._next_write_seconds = float("-inf")


def _name(target: Target) -> str:
    return f"{target.api_version} {target}"
