"""What the parts of the controller that change the cluster stand on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cluster.client import Api
from cluster.events import EventRecorder
from metrics.exposition import Exposition
from scheduler.live import Live


@dataclass(frozen=True, slots=True)
class Side:
    """The API, one live fleet, where to report, and whether to act: only while ``is_leader``, and never with
    ``dry_run``.
    """

    api: Api
    live: Live
    exposition: Exposition
    recorder: EventRecorder
    is_leader: Callable[[], bool]
    dry_run: bool
