"""The interference section of the policy: complete tables or a refusal that names the hole."""

from __future__ import annotations

import pytest

from cluster.policy import PolicyRefused, load_cluster_policy

HEAD = "apiVersion: slicewise.io/v1alpha1\nkind: ClusterPolicy\n"


def loaded(section):
    return load_cluster_policy(f"{HEAD}interference: {section}\n", "policy").interference


def test_nothing_is_declared_by_default():
    found = load_cluster_policy(HEAD, "policy").interference
    assert found.slowdown.declared() == {}
    assert found.default_class is None


def test_tables_that_name_every_pair_are_taken():
    found = loaded(
        "{defaultClass: none, slowdown: {gpu: {a: {a: 0.1, b: 0.2}, b: {a: 0, b: 0.3}}, "
        "node: {a: {a: 0, b: 0}, b: {a: 0, b: 0.01}}}}"
    )
    assert found.slowdown.declared()["gpu"]["a"]["b"] == 0.2
    assert set(found.slowdown.declared()) == {"gpu", "node"}


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("{defaultClass: a, slowdown: {gpu: {a: {a: 0.1, b: 0.2}}}}", "there is none for a, b"),
        (
            "{defaultClass: a, slowdown: {gpu: {a: {a: 0.1}}, node: {b: {b: 0}}}}",
            "interference.slowdown.node.a",
        ),
        ("{slowdown: {gpu: {a: {a: 0.1}}}}", "interference.defaultClass"),
        ("{defaultClass: z, slowdown: {gpu: {a: {a: 0.1}}}}", "expected one of a, none"),
        ("{defaultClass: none, slowdown: {gpu: {none: {none: 0.1}}}}", "no such class"),
        ("{defaultClass: a, slowdown: {gpu: {a: {a: 1.1}}}}", "at most 1"),
        ("{defaultClass: a, slowdown: {gpu: {A B: {a: 1}}}}", "interference.slowdown.gpu"),
    ],
)
def test_holes_and_nonsense_are_refused_with_their_path(section, words):
    with pytest.raises(PolicyRefused, match="policy refused") as refused:
        loaded(section)
    assert words in str(refused.value)
