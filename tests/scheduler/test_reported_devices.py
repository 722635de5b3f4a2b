"""Under the device plugin, a node that reports its devices is believed; where it does not, first-fit is."""

from __future__ import annotations

import pytest

from cluster.wire import ConfigMap
from dra.resource_api import ObjectMeta
from node.podresources_report import KEY, DeviceReport, ReportedGpu, config_map_name, encode
from scheduler.fleet import Fleet
from scheduler.reported_devices import ReportedDevices
from tests.scheduler.fleet_objects import node, pod


def report(*held: tuple[str, ...], name: str = "n", mig: tuple[int, ...] = ()) -> ConfigMap:
    gpus = tuple(
        ReportedGpu(index, f"GPU-{index}", "H100", pods, mig=index in mig) for index, pods in enumerate(held)
    )
    return config_map(encode(DeviceReport(name, gpus)), name)


def config_map(text: str, name: str = "n") -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(name=config_map_name(name)), data={KEY: text})


def plugin(gpus: int = 4) -> Fleet:
    fleet = Fleet(capacity=1)
    fleet.apply_node(node("n", allocatable={"nvidia.com/gpu": str(gpus)}))
    return fleet


def taken(fleet: Fleet, column: str = "occupied") -> list[int]:
    row = fleet.rows["n"]
    masks = getattr(fleet.columns, column)[row, : fleet.columns.gpu_count[row]]
    return [gpu for gpu, mask in enumerate(masks.tolist()) if mask]


def test_a_pod_has_the_gpus_that_its_node_reports():
    fleet = plugin()
    fleet.apply_pod(pod("a", {"nvidia.com/gpu": 2}, on="n"))
    assert taken(fleet) == [0, 1]
    fleet.change_reports(lambda known: known.put(report((), ("default/a",), (), ("default/a",))))
    assert taken(fleet) == taken(fleet, "certain") == [1, 3]
    fleet.change_reports(lambda known: known.drop(config_map_name("n")))
    assert taken(fleet) == [0, 1]


def test_a_pod_that_is_not_reported_yet_is_replayed_on_what_is_left():
    fleet = plugin()
    fleet.change_reports(lambda known: known.put(report(("default/b",), (), (), ())))
    fleet.apply_pod(pod("a", {"nvidia.com/gpu": 1}, on="n"))
    fleet.apply_pod(pod("b", {"nvidia.com/gpu": 1}, on="n"))
    assert taken(fleet) == [0, 1]
    fleet.delete_pod("uid-b")
    assert taken(fleet) == [0]


@pytest.mark.parametrize(
    "stale",
    [
        report(("default/a",), (), ()),  # another number of GPUs than the node offers
        report(("default/a",), ("default/a",), (), ()),  # more than the pod asks for
        report(("default/a", "default/b"), (), (), ()),  # shared: nobody has it whole
        config_map("{"),
        config_map(encode(DeviceReport("other", ()))),
    ],
)
def test_a_report_that_cannot_be_true_changes_nothing(stale):
    fleet = plugin()
    fleet.apply_pod(pod("a", {"nvidia.com/gpu": 1}, on="n"))
    fleet.change_reports(lambda known: known.put(stale))
    assert taken(fleet) == [0]


def test_gpus_in_mig_mode_have_no_position_among_the_whole_ones():
    fleet = plugin(gpus=2)
    fleet.apply_pod(pod("a", {"nvidia.com/gpu": 1}, on="n"))
    fleet.change_reports(lambda known: known.put(report((), ("default/x",), ("default/a",), mig=(1,))))
    assert taken(fleet) == [1]


def test_a_complete_list_forgets_the_nodes_that_are_not_in_it():
    fleet = plugin()
    fleet.apply_pod(pod("a", {"nvidia.com/gpu": 1}, on="n"))
    fleet.change_reports(lambda known: known.put(report((), (), (), ("default/a",))))
    assert taken(fleet) == [3]
    fleet.change_reports(lambda known: known.replace([report((), name="other")]))
    assert taken(fleet) == [0]
    assert list(fleet.facts.reported.nodes()) == ["other"]


def test_config_maps_of_another_name_are_not_reports():
    reported = ReportedDevices()
    other = ConfigMap(metadata=ObjectMeta(name="kube-root-ca.crt"))
    assert reported.put(other) == reported.drop("kube-root-ca.crt") == set()


def test_the_newest_report_tells_whose_an_instance_is():
    reported = ReportedDevices()
    assert reported.put(report(("default/a",))) == {"n"}
    assert reported.put(report(("default/a",))) == set()
    found = reported.report("n")
    assert found is not None
    assert found.gpus[0].held == ("default/a",)
