"""Every key, annotation and label of the product is on the page, and the page is what the code says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from cluster.policy import load_autoscaling_policy, load_cluster_policy
from deploy.policy_page import PAGE, page
from kubectl_slicewise.__main__ import main
from kubectl_slicewise.policy_keys import SCHEMAS, as_table, keys_of

ROOT = Path(__file__).parents[2]
PRODUCT = ("autoscaler", "cluster", "dra", "metrics", "node", "scheduler")
# Components in Events, and a device that is only asked about: nobody meets them as keys of an object.
NO_KEYS = {"slicewise.io/controller", "slicewise.io/node", "gpu.slicewise.io/probe"}


def test_the_page_is_what_the_policies_make_it():
    text = PAGE.read_text(encoding="utf-8")
    assert page(text) == text, "run `python -m deploy.policy_page` and commit the page"


@pytest.mark.parametrize("kind", SCHEMAS)
def test_every_key_has_a_meaning(kind):
    keys = keys_of(SCHEMAS[kind]())
    assert len({key.path for key in keys}) == len(keys) > 40
    assert [key.path for key in keys if not key.meaning] == []


def test_keys_show_lists_maps_bounds_and_defaults():
    keys = {key.path: key for key in keys_of(SCHEMAS["ClusterPolicy"]())}
    assert keys["nodes[].name"].default == "required"
    assert keys["carbon.classes.NAME.maxGramsPerKwh"].takes == "number ≥ 0"
    assert keys["interference.slowdown.gpu"].takes == "mapping of mapping of number ≥ 0, ≤ 1"
    assert keys["extender.maxBodyBytes"].takes == "whole number ≥ 1"
    assert keys["carbon.file"].default == "null"
    assert keys["prices.gpuHour"].default == "2.5"
    assert keys["carbon.fileClockStart"].takes == "time with zone"
    assert keys["planner.enabled"].default == "true"


def test_the_verb_shows_one_section_the_schema_or_what_is_wrong(capsys):
    assert main(["policy", "keys", "AutoscalingPolicy", "slo"]) == 0
    shown = capsys.readouterr().out
    assert shown.rstrip("\n") == as_table(keys_of(SCHEMAS["AutoscalingPolicy"](), "slo"))
    assert "slo.latencySeconds" in shown
    assert "lag." not in shown
    assert main(["policy", "keys", "ClusterPolicy", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == SCHEMAS["ClusterPolicy"]()
    assert main(["policy", "keys", "ClusterPolicy", "slo"]) == 1
    assert "has no key 'slo'; expected a path such as" in capsys.readouterr().err


def block(kind):
    return re.search(rf"```yaml {kind}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[1]


def test_the_examples_of_the_page_are_policies():
    document = yaml.safe_load(block("policy-map"))
    assert load_autoscaling_policy(document["data"]["policy.yaml"], str(PAGE)).target.name == "llm"
    assert load_cluster_policy(block("cluster-policy"), str(PAGE)).nodes[0].name == "spot"


def test_the_shipped_examples_are_valid_without_a_note(capsys):
    assert main(["policy", "validate", "deploy/manifests/examples/autoscaling-policies.yaml"]) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 6
    assert said.err == ""


def test_every_annotation_and_label_of_the_product_is_on_the_page():
    stated = re.compile(r'"((?:gpu\.)?slicewise\.io/[a-z][a-z-]*)"')
    named = {
        name
        for package in PRODUCT
        for file in (ROOT / package).rglob("*.py")
        for name in stated.findall(file.read_text(encoding="utf-8"))
    }
    told = PAGE.read_text(encoding="utf-8")
    missing = sorted(name for name in named - NO_KEYS if f"`{name}" not in told)
    assert len(named) > 25
    assert missing == []
