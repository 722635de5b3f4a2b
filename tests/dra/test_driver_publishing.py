"""Slices on the way from what is to what should be: generations, single writes, conflicts, deletions."""

from __future__ import annotations

import copy
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dra.driver.api import ApiAway, ApiConflict
from dra.driver.devices import Circumstances, Features
from dra.driver.hardware import assign_numbers, hardware
from dra.driver.publisher import Publisher
from dra.driver.sharing import Sharing
from dra.driver.slice_plan import SliceBuilder, kept, plan, pool_name, wanted
from tests.dra.memory_cards import VERSIONS, card
from tests.polling import SOON_SECONDS, until

NODE = "node-1"
POOL = pool_name(NODE)
SOON = SOON_SECONDS


class Slices:
    """``SliceApi`` in memory, with resource versions and the server's refusals; answers a write with the
    metadata alone.
    """

    def __init__(self):
        self.objects: dict[str, dict] = {}
        self.version = 0
        self.writes: list[tuple[str, str]] = []
        self.refuse: list[ApiAway] = []
        self.lock = threading.Lock()

    def slices(self):
        with self.lock:
            return copy.deepcopy(list(self.objects.values()))

    def create_slice(self, body):
        with self.lock:
            if body["metadata"]["name"] in self.objects:
                raise ApiConflict("exists")
            return self._store("create", body)

    def replace_slice(self, name, body):
        with self.lock:
            if name not in self.objects:
                raise ApiConflict("not found")
            if self.objects[name]["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
                raise ApiConflict("changed")
            return self._store("replace", body)

    def delete_slice(self, name):
        with self.lock:
            self.objects.pop(name, None)
            self.writes.append(("delete", name))

    def _store(self, verb, body):
        if self.refuse:
            raise self.refuse.pop(0)
        self.version += 1
        stored = copy.deepcopy(body)
        stored["metadata"]["resourceVersion"] = str(self.version)
        self.objects[body["metadata"]["name"]] = stored
        self.writes.append((verb, body["metadata"]["name"]))
        return {"metadata": copy.deepcopy(stored["metadata"])}

    def generations(self):
        return {o["spec"]["pool"]["generation"] for o in self.objects.values()}

    def complete(self):
        counts = {o["spec"]["pool"]["resourceSliceCount"] for o in self.objects.values()}
        return len(self.generations()) == 1 and counts == {len(self.objects)}


def hardware_of(gpus=2, mig=True, foreign=None):
    cards = [card(i, mig) for i in range(gpus)]
    return hardware(cards, assign_numbers({}, cards, ()), Sharing(), foreign or {})


def state(gpus=2, masks=(), mig=True, foreign=None):
    return wanted(NODE, hardware_of(gpus, mig, foreign), circumstances(masks), "1.35+")


def circumstances(masks=(), held=(), features=Features()):  # noqa: B008 - frozen
    return Circumstances(
        occupied={f"GPU-{i}": mask for i, mask in enumerate(masks)},
        held=held,
        tables={},
        unhealthy_since={},
        versions=VERSIONS,
        features=features,
    )


def carry_out(slices, want):
    have = {d["metadata"]["name"]: kept(d, NODE, POOL) for d in slices.slices()}
    todo = plan(want, have, node=NODE, pool=POOL, owner=None)
    for name in todo.deletes:
        slices.delete_slice(name)
    for body in todo.replaces:
        slices.replace_slice(body["metadata"]["name"], body)
    for body in todo.creates:
        slices.create_slice(body)
    return todo


some_state = st.builds(
    state,
    gpus=st.integers(1, 4),
    masks=st.lists(st.integers(0, 255), max_size=3),
    mig=st.booleans(),
    foreign=st.dictionaries(st.sampled_from(["GPU-0", "GPU-1"]), st.integers(0, 15), max_size=1),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(some_state, min_size=1, max_size=4))
def test_any_way_through_states_ends_in_a_complete_pool_that_says_the_last(states):
    slices, highest = Slices(), 0
    for want in states:
        carry_out(slices, want)
        if not want:
            assert not slices.objects
            highest = 0
            continue
        assert slices.complete()
        (generation,) = slices.generations()
        assert generation >= highest
        highest = generation
        for name, slice_ in want.items():
            spec = slices.objects[name]["spec"]
            assert {k: spec[k] for k in slice_.contents} == slice_.contents
        assert carry_out(slices, want).empty


some_moment = st.tuples(
    st.sampled_from([hardware_of(), hardware_of(foreign={"GPU-1": 3}), hardware_of(3, mig=False)]),
    st.builds(
        circumstances,
        masks=st.lists(st.integers(0, 255), max_size=2),
        held=st.sets(st.sampled_from(["gpu-1-1g10gb-0", "gpu-0-4g40gb-0", "gpu-2"])),
        features=st.builds(Features, st.booleans(), st.booleans(), st.booleans()),
    ),
    st.sampled_from(["1.34", "1.35+"]),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(some_moment, max_size=6))
def test_a_builder_that_remembers_says_what_a_fresh_one_says(moments):
    builder = SliceBuilder(NODE)
    for node, now, version in moments:
        found, fresh = builder.wanted(node, now, version), wanted(NODE, node, now, version)
        assert found.keys() == fresh.keys()
        for name, slice_ in found.items():
            assert slice_.set_digest == fresh[name].set_digest
            for profile in {profile_of(device) for device in slice_.contents.get("devices", ())}:
                assert first_free(slice_, profile, now) == first_free(fresh[name], profile, now)


def profile_of(device):
    return device["attributes"].get("profile", {}).get("string")


def first_free(slice_, profile, now):
    """The device that first-fit takes of a slice for a profile."""
    for device in slice_.contents["devices"]:
        attributes = device["attributes"]
        if profile_of(device) == profile is not None:
            used = device["consumesCounters"][0]["counters"]
            units = sum(1 << int(n[len("memory-slice-") :]) for n in used if n.startswith("memory-slice-"))
            if not units & now.occupied.get(attributes["parentUUID"]["string"], 0):
                return device["name"]
    return None


def test_a_spoilt_order_is_written_and_no_new_generation():
    builder, slices = SliceBuilder(NODE), Slices()
    node = hardware_of()
    carry_out(slices, builder.wanted(node, circumstances(), "1.35+"))
    slices.writes.clear()
    now = circumstances(masks=(1,))
    spoilt = [
        name
        for name, slice_ in wanted(NODE, node, circumstances(), "1.35+").items()
        for profile in {profile_of(device) for device in slice_.contents.get("devices", ())}
        if first_free(slice_, profile, now)
        != first_free(wanted(NODE, node, now, "1.35+")[name], profile, now)
    ]
    assert 0 < len(spoilt) < 6
    carry_out(slices, builder.wanted(node, now, "1.35+"))
    assert slices.writes == [("replace", name) for name in spoilt]
    assert slices.generations() == {1}


def test_what_leaves_every_first_choice_as_it_is_is_not_written():
    # Without tables the first GPU comes first, whatever is taken on the second.
    builder, slices = SliceBuilder(NODE), Slices()
    node = hardware_of()
    carry_out(slices, builder.wanted(node, circumstances(), "1.35+"))
    slices.writes.clear()
    for masks in ((0, 1), (0, 3), (0, 0)):
        carry_out(slices, builder.wanted(node, circumstances(masks=masks), "1.35+"))
    assert slices.writes == []


def test_another_set_of_devices_is_a_new_generation_of_every_slice():
    slices = Slices()
    carry_out(slices, state())
    carry_out(slices, state(foreign={"GPU-0": 1}))
    assert slices.generations() == {2}
    assert slices.complete()


def test_slices_of_another_pool_or_without_our_mark_are_replaced():
    slices = Slices()
    carry_out(slices, state())
    name = f"00020-gpu.slicewise.io-{NODE}"
    slices.objects[name]["spec"]["pool"]["name"] = "other"
    slices.objects["stray"] = copy.deepcopy(slices.objects[name])
    slices.objects["stray"]["metadata"]["name"] = "stray"
    todo = carry_out(slices, state())
    assert set(todo.deletes) == {name, "stray"}
    assert slices.complete()
    assert slices.generations() == {2}


def test_long_node_names_make_legal_names():
    assert pool_name("n" * 253) != pool_name("m" * 253)
    assert len(pool_name("n" * 253)) <= 253


class Published:
    """A publisher over ``Slices``; ``want`` may be changed at any time."""

    def __init__(self, slices, want, **options):
        self.slices, self.want = slices, want
        self.publisher = Publisher(
            slices, lambda: self.want, node=NODE, pool=POOL, owner=lambda: None, **options
        )

    def __enter__(self):
        self.publisher.start()
        return self

    def __exit__(self, *_):
        self.publisher.stop()

    def change(self, want):
        self.want = want
        self.publisher.wake()
        self.settle()

    def settle(self):
        assert self.publisher.settled.wait(SOON)


def test_a_change_is_written_once_and_a_wake_without_change_not_at_all():
    slices = Slices()
    with Published(slices, state()) as running:
        running.settle()
        assert len(slices.writes) == len(state())
        running.change(state())
        assert len(slices.writes) == len(state())
        running.change(state(masks=(1,)))
        assert len(slices.writes) > len(state())


def test_a_second_life_writes_nothing_that_is_there_already():
    slices = Slices()
    with Published(slices, state()) as running:
        running.settle()
    slices.writes.clear()
    with Published(slices, state()) as running:
        running.settle()
        assert slices.writes == []
        running.change(state(gpus=1))
        assert slices.generations() == {2}


def test_what_was_deleted_or_edited_behind_our_back_is_restored_but_our_own_writes_are_not_news():
    slices = Slices()
    with Published(slices, state()) as running:
        running.settle()
        for name, found in list(slices.objects.items()):
            running.publisher.observed(name, found["metadata"]["resourceVersion"])
        running.settle()
        assert len(slices.writes) == len(state())

        name = f"00020-gpu.slicewise.io-{NODE}"
        slices.delete_slice(name)
        running.publisher.observed(name, None)
        until(lambda: name in slices.objects, SOON, "the deleted slice")
        running.settle()
        assert slices.complete()
        (generation,) = slices.generations()
        assert generation == 2, "a pool that lost a slice is written anew"

        slices.objects[name]["metadata"] |= {"resourceVersion": "999", "annotations": {}}
        running.publisher.observed(name, "999")
        until(lambda: slices.generations() == {3}, SOON, "the edited slice")


def test_a_conflict_is_read_again_and_an_api_server_that_is_away_waited_for():
    slices, failures = Slices(), []
    with Published(slices, state(), failed=lambda: failures.append(1)) as running:
        running.settle()
        slices.refuse = [ApiConflict("somebody was faster")]
        running.change(state(masks=(1,)))
        slices.refuse = [ApiAway("connection refused")]
        running.change(state(masks=(3,)))
        assert len(failures) == 1
        assert running.publisher.problem == ""
        assert slices.complete()


def test_only_who_may_publishes():
    slices, may = Slices(), threading.Event()
    with Published(slices, state(), may_publish=may.is_set) as running:
        assert not running.publisher.settled.wait(0.3)
        assert not slices.writes
        may.set()
        running.settle()
        assert slices.complete()


def test_how_long_a_change_took_is_told():
    told = []
    with Published(
        Slices(), state(), wrote=lambda seconds, writes: told.append((seconds, writes))
    ) as running:
        running.settle()
    ((seconds, writes),) = told
    assert writes == len(state())
    assert 0 <= seconds < SOON


def test_what_cannot_be_built_yet_is_tried_again():
    slices, answers = Slices(), [ApiAway("no version yet")]

    def build():
        if answers:
            raise answers.pop()
        return state()

    publisher = Publisher(slices, build, node=NODE, pool=POOL, owner=lambda: {"name": NODE})
    publisher.start()
    try:
        assert publisher.settled.wait(SOON)
    finally:
        publisher.stop()
    assert {o["metadata"]["ownerReferences"][0]["name"] for o in slices.objects.values()} == {NODE}
    publisher.withdraw()
    assert not slices.objects


@pytest.mark.parametrize("gpus", [8, 9, 16])
def test_counters_come_first_and_eight_sets_a_slice(gpus):
    found = state(gpus=gpus)
    sets = [len(s.contents["sharedCounters"]) for s in found.values() if "sharedCounters" in s.contents]
    assert sets == [8] * (gpus // 8) + ([gpus % 8] if gpus % 8 else [])
    assert [name[:5] for name in found][: len(sets)] == [f"{i:05x}" for i in range(len(sets))]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_defect_in_what_is_built_shows_as_an_ended_publisher():
    def build():
        raise ZeroDivisionError

    publisher = Publisher(Slices(), build, node=NODE, pool=POOL, owner=lambda: None)
    assert not publisher.ended
    publisher.start()
    until(lambda: publisher.ended, SOON, "the end")
    publisher.stop()
