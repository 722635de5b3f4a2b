"""KPA's model against the cases that Knative publishes for its own autoscaler.

knative/serving, pkg/autoscaler/scaling/autoscaler_test.go: rates 10 up and 10 down unless a case says
otherwise, panic from twice what is ready, a stable window of 60 s. Each look is (ready, stable mean, panic
mean, seconds, pods wanted). Left out are what the model leaves out: activation scale, scale-down delay,
unreachable revisions, excess burst capacity.
"""

from __future__ import annotations

import numpy as np
import pytest

from simulator.autoscaling_policies.kpa import Scaler

Look = tuple[int, float, float, float, int]

CASES: dict[str, tuple[float, dict[str, float], list[Look]]] = {
    "StableModeIncreaseWithConcurrencyDefault": (10, {}, [(1, 50, 10, 0, 5), (1, 100, 10, 0, 10)]),
    "StableModeIncreaseWithRPS": (10, {}, [(1, 50, 50, 0, 5), (1, 100, 99, 0, 10)]),
    "UnpanicAfterSlowIncrease": (1, {}, [(10, 11, 25, 0, 25), (40, 30, 41, 30, 41), (55, 50, 56, 62, 50)]),
    "ExtendPanicWindow": (1, {}, [(10, 11, 25, 0, 25), (40, 30, 80, 30, 80)]),
    "StableModeDecrease": (10, {}, [(8, 100, 100, 0, 10), (8, 50, 50, 0, 5)]),
    "StableModeNoTrafficScaleToZero": (10, {}, [(1, 1, 0, 0, 1), (1, 0, 0, 0, 0)]),
    "PanicModeExponentialTrackAndStabilize": (
        1,
        {},
        [
            (1, 6, 6, 0, 6),
            (6, 36, 36, 0, 36),
            (36, 216, 216, 1, 216),
            (216, 1296, 1296, 1, 1296),
            (1296, 1296, 1296, 2, 1296),
        ],
    ),
    "NoDataAtZeroNoAutoscale": (10, {}, [(1, 0, 0, 0, 0)]),
    "StableModeUnlimitedTBC": (181, {}, [(1, 21, 26, 0, 1)]),
    "0TBC": (10, {}, [(1, 50, 49, 0, 5)]),
    "StableModeNoChange": (10, {}, [(1, 50, 50, 0, 5)]),
    "StableModeNoChangeAlreadyScaled": (10, {}, [(5, 50, 50, 0, 5)]),
    "StableModeIncreaseWithSmallScaleUpRate": (1, {"up_rate": 1.1}, [(2, 3, 3.1, 0, 3)]),
    "StableModeDecreaseWithSmallScaleDownRate": (10, {"down_rate": 1.1}, [(100, 1, 1, 0, 90)]),
    "PanicModeDoublePodCount": (10, {}, [(1, 50, 100, 0, 10)]),
    "PanicThenUnPanicScaleDown": (
        10,
        {},
        [(1, 100, 100, 0, 10), (10, 100, 1000, 0, 100), (10, 1, 1, 30, 100), (10, 1, 1, 61, 1)],
    ),
    "RateLimitScaleUp": (10, {}, [(1, 1000, 1001, 0, 10), (10, 1000, 1001, 0, 100)]),
    "RateLimitScaleDown": (10, {}, [(100, 1, 1, 0, 10), (10, 1, 1, 0, 1)]),
    "UseOnePodAsMinimumIfEndpointsNotFound": (10, {}, [(0, 1000, 888, 0, 10)]),
    "ScaleDownDelayZero": (10, {}, [(0, 40, 40, 0, 4)]),
}


@pytest.mark.parametrize("name", CASES)
def test_every_published_case_gives_the_published_count(name: str):
    target, rates, looks = CASES[name]
    scaler = Scaler(np.array([float(target)]), **{"up_rate": 10.0, "down_rate": 10.0, **rates})
    counts = [
        int(scaler.scale(np.array([stable]), np.array([panic]), np.array([ready]), 1000.0 + at)[0])
        for ready, stable, panic, at, _ in looks
    ]
    assert counts == [wanted for *_, wanted in looks]


@pytest.mark.parametrize(("stable", "wanted"), [(50.0, 50), (20.0, 30)])
def test_in_panic_the_larger_of_both_means_counts(stable: float, wanted: int):
    """PanicStableLargerThanPanic and PanicStableLessThanPanic: five pods, in panic for five seconds."""
    scaler = Scaler(np.array([1.0]), 10.0, 10.0)
    scaler.begin(np.array([5]), 995.0)
    assert scaler.scale(np.array([stable]), np.array([30.0]), np.array([5]), 1000.0)[0] == wanted


@pytest.mark.parametrize(("ready", "panics"), [(0, False), (1, False), (2, True)])
def test_it_starts_in_panic_with_more_than_one_pod(ready: int, panics: bool):
    """StartInPanicMode: pods that are ready count, not those that are asked for."""
    scaler = Scaler(np.array([100.0]), 10.0, 10.0)
    scaler.begin(np.array([ready]), 1000.0)
    assert bool(scaler.in_panic[0] == 1000.0) is panics


def test_the_panic_window_is_extended_only_while_over_the_threshold():
    """UnpanicAfterSlowIncrease and ExtendPanicWindow look at the time of the last panic too."""
    scaler = Scaler(np.array([1.0]), 10.0, 10.0)
    scaler.scale(np.array([11.0]), np.array([25.0]), np.array([10]), 1000.0)
    scaler.scale(np.array([30.0]), np.array([41.0]), np.array([40]), 1030.0)
    assert scaler.in_panic[0] == 1000.0
    scaler.scale(np.array([30.0]), np.array([80.0]), np.array([40]), 1031.0)
    assert scaler.in_panic[0] == 1031.0
