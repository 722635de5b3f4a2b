"""Claimed ports are free, distinct and given back."""

from __future__ import annotations

import socket
import tempfile

import pytest

from deploy.local import ports
from deploy.local.ports import LOOPBACK, NoFreePort, PortClaims


@pytest.fixture
def two_owners(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    owners = PortClaims(), PortClaims()
    yield owners
    for owner in owners:
        owner.release()


def test_two_owners_never_hold_the_same_port(two_owners, monkeypatch):
    monkeypatch.setattr(ports, "HIGHEST_PORT", ports.LOWEST_PORT + 60)
    first, second = two_owners
    claimed = [owner.claim() for _ in range(5) for owner in (first, second)]
    assert len(set(claimed)) == 10


def test_a_port_that_somebody_listens_on_is_not_given_out(two_owners, monkeypatch):
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen()
        taken = listener.getsockname()[1]
        monkeypatch.setattr(ports, "LOWEST_PORT", taken)
        monkeypatch.setattr(ports, "HIGHEST_PORT", taken + 1)
        with pytest.raises(NoFreePort, match="after 400 draws"):
            two_owners[0].claim()


def test_a_released_port_can_be_claimed_again(two_owners, monkeypatch):
    port = two_owners[0].claim()
    monkeypatch.setattr(ports, "LOWEST_PORT", port)
    monkeypatch.setattr(ports, "HIGHEST_PORT", port + 1)
    with pytest.raises(NoFreePort):
        two_owners[1].claim()
    two_owners[0].release()
    assert two_owners[1].claim() == port
