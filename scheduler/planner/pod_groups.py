"""The sizes of the cluster's PodGroups (Workload API), where it has them.

Looked for once, at the start: without scheduling.k8s.io/v1alpha2 there is nothing to watch, and gangs are
found by label alone.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

import msgspec

from cluster.api_errors import ApiError, ApiRefused
from cluster.client import Api
from cluster.reflector import Reflector
from cluster.workload_api import POD_GROUPS, PodGroup

log = logging.getLogger(__name__)


class _Discovery(msgspec.Struct, frozen=True):
    kind: str = ""


class PodGroups:
    """A reflector handler that knows every group's ``minCount``; ``told`` is called after each change."""

    def __init__(self, api: Api, told: Callable[[], None] = lambda: None) -> None:
        self._api, self._told = api, told
        self._sizes: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()
        self._reflector: Reflector[PodGroup] | None = None

    def start(self) -> None:
        """Watch the groups, if the API server serves them."""
        try:
            self._api.get(POD_GROUPS.rpartition("/")[0], _Discovery)
        except ApiRefused as refused:
            log.info("gangs by label only: no scheduling.k8s.io/v1alpha2 (%s)", refused.status)
            return
        except ApiError as error:
            log.warning("could not look for scheduling.k8s.io/v1alpha2: %s; gangs by label only", error)
            return
        self._reflector = Reflector(self._api, POD_GROUPS, PodGroup, self)
        self._reflector.start()

    def stop(self) -> None:
        """End the watch."""
        if self._reflector is not None:
            self._reflector.stop()

    def size(self, namespace: str, name: str) -> int | None:
        """``minCount`` of a group, 0 for one that is no gang, None for one that is not known."""
        with self._lock:
            return self._sizes.get((namespace, name))

    def replaced(self, items: Sequence[PodGroup]) -> None:
        """A fresh list."""
        with self._lock:
            self._sizes = {_key(item): _size(item) for item in items}
        self._told()

    def changed(self, kind: str, item: PodGroup) -> None:
        """One watch event."""
        with self._lock:
            if kind == "DELETED":
                self._sizes.pop(_key(item), None)
            else:
                self._sizes[_key(item)] = _size(item)
        self._told()


def _key(group: PodGroup) -> tuple[str, str]:
    return group.metadata.namespace or "default", group.metadata.name


def _size(group: PodGroup) -> int:
    gang = group.spec.scheduling_policy.gang
    return 0 if gang is None else gang.min_count
