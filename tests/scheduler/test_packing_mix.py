"""The expected demand: class names, smoothing, the policy's prior, the uniform fallback."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dra.catalog import models
from scheduler.packing.mix import DemandClass, DemandMix, mix_of, parse_class, smooth


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mig:1g.10gb", DemandClass("mig", profile="1g.10gb")),
        ("mig:1g.10gb+me", DemandClass("mig", profile="1g.10gb+me")),
        ("whole:4", DemandClass("whole", gpus=4)),
        ("shared", DemandClass("shared")),
        (
            "whole:1@B200-180GB,A100-80GB",
            DemandClass("whole", gpus=1, models=frozenset({"A100-80GB", "B200-180GB"})),
        ),
        ("whole:0", None),
        ("whole:x", None),
        ("mig:", None),
        ("gpu", None),
        ("", None),
    ],
)
def test_class_names_are_read_or_refused(name, expected):
    assert parse_class(name) == expected


@given(
    st.sampled_from(["mig", "whole", "shared"]),
    st.sampled_from([None, frozenset({"A"}), frozenset({"A", "B"})]),
)
def test_a_class_reads_back_from_its_name(kind, allowed):
    cls = DemandClass(kind, "1g.10gb" if kind == "mig" else "", 2 if kind == "whole" else 0, allowed)
    assert parse_class(cls.name) == cls


def test_after_one_half_life_the_old_mix_weighs_half():
    mixed = smooth({"whole:1": 8.0}, {"mig:1g.10gb": 4.0}, half_life_seconds=600.0, elapsed_seconds=600.0)
    assert mixed == pytest.approx({"whole:1": 4.0, "mig:1g.10gb": 2.0})


def test_the_first_observation_is_taken_whole_and_faded_classes_are_forgotten():
    assert smooth(None, {"whole:1": 3.0}, half_life_seconds=600.0, elapsed_seconds=0.0) == {"whole:1": 3.0}
    assert smooth({"whole:1": 3.0}, {}, half_life_seconds=1.0, elapsed_seconds=60.0) == {}


def test_the_prior_counts_as_pods_always_present():
    model = models()["A100-80GB"]
    assert mix_of({"whole:1": 2.0}, {"whole:1": 1.0, "mig:1g.10gb": 3.0, "junk": 9.0}, [model]).counts == {
        "whole:1": 3.0,
        "mig:1g.10gb": 3.0,
    }


def test_without_any_evidence_every_plain_profile_is_equally_likely():
    mix = mix_of({}, {}, [models()["A30-24GB"]])
    assert mix.counts == {"mig:1g.6gb": 1.0, "mig:2g.12gb": 1.0, "mig:4g.24gb": 1.0, "whole:1": 1.0}


def test_counts_that_are_not_positive_are_no_classes():
    assert DemandMix({"whole:1": 0.0, "whole:2": -1.0, "whole:4": 2.0}).classes() == (
        (DemandClass("whole", gpus=4), 2.0),
    )
