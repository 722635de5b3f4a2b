"""The reflector against an API server that misbehaves in every way that the protocol allows."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence

import pytest

from cluster.backoff import Backoff
from cluster.client import Api
from cluster.reflector import Reflector
from cluster.wire import ConfigMap
from tests import polling
from tests.cluster_room.scripted_server import Exchange, config_map, page

PATH = "/api/v1/configmaps"


class Mirror:
    """A handler that remembers what it was told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[str, ...]]] = []
        self.state: dict[str, str] = {}
        self._news = threading.Condition()

    def replaced(self, items: Sequence[ConfigMap]) -> None:
        with self._news:
            self.calls.append(("replaced", tuple(item.metadata.name for item in items)))
            self.state = {item.metadata.name: item.metadata.resource_version for item in items}
            self._news.notify_all()

    def changed(self, kind: str, item: ConfigMap) -> None:
        with self._news:
            self.calls.append((kind, (item.metadata.name,)))
            if kind == "DELETED":
                self.state.pop(item.metadata.name, None)
            else:
                self.state[item.metadata.name] = item.metadata.resource_version
            self._news.notify_all()

    def wait(self, condition: Callable[[Mirror], bool], seconds: float = polling.SOON_SECONDS) -> None:
        with self._news:
            assert self._news.wait_for(lambda: condition(self), seconds), self.calls


@pytest.fixture
def reflect():
    started: list[Reflector[ConfigMap]] = []

    def start(api: Api, handler: object, **options: object) -> Reflector[ConfigMap]:
        jitter = random.Random(1)
        options = {"jitter": jitter, "backoff": Backoff(0.01, 0.05, jitter), **options}
        reflector = Reflector(api, PATH, ConfigMap, handler, **options)  # type: ignore[arg-type]
        started.append(reflector)
        reflector.start()
        return reflector

    yield start
    for reflector in started:
        reflector.stop()
        assert not reflector.running


def until(condition: Callable[[], bool]) -> None:
    polling.until(condition, 5.0, "the reflector to get there", every_seconds=0.005)


def script(*, lists: Sequence[object], watches: Sequence[Callable[[Exchange], None]]):
    """Answer lists and watches in order; the last list repeats, a watch beyond the last hangs."""
    given = {"lists": 0, "watches": 0}

    def answer(exchange: Exchange) -> None:
        if exchange.watching:
            number = given["watches"]
            given["watches"] += 1
            if number >= len(watches):
                exchange.begin_watch()
                exchange.hang()
                return
            watches[number](exchange)
        else:
            number = min(given["lists"], len(lists) - 1)
            given["lists"] += 1
            exchange.json(200, lists[number])

    return answer


def test_pages_are_joined_into_one_replacement_and_events_follow_in_order(serve, reflect):
    def watch(exchange: Exchange) -> None:
        exchange.begin_watch()
        exchange.event("ADDED", config_map("c", 11))
        exchange.event("MODIFIED", config_map("a", 12))
        exchange.event("DELETED", config_map("b", 13))
        exchange.hang()

    lists = [page([config_map("a", 1)], 10, "more"), page([config_map("b", 2)], 10)]
    server, api = serve(script(lists=lists, watches=[watch]))
    mirror = Mirror()
    reflector = reflect(api, mirror, page_size=1, label_selector="x=y")
    mirror.wait(lambda seen: len(seen.calls) == 4)

    assert mirror.calls == [
        ("replaced", ("a", "b")),
        ("ADDED", ("c",)),
        ("MODIFIED", ("a",)),
        ("DELETED", ("b",)),
    ]
    assert mirror.state == {"a": "12", "c": "11"}
    assert reflector.synced.is_set()
    first, second, watching = (request.query for request in server.requests)
    assert first == {"labelSelector": "x=y", "limit": "1"}
    assert second["continue"] == "more"
    assert watching["allowWatchBookmarks"] == "true"
    assert watching["resourceVersion"] == "10"
    assert 1 <= int(watching["timeoutSeconds"]) <= 180
    until(lambda: reflector.resource_version == "13")
    assert reflector.age_seconds() is not None
    assert reflector.age_seconds() < polling.LONGEST_SECONDS
    assert reflector.last_error is None


def test_where_the_metadata_is_enough_the_server_is_asked_for_no_more(serve, reflect):
    def watch(exchange: Exchange) -> None:
        exchange.begin_watch()
        exchange.event("MODIFIED", config_map("a", 12))
        exchange.hang()

    server, api = serve(script(lists=[page([config_map("a", 1)], 10)], watches=[watch]))
    mirror = Mirror()
    reflect(api, mirror, metadata_only=True)
    mirror.wait(lambda seen: len(seen.calls) == 2)

    listing, watching = (request.headers["Accept"] for request in server.requests)
    assert listing == "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
    assert watching == "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
    assert mirror.state == {"a": "12"}


def test_a_bookmark_moves_the_version_from_which_the_next_watch_resumes(serve, reflect):
    def watch(exchange: Exchange) -> None:
        exchange.begin_watch()
        exchange.event("BOOKMARK", {"kind": "ConfigMap", "metadata": {"resourceVersion": "777"}})
        exchange.end_watch()

    server, api = serve(script(lists=[page([], 10)], watches=[watch]))
    reflector = reflect(api, Mirror())
    until(lambda: len(server.requests) == 3)

    assert server.requests[2].query["resourceVersion"] == "777"
    assert (reflector.bookmarks, reflector.lists) == (1, 1)


def gone_as_status(exchange: Exchange) -> None:
    exchange.refuse(410, "Expired", "too old resource version")


def gone_as_event(exchange: Exchange) -> None:
    exchange.begin_watch()
    exchange.event("ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"})
    exchange.end_watch()


@pytest.mark.parametrize("gone", [gone_as_status, gone_as_event])
def test_gone_is_answered_by_a_new_list_in_which_missed_deletions_are_missing(serve, reflect, gone):
    lists = [page([config_map("a", 1), config_map("b", 2)], 10), page([config_map("b", 2)], 50)]
    server, api = serve(script(lists=lists, watches=[gone]))
    mirror = Mirror()
    reflector = reflect(api, mirror)
    mirror.wait(lambda seen: len(seen.calls) == 2)

    assert mirror.state == {"b": "2"}
    until(lambda: len(server.requests) == 4)
    assert server.requests[3].query["resourceVersion"] == "50"
    assert (reflector.gone, reflector.restarts) == (1, 1)


def test_a_dropped_connection_resumes_from_the_last_version_without_listing(serve, reflect):
    def watch(exchange: Exchange) -> None:
        exchange.begin_watch()
        exchange.event("ADDED", config_map("a", 11))
        exchange.drop()

    server, api = serve(script(lists=[page([], 10)], watches=[watch]))
    reflector = reflect(api, Mirror())
    until(lambda: len(server.requests) == 3)

    assert server.requests[2].query["resourceVersion"] == "11"
    assert reflector.lists == 1
    assert reflector.failures == 1


def test_a_silent_connection_is_given_up_after_the_client_side_read_timeout(serve, reflect):
    def watch(exchange: Exchange) -> None:
        exchange.begin_watch()
        exchange.hang()

    server, api = serve(script(lists=[page([], 10)], watches=[watch]))
    reflector = reflect(api, Mirror(), watch_seconds=1, read_margin_seconds=0.2)
    until(lambda: reflector.watches == 2)

    assert reflector.failures == 1
    assert reflector.lists == 1
    assert server.requests[2].query["resourceVersion"] == "10"


def test_one_garbage_line_resumes_and_two_in_a_row_list_again(serve, reflect):
    def garbage(exchange: Exchange) -> None:
        exchange.begin_watch()
        exchange.chunk(b'{"type": "ADDED", "obj<html>\n')
        exchange.end_watch()

    lists = [page([], 10), page([config_map("a", 19)], 20)]
    server, api = serve(script(lists=lists, watches=[garbage, garbage]))
    mirror = Mirror()
    reflector = reflect(api, mirror)
    mirror.wait(lambda seen: len(seen.calls) == 2)

    kinds = ["watch" if request.watching else "list" for request in server.requests[:4]]
    assert kinds == ["list", "watch", "watch", "list"]
    assert reflector.failures == 2


def test_a_line_that_arrives_in_pieces_is_put_together(serve, reflect):
    def watch(exchange: Exchange) -> None:
        exchange.begin_watch()
        line = (
            b'{"type":"ADDED","object":{"metadata":{"name":"a","resourceVersion":"11"},"data":{"k":"v"}}}\n'
        )
        for start in range(0, len(line), 7):
            exchange.chunk(line[start : start + 7])
        exchange.hang()

    _, api = serve(script(lists=[page([], 10)], watches=[watch]))
    mirror = Mirror()
    reflect(api, mirror)
    mirror.wait(lambda seen: seen.state == {"a": "11"})


def test_an_object_that_does_not_fit_its_type_is_left_out_and_counted(serve, reflect):
    def watch(exchange: Exchange) -> None:
        exchange.begin_watch()
        exchange.event("ADDED", {"metadata": {"name": "odd", "resourceVersion": "11"}, "data": 5})
        exchange.event("ADDED", config_map("b", 12))
        exchange.hang()

    odd = {"metadata": {"name": "odd"}, "data": [1]}
    _, api = serve(script(lists=[page([config_map("a", 1), odd], 10)], watches=[watch]))
    mirror = Mirror()
    reflector = reflect(api, mirror)
    mirror.wait(lambda seen: seen.state == {"a": "1", "b": "12"})

    assert reflector.objects_refused == 2
    assert reflector.failures == 0


def test_a_handler_that_raises_is_recorded_and_gets_the_whole_state_again(serve, reflect, caplog):
    class Fragile(Mirror):
        def changed(self, kind: str, item: ConfigMap) -> None:
            raise KeyError("defect")

    def watch(exchange: Exchange) -> None:
        exchange.begin_watch()
        exchange.event("ADDED", config_map("b", 11))
        exchange.hang()

    lists = [page([], 10), page([config_map("b", 11)], 11)]
    _, api = serve(script(lists=lists, watches=[watch]))
    mirror = Fragile()
    reflector = reflect(api, mirror)
    mirror.wait(lambda seen: seen.state == {"b": "11"})

    assert reflector.handler_failures == 1
    assert reflector.running
    assert "handler raised KeyError" in caplog.text


def test_our_own_selector_leaves_out_of_lists_and_tells_leaving_as_deletion(serve, reflect):
    def watch(exchange: Exchange) -> None:
        exchange.begin_watch()
        exchange.event("MODIFIED", config_map("a", 11, wanted="no"))
        exchange.event("MODIFIED", config_map("b", 12, wanted="yes"))
        exchange.hang()

    first = [config_map("a", 1, wanted="yes"), config_map("b", 2, wanted="no")]
    _, api = serve(script(lists=[page(first, 10)], watches=[watch]))
    mirror = Mirror()
    reflect(api, mirror, keep=lambda item: item.data["wanted"] == "yes")
    mirror.wait(lambda seen: len(seen.calls) == 3)

    assert mirror.calls == [("replaced", ("a",)), ("DELETED", ("a",)), ("MODIFIED", ("b",))]


def test_an_expired_page_token_is_answered_by_one_list_without_pages(serve, reflect):
    def answer(exchange: Exchange) -> None:
        if exchange.watching:
            exchange.begin_watch()
            exchange.hang()
        elif "continue" in exchange.query:
            exchange.refuse(410, "Expired", "the provided continue parameter is too old")
        elif "limit" in exchange.query:
            exchange.json(200, page([config_map("a", 1)], 10, "old"))
        else:
            exchange.json(200, page([config_map("a", 1), config_map("b", 2)], 12))

    _, api = serve(answer)
    mirror = Mirror()
    reflect(api, mirror)
    mirror.wait(lambda seen: seen.calls == [("replaced", ("a", "b"))])


def test_an_optional_kind_comes_and_goes_with_its_definition_and_is_no_failure(serve, reflect, caplog):
    served = threading.Event()
    removed = threading.Event()

    def answer(exchange: Exchange) -> None:
        if not served.is_set() or removed.is_set():
            exchange.refuse(404, "NotFound")
        elif exchange.watching:
            exchange.begin_watch()
            removed.wait(polling.SOON_SECONDS)
            exchange.end_watch()
        else:
            exchange.json(200, page([config_map("a", 1)], 10))

    _, api = serve(answer)
    mirror = Mirror()
    reflector = reflect(api, mirror, optional=True, look_again_seconds=0.05)
    until(lambda: reflector.synced.is_set())
    assert mirror.state == {}
    served.set()
    until(lambda: mirror.state == {"a": "1"})
    removed.set()
    until(lambda: mirror.state == {})
    assert (reflector.failures, reflector.last_error, caplog.text) == (0, None, "")


def test_a_kind_that_is_not_optional_fails_when_it_is_not_served(serve, reflect):
    _, api = serve(lambda exchange: exchange.refuse(404, "NotFound"))
    reflector = reflect(api, Mirror())
    until(lambda: reflector.failures > 1)
    assert not reflector.synced.is_set()


def test_refusals_at_the_start_are_retried_and_shown_until_the_first_list(serve, reflect):
    answers = [500, 403, 200]

    def answer(exchange: Exchange) -> None:
        if exchange.watching:
            exchange.begin_watch()
            exchange.hang()
            return
        status = answers.pop(0)
        if status == 200:
            exchange.json(200, page([], 1))
        else:
            exchange.refuse(status, "Forbidden", "configmaps is forbidden")

    _, api = serve(answer)
    reflector = reflect(api, Mirror())

    assert reflector.synced.wait(polling.SOON_SECONDS)
    assert reflector.failures == 2
    assert reflector.last_error is None


def test_a_watch_error_other_than_gone_lists_again(serve, reflect):
    def watch(exchange: Exchange) -> None:
        exchange.begin_watch()
        exchange.event("ERROR", {"kind": "Status", "code": 500, "message": "etcd went away"})
        exchange.end_watch()

    _, api = serve(script(lists=[page([], 10)], watches=[watch]))
    reflector = reflect(api, Mirror())
    until(lambda: reflector.lists == 2)

    assert reflector.gone == 0
    assert reflector.failures == 1


def test_watches_that_end_at_once_are_paused_between(serve, reflect):
    def watch(exchange: Exchange) -> None:
        exchange.begin_watch()
        exchange.end_watch()

    server, api = serve(script(lists=[page([], 10)], watches=[watch] * 1000))
    jitter = random.Random(1)
    reflector = reflect(api, Mirror(), backoff=Backoff(0.2, 60.0, jitter))
    until(lambda: reflector.watches >= 2)
    threading.Event().wait(0.5)

    assert len(server.requests) <= 5


def test_stop_ends_a_silent_watch_promptly(serve):
    _, api = serve(script(lists=[page([], 10)], watches=[]))
    reflector = Reflector(api, PATH, ConfigMap, Mirror())
    reflector.start()
    until(lambda: reflector.watches == 1)

    before = time.monotonic()
    reflector.stop()
    assert time.monotonic() - before < polling.SOON_SECONDS, "not when the server gave up"
    assert not reflector.running
    assert reflector.failures == 0


def test_stop_before_start_and_twice_is_harmless(serve):
    _, api = serve(script(lists=[page([], 10)], watches=[]))
    reflector = Reflector(api, PATH, ConfigMap, Mirror())
    reflector.stop()
    reflector.stop()
    assert not reflector.running
