"""The policies in docs/capacity.md are valid, and its flags, marks and annotations are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from autoscaler.__main__ import parser
from autoscaler.nodes import scale_down_loop
from autoscaler.warm import interruption, warm_pods
from cluster.policy import load_autoscaling_policy, load_cluster_policy
from scheduler.on_demand import ANNOTATION

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "capacity.md").read_text()
BLOCKS = re.findall(r"```yaml (policy|cluster-policy)\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize(("kind", "text"), BLOCKS)
def test_the_policies_load(kind: str, text: str):
    (load_cluster_policy if kind == "cluster-policy" else load_autoscaling_policy)(text, "docs/capacity.md")


def test_there_are_policies():
    assert len(BLOCKS) == 3


def test_the_flags_exist():
    known = {option for action in parser()._actions for option in action.option_strings}
    assert set(re.findall(r"--expander-[a-z-]+", PAGE)) <= known


def test_every_mark_that_is_known_is_listed():
    for taint in interruption.TAINTS:
        assert taint.partition("/")[0] in PAGE
    assert interruption.OWN_ANNOTATION in PAGE
    for note in (*scale_down_loop.MARKS, scale_down_loop.NOTE, scale_down_loop.OURS):
        assert note in PAGE
    assert ANNOTATION in PAGE


def test_the_manifest_brings_the_priority_class_that_placeholders_name():
    manifest = (ROOT / "deploy" / "manifests" / "warm.yaml").read_text()
    assert f"name: {warm_pods.PRIORITY_CLASS}" in manifest
    assert "value: -5" in manifest
