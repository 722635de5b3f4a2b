"""A model whose every answer takes SECONDS on one of SLOTS, as on a GPU of fixed speed.

Each pod is a Ray cluster of its own: one node, one replica. Ray is kept small: a small object store, no
dashboard, no processors promised to the replica.
"""

# mypy: ignore-errors
# (its imports are in the server's environment only, not in Slicewise's)

import asyncio
import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import ray
from ray import serve

# What a replica takes from the proxy, in multiples of its slots: the proxy looks for a free replica only
# every now and then, and the slots shall not idle meanwhile.
TAKEN_AHEAD = 4
OBJECT_STORE_BYTES = 80 * 2**20


@serve.deployment(
    max_ongoing_requests=TAKEN_AHEAD * int(os.environ["SLOTS"]), ray_actor_options={"num_cpus": 0}
)
class Sleeper:
    """Answers with a constant. Requests above the slots wait inside and, beyond that, in the proxy."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(int(os.environ["SLOTS"]))
        self._seconds = float(os.environ["SECONDS"])

    async def __call__(self, request: object) -> str:
        async with self._slots:
            await asyncio.sleep(self._seconds)
        return "1.0"


class Ready(BaseHTTPRequestHandler):
    """Says that the model is there. Ray's own ``/-/healthz`` says so as soon as the proxy listens, seconds
    before the model does, and requests would wait there.
    """

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


def main() -> None:
    """Serve until SIGTERM."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    ray.init(
        num_cpus=1,
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        log_to_driver=False,
        _node_ip_address=os.environ["POD_IP"],
        _metrics_export_port=int(os.environ["METRICS_PORT"]),
        # Its default of 10 s would show a burst 10 s late.
        _system_config={"metrics_report_interval_ms": 1000, "prestart_worker_first_driver": False},
    )
    serve.start(http_options={"host": "0.0.0.0", "port": int(os.environ["HTTP_PORT"])})
    serve.run(Sleeper.bind())
    ready = ThreadingHTTPServer(("0.0.0.0", int(os.environ["READY_PORT"])), Ready)
    threading.Thread(target=ready.serve_forever, daemon=True).start()
    stop.wait()
    ready.shutdown()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
