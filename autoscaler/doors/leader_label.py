"""Mark the leading pod with ``slicewise.io/leader: "true"``, so that the doors' Services find it.

Only the leader has decisions to hand out, and a Service can select by labels alone. The new leader also takes
the label off every other pod: one that died or hangs cannot do that itself. Two labelled pods for a moment do
no harm, since a replica that does not lead refuses. What fails is tried again at the next look.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final
from urllib.parse import quote

from cluster.api_errors import ApiError
from cluster.client import Api
from cluster.wire import Pod

log = logging.getLogger(__name__)

LABEL: Final = "slicewise.io/leader"
_LOOK_SECONDS: Final = 1.0


class LeaderLabel:
    """Keeps the label true from ``start`` to ``stop``."""

    def __init__(self, api: Api, namespace: str, pod: str, *, is_leader: Callable[[], bool]) -> None:
        """``pod`` is the name of our own pod."""
        self._api = api
        self._pods = f"/api/v1/namespaces/{quote(namespace)}/pods"
        self._pod = pod
        self._is_leader = is_leader
        self._labelled: bool | None = None
        self._failure: str | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leader label", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Take the label off and end."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5.0)

    def step(self) -> None:
        """Write what has changed since the last step. Called by the thread; tests call it by hand."""
        leads = self._is_leader() and not self._stop.is_set()
        if leads == self._labelled:
            return
        try:
            if leads:
                for other in self._api.list_objects(self._pods, Pod, {"labelSelector": f"{LABEL}=true"}):
                    if other.metadata.name != self._pod:
                        self._write(other.metadata.name, None)
            self._write(self._pod, "true" if leads else None)
        except ApiError as error:
            if str(error) != self._failure:
                log.warning("label %s of pod %s: not written, trying again: %s", LABEL, self._pod, error)
            self._failure = str(error)
            return
        self._labelled, self._failure = leads, None

    def _write(self, pod: str, value: str | None) -> None:
        self._api.patch(f"{self._pods}/{quote(pod)}", {"metadata": {"labels": {LABEL: value}}})

    def _run(self) -> None:
        while not self._stop.wait(_LOOK_SECONDS):
            self.step()
        self.step()
