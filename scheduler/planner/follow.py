"""What became of each nomination: honoured, placed elsewhere, refused, withdrawn by us, or expired with its
pod.

Pure bookkeeping over what the watch shows; feeds ``slicewise_planner_nominations_total``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from cluster.wire import Pod
from scheduler.planner.queue import WaitingPod

Fate = Literal["honoured", "elsewhere", "refused", "expired", "withdrawn"]


@dataclass(slots=True)
class Follow:
    """The nominations under way, by pod UID."""

    _nodes: dict[str, str] = field(default_factory=dict)
    _written: dict[str, tuple[WaitingPod, float]] = field(default_factory=dict)
    _shown: set[str] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self._nodes)

    def nominated(self, waiting: WaitingPod, node: str, now: float) -> None:
        """A nomination is being written."""
        self._nodes[waiting.uid] = node
        self._written[waiting.uid] = (waiting, now)
        self._shown.discard(waiting.uid)

    def followed(self) -> list[tuple[WaitingPod, str, float]]:
        """Nominations that the watch has shown and nothing has come of yet: pod, node, since when."""
        return [
            (self._written[uid][0], self._nodes[uid], self._written[uid][1]) for uid in sorted(self._shown)
        ]

    def observe(self, pod: Pod) -> Fate | None:
        """The pod as the watch shows it; answers the fate when it is known by this."""
        uid = pod.metadata.uid
        wanted = self._nodes.get(uid)
        if wanted is None:
            return None
        if pod.spec.node_name:
            self._drop(uid)
            return "honoured" if pod.spec.node_name == wanted else "elsewhere"
        if pod.status.nominated_node_name:
            self._shown.add(uid)
            return None
        # Cleared after it had been seen: the scheduler tried the node and refused it. Not yet seen: the watch
        # is still behind our own write.
        if uid in self._shown:
            self._drop(uid)
            return "refused"
        return None

    def gone(self, uid: str) -> Fate | None:
        """The pod was deleted."""
        if uid not in self._nodes:
            return None
        self._drop(uid)
        return "expired"

    def keep(self, uids: set[str]) -> int:
        """A fresh list: forget pods that are not in it; answers how many expired so."""
        lost = [uid for uid in self._nodes if uid not in uids]
        for uid in lost:
            self._drop(uid)
        return len(lost)

    def _drop(self, uid: str) -> None:
        del self._nodes[uid]
        del self._written[uid]
        self._shown.discard(uid)
