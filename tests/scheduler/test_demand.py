"""Reading what a pod asks for."""

from __future__ import annotations

import msgspec
import pytest

from cluster.wire import Pod
from scheduler.demand import Demand, GpuRequest, gpu_request, parse_demand
from scheduler.facts import Facts
from tests.scheduler.fleet_objects import claim, claim_spec, device_class, pod, template


def read(the_pod: Pod, facts: Facts | None = None) -> Demand | None:
    known = facts or Facts()
    return parse_demand(the_pod, known, known.classes)


def containers(main: list[dict[str, int]], init: list[tuple[dict[str, int], str]]) -> Pod:
    return msgspec.convert(
        {
            "metadata": {"name": "p", "namespace": "default"},
            "spec": {
                "containers": [{"name": f"c{i}", "resources": {"requests": r}} for i, r in enumerate(main)],
                "initContainers": [
                    {"name": f"i{i}", "resources": {"requests": r}, "restartPolicy": policy}
                    for i, (r, policy) in enumerate(init)
                ],
            },
        },
        Pod,
    )


def test_pod_without_a_device_has_no_demand():
    assert read(pod("p", {"cpu": "4", "memory": "16Gi", "hugepages-2Mi": "1Gi"})) is None


def test_plugin_resources_become_requests():
    demand = read(pod("p", {"nvidia.com/gpu": "2", "nvidia.com/mig-1g.10gb": 3, "nvidia.com/gpu.shared": 1}))
    assert demand is not None
    assert set(demand.requests) == {
        GpuRequest("whole", None, 2),
        GpuRequest("mig", "1g.10gb", 3),
        GpuRequest("shared", None, 1),
    }


@pytest.mark.parametrize(
    ("resource", "profile"),
    [
        ("nvidia.com/mig-1g.10gb", "1g.10gb"),
        ("nvidia.com/mig-1g.10gb.me", "1g.10gb+me"),
        ("nvidia.com/mig-1g.24gb.me.all", "1g.24gb+me.all"),
        ("nvidia.com/mig-1g.24gb-me", "1g.24gb-me"),
        ("nvidia.com/mig-big", None),
        ("nvidia.com/gpu", None),
    ],
)
def test_mig_resource_names_are_written_as_profiles(resource: str, profile: str | None):
    found = gpu_request(resource, 1)
    assert (found.profile if found else None) == profile


def test_containers_add_up_and_init_containers_take_the_maximum():
    gpu = "nvidia.com/gpu"
    assert read(containers([{gpu: 1}, {gpu: 2}], [({gpu: 2}, "")])) == Demand((GpuRequest("whole", None, 3),))
    assert read(containers([{gpu: 1}], [({gpu: 4}, "")])) == Demand((GpuRequest("whole", None, 4),))


def test_sidecars_run_beside_containers_and_beside_later_init_containers():
    gpu = "nvidia.com/gpu"
    both = containers([{gpu: 1}], [({gpu: 2}, "Always"), ({gpu: 3}, ""), ({gpu: 1}, "Always")])
    # Main: 1 + 2 + 1 = 4; the plain init container runs beside the first sidecar only: 3 + 2 = 5.
    assert read(both) == Demand((GpuRequest("whole", None, 5),))


def test_named_claim_is_read_from_the_claim():
    facts = Facts()
    facts.put_claim(claim("mine", profile="3g.40gb"))
    demand = read(pod("p", claims={"gpu": "mine"}), facts)
    assert demand is not None
    assert demand.requests == (GpuRequest("mig", "3g.40gb", 1),)


def test_template_is_read_until_its_claim_exists():
    facts = Facts()
    facts.put_template(template("small", "1g.10gb"))
    waiting = pod("p", templates={"gpu": "small"})
    assert read(waiting, facts) == Demand((GpuRequest("mig", "1g.10gb", 1),), image="vllm/vllm-openai:v1")
    facts.put_claim(claim("p-gpu-x", profile="1g.10gb", owner="p"))
    assert read(pod("p", templates={"gpu": "small"}, generated={"gpu": "p-gpu-x"}), facts) == read(
        waiting, facts
    )


def test_unknown_claim_is_not_guessed():
    demand = read(pod("p", claims={"gpu": "nowhere"}))
    assert demand is not None
    assert not demand.understood


def test_claims_of_other_drivers_are_no_gpu_demand():
    facts = Facts()
    facts.put_class(device_class("nic", "device.driver == 'nic.example.com'"))
    spec = claim_spec("")
    spec["devices"]["requests"][0]["exactly"]["deviceClassName"] = "nic"
    wanted = msgspec.structs.replace(claim("nic"), spec=msgspec.convert(spec, type(claim("x").spec)))
    facts.put_claim(wanted)
    assert read(pod("p", claims={"net": "nic"}), facts) is None


def test_extended_resource_backed_by_a_class_is_read_through_the_class():
    facts = Facts()
    expression = (
        "device.driver == 'gpu.nvidia.com' && device.attributes['gpu.nvidia.com'].profile == '2g.20gb'"
    )
    facts.put_class(device_class("two", expression, extended="example.com/slice"))
    for resource in ("example.com/slice", "deviceclass.resource.kubernetes.io/two"):
        demand = read(pod("p", {resource: 2}), facts)
        assert demand is not None
        assert demand.requests == (GpuRequest("mig", "2g.20gb", 2),)
    assert read(pod("p", {"example.com/other": 1}), facts) is None


def test_annotations_are_read():
    demand = read(
        pod(
            "p",
            {"nvidia.com/gpu": 4},
            annotations={
                "slicewise.io/nvlink": "required",
                "slicewise.io/nvlink-weight": "0.25",
                "slicewise.io/carbon-class": "clean",
                "slicewise.io/gpu-model": "A100-80GB, H100-80GB",
                "slicewise.io/weights": "llama-70b",
            },
        )
    )
    assert demand is not None
    assert (demand.nvlink_need, demand.nvlink_weight, demand.carbon_class) == ("required", 0.25, "clean")
    assert demand.models == frozenset({"A100-80GB", "H100-80GB"})
    assert demand.weights == "llama-70b"
    assert demand.problems == ()


def test_malformed_annotations_keep_the_default_and_are_told():
    demand = read(
        pod(
            "p",
            {"nvidia.com/gpu": 4},
            annotations={
                "slicewise.io/nvlink": "please",
                "slicewise.io/nvlink-weight": "nan",
                "slicewise.io/gpu-model": " , ",
            },
        )
    )
    assert demand is not None
    assert (demand.nvlink_need, demand.nvlink_weight, demand.models) == (None, None, None)
    assert len(demand.problems) == 3
    assert (
        "got 'please', expected one of none, preferred, required" in demand.problems[2] + demand.problems[1]
    )


def test_problems_do_not_split_demands():
    plain, odd = (
        read(pod("p", {"nvidia.com/gpu": 1}, annotations=a)) for a in ({}, {"slicewise.io/nvlink": "x"})
    )
    assert plain == odd
    assert hash(plain) == hash(odd)


def test_unreadable_quantities_are_told_and_not_counted():
    demand = read(pod("p", {"nvidia.com/gpu": "1.5", "nvidia.com/mig-1g.10gb": 1}))
    assert demand is not None
    assert demand.requests == (GpuRequest("mig", "1g.10gb", 1),)
    assert "expected a whole number of devices" in demand.problems[0]
