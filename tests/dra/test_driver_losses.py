"""What the driver makes of its claims after a death, a reboot, or with instances and cards that went."""

from __future__ import annotations

import dataclasses

import pytest

from tests.dra.memory_cards import Killed
from tests.dra.prepared_claims import SMALL, ready, refusal
from tests.dra.prepared_claims import node as node


@pytest.mark.parametrize("steps", range(8))
def test_a_death_at_any_step_of_prepare_is_undone_or_finished_at_the_start(node, steps):
    claim = node.claims.allocate("a", "gpu-0-1g10gb-6")
    driver = node.driver()
    node.death.steps_left = steps
    try:
        driver.prepare([claim])
    except Killed:
        node.death.steps_left = None
        driver = node.driver()
        done = bool(driver.view.checkpoint.claims)
        assert bool(node.live()) == done
        assert bool(node.documents()) == done
    node.death.steps_left = None
    ready(driver, claim)
    assert len(node.live()) == 1


@pytest.mark.parametrize("steps", range(8))
def test_a_death_at_any_step_of_unprepare_is_finished_at_the_start(node, steps):
    claim = node.claims.allocate("a", "gpu-0-1g10gb-6", "gpu-1-1g10gb-6")
    driver = node.driver()
    ready(driver, claim)
    node.death.steps_left = steps
    try:
        driver.unprepare([claim])
    except Killed:
        node.death.steps_left = None
        driver = node.driver()
        if steps > 0:  # before the first write nothing had begun: the claim is as it was
            assert not node.live()
    node.death.steps_left = None
    assert driver.unprepare([claim]) == {claim.uid: ""}
    assert not node.live()
    assert not node.documents()


def test_after_a_reboot_the_instances_are_made_anew_at_the_same_places(node):
    driver = node.driver()
    claim = node.claims.allocate("a", "gpu-0-1g10gb-6", "gpu-2")
    ready(driver, claim)
    for found in node.cards.instances.values():
        found.clear()
    node.boot = "boot-2"
    stranger = node.cards.put("GPU-0", SMALL, 0)  # takes the id that ours had
    driver = node.driver()
    assert [i.start for i in driver.view.foreign] == [stranger.start]
    assert "default/a" in refusal(driver, node.claims.allocate("b", "gpu-0-1g20gb-6"))
    ready(driver, claim)
    assert {(start, profile) for _, _, profile, start in node.live()} == {(0, SMALL), (6, SMALL)}
    driver.unprepare([claim])
    assert {start for _, _, _, start in node.live()} == {0}


def test_after_a_reboot_an_instance_that_stands_at_our_place_is_not_ours(node):
    driver, claim = node.driver(), node.claims.allocate("a", "gpu-0-1g10gb-6")
    ready(driver, claim)
    node.cards.instances["GPU-0"].clear()
    node.boot = "boot-2"
    node.cards.put("GPU-0", SMALL, 6)
    driver = node.driver()
    assert "not made by this driver" in refusal(driver, claim)
    assert driver.unprepare([claim])[claim.uid] == ""
    assert len(node.live()) == 1


def test_an_instance_that_vanished_is_made_anew_without_touching_its_claims_others(node):
    driver, claim = node.driver(), node.claims.allocate("a", "gpu-0-1g10gb-6", "gpu-1-4g40gb-0")
    ready(driver, claim)
    kept = node.cards.instances["GPU-1"][0]
    node.cards.instances["GPU-0"].clear()
    ready(driver, claim)
    assert node.cards.instances["GPU-1"] == [kept]
    assert len(node.live()) == 2
    # dying in the middle of that does not take what the containers use, either
    node.cards.instances["GPU-0"].clear()
    for steps in range(6):
        node.death.steps_left = steps
        try:
            driver.prepare([claim])
        except Killed:
            node.death.steps_left = None
            driver = node.driver()
            assert node.cards.instances["GPU-1"] == [kept]
        node.death.steps_left = None
    ready(driver, claim)
    assert node.cards.instances["GPU-1"] == [kept]
    assert len(node.live()) == 2


def test_a_claim_given_back_while_its_card_is_lost_is_destroyed_when_the_card_answers(node):
    driver, claim = node.driver(), node.claims.allocate("a", "gpu-0-1g10gb-6")
    ready(driver, claim)
    node.cards.lost.add("GPU-0")
    driver.refresh()
    assert driver.unprepare([claim])[claim.uid] == ""
    node.cards.lost.clear()
    driver.refresh()
    assert not node.live()
    assert not driver.view.checkpoint.leftovers
    ready(driver, node.claims.allocate("b", "gpu-0-1g10gb-6"))


def test_a_gpu_keeps_its_number_when_another_drops_out(node):
    driver = node.driver()
    ready(driver, node.claims.allocate("a", "gpu-3"))
    del node.cards.known[2]
    node.cards.known[2] = dataclasses.replace(node.cards.known[2], index=2)  # NVML counts anew
    driver = node.driver()
    assert [(g.number, g.card.uuid) for g in driver.view.hardware.gpus] == [
        (0, "GPU-0"),
        (1, "GPU-1"),
        (3, "GPU-3"),
    ]
