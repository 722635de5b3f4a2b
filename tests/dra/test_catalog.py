"""The catalogue says only what was seen, and finds a model however its name is spelled."""

import re

import pytest

from dra.catalog import GpuModel, UnknownModel, find_model, models, whole_gpu_model

MIG_MODELS = [model for model in models().values() if model.profiles]


def test_models_without_known_placements_are_whole_gpus():
    for name in ("H200-141GB", "GH200-144GB", "B300-269GB", "H100-96GB", "L40S-48GB", "T4-16GB"):
        model = models()[name]
        assert model.units == 1
        assert model.profiles == ()
        assert model.placement_status in ("unknown", "no MIG")


@pytest.mark.parametrize("model", MIG_MODELS, ids=lambda m: m.name)
def test_disjoint_starts_of_a_profile_give_its_number_of_instances(model):
    assert model.units in (4, 8, 12)
    for profile in model.profiles:
        assert all(s >= 0 and s + profile.size <= model.units for s in profile.starts), profile.name
        count, end = 0, 0
        for start in profile.starts:
            if start >= end:
                count, end = count + 1, start + profile.size
        # A media extension exists once on a GPU whatever the space.
        assert profile.max_instances == (1 if profile.media else count), profile.name


def test_the_one_placement_nobody_has_seen_is_marked_as_inferred():
    model = models()["A100-80GB"]
    assert [p.name for p in model.profiles if p.inferred] == ["1g.20gb"]
    assert "inferred" in model.placement_status
    assert not any(p.inferred for other in MIG_MODELS if other is not model for p in other.profiles)


def test_every_number_has_a_source_or_says_that_it_is_from_memory():
    for model in models().values():
        for fact in ("memory_mib", "idle_watts", "peak_watts", "pcie_gigabytes_per_second", "products"):
            assert any(source.startswith(f"{fact}:") for source in model.sources), (model.name, fact)
        if model.nvlink is not None:
            assert any(source.startswith("nvlink:") for source in model.sources)
        assert 0 < model.idle_watts < model.peak_watts


@pytest.mark.parametrize(
    ("product", "name"),
    [
        ("NVIDIA A100-SXM4-80GB", "A100-80GB"),
        ("NVIDIA-A100-SXM4-80GB", "A100-80GB"),
        ("nvidia-a100-sxm4-40gb-shared", "A100-40GB"),
        ("NVIDIA-A100-80GB-PCIe-MIG-1g.10gb", "A100-80GB"),
        ("NVIDIA H100 80GB HBM3", "H100-80GB"),
        ("Tesla-T4", "T4-16GB"),
        ("H100-94GB", "H100-94GB"),
    ],
)
def test_a_model_is_found_by_any_usual_spelling(product, name):
    found = find_model(product)
    assert isinstance(found, GpuModel)
    assert found.name == name


def test_an_unknown_product_is_a_value_and_can_still_be_used_whole():
    assert find_model("Radeon 9000") == UnknownModel("Radeon 9000")
    model = whole_gpu_model("Radeon 9000", 16384)
    assert (model.units, model.profiles, model.memory_mib) == (1, (), 16384)


def test_no_two_models_claim_the_same_product():
    seen: dict[str, str] = {}
    for model in models().values():
        for product in model.products:
            key = re.sub(r"\s+", "-", product).lower()
            assert seen.setdefault(key, model.name) == model.name
