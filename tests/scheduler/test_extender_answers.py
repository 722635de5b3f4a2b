"""What the extender answers: the wire format to the byte, pass-through for what it must not judge, counters
for each decision.
"""

from __future__ import annotations

import json

import pytest

from metrics.exposition import Exposition
from tests.scheduler.extender_calls import Outcome, Scripted, app_over, call

GPU_POD = {
    "metadata": {"name": "llm-0", "namespace": "serving", "uid": "u-1", "creationTimestamp": None},
    "spec": {"containers": [{"name": "c", "image": "i", "resources": {"limits": {"nvidia.com/gpu": "1"}}}]},
    "status": {},
}
NAMES = ["n1", "n2", "n3"]
ARGS = {"Pod": GPU_POD, "Nodes": None, "NodeNames": NAMES}


def node(name):
    return {"metadata": {"name": name, "labels": {"a": "b"}}, "spec": {}, "status": {"phase": "whatever"}}


def test_filter_answers_in_the_format_of_go():
    decider = Scripted(Outcome([0, 2], failed={"n2": "all GPUs are taken"}))
    answer = call(app_over(decider), "/scheduler/filter", ARGS)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.body == (
        b'{"Nodes":null,"NodeNames":["n1","n3"],"FailedNodes":{"n2":"all GPUs are taken"},'
        b'"FailedAndUnresolvableNodes":{},"Error":""}'
    )


def test_prioritize_answers_in_the_format_of_go():
    answer = call(app_over(Scripted(scores=[10, 0, 7])), "/scheduler/prioritize", ARGS)
    assert answer.status == 200
    # n2 scores 0: kube-scheduler adds nothing for a node that is left out.
    assert answer.body == b'[{"Host":"n1","Score":10},{"Host":"n3","Score":7}]'


def test_scores_that_are_all_zero_are_no_opinion():
    assert call(app_over(Scripted(scores=[0, 0, 0])), "/scheduler/prioritize", ARGS).body == b"[]"


def test_what_an_answer_changed_is_priced_after_it_was_sent():
    decider = Scripted(scores=[10, 0, 7])
    app = app_over(decider)
    call(app, "/scheduler/filter", ARGS)
    assert decider.refreshed == []
    call(app, "/scheduler/prioritize", ARGS)
    assert decider.refreshed == [["the demand"]]


def test_nodes_that_preemption_cannot_help_are_told_apart():
    decider = Scripted(Outcome([], {"n1": "full"}, {"n2": "wrong model", "n3": "no GPU"}))
    answer = call(app_over(decider), "/scheduler/filter", ARGS).json()
    assert answer["NodeNames"] == []
    assert answer["FailedNodes"] == {"n1": "full"}
    assert answer["FailedAndUnresolvableNodes"] == {"n2": "wrong model", "n3": "no GPU"}


def test_whole_nodes_come_back_as_they_were_sent():
    args = {
        "Pod": GPU_POD,
        "Nodes": {"metadata": {}, "items": [node(name) for name in NAMES]},
        "NodeNames": None,
    }
    decider = Scripted(Outcome([1], {"n1": "full", "n3": "full"}))
    answer = call(app_over(decider), "/scheduler/filter", args).json()
    assert decider.asked[0][1] == NAMES
    assert answer["Nodes"]["items"] == [node("n2")]
    assert answer["NodeNames"] is None


def test_whole_nodes_are_ranked_by_name():
    args = {"Pod": GPU_POD, "Nodes": {"items": [node(name) for name in NAMES]}}
    answer = call(app_over(Scripted(scores=[1, 2, 3])), "/scheduler/prioritize", args).json()
    assert [row["Host"] for row in answer] == NAMES


def test_keys_are_read_in_any_case_as_go_reads_them():
    decider = Scripted(Outcome([0]))
    body = {"pod": GPU_POD, "nodenames": ["n1"]}
    assert call(app_over(decider), "/scheduler/filter", body).json()["NodeNames"] == ["n1"]
    assert decider.asked[0][0].metadata.name == "llm-0"


def test_pods_without_gpus_pass_untouched():
    app = app_over(Scripted())
    assert call(app, "/scheduler/filter", ARGS).json()["NodeNames"] == NAMES
    assert call(app, "/scheduler/prioritize", ARGS).body == b"[]"


def test_until_the_fleet_is_known_everything_passes():
    decider = Scripted(Outcome([], {"n1": "full"}), scores=[1, 2, 3])
    app = app_over(decider, synced=lambda: False)
    assert call(app, "/scheduler/filter", ARGS).json()["NodeNames"] == NAMES
    assert call(app, "/scheduler/prioritize", ARGS).body == b"[]"
    assert decider.asked == []


def test_an_error_of_our_own_lets_the_pod_pass_and_is_counted(caplog):
    exposition = Exposition("slicewise-scheduler", "test")
    app = app_over(Scripted(RuntimeError("broken"), RuntimeError("broken")), exposition=exposition)
    assert call(app, "/scheduler/filter", ARGS).json()["NodeNames"] == NAMES
    assert call(app, "/scheduler/prioritize", ARGS).body == b"[]"
    args = {"Pod": GPU_POD, "NodeNameToMetaVictims": {"n1": {"Pods": [{"UID": "v"}], "NumPDBViolations": 0}}}
    assert call(app, "/scheduler/preempt", args).json() == {
        "NodeNameToMetaVictims": {"n1": {"Pods": [{"UID": "v"}], "NumPDBViolations": 0}}
    }
    text = exposition.render()[0].decode()
    assert 'slicewise_extender_decisions_total{reason="error",verb="filter"} 1.0' in text
    assert 'slicewise_extender_decisions_total{reason="error",verb="prioritize"} 1.0' in text
    assert "serving/llm-0" in caplog.text


def test_requests_are_timed_by_verb_and_code():
    exposition = Exposition("slicewise-scheduler", "test")
    app = app_over(Scripted(), exposition=exposition)
    answer = call(app, "/scheduler/filter", ARGS)
    call(app, "/scheduler/filter", b"{")
    assert answer.headers["server-timing"].startswith("read;dur=")
    text = call(app, "/metrics", method="GET").body.decode()
    assert 'slicewise_extender_request_duration_seconds_count{code="200",verb="filter"} 1.0' in text
    assert 'slicewise_extender_request_duration_seconds_count{code="400",verb="filter"} 1.0' in text


def test_preemption_keeps_the_victims_and_drops_hopeless_nodes():
    decider = Scripted(Outcome([], {"n1": "full"}, {"n2": "wrong model"}))
    victims = {
        "n1": {
            "Pods": [{"metadata": {"name": "a", "uid": "ua"}}, {"metadata": {"uid": "ub"}}],
            "NumPDBViolations": 1,
        },
        "n2": {"Pods": [{"metadata": {"uid": "uc"}}], "NumPDBViolations": 0},
    }
    answer = call(app_over(decider), "/scheduler/preempt", {"Pod": GPU_POD, "NodeNameToVictims": victims})
    assert answer.body == (
        b'{"NodeNameToMetaVictims":{"n1":{"Pods":[{"UID":"ua"},{"UID":"ub"}],"NumPDBViolations":1}}}'
    )


def test_binding_is_refused_in_words_unless_configured():
    answer = call(
        app_over(Scripted()), "/scheduler/bind", {"PodName": "p", "PodNamespace": "d", "Node": "n1"}
    )
    assert answer.status == 404
    assert "remove bindVerb" in answer.json()["do"]


class Binder:
    def __init__(self, error=""):
        self.error, self.bound = error, []

    def bind(self, namespace, name, uid, node):
        self.bound.append((namespace, name, uid, node))
        return self.error


@pytest.mark.parametrize("error", ["", 'pods "p" not found'])
def test_binding_reports_what_the_api_server_said(error):
    binder = Binder(error)
    args = {"PodName": "p", "PodNamespace": "d", "PodUID": "u", "Node": "n1"}
    answer = call(app_over(Scripted(), binder=binder), "/scheduler/bind", args)
    assert answer.json() == {"Error": error}
    assert binder.bound == [("d", "p", "u", "n1")]


def test_readiness_names_what_is_missing():
    parts = {"fleet": True, "policy": True, "prices": False}
    app = app_over(Scripted(), ready=lambda: parts)
    answer = call(app, "/readyz", method="GET")
    assert answer.status == 503
    assert answer.json() == {"fleet": True, "policy": True, "prices": False, "serving": True}
    parts["prices"] = True
    assert call(app, "/readyz", method="GET").status == 200
    assert call(app, "/healthz", method="GET").body == b"ok"


def test_a_draining_server_says_so_and_sends_clients_away():
    app = app_over(Scripted(), draining=lambda: True)
    assert call(app, "/readyz", method="GET").status == 503
    assert call(app, "/scheduler/filter", ARGS).headers["connection"] == "close"


def test_the_verbs_are_documented():
    document = call(app_over(Scripted()), "/openapi.json", method="GET").json()
    paths = document["paths"]
    for verb in ("filter", "prioritize", "preempt", "bind"):
        operation = paths[f"/scheduler/{verb}"]["post"]
        assert operation["requestBody"]["content"]["application/json"]["schema"]["properties"]
        assert {"200", "400", "413", "415"} <= operation["responses"].keys()


def test_five_thousand_names_are_answered_in_their_order():
    names = [f"node-{i:04}" for i in range(5000)]
    scores = [i % 11 for i in range(5000)]
    args = {"Pod": GPU_POD, "NodeNames": names}
    rows = call(app_over(Scripted(scores=scores)), "/scheduler/prioritize", args).json()
    assert rows == [
        {"Host": name, "Score": score} for name, score in zip(names, scores, strict=True) if score
    ]
    kept = list(range(0, 5000, 2))
    answer = call(app_over(Scripted(Outcome(kept))), "/scheduler/filter", args).json()
    assert answer["NodeNames"] == names[::2]


def test_no_candidate_at_all_is_answered_with_none():
    args = {"Pod": GPU_POD, "NodeNames": []}
    assert call(app_over(Scripted(Outcome([]))), "/scheduler/filter", args).json()["NodeNames"] == []
    assert call(app_over(Scripted(scores=[])), "/scheduler/prioritize", args).body == b"[]"


def test_odd_names_are_escaped_as_json():
    name = 'n"\\\u00e9\u2028'
    args = {"Pod": GPU_POD, "NodeNames": [name]}
    assert json.loads(call(app_over(Scripted(scores=[3])), "/scheduler/prioritize", args).body) == [
        {"Host": name, "Score": 3}
    ]
