"""A fault that a card reports once keeps new work away; what a program did wrong does not."""

from __future__ import annotations

import pytest

from dra.cards import HEALTHY, Card, HealthEvent
from node.remembered_health import RememberedHealth


class Told:
    def __init__(self, *events):
        self.events = list(events)

    def cards(self):
        return tuple(Card(index=at, uuid=uuid, product="p") for at, uuid in enumerate(("GPU-a", "GPU-b")))

    def wait_event(self, timeout_seconds):
        return self.events.pop(0) if self.events else None


def healths(*events):
    cards = RememberedHealth(Told(*events))
    while cards.wait_event(0.0) is not None:
        pass
    return [card.health for card in cards.cards()]


def test_a_card_that_reported_a_hardware_fault_is_unhealthy_from_then_on():
    first, second = healths(HealthEvent("GPU-b", "xid", 79), HealthEvent("GPU-b", "xid", 79))
    assert first == HEALTHY
    assert (second.state, second.reasons) == ("unhealthy", ("the driver reported XID 79",))


@pytest.mark.parametrize("event", [HealthEvent("GPU-a", "xid", 13), HealthEvent("GPU-a", "mig-changed", 0)])
def test_what_a_program_did_leaves_the_card_as_it_was(event):
    assert healths(event) == [HEALTHY, HEALTHY]


def test_a_fault_of_nobody_knows_which_card_is_one_of_all():
    assert [health.state for health in healths(HealthEvent("", "ecc", 0))] == ["unhealthy", "unhealthy"]


def test_a_lost_card_is_judged_by_what_it_says_itself():
    assert healths(HealthEvent("GPU-a", "lost", 0)) == [HEALTHY, HEALTHY]
