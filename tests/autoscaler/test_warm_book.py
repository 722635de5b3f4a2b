"""The warm pods by workload: what the watch tells, in whatever order, and nothing of what is gone."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.targets import Target
from autoscaler.warm.warm_book import WarmBook
from cluster.wire import Pod

TARGETS = [Target("apps/v1", "Deployment", "ns", name) for name in ("a", "b")]


def warm(number: int, *, of: int, node: str = "", kind: str = "placeholder", leaves: bool = False) -> Pod:
    meta: dict[str, Any] = {
        "uid": f"u{number}",
        "name": f"p{number}",
        "namespace": "ns",
        "labels": {"slicewise.io/warm": kind},
        "annotations": {"slicewise.io/warm-for": str(TARGETS[of])},
    }
    if leaves:
        meta["deletionTimestamp"] = "2026-11-21T10:00:00Z"
    return msgspec.convert({"metadata": meta, "spec": {"nodeName": node}}, Pod)


CHANGES = st.tuples(
    st.sampled_from(["ADDED", "MODIFIED", "DELETED", "LIST"]),
    st.builds(
        warm,
        st.integers(0, 4),
        of=st.integers(0, 1),
        node=st.sampled_from(["", "n1"]),
        kind=st.sampled_from(["placeholder", "prefetch"]),
        leaves=st.booleans(),
    ),
)


@given(st.lists(CHANGES, max_size=30))
def test_the_pods_of_a_workload_are_those_that_the_watch_left(changes: list[tuple[str, Pod]]):
    book, there = WarmBook(), dict[str, Pod]()
    for kind, pod in changes:
        if kind == "LIST":
            book.replaced([pod])
            there = {pod.metadata.uid: pod}
        else:
            book.changed(kind, pod)
            there.pop(pod.metadata.uid, None)
            if kind != "DELETED":
                there[pod.metadata.uid] = pod
    for target in TARGETS:
        mine = [
            pod
            for pod in there.values()
            if pod.metadata.annotations["slicewise.io/warm-for"] == str(target)
            and pod.metadata.deletion_timestamp is None
        ]
        assert [one.name for one in book.of(str(target))] == sorted(pod.metadata.name for pod in mine)
        held = [
            p for p in mine if p.spec.node_name and p.metadata.labels["slicewise.io/warm"] == "placeholder"
        ]
        assert book.held(target) == len(held)
    assert len(book.all()) == sum(len(book.of(str(target))) for target in TARGETS)
