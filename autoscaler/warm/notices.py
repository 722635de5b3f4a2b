"""Which nodes are about to go, as the watch of nodes shows them. A reflector's handler; safe to read from any
thread.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from autoscaler.warm.interruption import interruption
from cluster.wire import Node


class NodeNotices:
    """See the module docstring."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._marked: dict[str, str] = {}

    def replaced(self, items: Sequence[Node]) -> None:
        """A fresh list of nodes."""
        marked = {node.metadata.name: mark for node in items if (mark := interruption(node))}
        with self._lock:
            self._marked = marked

    def changed(self, kind: str, item: Node) -> None:
        """One watch event."""
        mark = "" if kind == "DELETED" else interruption(item)
        with self._lock:
            if mark:
                self._marked[item.metadata.name] = mark
            else:
                self._marked.pop(item.metadata.name, None)

    def __bool__(self) -> bool:
        return bool(self._marked)

    def of(self, node: str) -> str:
        """What says that the node is about to go, "" where nothing does (or it is gone)."""
        with self._lock:
            return self._marked.get(node, "")
