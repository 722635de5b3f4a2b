"""GPU utilisation is a ratio whatever the card, and belongs to the pod that holds the GPU."""

from __future__ import annotations

from typing import Any

import pytest

from metrics import dcgm
from metrics.samples import NoData, Sample, Vector

# An absence where a value is due fails the test by its missing attribute.
utilisation: Any = dcgm.utilisation
EMPTY = NoData("Prometheus has no such series", "empty")
OUTAGE = NoData("cannot reach Prometheus", "outage")


def vector(*series):
    return Vector(tuple(Sample(labels, value, 0.0) for value, labels in series))


PLAIN = {"namespace": "shop", "pod": "llm-0"}
EXPORTED = {
    "namespace": "gpu-operator",
    "pod": "dcgm-exporter-x",
    "exported_namespace": "shop",
    "exported_pod": "llm-0",
}


@pytest.mark.parametrize("labels", [PLAIN, EXPORTED], ids=["plain", "exported"])
def test_percent_off_mig_becomes_a_ratio(labels):
    answer = utilisation(vector((42.0, labels)), EMPTY).pod("shop", "llm-0")
    assert answer == dcgm.Utilisation(0.42, ("DCGM_FI_DEV_GPU_UTIL",))


@pytest.mark.parametrize("labels", [PLAIN, EXPORTED], ids=["plain", "exported"])
def test_the_ratio_on_mig_stays_a_ratio(labels):
    answer = utilisation(EMPTY, vector((0.42, labels))).pod("shop", "llm-0")
    assert answer == dcgm.Utilisation(0.42, ("DCGM_FI_PROF_GR_ENGINE_ACTIVE",))


def test_empty_exported_labels_mean_the_plain_ones():
    labels = {**PLAIN, "exported_pod": "", "exported_namespace": ""}
    assert utilisation(vector((10.0, labels)), EMPTY).pod("shop", "llm-0").ratio == pytest.approx(0.1)


def test_a_workload_is_the_mean_of_its_pods_that_report():
    answer = utilisation(
        vector((20.0, {"namespace": "shop", "pod": "a"})), vector((0.6, {"namespace": "shop", "pod": "b"}))
    )
    workload = answer.workload("shop", ["a", "b", "starting"])
    assert workload.ratio == pytest.approx(0.4)
    assert workload.pods == 2
    assert workload.fields == ("DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_PROF_GR_ENGINE_ACTIVE")


def test_a_pod_that_does_not_report_is_absent_not_idle():
    answer = utilisation(vector((20.0, PLAIN)), EMPTY).pod("shop", "other")
    assert isinstance(answer, NoData)
    assert answer.cause == "empty"


def test_a_pod_may_be_in_the_half_that_failed():
    answer = utilisation(vector((20.0, PLAIN)), OUTAGE)
    assert answer.pod("shop", "llm-0").ratio == pytest.approx(0.2)
    assert answer.pod("shop", "other") == OUTAGE
    assert answer.workload("shop", ["other"]) == OUTAGE


@pytest.mark.parametrize(("whole", "mig", "cause"), [(EMPTY, EMPTY, "empty"), (OUTAGE, EMPTY, "outage")])
def test_without_any_value_the_graver_reason_is_given(whole, mig, cause):
    answer = utilisation(whole, mig)
    assert isinstance(answer, NoData)
    assert answer.cause == cause


def test_percent_under_the_ratio_s_name_is_refused_by_name():
    answer = utilisation(EMPTY, vector((57.0, PLAIN)))
    assert isinstance(answer, NoData)
    assert answer.cause == "malformed"
    assert "DCGM_FI_PROF_GR_ENGINE_ACTIVE of pod shop/llm-0" in answer.reason


def test_an_idle_gpu_is_zero():
    assert utilisation(vector((0.0, PLAIN)), EMPTY).pod("shop", "llm-0").ratio == 0.0
