"""Room given back is noticed: freed claims and new hardware end the pause of pods nobody could take."""

from __future__ import annotations

import msgspec
import pytest

from dra.resource_api import ResourceClaim
from scheduler.planner.room import FreedClaims, NewHardware


def claim(uid, allocated):
    status = {"allocation": {"devices": {"results": []}}} if allocated else {}
    return msgspec.convert({"metadata": {"name": uid, "uid": uid}, "status": status}, ResourceClaim)


@pytest.fixture
def freed():
    calls = []
    return calls, FreedClaims(lambda: calls.append(1))


def test_a_claim_frees_room_when_it_is_deallocated_or_deleted(freed):
    calls, claims = freed
    claims.changed("ADDED", claim("a", False))
    claims.changed("MODIFIED", claim("a", True))
    assert calls == []
    claims.changed("MODIFIED", claim("a", False))
    assert calls == [1]
    claims.changed("DELETED", claim("a", False))
    assert calls == [1]


def test_a_claim_that_vanished_between_two_lists_frees_room(freed):
    calls, claims = freed
    claims.replaced([claim("a", True), claim("b", True)])
    claims.replaced([claim("b", True)])
    assert calls == [1]


def test_only_new_hardware_is_new_room():
    calls = []
    nodes = NewHardware(lambda: calls.append(1))
    nodes.changed("MODIFIED", object())
    nodes.changed("DELETED", object())
    assert calls == []
    nodes.changed("ADDED", object())
    assert calls == [1]
