"""Ask the pods themselves, every second or two: requests in flight before Prometheus has scraped them.

Its own threads ask, a bounded number of pods at once and a second; the control round only hands over which
pods there are (``follow``) and takes the newest values with their age (``pages``), and never waits. A pod
that does not answer is asked less and less often, and at the next port it may mean; a workload of which no
pod has ever answered (a network policy, a mesh that wants TLS) is only tried at two of its pods. Everything
that fails here fails quietly: Prometheus tells the same, later. Failures are counted by kind.

Answers are read up to a size and within a time; redirects are not followed. What is read off a page, and for
which servers, is in ``metrics.servers.page``; which pods, in ``scrape_sample``.
"""

from __future__ import annotations

import heapq
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

import urllib3

from autoscaler.pace import is_burst
from autoscaler.pods import PodSight
from autoscaler.scrape_sample import MOST_PODS, sampled
from autoscaler.targets import Target
from metrics.servers import ServerPreset
from metrics.servers.page import PageLoad, load_on_page, readable, recognise

log = logging.getLogger(__name__)

WORKERS: Final = 16
PODS_A_SECOND: Final = 200.0
TIMEOUT_SECONDS: Final = 1.0
MAX_PAGE_BYTES: Final = 8 * 2**20
LONGEST_PAUSE_SECONDS: Final = 300.0
LONGEST_HOLD_SECONDS: Final = 1.0
PROBED_PODS: Final = 2
_CHUNK: Final = 64 * 2**10
_KEPT_CONNECTIONS: Final = 256

Outcome: TypeAlias = Literal["read", "no_gauge", "refused", "timeout", "unreachable", "too_large"]


@dataclass(frozen=True, slots=True)
class Followed:
    """A workload to ask: its pods, its server (None: whichever the pages show), how often, and what a replica
    serves at a time where the policy says so.
    """

    pods: tuple[PodSight, ...]
    preset: ServerPreset | None
    every_seconds: float
    per_replica: float | None = None


@dataclass(frozen=True, slots=True)
class Pages:
    """What the pods of a workload say: ``asked`` by name, the fresh pages by name, and the server that the
    pages show (None when none was recognised).
    """

    asked: frozenset[str]
    fresh: Mapping[str, PageLoad]
    server: ServerPreset | None


NOT_SCRAPED: Final = Pages(frozenset(), {}, None)


@dataclass(slots=True)
class _Pod:
    """One pod that is asked. ``turn`` numbers its entry in the queue; an older entry is void."""

    target: Target
    sight: PodSight
    turn: int = 0
    failures: int = 0
    page: PageLoad | None = None
    read_at: float = 0.0


@dataclass(slots=True)
class _Workload:
    """One workload that is asked. ``pods`` is replaced, never changed: it is read without the lock. ``told``:
    requests in flight as a round has last read them, infinite until one has and where a burst since then was
    already reported.
    """

    followed: Followed
    pods: dict[str, _Pod] = field(default_factory=dict)
    reached: bool = False
    server: ServerPreset | None = None
    told: float = math.inf

    def fresh(self, now: float) -> dict[str, PageLoad]:
        """The pages that are younger than a few turns, by pod name."""
        oldest = now - max(3.0 * self.followed.every_seconds, 5.0)
        pods = self.pods.values()
        return {p.sight.name: p.page for p in pods if p.page is not None and p.read_at >= oldest}


class DirectScrape:
    """Asks while it runs. ``start`` once; ``stop`` ends the threads. Safe to use from several threads."""

    def __init__(
        self,
        *,
        workers: int = WORKERS,
        pods_a_second: float = PODS_A_SECOND,
        timeout_seconds: float = TIMEOUT_SECONDS,
        most_pods: int = MOST_PODS,
        observed: Callable[[Outcome], None] = lambda outcome: None,
        burst: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``burst`` is called, from any of the threads, when the load of a workload has left what was last
        read of it (``pace.is_burst``): once until it is read again.
        """
        self._timeout, self._most_pods, self._pause = timeout_seconds, most_pods, 1.0 / pods_a_second
        self._observed, self._burst, self._clock = observed, burst, clock
        # One thread waits until the next pod's turn, the others until they are wanted: if all waited for it,
        # each turn would wake them all.
        self._lock = threading.Lock()
        self._turn_changed, self._wanted = threading.Condition(self._lock), threading.Condition(self._lock)
        self._watched = False
        self._workloads: dict[Target, _Workload] = {}
        self._queue: list[tuple[float, int, _Pod]] = []
        self._turns = 0
        self._next_start, self._held_until = 0.0, float("-inf")
        self._stopping = False
        self._http = urllib3.PoolManager(num_pools=_KEPT_CONNECTIONS, maxsize=workers)
        self._threads = [
            threading.Thread(target=self._work, name=f"scrape-{number}", daemon=True)
            for number in range(workers)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the threads and wait for them. Safe to call twice and before ``start``."""
        with self._lock:
            self._stopping = True
            self._turn_changed.notify_all()
            self._wanted.notify_all()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(3.0 * self._timeout)
        self._http.clear()

    def follow(self, wanted: Mapping[Target, Followed]) -> None:
        """Ask these workloads from now on, and no others."""
        with self._lock:
            for target in self._workloads.keys() - wanted.keys():
                for pod in self._workloads.pop(target).pods.values():
                    pod.turn = -1
            for target, followed in wanted.items():
                workload = self._workloads.get(target)
                if workload is None:
                    workload = self._workloads[target] = _Workload(followed)
                elif workload.followed == followed and len(workload.pods) == self._number(workload):
                    continue
                workload.followed = followed
                self._choose(target, workload)
            self._turn_changed.notify()

    def hold(self) -> None:
        """Ask no more pods until ``release``, ``LONGEST_HOLD_SECONDS`` at most: a round wants the interpreter
        for itself. What was left undone is made up for.
        """
        with self._lock:
            self._held_until = self._clock() + LONGEST_HOLD_SECONDS

    def release(self) -> None:
        """Ask again."""
        with self._lock:
            self._held_until = float("-inf")
            self._turn_changed.notify()

    def pages(self, target: Target) -> Pages:
        """The newest pages of a workload, those that are younger than a few turns."""
        # Without the lock: a round asks for every workload, and would wait for the asking threads each time.
        workload = self._workloads.get(target)
        if workload is None:
            return NOT_SCRAPED
        fresh = workload.fresh(self._clock())
        workload.told = sum(page.in_flight for page in fresh.values())
        return Pages(frozenset(p.sight.name for p in workload.pods.values()), fresh, workload.server)

    def _number(self, workload: _Workload) -> int:
        most = self._most_pods if workload.reached else PROBED_PODS
        return min(most, sum(1 for pod in workload.followed.pods if pod.door is not None))

    def _choose(self, target: Target, workload: _Workload) -> None:
        """Begin with pods that are new or changed, end with those that are gone. Called under the lock."""
        asked = [pod for pod in workload.followed.pods if pod.door is not None]
        if not workload.reached:  # those that serve answer, those that start do not
            asked.sort(key=lambda pod: not pod.ready)
            chosen: Iterable[PodSight] = asked[:PROBED_PODS]
        else:
            chosen = sampled(asked, self._most_pods)
        before, pods = dict(workload.pods), dict[str, _Pod]()
        for sight in chosen:
            pod = before.pop(sight.uid, None)
            if pod is None or pod.sight.door != sight.door or pod.sight.ready != sight.ready:
                if pod is not None:
                    pod.turn = -1
                pod = _Pod(target, sight)
                self._enqueue(pod, self._clock())
            pod.sight = sight
            pods[sight.uid] = pod
        for gone in before.values():
            gone.turn = -1
        workload.pods = pods

    def _enqueue(self, pod: _Pod, at: float) -> None:
        self._turns += 1
        pod.turn = self._turns
        heapq.heappush(self._queue, (at, pod.turn, pod))

    # --- in the threads -------------------------------------------------------------------------------

    def _work(self) -> None:
        while (pod := self._next()) is not None:
            try:
                self._ask(pod)
            except Exception:
                # A thread that died would make all readings old; the pod is asked again in a while.
                log.exception("asking pod %s/%s failed", pod.sight.namespace, pod.sight.name)
                self._done(pod, None, None)

    def _next(self) -> _Pod | None:
        """Wait for a pod whose turn it is, no faster than allowed; None at the end."""
        with self._lock:
            while not self._stopping:
                while self._queue and self._queue[0][1] != self._queue[0][2].turn:
                    heapq.heappop(self._queue)
                now = self._clock()
                due = (
                    max(self._queue[0][0], self._next_start, self._held_until) if self._queue else now + 60.0
                )
                if due <= now:
                    self._next_start = max(now - self._timeout, self._next_start) + self._pause
                    pod = heapq.heappop(self._queue)[2]
                    if not self._watched:
                        self._wanted.notify()  # another watches while this one asks
                    return pod
                if self._watched:
                    self._wanted.wait()
                    continue
                self._watched = True
                try:
                    self._turn_changed.wait(due - now)
                finally:
                    self._watched = False
            return None

    def _ask(self, pod: _Pod) -> None:
        with self._lock:
            workload = self._workloads.get(pod.target)
            preset = None if workload is None else workload.followed.preset or workload.server
        door = pod.sight.door
        urls = () if door is None else door.urls(preset)
        if not urls or (preset is not None and not readable(preset)):
            self._done(pod, None, preset)
            return
        answer = self._get(urls[pod.failures % len(urls)])
        if isinstance(answer, bytes):
            preset = preset or recognise(answer)
            load = None if preset is None else load_on_page(preset, answer)
            found = load if isinstance(load, PageLoad) else None
            self._observed("no_gauge" if found is None else "read")
            self._done(pod, found, preset)
        else:
            self._observed(answer)
            self._done(pod, None, None)

    def _get(self, url: str) -> bytes | Outcome:
        deadline = time.monotonic() + self._timeout
        timeout = urllib3.Timeout(total=self._timeout)
        accept = {"Accept": "text/plain;version=0.0.4", "User-Agent": "slicewise-controller"}
        try:
            response = self._http.request(
                "GET",
                url,
                headers=accept,
                timeout=timeout,
                retries=False,
                redirect=False,
                preload_content=False,
            )
            try:
                if response.status != 200:
                    return "refused"
                page = bytearray()
                for chunk in response.stream(_CHUNK):
                    page += chunk
                    if len(page) > MAX_PAGE_BYTES:
                        response.close()
                        return "too_large"
                    if time.monotonic() > deadline:
                        response.close()
                        return "timeout"
                return bytes(page)
            finally:
                response.release_conn()
        except urllib3.exceptions.NewConnectionError:  # a kind of timeout to urllib3
            return "unreachable"
        except urllib3.exceptions.TimeoutError:
            return "timeout"
        except (urllib3.exceptions.HTTPError, OSError, ValueError):
            return "unreachable"

    def _done(self, pod: _Pod, page: PageLoad | None, preset: ServerPreset | None) -> None:
        """Keep what was read, and set the pod's next turn."""
        with self._lock:
            workload = self._workloads.get(pod.target)
            if workload is None or workload.pods.get(pod.sight.uid) is not pod:
                return
            every = workload.followed.every_seconds
            if page is None:
                pod.failures += 1
                pause = min(LONGEST_PAUSE_SECONDS, every * 2.0 ** min(pod.failures, 16))
            else:
                pod.failures, pod.page, pod.read_at, pause = 0, page, self._clock(), every
                workload.server = preset
                if not workload.reached:
                    workload.reached = True
                    self._choose(pod.target, workload)
                self._watch(workload)
            self._enqueue(pod, self._clock() + pause)
            if self._queue[0][2] is pod:  # it comes before the one that is waited for
                self._turn_changed.notify()

    def _watch(self, workload: _Workload) -> None:
        """Report a burst. Called under the lock."""
        loads = workload.fresh(self._clock()).values()
        share = workload.followed.per_replica
        in_flight = sum(page.in_flight for page in loads)
        if is_burst(in_flight, workload.told, None if share is None else share * len(loads)):
            workload.told = math.inf
            self._burst()
