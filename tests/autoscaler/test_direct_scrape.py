"""Asking the pods themselves: real HTTP servers on loopback, each a pod."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from autoscaler.pods import PodSight
from autoscaler.scrape import LONGEST_HOLD_SECONDS, PROBED_PODS, DirectScrape, Followed, Outcome
from autoscaler.scrape_address import MetricsDoor
from autoscaler.scrape_sample import sampled
from autoscaler.targets import Target
from metrics.servers import PRESETS, VLLM
from tests.loopback_pages import Answering, served
from tests.polling import pause, throughout, until

TARGET = Target("apps/v1", "Deployment", "n", "llm")


@dataclass
class PodServer:
    """One pod: what it answers, and how often it was asked."""

    port: int = 0
    running: float = 3.0
    answer: Callable[[Any], None] | None = None
    asked: list[str] = field(default_factory=list)

    def page(self) -> bytes:
        text = f'vllm:num_requests_running{{engine="0"}} {self.running}\nvllm:num_requests_waiting 1\n'
        return text.encode()


@contextmanager
def pod_server(**options: Any) -> Iterator[PodServer]:
    pod = PodServer(**options)

    class Handler(Answering):
        def respond(self) -> None:
            pod.asked.append(self.path)
            if pod.answer is not None:
                pod.answer(self)
            else:
                self.answer(pod.page())

    with served(Handler) as port:
        pod.port = port
        yield pod


def sight(name: str, port: int | None, *, ready: bool = True, **door: Any) -> PodSight:
    where = None if port is None else MetricsDoor("127.0.0.1", port, **door)
    return PodSight(f"uid-{name}", "n", name, {}, leaving=False, ready=ready, door=where)


@dataclass
class Scrape:
    scrape: DirectScrape
    outcomes: list[Outcome]

    def follow(self, *pods: PodSight, server: str | None = "vllm", every: float = 0.05) -> None:
        preset = None if server is None else PRESETS[server]
        self.scrape.follow({TARGET: Followed(pods, preset, every)})

    def loads(self) -> dict[str, float]:
        return {name: page.in_flight for name, page in self.scrape.pages(TARGET).fresh.items()}


@pytest.fixture
def started() -> Iterator[Callable[..., Scrape]]:
    with ExitStack() as stack:

        def start(**options: Any) -> Scrape:
            outcomes: list[Outcome] = []
            scrape = DirectScrape(
                **{"timeout_seconds": 0.5, "workers": 4, **options, "observed": outcomes.append}
            )
            scrape.start()
            stack.callback(scrape.stop)
            return Scrape(scrape, outcomes)

        yield start


def test_new_loads_are_seen_within_a_turn(started):
    scrape = started()
    with pod_server() as one, pod_server(running=8.0) as two:
        scrape.follow(sight("a", one.port), sight("b", two.port))
        until(lambda: scrape.loads() == {"a": 4.0, "b": 9.0}, 5.0, "both pods")
        one.running = 70.0
        looks = len(one.asked)
        until(lambda: scrape.loads().get("a") == 71.0, 2.0, "the burst", every_seconds=0.005)
        until(lambda: len(one.asked) >= looks + 2, 2.0, "it goes on")


def test_a_pod_is_asked_at_its_pace(started):
    scrape = started()
    with pod_server() as one:
        scrape.follow(sight("a", one.port), every=0.2)
        until(lambda: len(one.asked) >= 5, 5.0, "five looks")
        began, asked = time.monotonic(), len(one.asked)
        until(lambda: len(one.asked) >= asked + 3, 5.0, "three more")
        assert time.monotonic() - began > 0.35


def test_while_it_is_held_no_pod_is_asked_and_then_all_again(started):
    scrape = started()
    with pod_server() as one:
        scrape.follow(sight("a", one.port))
        until(scrape.loads, 5.0, "a first look")
        for _ in range(8):
            scrape.scrape.hold()  # anew each time: nobody is held for long
            pause(0.05)  # what was begun ends
        asked = len(one.asked)
        for _ in range(6):
            scrape.scrape.hold()
            pause(0.05)
            assert len(one.asked) == asked
        scrape.scrape.release()
        until(lambda: len(one.asked) > asked + 2, 0.5, "it goes on at once")


def test_a_hold_that_nobody_ends_is_over_soon(started):
    scrape = started()
    with pod_server() as one:
        scrape.follow(sight("a", one.port))
        until(scrape.loads, 5.0, "a first look")
        scrape.scrape.hold()
        asked = len(one.asked)
        until(lambda: len(one.asked) > asked + 3, LONGEST_HOLD_SECONDS + 2.0, "looks after the hold")


def test_a_pod_that_goes_is_asked_no_more_and_its_load_is_gone(started):
    scrape = started()
    with pod_server() as one, pod_server() as two:
        scrape.follow(sight("a", one.port), sight("b", two.port))
        until(lambda: len(scrape.loads()) == 2, 5.0, "both pods")
        scrape.follow(sight("b", two.port))
        assert set(scrape.loads()) == {"b"}
        asked = len(two.asked)
        until(lambda: len(two.asked) > asked + 3, 5.0, "the other goes on")
        before = len(one.asked)
        until(lambda: len(two.asked) > asked + 8, 5.0, "the other goes on")
        assert len(one.asked) == before
        scrape.scrape.follow({})
        assert scrape.loads() == {}


def test_a_load_that_is_not_renewed_is_soon_no_load(started):
    ahead = [0.0]
    scrape = started(clock=lambda: ahead[0] + time.monotonic())

    def hang_up(handler: Any) -> None:
        handler.close_connection = True

    with pod_server() as one:
        scrape.follow(sight("a", one.port))
        until(scrape.loads, 5.0, "a first look")
        one.answer = hang_up
        until(lambda: "unreachable" in scrape.outcomes, 5.0, "a look without an answer")
        assert scrape.loads() == {"a": 4.0}
        ahead[0] = 6.0
        assert scrape.loads() == {}


def test_the_server_is_recognised_by_the_page_when_nobody_knows_it(started):
    scrape = started()
    with pod_server() as one:
        scrape.follow(sight("a", one.port), server=None)
        until(lambda: scrape.loads() == {"a": 4.0}, 5.0, "a look")
        assert scrape.scrape.pages(TARGET).server is VLLM


def test_the_next_port_is_tried_where_the_first_does_not_answer(started):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        nobody = unused.getsockname()[1]
    scrape = started()
    with pod_server() as one:
        door = MetricsDoor("127.0.0.1", None, "/stats", one.port)
        assert door.urls(PRESETS["mlserver"]) == (
            "http://127.0.0.1:8082/stats",
            f"http://127.0.0.1:{one.port}/stats",
        )
        pod = PodSight("u", "n", "a", {}, leaving=False, ready=True, door=door)
        scrape.scrape.follow({TARGET: Followed((pod,), replace(VLLM, port=nobody), 0.05)})
        until(lambda: scrape.loads() == {"a": 4.0}, 5.0, "a look at the second port")
        assert one.asked[0] == "/stats"


def test_pods_that_cannot_be_reached_fail_quietly_and_less_and_less_often(started, caplog):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        nobody = unused.getsockname()[1]
    scrape = started()
    scrape.follow(*(sight(f"p{number}", nobody) for number in range(20)), every=0.05)
    until(lambda: len(scrape.outcomes) >= 8, 5.0, "some tries")
    assert set(scrape.outcomes) == {"unreachable"}
    assert len(scrape.scrape.pages(TARGET).asked) == PROBED_PODS  # not all twenty
    tried = len(scrape.outcomes)
    # A turn is 0.05 s: two pods would be asked sixteen times in 0.4 s, but their pauses are that long by now.
    throughout(lambda: len(scrape.outcomes) - tried <= 4, 0.4, "few tries")
    assert scrape.loads() == {}
    assert caplog.text == ""


def test_one_slow_pod_does_not_hold_up_the_others(started):
    scrape = started(workers=2)
    released = threading.Event()

    def hang(handler: Any) -> None:
        released.wait(3.0)

    with pod_server() as one, pod_server(answer=hang) as slow:
        scrape.follow(sight("a", one.port), sight("slow", slow.port))
        until(lambda: len(one.asked) >= 5, 5.0, "looks at the quick one")
        until(lambda: "timeout" in scrape.outcomes, 5.0, "a look that took too long")
        released.set()
    assert set(scrape.loads()) <= {"a"}


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (404, b"", "refused"),
        (302, b"", "refused"),
        (200, b"up 1\n", "no_gauge"),
        (200, b"x" * 9_000_000, "too_large"),
    ],
)
def test_what_is_no_page_is_no_load(started, status, body, outcome):
    def answer(handler: Any) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.send_header("Location", "http://127.0.0.1:1/")
        handler.end_headers()
        handler.wfile.write(body)

    scrape = started(timeout_seconds=2.0)
    with pod_server(answer=answer) as one:
        scrape.follow(sight("a", one.port))
        until(lambda: outcome in scrape.outcomes, 5.0, outcome)
        assert scrape.loads() == {}


def test_no_more_pods_a_second_than_allowed(started):
    scrape = started(pods_a_second=50.0)
    with pod_server() as one:
        scrape.follow(*(sight(f"p{number}", one.port) for number in range(40)), every=0.01)
        until(lambda: len(one.asked) >= 10, 5.0, "looks")
        began, asked = time.monotonic(), len(one.asked)
        until(lambda: len(one.asked) >= asked + 80, 5.0, "eighty more")
        # Eighty turns are 1.6 s apart; 0.5 s of them may be caught up with, and some were in hand.
        assert time.monotonic() - began > 0.9


def test_a_large_workload_is_sampled_always_the_same_pods():
    pods = [sight(f"p{number}", 80) for number in range(300)]
    chosen = sampled(pods)
    assert len(chosen) == 64
    assert sampled(list(reversed(pods))) == tuple(reversed(chosen))
    without = [pod for pod in pods if pod is not chosen[0]]
    assert len({p.uid for p in sampled(without)} - {p.uid for p in chosen}) == 1
    assert sampled(pods[:64]) == tuple(pods[:64])


def test_the_sample_is_what_is_asked(started):
    scrape = started(most_pods=5)
    with pod_server() as one:
        pods = [sight(f"p{number}", one.port) for number in range(12)]
        scrape.follow(*pods)
        until(lambda: len(scrape.loads()) == 5, 5.0, "the sample")
        assert scrape.scrape.pages(TARGET).asked == {pod.name for pod in sampled(pods, 5)}


def test_pods_without_a_door_are_not_asked(started):
    scrape = started()
    with pod_server() as one:
        scrape.follow(sight("a", one.port), sight("b", None))
        until(lambda: scrape.loads() == {"a": 4.0}, 5.0, "a look")
        assert scrape.scrape.pages(TARGET).asked == {"a"}


def test_a_burst_is_reported_once_until_it_was_read(started):
    bursts: list[float] = []
    scrape = started(burst=lambda: bursts.append(time.monotonic()))
    with pod_server() as one:
        scrape.scrape.follow({TARGET: Followed((sight("a", one.port),), PRESETS["vllm"], 0.05, 16.0)})
        until(lambda: scrape.loads() == {"a": 4.0}, 5.0, "the pod")
        throughout(lambda: not bursts, 0.2, "nothing has happened")
        one.running = 10.0
        until(lambda: scrape.loads().get("a") == 11.0, 5.0, "a growth that the pod has room for")
        one.running = 90.0
        until(lambda: bursts, 5.0, "the burst")
        asked = len(one.asked)
        until(lambda: len(one.asked) >= asked + 3, 5.0, "more looks at the same")
        assert len(bursts) == 1
        assert scrape.loads().get("a") == 91.0  # as a round reads it
        one.running = 300.0
        until(lambda: len(bursts) == 2, 5.0, "a burst on top of it")
