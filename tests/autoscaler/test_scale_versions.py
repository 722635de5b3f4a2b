"""A scale that is read by request stands until its object changes, whoever reads or writes meanwhile."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from autoscaler.replicas_writers import ReplicasWriter
from autoscaler.scale_index import collection_of
from autoscaler.scale_versions import ObjectVersion, ScaleVersions, as_new
from autoscaler.selectors import parse_selector
from autoscaler.targets import ScaleSight, Target, TargetRefused
from cluster.api_errors import ApiUnreachable
from cluster.wire import ObjectReference

TARGET = Target("example.org/v1", "Model", "n", "a")


class Server:
    """One custom resource: its count, its version, and how often its scale was asked for."""

    def __init__(self) -> None:
        self.replicas, self.version, self.asked = 2, 5, 0
        self.raises: Exception | None = None

    def read(self, target: Target) -> ScaleSight:
        self.asked += 1
        if self.raises is not None:
            raise self.raises
        return sight(self.replicas, str(self.version))

    def shows(self, versions: ScaleVersions) -> None:
        """The watch has come as far as now."""
        versions.changed("MODIFIED", shown(str(self.version)))


def sight(replicas: int, version: str) -> ScaleSight:
    return ScaleSight(TARGET, "/", replicas, parse_selector("app=a"), ObjectReference(name="a"), version)


def shown(version: str, name: str = "a", managers: tuple[tuple[str, str], ...] = ()) -> ObjectVersion:
    fields: list[dict[str, Any]] = [
        {"manager": manager, "operation": "Update", "time": at, "fieldsV1": {"f:spec": {"f:replicas": {}}}}
        for manager, at in managers
    ]
    metadata = {"name": name, "namespace": "n", "resourceVersion": version, "managedFields": fields}
    return msgspec.json.decode(msgspec.json.encode({"metadata": metadata}), type=ObjectVersion)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def versions() -> ScaleVersions:
    made = ScaleVersions()
    made.replaced([shown("5")])
    return made


def test_what_does_not_change_is_asked_for_once(server: Server, versions: ScaleVersions):
    for _ in range(5):
        assert versions.read(TARGET, server.read).replicas == 2
    assert server.asked == 1


def test_what_changed_is_asked_for_once_more(server: Server, versions: ScaleVersions):
    versions.read(TARGET, server.read)
    server.replicas, server.version = 7, 6
    assert versions.read(TARGET, server.read).replicas == 2  # nobody has told yet
    server.shows(versions)
    assert [versions.read(TARGET, server.read).replicas for _ in range(3)] == [7, 7, 7]
    assert server.asked == 2


def test_our_own_write_is_known_without_asking(server: Server, versions: ScaleVersions):
    before = versions.read(TARGET, server.read)
    server.replicas, server.version = 4, 6
    versions.wrote(before, 4, "6")
    told = versions.read(TARGET, server.read)
    assert (told.replicas, told.resource_version) == (4, "6")
    server.shows(versions)
    assert versions.read(TARGET, server.read).replicas == 4
    assert server.asked == 1
    server.replicas, server.version = 9, 8  # somebody else, after us
    server.shows(versions)
    assert versions.read(TARGET, server.read).replicas == 9


def test_a_write_whose_answer_could_not_be_read_is_asked_about(server: Server, versions: ScaleVersions):
    before = versions.read(TARGET, server.read)
    server.replicas, server.version = 4, 6
    versions.wrote(before, 4, "")
    assert versions.read(TARGET, server.read).replicas == 4


def test_an_answer_that_comes_late_does_not_undo_a_newer_one(server: Server, versions: ScaleVersions):
    before = versions.read(TARGET, server.read)
    server.version = 6
    server.shows(versions)

    def overtaken(target: Target) -> ScaleSight:
        versions.wrote(before, 9, "7")
        return sight(2, "6")

    assert versions.read(TARGET, overtaken).replicas == 9
    assert versions.read(TARGET, server.read).replicas == 9
    assert server.asked == 1


def test_versions_that_are_no_numbers_count_only_when_they_are_the_same(server: Server):
    made = ScaleVersions()
    made.replaced([shown("b")])
    answers = iter([sight(2, "b"), sight(3, "c")])
    assert made.read(TARGET, lambda target: next(answers)).replicas == 2
    assert made.read(TARGET, lambda target: next(answers)).replicas == 2
    made.changed("MODIFIED", shown("c"))
    assert made.read(TARGET, lambda target: next(answers)).replicas == 3


def test_what_the_watch_does_not_show_is_not_there(server: Server, versions: ScaleVersions):
    versions.read(TARGET, server.read)
    versions.changed("DELETED", shown("6"))
    with pytest.raises(TargetRefused, match="Model n/a: does not exist") as refused:
        versions.read(TARGET, server.read)
    assert refused.value.cause == "not_found"
    server.version = 9
    versions.replaced([shown("9"), shown("1", "b")])
    versions.read(TARGET, server.read)
    assert server.asked == 2


def test_a_scale_without_a_selector_is_asked_for_again_once_the_object_changes(server: Server, versions):
    server.raises = TargetRefused("not_scalable", "its scale has no status.selector")
    for _ in range(3):
        with pytest.raises(TargetRefused, match=r"no status\.selector"):
            versions.read(TARGET, server.read)
    assert server.asked == 1
    server.raises, server.version = None, 6
    server.shows(versions)
    assert versions.read(TARGET, server.read).replicas == 2


@pytest.mark.parametrize(
    "error", [TargetRefused("forbidden", "not allowed"), ApiUnreachable("no answer")], ids=["rights", "away"]
)
def test_what_may_pass_is_asked_for_each_time(server: Server, versions: ScaleVersions, error: Exception):
    server.raises = error
    for _ in range(2):
        with pytest.raises(type(error)):
            versions.read(TARGET, server.read)
    server.raises = None
    assert versions.read(TARGET, server.read).replicas == 2
    assert server.asked == 3


def test_who_wrote_is_told_only_of_the_count_that_was_read(server: Server, versions: ScaleVersions):
    assert versions.writers(TARGET) is None
    ours, theirs = ("slicewise-controller", "2026-01-01T00:00:00Z"), ("kubectl", "2026-01-02T00:00:00Z")
    versions.changed("MODIFIED", shown("5", managers=(ours,)))
    before = versions.read(TARGET, server.read)
    assert versions.writers(TARGET) == (ReplicasWriter(ours[0], "Update", "", ours[1]),)
    versions.wrote(before, 4, "6")
    # The watch still tells of version 5: nobody may be blamed, or cleared, by that.
    assert versions.writers(TARGET) is None
    versions.changed("MODIFIED", shown("6", managers=(theirs,)))
    assert [one.manager for one in versions.writers(TARGET) or ()] == ["kubectl"]


def test_which_version_is_as_new():
    assert as_new("10", "9")
    assert as_new("9", "9")
    assert not as_new("9", "10")
    assert as_new("x", "x")
    assert not as_new("x", "9")


@pytest.mark.parametrize(
    ("path", "collection"),
    [
        ("/apis/example.org/v1/namespaces/n/models/a/scale", "/apis/example.org/v1/models"),
        (
            "/api/v1/namespaces/namespaces/replicationcontrollers/namespaces/scale",
            "/api/v1/replicationcontrollers",
        ),
    ],
)
def test_where_all_of_a_kind_are_listed(path: str, collection: str):
    assert collection_of(path) == collection
