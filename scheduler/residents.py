"""Who runs where and which budgets protect them, kept by the watches of a live cluster.

Pods and nodes come from the feed's own watches; PodDisruptionBudgets from one of their own, which nobody
waits for: where it may not be read, no pod is ever moved (``ready``), and the preempt verb counts no
violations, as kube-scheduler checks budgets again itself.
"""

from __future__ import annotations

from cluster.client import Api
from cluster.disruption import BUDGETS_PATH, Budgets, PodDisruptionBudget
from cluster.reflector import Reflector
from scheduler.feed import Feed
from scheduler.repack.census import Census


class Residents:
    """Census and budgets over one feed; make it before the feed starts."""

    def __init__(self, api: Api, feed: Feed) -> None:
        self.census = Census()
        self.budgets = Budgets()
        self._watch = Reflector(api, BUDGETS_PATH, PodDisruptionBudget, self.budgets)
        feed.listen("nodes", self.census.nodes)
        feed.listen("pods", self.census.pods)

    @property
    def ready(self) -> bool:
        """Whether the budgets are known."""
        return self._watch.synced.is_set()

    def start(self) -> None:
        """Start the watch of budgets."""
        self._watch.start()

    def stop(self) -> None:
        """End it."""
        self._watch.stop()
