"""What else the controller asks Prometheus does not hold up the questions of a round."""

from __future__ import annotations

import threading
from pathlib import Path

from autoscaler.compose import Options, build
from metrics.prometheus import PARALLEL_QUERIES
from tests.kubeconfigs import nobody
from tests.loopback_pages import Answering, QuietServer, running
from tests.polling import SOON_SECONDS

NOTHING = b'{"status": "success", "data": {"resultType": "vector", "result": []}}'


def test_a_round_is_answered_while_slowdowns_are_asked_about(tmp_path: Path):
    slow_begun, slow_may_end = threading.Semaphore(0), threading.Event()

    class Handler(Answering):
        def respond(self) -> None:
            if "slow" in self.path:
                slow_begun.release()
                slow_may_end.wait(SOON_SECONDS)
            self.answer(NOTHING)

    many = {f"slow {number}": f"slow_{number}" for number in range(2 * PARALLEL_QUERIES)}
    with running(QuietServer(("127.0.0.1", 0), Handler)) as port:
        parts = build(
            Options(
                f"http://127.0.0.1:{port}", str(nobody(tmp_path)), prometheus_timeout_seconds=2 * SOON_SECONDS
            )
        )
        learning = threading.Thread(target=parts.slowdowns.query_many, args=(many, 0.0))
        learning.start()
        try:
            for _ in range(PARALLEL_QUERIES):
                assert slow_begun.acquire(timeout=SOON_SECONDS)
            answer = parts.prometheus.query_many({"in flight": "up"}, 0.0)["in flight"]
            assert getattr(answer, "cause", None) == "empty"
            assert not slow_may_end.is_set()
        finally:
            slow_may_end.set()
            learning.join(SOON_SECONDS)
            for one in (parts.controller, parts.prometheus, parts.slowdowns, parts.api):
                one.close()
