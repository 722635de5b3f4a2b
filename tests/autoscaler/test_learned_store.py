"""What was learned, over restarts: read once, written seldom and only by the leader, lost without harm."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from autoscaler.collect import Collector, Workload
from autoscaler.controller import Controller
from autoscaler.learned_store import CONFIG_MAP, KEY, PERIOD_SECONDS, TURN_BYTES, LearnedStore
from autoscaler.pod_index import PodIndex
from autoscaler.selectors import parse_selector
from autoscaler.signals import Signals
from autoscaler.state import State
from autoscaler.targets import ScaleSight, Target
from cluster.api_errors import ApiRefused, ApiUnreachable
from cluster.client import Api
from cluster.policy import AutoscalingPolicy
from cluster.wire import ConfigMap, ObjectReference, Scale, ScaleSpec
from metrics.autoscaler_group import AutoscalerMetrics
from metrics.samples import NoData, Vector
from tests.autoscaler.full_memory import full_memory
from tests.cluster_room.kept_maps import Maps
from tests.polling import until

PATH = f"/api/v1/namespaces/slicewise-system/configmaps/{CONFIG_MAP}"
ONE, OTHER = Target("apps/v1", "Deployment", "n", "a"), Target("apps/v1", "Deployment", "n", "b")


class ApiStandIn:
    """Holds one ConfigMap and notes what is asked of it."""

    def __init__(self, text: str | None = None) -> None:
        self.text = text
        self.calls: list[str] = []
        self.down = False

    def _enter(self, call: str, path: str) -> None:
        if call == "get" and path != PATH:  # whether there are others
            assert self.text is None
            raise ApiRefused(404, "NotFound", "no such ConfigMap", where=path)
        self.calls.append(call)
        if self.down:
            raise ApiUnreachable("the API server is away")
        if self.text is None and call != "post":
            raise ApiRefused(404, "NotFound", "no such ConfigMap", where=path)

    def get(self, path: str, kind: type[ConfigMap]) -> ConfigMap:
        self._enter("get", path)
        return ConfigMap(data={KEY: self.text or ""})

    def patch(self, path: str, body: Mapping[str, Any]) -> None:
        self._enter("patch", path)
        self.text = body["data"][KEY]

    def post(self, path: str, body: Mapping[str, Any]) -> None:
        self._enter("post", path)
        assert body["metadata"]["name"] == CONFIG_MAP
        self.text = body["data"][KEY]

    @property
    def kept(self) -> dict[str, str]:
        assert self.text is not None
        return cast(dict[str, str], json.loads(self.text))


class Scene:
    def __init__(self) -> None:
        self.api, self.now = ApiStandIn(), 1000.0
        self.store = self.restarted()

    def restarted(self) -> LearnedStore:
        return LearnedStore(cast(Api, self.api), "slicewise-system", clock=lambda: self.now)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_what_one_process_keeps_the_next_one_reads(scene: Scene):
    scene.store.begin([])
    assert scene.store.text_of(ONE) == ""
    scene.store.keep([ONE, OTHER], {ONE: "learned", OTHER: ""}.__getitem__)
    assert scene.api.calls == ["get", "patch", "post"]
    after = scene.restarted()
    after.begin([])
    assert (after.text_of(ONE), after.text_of(OTHER)) == ("learned", "")


def test_it_is_written_at_most_once_a_minute_and_only_when_it_changed(scene: Scene):
    scene.api.text = "{}"
    scene.store.begin([])
    for second in range(0, 121, 5):
        scene.now = 1000.0 + second
        scene.store.keep([ONE], lambda _, second=second: f"learned at {second}")  # type: ignore[misc]
    assert scene.api.calls == ["get", "patch", "patch", "patch"]
    for _ in range(50):
        scene.now += 60.0
        scene.store.keep([ONE], lambda _: "learned at 120")
    assert scene.api.calls.count("patch") == 3


def test_nothing_is_written_before_it_was_read(scene: Scene):
    scene.api.text, scene.api.down = json.dumps({f"apps/v1 {ONE}": "old"}), True
    scene.store.begin([])
    scene.api.down = False
    scene.store.keep([ONE], lambda _: "new")
    assert scene.api.calls == ["get"]
    scene.store.begin([])
    assert scene.store.text_of(ONE) == "old"


def test_a_workload_without_news_keeps_its_memory_and_one_without_policy_loses_it(scene: Scene):
    scene.api.text = json.dumps({f"apps/v1 {ONE}": "one", f"apps/v1 {OTHER}": "other"})
    scene.store.begin([])
    scene.store.keep([ONE], lambda _: "")
    assert scene.api.kept == {f"apps/v1 {ONE}": "one"}


@pytest.mark.parametrize("text", ["", "no JSON", "[1]", '{"a": 1}'])
def test_what_cannot_be_read_is_begun_anew(scene: Scene, text: str):
    scene.api.text = text
    scene.store.begin([])
    scene.store.keep([ONE], lambda _: "learned")
    assert scene.api.kept == {f"apps/v1 {ONE}": "learned"}


def test_a_refused_write_is_said_once_and_tried_again_a_minute_later(
    scene: Scene, caplog: pytest.LogCaptureFixture
):
    scene.store.begin([])
    scene.api.down = True
    for _ in range(25):
        scene.store.keep([ONE], lambda _: "learned")
        scene.now += 5.0
    assert scene.api.calls.count("patch") == 3
    assert caplog.text.count("cannot write ConfigMap slicewise-system/slicewise-autoscaler-memory") == 1
    scene.api.down, scene.now = False, scene.now + 60.0
    scene.store.keep([ONE], lambda _: "learned")
    assert scene.api.kept == {f"apps/v1 {ONE}": "learned"}


class OneScale:
    """A workload of four replicas that takes every write."""

    def read(self, target: Target) -> ScaleSight:
        return ScaleSight(target, "/", 4, parse_selector("app=x"), ObjectReference(name=target.name))

    def write(self, sight: ScaleSight, replicas: int) -> Scale:
        return Scale(spec=ScaleSpec(replicas))


class LateRequests(Collector):
    """A fifth of the requests is late, whatever is done."""

    def __init__(self) -> None:
        super().__init__(Silence(), PodIndex())

    def ask(self, workloads: Any, at: float, enter: Any = None) -> Any:
        def signals(workload: Workload) -> Signals:
            return Signals(4, 4, in_flight=40.0, waiting=0.0, request_rate=5.0, slo_missed=0.2)

        return signals


class Silence:
    def query_many(self, queries: Mapping[str, str], at: float) -> dict[str, Vector | NoData]:
        return {}


class Process:
    """A controller on the scene's API server; ``leader`` may be taken away."""

    def __init__(self, scene: Scene, **options: Any) -> None:
        self.scene, self.leader = scene, True
        policy = AutoscalingPolicy.model_validate(
            {"target": {"name": "a"}, "maxReplicas": 9, "slo": {"latencySeconds": 1.0}}
        )

        class Mute:
            def record(self, *_: Any, **__: Any) -> None:
                return

        self.controller = Controller(
            lambda: {("n", "a"): policy},
            OneScale(),
            LateRequests(),
            Mute(),
            AutoscalerMetrics(CollectorRegistry()),
            is_leader=lambda: self.leader,
            clock=lambda: scene.now,
            store=scene.restarted(),
            **options,
        )

    def rounds(self, number: int) -> State:
        for _ in range(number):
            self.scene.now += 5.0
            self.controller.round()
        return self.controller.views[0].decision.state


def deviations(state: State) -> float:
    assert state.learned is not None
    return state.learned.headroom.deviations


def test_a_restarted_controller_begins_with_what_was_learned(scene: Scene):
    first = Process(scene)
    safe_start = deviations(first.rounds(1))
    learned = deviations(first.rounds(400))
    assert learned > safe_start + 1.0
    first.controller.close()
    second = Process(scene)
    assert deviations(second.rounds(1)) == pytest.approx(learned, abs=0.05)  # the last minute may be missing
    second.controller.close()


def test_a_memory_that_can_be_read_only_later_is_taken_up_and_not_written_over(scene: Scene):
    first = Process(scene)
    learned = deviations(first.rounds(400))
    first.controller.close()
    second = Process(scene)
    scene.api.down = True
    assert deviations(second.rounds(1)) < learned - 1.0
    scene.api.down = False
    assert deviations(second.rounds(1)) == pytest.approx(learned, abs=0.05)
    second.controller.close()


def test_a_thousand_memories_fit_into_a_config_map(scene: Scene):
    scene.store.begin([])
    long = [Target("apps/v1", "Deployment", "n" * 30, f"{'model-' * 5}{number}") for number in range(1000)]
    scene.store.keep(long, lambda _: full_memory())
    assert len(scene.api.kept) == 1000
    assert len(scene.api.text or "") < 2**20


def test_only_the_leader_reads_and_writes_and_the_next_lead_reads_again(scene: Scene):
    process = Process(scene)
    process.leader = False
    process.controller.round()
    assert scene.api.calls == []
    process.leader = True
    process.rounds(2)
    assert scene.api.calls == ["get", "patch", "post"]
    process.leader = False
    process.controller.round()
    process.leader = True
    process.rounds(1)
    assert scene.api.calls.count("get") == 2
    process.controller.close()


def test_a_dry_run_reads_and_writes_nothing(scene: Scene):
    process = Process(scene, dry_run=True)
    process.rounds(30)
    assert scene.api.calls == ["get"]
    process.controller.close()


def test_what_cannot_be_read_of_many_is_taken_up_later_and_by_its_workloads_alone(scene: Scene):
    api, every = Maps(), [Target("apps/v1", "Deployment", "n", f"{'model-' * 8}{n}") for n in range(1500)]

    def store() -> LearnedStore:
        return LearnedStore(api.api, "slicewise-system", clock=lambda: scene.now)

    first, learned = store(), full_memory()
    first.begin([])
    first.keep(every, lambda _: learned)
    second, api.refused = store(), {f"{CONFIG_MAP}-1"}
    told = second.begin(every)
    unread = [one for one in every if one not in told]
    assert 0 < len(unread) < len(every)
    assert {second.text_of(one) for one in told} == {learned}
    assert {second.text_of(one) for one in unread} == {""}
    second.keep(every, lambda _: "begun anew")
    assert second.begin(every) == []
    scene.now += PERIOD_SECONDS
    assert second.begin(every) == []
    api.refused, scene.now = set(), scene.now + PERIOD_SECONDS
    assert second.begin(every) == unread
    assert {second.text_of(one) for one in unread} == {learned}
    assert second.begin(every) == []


def test_of_many_workloads_the_texts_are_made_by_turns(scene: Scene):
    api, every = Maps(), [Target("apps/v1", "Deployment", "n", f"{'model-' * 8}{n}") for n in range(4000)]
    store, learned = LearnedStore(api.api, "slicewise-system", clock=lambda: scene.now), full_memory()
    store.begin(every)
    store.keep(every, lambda _: learned)
    made: list[int] = []
    for turn in range(4):
        scene.now += PERIOD_SECONDS
        texts: dict[Target, str] = {}
        api.written.clear()
        store.keep(every, lambda one, turn=turn, texts=texts: texts.setdefault(one, f"{turn}{learned}"))  # type: ignore[misc]
        assert 0 < len(texts) < len(every)
        assert TURN_BYTES <= sum(len(api.data[name][KEY]) for name in api.written) < 2 * TURN_BYTES
        made.append(len(texts))
    assert sum(made) == 2 * len(every)
    assert sum(len(json.loads(data[KEY])) for data in api.data.values()) == len(every)


class Halted(ThreadPoolExecutor):
    """Begins nothing before it is let."""

    def __init__(self) -> None:
        super().__init__(1)
        self.let = threading.Event()
        self.submit(self.let.wait)


@pytest.fixture
def halted() -> Iterator[Halted]:
    executor = Halted()
    yield executor
    executor.let.set()
    executor.shutdown()


def beside(scene: Scene, executor: Halted, **options: Any) -> LearnedStore:
    return LearnedStore(
        cast(Api, scene.api), "slicewise-system", executor=executor, clock=lambda: scene.now, **options
    )


def test_a_round_neither_makes_the_texts_nor_waits_for_the_write(scene: Scene, halted: Halted):
    store, made = beside(scene, halted), []

    def text_of(_: Target) -> str:
        made.append(threading.current_thread())
        return "learned"

    store.begin([])
    store.keep([ONE], text_of)
    scene.now += 3600.0
    assert not store.due, "one write at a time"
    store.keep([ONE], text_of)
    assert made == []
    halted.let.set()
    store.close()
    assert scene.api.kept == {f"apps/v1 {ONE}": "learned"}
    assert len(made) == 1
    assert made[0] is not threading.current_thread()
    assert store.due


def test_what_an_earlier_lead_had_to_write_is_not_written_over_what_another_process_kept(
    scene: Scene, halted: Halted
):
    store = beside(scene, halted)
    store.begin([])
    store.keep([ONE], lambda _: "old")
    store.forget()
    scene.api.text = json.dumps({f"apps/v1 {ONE}": "theirs"})
    assert store.begin([ONE]) == [ONE]
    halted.let.set()
    store.close()
    assert (scene.api.kept, store.text_of(ONE)) == ({f"apps/v1 {ONE}": "theirs"}, "theirs")


def test_who_lost_the_lead_since_writes_nothing(scene: Scene, halted: Halted):
    leads = [True]
    store = beside(scene, halted, may_write=lambda: leads[0])
    store.begin([])
    store.keep([ONE], lambda _: "learned")
    leads[0] = False
    halted.let.set()
    store.close()
    assert scene.api.calls == ["get"]


def test_texts_that_cannot_be_made_are_told_and_tried_again(
    scene: Scene, halted: Halted, caplog: pytest.LogCaptureFixture
):
    store = beside(scene, halted)
    store.begin([])

    def broken(_: Target) -> str:
        raise ZeroDivisionError

    store.keep([ONE], broken)
    halted.let.set()
    until(lambda: "what was learned is not kept" in caplog.text, 10.0, "the log")
    scene.now += 60.0
    until(lambda: store.due, 10.0, "the next turn")
    store.keep([ONE], lambda _: "learned")
    store.close()
    assert scene.api.kept == {f"apps/v1 {ONE}": "learned"}
