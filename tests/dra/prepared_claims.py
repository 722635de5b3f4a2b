"""A node of four cards, two of them in MIG mode, and what its driver answers the kubelet about one claim."""

from __future__ import annotations

import json

import pytest

from tests.dra.memory_cards import Node, card

SMALL = 19  # profile id of 1g.10gb


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path, card(0), card(1), card(2, mig=False), card(3, mig=False))


def ready(driver, reference):
    answer = driver.prepare([reference])[reference.uid]
    assert not isinstance(answer, str), answer
    return answer


def refusal(driver, reference):
    answer = driver.prepare([reference])[reference.uid]
    assert isinstance(answer, str)
    return answer


def document(node, reference):
    return json.loads((node.folder / "cdi" / f"k8s.gpu.slicewise.io-claim_{reference.uid}.json").read_text())
