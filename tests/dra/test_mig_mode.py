"""MIG mode on demand: a card is whole or cut as claims need it, and nobody else's mode is touched."""

from __future__ import annotations

import contextlib
import dataclasses

import pytest

from dra.cards import CardRefused
from dra.driver.devices import Circumstances, Features, bodies
from dra.driver.mig_mode import with_former_wires
from dra.driver.slice_plan import plan, pool_name, wanted
from dra.inventory import from_slices
from dra.resource_api import slices_from_json
from tests.dra.memory_cards import VERSIONS, Killed, Node, card

PART, OTHER, WHOLE = "gpu-0-1g10gb-0", "gpu-0-2g20gb-4", "gpu-0"


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path, card(0, mig=False), card(1, mig=True), mig_on_demand=True)


def now(**changes):
    plain = Circumstances(occupied={}, held=(), tables={}, unhealthy_since={}, versions=VERSIONS)
    return dataclasses.replace(plain, **changes)


def names(driver, gpu=0, **features):
    return [d["name"] for d in bodies(driver.view.hardware, now(features=Features(**features)))[gpu]]


def prepare(node, driver, name, *devices):
    ref = node.claims.allocate(name, *devices)
    return ref, driver.prepare([ref])[ref.uid]


def test_an_idle_gpu_is_offered_whole_and_in_parts_and_counters_exclude_both(node):
    driver = node.driver()
    offered = names(driver)
    assert offered[-1] == WHOLE
    assert {PART, OTHER} < set(offered)
    assert WHOLE.replace("0", "1") not in names(driver, 1)
    assert names(driver, counters=False) == [WHOLE]
    documents = plan(
        wanted("n", driver.view.hardware, now(), "1.35+"), {}, node="n", pool=pool_name("n"), owner=None
    ).creates
    inventory = from_slices("n", slices_from_json(list(documents)))
    assert inventory is not None
    first, second = inventory.gpus
    assert (first.whole, first.partitionable) == (True, True)
    assert (second.whole, second.partitionable) == (False, True)
    counters = {
        c.name: set(c.counters) for s in slices_from_json(list(documents)) for c in s.spec.shared_counters
    }
    whole = next(d for s in slices_from_json(list(documents)) for d in s.spec.devices if d.name == WHOLE)
    assert set(whole.consumes_counters[0].counters) == counters[WHOLE]


def test_the_mode_follows_what_is_asked_for(node):
    driver = node.driver()
    part, answer = prepare(node, driver, "part", PART)
    assert not isinstance(answer, str)
    assert node.cards.mode("GPU-0")
    assert driver.view.checkpoint.switched == ("GPU-0",)
    driver.refresh()
    assert WHOLE in names(driver)
    refused = prepare(node, driver, "early", WHOLE)[1]
    assert "overlaps it" in refused
    driver.unprepare([part])
    assert node.cards.mode("GPU-0"), "an idle card keeps its mode until it is asked whole"
    whole, answer = prepare(node, driver, "whole", WHOLE)
    assert not isinstance(answer, str)
    assert not node.cards.mode("GPU-0")
    assert driver.view.checkpoint.switched == ()
    assert "overlaps it" in prepare(node, driver, "late", OTHER)[1]
    driver.unprepare([whole])
    assert not isinstance(prepare(node, driver, "again", OTHER)[1], str)


def test_a_card_that_an_operator_put_in_mig_mode_is_never_switched(node):
    driver = node.driver()
    ref, answer = prepare(node, driver, "part", "gpu-1-1g10gb-0")
    assert not isinstance(answer, str)
    assert driver.view.checkpoint.switched == ()
    driver.unprepare([ref])
    assert node.cards.mode("GPU-1")
    assert "has no such device" in prepare(node, driver, "whole", "gpu-1")[1]


@pytest.mark.parametrize(
    "changes", [{"compute_capability": (8, 0)}, {"mig_capable": False}, {"profiles": ()}]
)
def test_cards_that_need_a_reset_or_cannot_be_cut_stay_as_configured(tmp_path, changes):
    assert names(Node(tmp_path, card(0, mig=False, **changes), mig_on_demand=True).driver()) == [WHOLE]


def test_without_the_option_modes_stay_as_configured(tmp_path):
    assert names(Node(tmp_path, card(0, mig=False)).driver()) == [WHOLE]


def test_a_card_that_a_program_uses_refuses_and_nothing_is_left_behind(node):
    driver = node.driver()
    node.cards.refuse["set_mig_mode"] = CardRefused("set_mig_mode", "in-use", "a program runs")
    assert "in-use" in prepare(node, driver, "part", PART)[1]
    assert not driver.view.checkpoint.claims
    assert not node.live()
    node.cards.refuse.clear()
    assert not isinstance(prepare(node, driver, "whole", WHOLE)[1], str)


@pytest.mark.parametrize("wanted_device", [PART, WHOLE])
@pytest.mark.parametrize("steps", range(10))
def test_wherever_the_driver_dies_the_kubelet_gets_its_claim_in_the_end(node, wanted_device, steps):
    driver = node.driver()
    if wanted_device == WHOLE:
        ref, _ = prepare(node, driver, "before", PART)
        driver.unprepare([ref])
    ref = node.claims.allocate("claim", wanted_device)
    node.death.steps_left = steps
    with contextlib.suppress(Killed):
        driver.prepare([ref])
    node.death.steps_left = None
    driver = node.driver()
    assert WHOLE in names(driver)
    assert not isinstance(driver.prepare([ref])[ref.uid], str)
    assert node.cards.mode("GPU-0") is (wanted_device == PART)
    driver.unprepare([ref])
    assert not node.live()
    # Whatever was interrupted, the card can be had either way afterwards.
    for name, device in (("one", WHOLE), ("two", PART)):
        ref, answer = prepare(node, driver, name, device)
        assert not isinstance(answer, str)
        driver.unprepare([ref])


def test_after_a_reboot_the_mode_is_off_and_a_prepared_instance_is_made_anew(node):
    driver = node.driver()
    ref, _ = prepare(node, driver, "part", PART)
    node.cards.instances["GPU-0"].clear()
    node.cards.set_mig_mode("GPU-0", False)
    node.boot = "boot-2"
    driver = node.driver()
    assert driver.view.checkpoint.switched == ()
    assert not isinstance(driver.prepare([ref])[ref.uid], str)
    assert node.cards.mode("GPU-0")
    assert len(node.live()) == 1


def test_mode_switched_on_by_somebody_while_the_driver_was_away_is_theirs(node):
    driver = node.driver()
    ref, _ = prepare(node, driver, "part", PART)
    driver.unprepare([ref])
    node.cards.set_mig_mode("GPU-0", False)
    node.driver()
    node.cards.set_mig_mode("GPU-0", True)
    assert WHOLE not in names(node.driver())


def test_links_to_a_switched_card_are_told_as_before():
    before = [card(0, mig=False, nvlink_peers=(1,)), card(1, mig=False, nvlink_peers=(0,))]
    told = {one.uuid: one for one in before}
    cut = [card(0, mig=True, nvlink_peers=None), card(1, mig=False, nvlink_peers=())]
    assert [one.nvlink_peers for one in with_former_wires(cut, told, ("GPU-0",))] == [(1,), (0,)]
    assert [one.nvlink_peers for one in with_former_wires(cut, told, ())] == [None, ()]
    assert [one.nvlink_peers for one in with_former_wires(cut, {}, ("GPU-0",))] == [None, ()]
