"""What the kubelet gave away and what the cards are become one report, published only when it changes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.api_errors import ApiUnreachable
from cluster.wire import Node
from dra.cards import Card, InstanceProfile, LiveInstance
from dra.resource_api import ObjectMeta
from node.podresources import KubeletAway
from node.podresources_report import (
    KEY,
    DeviceReport,
    ReportedGpu,
    ReportedInstance,
    ReportRefused,
    build_report,
    decode,
    encode,
)
from node.podresources_reporter import Reporter, config_map

SMALL = InstanceProfile("1g.10gb", 19, 1, tuple(range(7)), 1, 9856, 7)


def cards() -> tuple[Card, ...]:
    live = tuple(LiveInstance("GPU-b", at, 0, 19, start, 1, f"MIG-{start}") for at, start in ((1, 6), (2, 0)))
    return (
        Card(index=0, uuid="GPU-a", product="NVIDIA H100 80GB HBM3"),
        Card(
            index=1,
            uuid="GPU-b",
            product="NVIDIA H100 80GB HBM3",
            mig_capable=True,
            mig_enabled=True,
            profiles=(SMALL,),
            live=live,
        ),
    )


def test_a_report_says_which_instance_where_on_which_gpu_is_whose():
    held = [
        ("a/one", "nvidia.com/mig-1g.10gb", ("MIG-6",)),
        ("a/two", "nvidia.com/gpu", ("GPU-a",)),
        ("a/three", "example.com/fpga", ("MIG-0",)),
    ]
    report = build_report("n", cards(), held)
    whole, cut = report.gpus
    assert (whole.uuid, whole.held, whole.mig) == ("GPU-a", ("a/two",), False)
    assert cut.instances == (
        ReportedInstance("MIG-0", "1g.10gb", 0, 1),
        ReportedInstance("MIG-6", "1g.10gb", 6, 1, ("a/one",)),
    )
    assert report.unknown == {}


def test_shares_of_one_gpu_name_all_its_pods():
    held = [
        ("a/two", "nvidia.com/gpu.shared", ("GPU-a::3",)),
        ("a/one", "nvidia.com/gpu.shared", ("GPU-a::0", "GPU-a::1")),
    ]
    assert build_report("n", cards(), held).gpus[0].held == ("a/one", "a/two")


def test_a_device_that_no_card_has_is_kept_apart():
    report = build_report("n", cards(), [("a/one", "nvidia.com/gpu", ("0",))])
    assert report.unknown == {"0": ("a/one",)}


names = st.text("abc-", min_size=1, max_size=6)
reports = st.builds(
    DeviceReport,
    node=names,
    gpus=st.lists(
        st.builds(
            ReportedGpu,
            index=st.integers(0, 15),
            uuid=names,
            product=names,
            held=st.lists(names, max_size=3).map(tuple),
            instances=st.lists(
                st.builds(ReportedInstance, names, names, st.integers(0, 7), st.integers(1, 8)), max_size=3
            ).map(tuple),
            mig=st.booleans(),
        ),
        max_size=3,
    ).map(tuple),
    unknown=st.dictionaries(names, st.lists(names, max_size=2).map(tuple), max_size=2),
)


@given(reports)
def test_a_report_is_read_as_it_was_written(report):
    assert decode(encode(report)) == report


@pytest.mark.parametrize("text", ["", "[]", '{"node":"n"}', '{"node":"n","gpus":[],"version":2}'])
def test_a_document_that_cannot_be_read_is_refused_with_its_name(text):
    with pytest.raises(ReportRefused, match=KEY):
        decode(text)


class Kubelet:
    def __init__(self):
        self.answer = ()

    def held(self):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def kubelet():
    return Kubelet()


def reporter(kubelet, published, refresh_seconds=300.0):
    return Reporter("n", kubelet, cards, published, refresh_seconds)


def test_only_changes_are_published_and_now_and_then_the_copy_is_put_right(kubelet):
    told = []
    run = reporter(kubelet, told.append)
    assert run.step(0.0)
    assert not run.step(1.0)
    kubelet.answer = (("a/one", "nvidia.com/mig-1g.10gb", ("MIG-6",)),)
    assert run.step(2.0)
    assert not run.step(3.0)
    assert run.step(302.0)
    assert len(told) == 3
    assert told[1] == told[2] != told[0]


def test_a_kubelet_that_is_away_leaves_the_last_report_and_is_asked_again(kubelet):
    told = []
    run = reporter(kubelet, told.append)
    kubelet.answer = KubeletAway("gone")
    assert not run.step(0.0)
    assert run.problem == "gone"
    kubelet.answer = ()
    assert run.step(1.0)
    assert run.problem == ""


def test_what_the_api_server_did_not_take_is_sent_again(kubelet):
    told = []

    def publish(report):
        told.append(report)
        if len(told) == 1:
            raise ApiUnreachable("PATCH /x", "no answer")

    run = reporter(kubelet, publish)
    assert not run.step(0.0)
    assert run.step(1.0)
    assert told[0] == told[1]


def test_the_config_map_goes_with_its_node():
    report = build_report("n", cards(), [])
    made = config_map(report, "slicewise-nodes", Node(metadata=ObjectMeta(name="n", uid="u1")))
    assert made["metadata"]["name"] == "slicewise-devices-n"
    assert made["metadata"]["ownerReferences"] == [
        {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u1"}
    ]
    assert decode(made["data"][KEY]) == report
    assert "ownerReferences" not in config_map(report, "slicewise-nodes", None)["metadata"]
