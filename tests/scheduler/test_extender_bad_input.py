"""Bad input to the extender: a 4xx that says what came and what to do, or a pass-through; never a 500."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.scheduler.extender_calls import Outcome, Scripted, app_over, call

POD = {"metadata": {"name": "p", "namespace": "d"}, "spec": {"containers": [{"name": "c"}]}}
VERBS = ["filter", "prioritize", "preempt"]

UNREADABLE = {
    "nothing": b"",
    "half an object": b'{"Pod": {',
    "not UTF-8": b'{"Pod": "\xff\xfe"}',
    "bytes that are no text": b"\x00\x01\x02",
    "an array": b"[]",
    "a number": b"7",
    "null": b"null",
    "two objects": b"{}{}",
    "deeply nested": b'{"Pod": ' + b'{"spec":' * 5 + b'{"x":' + b"[" * 200_000,
    "no field at all": b"{}",
    "a null pod": b'{"Pod": null, "NodeNames": ["n1"], "NodeNameToMetaVictims": {}}',
    "a pod that is text": b'{"Pod": "p", "NodeNames": ["n1"], "NodeNameToMetaVictims": {}}',
    "a spec that is no object": b'{"Pod": {"spec": 7}, "NodeNames": [], "NodeNameToVictims": {}}',
    "no nodes": b'{"Pod": {"metadata": {"name": "p"}}}',
    "names that are numbers": b'{"Pod": {}, "NodeNames": [1, 2], "NodeNameToMetaVictims": {"n": 1}}',
    "names that are an object": b'{"Pod": {}, "NodeNames": {"n1": 1}, "NodeNameToMetaVictims": []}',
    "a lone surrogate": b'{"Pod": {}, "NodeNames": ["\\ud800"], "NodeNameToMetaVictims": {"\\ud800": {}}}',
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_an_unreadable_body_is_refused_with_reasons(verb, body):
    answer = call(app_over(Scripted()), f"/scheduler/{verb}", body)
    assert answer.status == 400
    told = answer.json()
    assert told.keys() == {"error", "got", "expected", "do"}
    assert all(told.values())


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"null", b'{"PodName": "p"}', b'{"PodName": "p", "PodNamespace": "d"}', b'{"PodName": 7}'],
)
def test_an_unreadable_binding_is_refused(body):
    assert call(app_over(Scripted(), binder=object()), "/scheduler/bind", body).status == 400


@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/x-www-form-urlencoded", "application/yaml", ""]
)
@pytest.mark.parametrize("verb", [*VERBS, "bind"])
def test_another_content_type_is_refused_by_name(verb, content_type):
    headers = {} if content_type is None else {"Content-Type": content_type}
    app = app_over(Scripted(), binder=object())
    answer = call(app, f"/scheduler/{verb}", {"Pod": POD, "NodeNames": []}, headers=headers)
    assert answer.status == 415
    assert answer.json()["expected"] == "application/json"


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON"])
def test_json_with_parameters_is_json(content_type):
    answer = call(
        app_over(Scripted()), "/scheduler/filter", {"Pod": POD, "NodeNames": ["n"]},
        headers={"Content-Type": content_type},
    )  # fmt: skip
    assert answer.status == 200


def test_an_announced_huge_body_is_refused_before_it_is_read():
    headers = {"Content-Type": "application/json", "Content-Length": "5000000000"}
    answer = call(app_over(Scripted()), "/scheduler/filter", chunks=[b"x"] * 10, headers=headers)
    assert answer.status == 413
    assert answer.chunks_read == 0


def test_an_endless_body_is_refused_once_it_is_over_the_limit():
    chunks = [b" " * 1000] * 100
    answer = call(app_over(Scripted(), max_body_bytes=lambda: 10_000), "/scheduler/filter", chunks=chunks)
    assert answer.status == 413
    assert answer.chunks_read == 11
    assert "maxBodyBytes" in answer.json()["do"]


def test_a_body_at_the_limit_is_read():
    body = json.dumps({"Pod": POD, "NodeNames": ["n"]}).encode()
    app = app_over(Scripted(), max_body_bytes=lambda: len(body))
    assert call(app, "/scheduler/filter", chunks=[body[:9], body[9:20], body[20:]]).status == 200


def test_a_client_that_hangs_up_does_no_harm():
    headers = {"Content-Type": "application/json", "Content-Length": "100"}
    assert call(app_over(Scripted()), "/scheduler/filter", chunks=[], headers=headers).status == 400


def test_other_methods_and_paths_are_4xx():
    app = app_over(Scripted())
    assert call(app, "/scheduler/filter", method="GET").status == 405
    assert call(app, "/scheduler/unknown").status == 404
    assert call(app, "/").status == 404


def test_victims_that_are_null_stay_empty():
    body = {"Pod": POD, "NodeNameToMetaVictims": {"n1": None, "n2": {"Pods": None}}}
    answer = call(app_over(Scripted()), "/scheduler/preempt", body)
    assert answer.json()["NodeNameToMetaVictims"].keys() == {"n1", "n2"}


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["Pod", "NodeNames", "Nodes", "items", "metadata", "spec", "containers", "name", "pod"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(body=values, verb=st.sampled_from([*VERBS, "bind"]))
def test_no_json_value_causes_a_500(body, verb):
    answer = call(app_over(Scripted(Outcome([]), [])), f"/scheduler/{verb}", body)
    assert answer.status in (200, 400, 404)


@settings(max_examples=100, deadline=None)
@given(body=st.binary(max_size=60), verb=st.sampled_from(VERBS))
def test_no_bytes_cause_a_500(body, verb):
    assert call(app_over(Scripted()), f"/scheduler/{verb}", body).status in (200, 400)
