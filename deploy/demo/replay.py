"""Send the plan's pods and take them away again, on time.

Two threads with a connection each, one for creations and one for deletions, so that a slow answer to one does
not delay the other. A deletion that finds no pod, or a pod that is gone, is no error.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from deploy.demo.arrivals import Arrival
from deploy.demo.workload import namespace_of, pod_manifest
from deploy.local.rest import Connection, RequestRefused

_ACCEPTED_DELETIONS = (200, 202, 404)


class Replay:
    """Starts with ``start``; ``created`` holds the second of the run's clock at which each pod was sent."""

    def __init__(
        self,
        connect: Callable[[], Connection],
        arrivals: Sequence[Arrival],
        clock: Callable[[], float],
        end_seconds: float,
    ) -> None:
        self._connect = connect
        self._clock = clock
        self._stop = threading.Event()
        self.created: dict[str, float] = {}
        self.problems: list[str] = []
        comings = [(arrival.at_seconds, arrival) for arrival in arrivals if arrival.at_seconds < end_seconds]
        goings = [
            (arrival.leaves_seconds, arrival) for arrival in arrivals if arrival.leaves_seconds < end_seconds
        ]
        self._threads = [
            threading.Thread(
                target=self._run, args=(sorted(work, key=lambda item: item[0]), act), daemon=True
            )
            for work, act in ((comings, self._create), (goings, self._delete))
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout=10)

    def _run(self, work: Sequence[tuple[float, Arrival]], act: Callable[[Connection, Arrival], None]) -> None:
        with self._connect() as connection:
            for at, arrival in work:
                if self._stop.wait(max(0.0, at - self._clock())):
                    return
                try:
                    act(connection, arrival)
                except (RequestRefused, OSError) as problem:
                    self.problems.append(f"pod {arrival.name}: {problem}")

    def _create(self, connection: Connection, arrival: Arrival) -> None:
        self.created[arrival.name] = self._clock()
        connection.request("POST", f"/api/v1/namespaces/{namespace_of(arrival)}/pods", pod_manifest(arrival))

    def _delete(self, connection: Connection, arrival: Arrival) -> None:
        path = f"/api/v1/namespaces/{namespace_of(arrival)}/pods/{arrival.name}"
        connection.request("DELETE", path, {"gracePeriodSeconds": 0}, accepted=_ACCEPTED_DELETIONS)
