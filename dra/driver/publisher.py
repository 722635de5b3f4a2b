"""Keeps the API server's ResourceSlices as they should be: one thread, woken by whatever may change them.

Reads its slices once and then trusts what it wrote, until a watch shows something else: a slice that the
kubelet deleted (after 30 s without the plugin, or at its own start) or that somebody edited. Only the driver
that holds the publishing lock writes, so that the two pods of a rolling upgrade do not take turns.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from dra.driver.api import ApiAway, ApiConflict, SliceApi
from dra.driver.slice_plan import Kept, Plan, Wanted, kept, plan
from dra.slice_parts import Json

log = logging.getLogger(__name__)

_RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_TURNS = 5
_AT_A_TIME = 4


class Publisher:
    """Publishes what ``build`` says. ``wake`` may be called from any thread.

    ``problem``: why nothing can be published, or "".
    ``standby``: another driver of this node publishes; we follow when it leaves.
    """

    def __init__(
        self,
        api: SliceApi,
        build: Callable[[], Mapping[str, Wanted]],
        *,
        node: str,
        pool: str,
        owner: Callable[[], Mapping[str, Any] | None],
        may_publish: Callable[[], bool] = lambda: True,
        wrote: Callable[[float, int], None] = lambda _seconds, _slices: None,
        failed: Callable[[], None] = lambda: None,
    ) -> None:
        """``build`` and ``owner`` (the reference to the Node) may raise ApiAway: tried again later.
        ``wrote`` hears the seconds from waking to done, and the number of writes; ``failed`` hears each
        attempt that failed.
        """
        self.problem = ""
        self.settled = threading.Event()
        self.standby = False
        self._api = api
        self._build = build
        self._node, self._pool, self._owner = node, pool, owner
        self._may_publish = may_publish
        self._wrote = wrote
        self._failed = failed
        self._have: dict[str, Kept] | None = None
        self._versions: dict[str, str] = {}
        self._floor = 0
        self._writing = False
        self._unjudged: list[tuple[str, str | None]] = []
        self._writers = ThreadPoolExecutor(_AT_A_TIME, "slice writer")  # threads start at the first write
        self._condition = threading.Condition()
        self._woken_at: float | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run_to_end, name="publisher", daemon=True)

    def start(self) -> None:
        """Begin to publish."""
        self.wake()
        self._thread.start()

    def stop(self) -> None:
        """End the thread; the slices stay."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    @property
    def ended(self) -> bool:
        """Whether the thread has ended without being asked to: a defect."""
        return self._thread.ident is not None and not self._thread.is_alive() and not self._stopping

    def wake(self) -> None:
        """Something may have changed."""
        with self._condition:
            if self._woken_at is None:
                self._woken_at = time.monotonic()
            self.settled.clear()
            self._condition.notify_all()

    def observed(self, name: str, resource_version: str | None) -> None:
        """A watch shows a slice of ours; ``resource_version`` None: it was deleted."""
        with self._condition:
            if self._writing:  # it may be our own write, whose answer is still on its way
                self._unjudged.append((name, resource_version))
                return
            expected = self._expected(name, resource_version)
            if not expected:
                self._have = None
        if not expected:
            self.wake()

    def _expected(self, name: str, resource_version: str | None) -> bool:
        known = self._versions.get(name)
        if known is None or self._have is None:
            return resource_version is None or self._have is None
        return resource_version is not None and _number(resource_version) <= _number(known)

    def names(self) -> set[str]:
        """The slices that we believe to be there."""
        with self._condition:
            return set(self._versions)

    def withdraw(self) -> None:
        """Delete every slice of this node and driver. Raises ApiAway. Call after ``stop``."""
        for document in self._api.slices():
            self._api.delete_slice(document["metadata"]["name"])

    def _run_to_end(self) -> None:
        try:
            self._run()
        finally:
            self._writers.shutdown(wait=False)

    def _run(self) -> None:
        attempt = 0
        while True:
            with self._condition:
                while self._woken_at is None and not self._stopping:
                    self._condition.wait()
                if self._stopping:
                    return
                since, self._woken_at = self._woken_at, None
            self.standby = not self._may_publish()
            if self.standby:
                self._again(since, 1.0)
                continue
            try:
                writes = self._publish_alone()
            except ApiAway as problem:
                self._failed()
                self.problem = str(problem)
                log.warning("slices not published: %s", problem)
                self._have = None
                self._again(since, _RETRY_SECONDS[min(attempt, len(_RETRY_SECONDS) - 1)])
                attempt += 1
                continue
            attempt = 0
            if writes and since is not None:
                self._wrote(time.monotonic() - since, writes)
            with self._condition:
                if self._woken_at is None:
                    self.settled.set()

    def _again(self, since: float | None, pause_seconds: float) -> None:
        with self._condition:
            if not self._stopping:
                self._condition.wait(pause_seconds)
            if self._woken_at is None or (since is not None and since < self._woken_at):
                self._woken_at = since

    def _publish_alone(self) -> int:
        with self._condition:
            self._writing = True
        try:
            return self._publish()
        finally:
            with self._condition:
                self._writing = False
                unjudged, self._unjudged = self._unjudged, []
            for name, resource_version in unjudged:
                self.observed(name, resource_version)

    def _publish(self) -> int:
        """Do what is to be done; the number of writes. Raises ApiAway."""
        total = 0
        for _ in range(_TURNS):
            have = self._read() if self._have is None else self._have
            todo = plan(
                self._build(), have, node=self._node, pool=self._pool, owner=self._owner(), floor=self._floor
            )
            if todo.empty:
                self.problem = ""
                return total
            try:
                total += self._write(todo, have)
            except ApiConflict as problem:
                log.info("slices changed under us, read again: %s", problem)
                self._have = None
        return total

    def _read(self) -> dict[str, Kept]:
        found = {d["metadata"]["name"]: kept(d, self._node, self._pool) for d in self._api.slices()}
        self._floor = max([self._floor, *(slice_.generation for slice_ in found.values())])
        with self._condition:
            self._have = found
            self._versions = {name: slice_.resource_version for name, slice_ in found.items()}
        return found

    def _write(self, todo: Plan, have: dict[str, Kept]) -> int:
        writes = 0
        for name in todo.deletes:
            with self._condition:
                self._versions.pop(name, None)
                have.pop(name, None)
            self._api.delete_slice(name)
            writes += 1
        writes += self._replace(todo.replaces, have)
        for body in todo.creates:
            answer = self._api.create_slice(body)
            writes += 1
            self._keep(body, answer, have)
        return writes

    def _replace(self, bodies: Sequence[Json], have: dict[str, Kept]) -> int:
        """Several at a time: a claim may spoil the orders of some, and the API server takes its time over
        each.
        """
        problems: list[ApiAway] = []
        pending = [
            (body, self._writers.submit(self._api.replace_slice, body["metadata"]["name"], body))
            for body in bodies
        ]
        for body, answer in pending:
            try:
                self._keep(body, answer.result(), have)
            except ApiAway as problem:
                problems.append(problem)
        if problems:
            raise problems[0]
        return len(bodies)

    def _keep(self, body: Json, answer: Mapping[str, Any], have: dict[str, Kept]) -> None:
        name = body["metadata"]["name"]
        with self._condition:
            have[name] = kept({**body, "metadata": answer["metadata"]}, self._node, self._pool)
            self._versions[name] = have[name].resource_version
            self._floor = max(self._floor, have[name].generation)


def _number(resource_version: str) -> int:
    """Resource versions of one kind compare as numbers since Kubernetes 1.35 (KEP-5504)."""
    return int(resource_version) if resource_version.isdecimal() else 0
