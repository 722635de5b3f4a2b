"""Whatever happens between kubelet, crashes and other users of the cards: nothing lost, leaked or stolen."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dra.cards import CardRefused
from dra.plugin.handler import ClaimRef
from tests.dra.memory_cards import PROFILES, Killed, Node, card

GPUS = 2
NAMES = {p.profile_id: p.name.replace(".", "") for p in PROFILES}
PLACES = [(p.profile_id, start) for p in PROFILES for start in p.starts]

claim_number = st.integers(0, 4)
place = st.sampled_from(PLACES)
gpu = st.integers(0, GPUS - 1)
step = st.one_of(
    st.tuples(st.just("prepare"), claim_number),
    st.tuples(st.just("unprepare"), claim_number),
    st.tuples(st.just("allocate"), claim_number, st.lists(st.tuples(gpu, place), min_size=1, max_size=2)),
    st.tuples(st.just("foreign"), gpu, place),
    st.tuples(st.just("restart")),
    st.tuples(st.just("die in"), st.integers(0, 12)),
    st.tuples(st.just("busy"), st.booleans()),
    st.tuples(st.just("reboot")),
)
whole = st.tuples(gpu, st.one_of(st.none(), place))
either = st.one_of(
    step, st.tuples(st.just("allocate"), claim_number, st.lists(whole, min_size=1, max_size=2))
)


def device(on: int, where: tuple[int, int]) -> str:
    profile_id, start = where
    return f"gpu-{on}-{NAMES[profile_id]}-{start}"


class World:
    """The kubelet's side: which claims it wants ready, and what the driver said."""

    def __init__(self, folder: Path, *, on_demand: bool = False) -> None:
        """``on_demand``: the cards are out of MIG mode, and the driver switches it."""
        self.on_demand = on_demand
        cards = [card(i, mig=not on_demand) for i in range(GPUS)]
        self.node = Node(folder, *cards, mig_on_demand=on_demand)
        self.driver = self.node.driver()
        self.refs: dict[int, ClaimRef] = {}
        self.foreign: set[Any] = set()
        self.wanted: dict[int, bool] = {}
        self.ready: dict[int, tuple[Any, ...]] = {}
        self.rebooted = False

    def do(self, action) -> None:
        try:
            getattr(self, "_" + action[0].replace(" ", "_"))(*action[1:])
        except Killed:
            self.node.death.steps_left = None
            self.driver = self.node.driver()

    def _allocate(self, number, devices) -> None:
        # A claim's allocation changes only after it was given back.
        if number not in self.wanted:
            names = [device(on, where) if where else f"gpu-{on}" for on, where in devices]
            self.refs[number] = self.node.claims.allocate(f"claim-{number}", *names)

    def _prepare(self, number) -> None:
        if number in self.refs:
            self.wanted[number] = True
            answer = self.driver.prepare([self.refs[number]])[self.refs[number].uid]
            if isinstance(answer, str):
                self.ready.pop(number, None)
            else:
                self.ready[number] = answer

    def _unprepare(self, number) -> None:
        if number in self.wanted:
            self.wanted[number] = False
            self.ready.pop(number, None)
            if self.driver.unprepare([self.refs[number]])[self.refs[number].uid] == "":
                del self.wanted[number]

    def _foreign(self, on, where) -> None:
        try:
            made = self.node.cards.put(f"GPU-{on}", *where)
        except CardRefused:
            return
        self.foreign.add((made.gpu_uuid, made.gpu_instance_id, made.profile_id, made.start))

    def _restart(self) -> None:
        self.driver = self.node.driver()

    def _die_in(self, steps) -> None:
        self.node.death.steps_left = steps

    def _busy(self, busy) -> None:
        """Programs run on every instance: none can be destroyed."""
        if busy:
            self.node.cards.refuse["destroy"] = CardRefused("destroy", "in-use", "a program runs")
        else:
            self.node.cards.refuse.clear()

    def _reboot(self) -> None:
        """No instance survives, whoever made it, and nothing is ready until the kubelet has asked again."""
        self.node.death.steps_left = None  # the process is gone: switching the cards back is not its doing
        for found in self.node.cards.instances.values():
            found.clear()
        for one in self.node.cards.known if self.on_demand else ():
            self.node.cards.set_mig_mode(one.uuid, False)
        self.node.cards.refuse.clear()
        self.foreign.clear()
        self.ready.clear()
        self.node.boot += "+"
        self.rebooted = True
        self.driver = self.node.driver()

    def settle(self) -> None:
        """What the kubelet does in the end: repeats what was not answered well."""
        self.node.death.steps_left = None
        self.node.cards.refuse.clear()
        self.driver = self.node.driver()
        for number, wanted in list(self.wanted.items()):
            if not wanted:
                self._unprepare(number)
        for number in list(self.wanted):
            self._prepare(number)

    def check(self) -> None:
        live = self.node.live()
        assert self.foreign <= live, "a foreign instance was destroyed"
        checkpoint = self.driver.view.checkpoint
        ready = {self.refs[number].uid for number in self.ready}
        held = {
            (d.gpu_uuid, d.gpu_instance_id, d.profile_id, d.start)
            for uid in ready
            for d in checkpoint.claims[uid].devices
            if d.profile_id is not None
        }
        for uid in ready if self.on_demand else ():
            for d in checkpoint.claims[uid].devices:
                assert self.node.cards.mode(d.gpu_uuid) is (d.profile_id is not None), "the wrong mode"
        assert held <= live, "an instance was lost"
        if not self.rebooted:
            # After a reboot a claim may wait for its place, taken by somebody else meanwhile.
            assert set(checkpoint.claims) == ready == self.node.documents()
        claimed = {
            (d.gpu_uuid, d.gpu_instance_id, d.profile_id, d.start)
            for record in checkpoint.claims.values()
            for d in record.devices
            if d.profile_id is not None
        }
        assert live <= claimed | self.foreign, "an instance leaked"
        assert not claimed & self.foreign, "a foreign instance was adopted"
        seen: dict[str, int] = {}
        for uuid, _, profile_id, start in held:
            bits = ((1 << next(p.size for p in PROFILES if p.profile_id == profile_id)) - 1) << start
            assert not seen.get(uuid, 0) & bits, "two claims hold one place"
            seen[uuid] = seen.get(uuid, 0) | bits


@settings(max_examples=150, deadline=None)
@given(st.lists(step, max_size=25))
def test_no_instance_is_lost_leaked_or_stolen_whenever_the_driver_dies(steps):
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        for action in steps:
            world.do(action)
            assert world.foreign <= world.node.live()
        world.settle()
        world.check()


@settings(max_examples=150, deadline=None)
@given(st.lists(either, max_size=25))
def test_with_mig_mode_on_demand_too_and_every_ready_claim_finds_its_mode(steps):
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), on_demand=True)
        for action in steps:
            world.do(action)
            assert world.foreign <= world.node.live()
        world.settle()
        world.check()


@settings(max_examples=40, deadline=None)
@given(st.lists(step, max_size=15))
def test_a_claim_that_was_answered_ready_keeps_its_instances_through_any_restart(steps):
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        for action in steps:
            world.do(action)
            before = {
                uid: r for uid, r in world.driver.view.checkpoint.claims.items() if r.stage == "prepared"
            }
            world.do(("restart",))
            after = world.driver.view.checkpoint.claims
            for number in world.ready:
                uid = world.refs[number].uid
                assert after[uid] == before[uid]
                for held in after[uid].devices:
                    assert (
                        held.gpu_uuid,
                        held.gpu_instance_id,
                        held.profile_id,
                        held.start,
                    ) in world.node.live()
