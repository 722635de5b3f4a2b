"""What the census counts: CPU, memory and slots by node, GPU pods with what decides whether they move."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.wire import Node, Pod
from scheduler.repack.census import Census
from scheduler.repack.resources import NOTHING, PLENTY, Resources, node_resources, pod_resources
from tests.scheduler.repack_objects import a_pod

GPU = {"nvidia.com/gpu": "1"}


def node(name, **offered):
    return msgspec.convert({"metadata": {"name": name}, "status": {"allocatable": offered}}, Node)


def with_containers(main, init=()):
    def container(name, cpu, restart=""):
        return {"name": name, "restartPolicy": restart, "resources": {"requests": {"cpu": cpu}}}

    spec = {
        "containers": [container(f"c{n}", cpu) for n, cpu in enumerate(main)],
        "initContainers": [container(f"i{n}", cpu, restart) for n, (cpu, restart) in enumerate(init)],
    }
    return msgspec.convert({"metadata": {"name": "p", "uid": "u"}, "spec": spec}, Pod)


@pytest.mark.parametrize(
    ("main", "init", "millis"),
    [
        (["500m", "1"], [], 1500),
        (["1"], [("4", "")], 4000),
        (["1"], [("2", "Always"), ("3", "")], 5000),
        (["4"], [("2", "Always"), ("3", "")], 6000),
        (["nonsense"], [], 0),
    ],
)
def test_a_pod_takes_what_its_containers_need_together(main, init, millis):
    assert pod_resources(with_containers(main, init)) == Resources(millis, 0, 1)


def test_a_request_of_the_whole_pod_an_overhead_and_a_limit_without_request_count():
    def taken(spec):
        return pod_resources(msgspec.convert({"metadata": {"name": "p", "uid": "u"}, "spec": spec}, Pod))

    limited = {"name": "c", "resources": {"limits": {"cpu": "2", "memory": "1Gi"}}}
    assert taken({"containers": [limited]}) == Resources(2000, 1 << 30, 1)
    whole = {"requests": {"cpu": "6", "memory": "3Gi"}}
    assert taken({"containers": [limited], "resources": whole}) == Resources(6000, 3 << 30, 1)
    overhead = {"cpu": "250m", "memory": "120Mi"}
    assert taken({"containers": [limited], "overhead": overhead}) == Resources(
        2250, (1 << 30) + (120 << 20), 1
    )


def test_what_a_node_does_not_tell_is_plenty():
    assert node_resources(node("a", cpu="2")) == Resources(2000, PLENTY, PLENTY)


def test_overdrawn_is_no_hindrance_to_what_is_not_asked_for():
    assert Resources(-5, 10, 1).covers(Resources(0, 10, 1))
    assert not Resources(-5, 10, 1).covers(Resources(1, 0, 1))
    assert not Resources(5, 10, 0).covers(Resources(0, 0, 1))


def test_finished_pods_and_pods_elsewhere_take_nothing():
    census = Census()
    census.put_node(node("a", cpu="4", memory="8Gi", pods="10"))
    census.put_pod(a_pod("one", on="a", limits=GPU, cpu="1"))
    census.put_pod(a_pod("plain", on="a", cpu="2"))
    assert census.free()["a"].cpu_millis == 1000
    assert census.free()["a"].pods == 8
    ended = msgspec.structs.replace(a_pod("plain", on="a", cpu="2").status, phase="Succeeded")
    census.put_pod(msgspec.structs.replace(a_pod("plain", on="a", cpu="2"), status=ended))
    assert census.free()["a"].cpu_millis == 3000
    assert [pod.name for pod in census.residents()] == ["one"]
    assert census.plain("uid-one") is None


def test_successors_are_found_by_their_controller():
    census = Census()
    census.put_pod(a_pod("x-1", on="a", limits=GPU, app="x"))
    census.put_pod(a_pod("x-2", limits=GPU, app="x"))
    assert {pod.name for pod in census.of_owner("uid-of-x")} == {"x-1", "x-2"}
    census.drop_pod("uid-x-1")
    census.drop_pod("uid-x-2")
    assert census.of_owner("uid-of-x") == []


@given(
    st.lists(st.tuples(st.sampled_from("pqr"), st.sampled_from(["", "a", "b"]), st.booleans()), max_size=20)
)
def test_the_books_balance_whatever_happens(events):
    census = Census()
    for name in "ab":
        census.put_node(node(name, cpu="100", memory="100Gi", pods="100"))
    living = {}
    for name, where, leaves in events:
        if leaves:
            census.drop_pod(f"uid-{name}")
            living.pop(name, None)
        else:
            # A bound pod never moves.
            where = living.get(name) or where
            living[name] = where
            census.put_pod(a_pod(name, on=where, limits=GPU, cpu="3"))
    for node_name in "ab":
        here = sum(1 for where in living.values() if where == node_name)
        assert census.free()[node_name].cpu_millis == 100_000 - 3000 * here
    census.replace_pods([])
    assert census.free()["a"].pods == 100
    assert census.residents() == []
    assert Resources(1, 1, 1) - Resources(1, 1, 1) == NOTHING
