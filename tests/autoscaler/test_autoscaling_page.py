"""The worked example of docs/autoscaling.md: decided again, look by look, and compared with the page."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from autoscaler.decide import decide
from autoscaler.reasons import CODES
from autoscaler.signals import Signals
from autoscaler.state import State
from cluster.policy import AutoscalingPolicy, load_autoscaling_policy

PAGE = Path(__file__).parents[2] / "docs" / "autoscaling.md"


def block(kind: str) -> str:
    found = re.search(rf"```{kind}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None, f"{PAGE}: no block of kind {kind}"
    return found.group(1)


def example() -> tuple[AutoscalingPolicy, list[dict[str, Any]]]:
    return load_autoscaling_policy(block("yaml policy"), str(PAGE)), json.loads(block("json looks"))


def test_every_look_of_the_worked_example_is_decided_as_the_page_says():
    policy, looks = example()
    state: State | None = None
    current = looks[0]["seen"]["current"]
    for look in looks:
        assert look["seen"]["current"] == current
        signals = Signals(cold_start_seconds=90.0, **look["seen"])
        decision = decide(policy, signals, state, float(look["now"]))
        state, current = decision.state, decision.replicas
        assert state.learned is not None
        first = decision.reasons[0]
        found = (decision.replicas, first.code, first.sentence)
        assert found == (look["replicas"], look["code"], look["sentence"]), f"at {look['now']} s"
        assert round(state.learned.headroom.deviations, 3) == look["deviations"], f"at {look['now']} s"


def test_the_example_goes_up_and_down_and_learns():
    _, looks = example()
    counts = [look["replicas"] for look in looks]
    assert max(counts) > counts[0]
    assert counts[-1] < max(counts)
    assert len({look["deviations"] for look in looks}) > 2
    assert {look["code"] for look in looks} <= set(CODES)


def test_the_page_lists_the_fourteen_rules():
    numbers = re.findall(
        r"^(\d+)\. ", PAGE.read_text(encoding="utf-8").split("## The fourteen rules")[1], re.M
    )
    assert [int(number) for number in numbers] == list(range(1, 15))
    rules = (Path(__file__).parent / "test_rules.py").read_text(encoding="utf-8")
    assert {int(n) for n in re.findall(r"def test_rule_(\d+)_", rules)} == set(range(1, 15))


def test_every_reason_is_explained():
    told = set(re.findall(r"^\| (`[^|]*) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    explained = {code for cell in told for code in re.findall(r"`(\w+)`", cell)}
    assert [code for code in CODES if code not in explained] == []
