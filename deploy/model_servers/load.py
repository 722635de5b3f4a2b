"""An open loop of requests: they are sent when they are due, whether or not earlier ones were answered.

Arrivals are Poisson at a rate that may be changed while it runs, from a seed. Latency counts from the moment
a request was due, so a generator that falls behind does not hide it. Each request goes to the pod with the
fewest unanswered requests among those that serve now, on a connection of its own, as a proxy that balances
by least requests would do it. A request that no pod can take, or that fails, is kept as failed.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from deploy.model_servers.servers import ModelServer

TIMEOUT_SECONDS = 60.0
UNANSWERED = "not answered yet"


@dataclass(frozen=True, slots=True)
class Request:
    """One request: when it was due and how long it took from then, seconds (so far, where it is UNANSWERED);
    ``problem`` is "" when it was answered.
    """

    due_seconds: float
    took_seconds: float
    pod: str
    problem: str = ""


class OpenLoop:
    """Sends requests from a thread of its own. ``pods`` names those that serve now, with their addresses."""

    def __init__(
        self,
        server: ModelServer,
        pods: Callable[[], Sequence[tuple[str, str]]],
        *,
        rate: float,
        seed: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``rate``: requests a second."""
        self._server, self._pods, self._clock = server, pods, clock
        self._rate = rate
        self._random = Random(seed)
        self._outstanding: dict[str, int] = {}
        self._lock = threading.Lock()
        self._ended: list[Request] = []
        self._open: dict[int, float] = {}
        self._sent = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._send, name="open-loop", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def set_rate(self, rate: float) -> None:
        """Requests a second from now on."""
        self._rate = rate

    def stop(self) -> None:
        """Send no more, wait for what is unanswered. May be called twice."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(TIMEOUT_SECONDS + 5.0)

    def requests(self) -> tuple[Request, ...]:
        """Every request that was due so far: answered, failed or still open."""
        with self._lock:
            now = self._clock()
            waiting = [Request(due, now - due, "", UNANSWERED) for due in self._open.values()]
            return (*self._ended, *waiting)

    def _send(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        running: set[asyncio.Task[None]] = set()
        due = self._clock()
        while not self._stopping.is_set():
            due += self._random.expovariate(self._rate)
            await asyncio.sleep(max(0.0, due - self._clock()))
            task = asyncio.create_task(self._one(due))
            running.add(task)
            task.add_done_callback(running.discard)
        if running:
            await asyncio.wait(running)

    async def _one(self, due: float) -> None:
        number = self._sent = self._sent + 1
        with self._lock:
            self._open[number] = due
        name, problem = await self._answered()
        with self._lock:
            del self._open[number]
            self._ended.append(Request(due, self._clock() - due, name, problem))

    async def _answered(self) -> tuple[str, str]:
        """Have one pod answer one request: its name, and what went wrong or ""."""
        pods = self._pods()
        if not pods:
            return "", "no pod serves"
        name, address = min(pods, key=lambda pod: self._outstanding.get(pod[0], 0))
        self._outstanding[name] = self._outstanding.get(name, 0) + 1
        problem = ""
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                status = await _ask(self._server, address)
            if status != 200:
                problem = f"status {status}"
        except TimeoutError:
            problem = f"not answered in {TIMEOUT_SECONDS:.0f} s"
        except (OSError, ValueError) as error:
            problem = f"{type(error).__name__}: {error}"
        finally:
            self._outstanding[name] -= 1
        return name, problem


async def _ask(server: ModelServer, address: str) -> int:
    """One request of HTTP/1.1 with a connection that is closed after it; the status. Raises OSError,
    ValueError.
    """
    reader, writer = await asyncio.open_connection(address, server.http_port)
    try:
        head = (
            f"{server.method} {server.path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(server.body)}\r\n\r\n"
        )
        writer.write(head.encode() + server.body)
        answer = await reader.read(-1)
    finally:
        writer.close()
    line = answer.partition(b"\r\n")[0].split()
    if len(line) < 2 or not line[1].isdigit():
        raise ValueError(f"no HTTP answer but {answer[:60]!r}")
    return int(line[1])
