"""What a policy may say, and what is said to somebody whose policy cannot be used."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cluster.policy import (
    ClusterPolicy,
    PolicyRefused,
    Prices,
    autoscaling_policy_schema,
    cluster_policy_schema,
    load_autoscaling_policy,
    load_cluster_policy,
)

WHERE = "ConfigMap slicewise-system/slicewise-policy key policy.yaml"

FULL = """
apiVersion: slicewise.io/v1alpha1
kind: ClusterPolicy
currency: EUR
prices:
  gpuHour: 2.5
  gpuHourByModel: {H100-80GB: 4.0}
  carbonTonne: 100.0
  fragmentationGradient: 1.0
  fragmentationDual: 6
terms: {fragmentation: 1.0, nvlink: 1.0, carbon: 0, money: 1.0, locality: 1e-1}
nodes:
- name: spot
  match: {karpenter.sh/capacity-type: spot}
  gpuHour: 1.0
  interruptionsPerHour: 0.05
  interruptionCost: 1.0
- {name: rest}
nvlink: {defaultNeed: preferred, defaultWeight: 0.5}
carbon:
  provider: file
  regionLabel: topology.kubernetes.io/region
  regions: {eu-north-1: SE, eu-north-2: NO}
  static: {SE: 30, NO: 25}
  file: /data/hours.csv
  url: null
  tokenFile: null
  kind: average
  refreshSeconds: 300
  classes: {clean: {maxGramsPerKwh: 150}}
  fileClockStart: 2026-01-31T00:00:00Z
locality: {weightsLoadSeconds: 60, imagePullSeconds: 30}
demand: {classes: {"mig:1g.10gb": 3.0}, halfLifeSeconds: 600}
extender: {reservationSeconds: 5, maxBodyBytes: 33554432}
planner: {enabled: true, batchMilliseconds: 50, gateTimeoutSeconds: 30, maxPatchConcurrency: 8}
"""

SCALING = """
apiVersion: slicewise.io/v1alpha1
kind: AutoscalingPolicy
target: {apiVersion: apps/v1, kind: Deployment, name: llm}
server: vllm
minReplicas: 1
maxReplicas: 20
inFlight: {perReplica: 16}
latency: {p95Seconds: 0.8, measure: ttft, windowSeconds: 60}
gpuUtilisation: {scaleDownBelow: 0.5, scaleUpAbove: null}
scaleUp: {tolerance: 0.05, stabilisationSeconds: 0, maxStepPercent: 100, maxStepReplicas: 4}
scaleDown: {tolerance: 0.1, stabilisationSeconds: 300, maxStepPercent: 50, maxStepReplicas: 4, margin: 0.1}
coldStartSeconds: 60
outage: {fallbackAfterSeconds: 600, fallbackReplicas: null}
periodSeconds: 5
"""


def refusal(text: str, load=load_cluster_policy) -> PolicyRefused:
    with pytest.raises(PolicyRefused) as refused:
        load(text, WHERE)
    assert str(refused.value).startswith(f"{WHERE}: policy refused, ")
    return refused.value


def test_every_key_of_the_cluster_policy_is_read():
    policy = load_cluster_policy(FULL, WHERE)
    assert policy.prices.gpu_hour_by_model == {"H100-80GB": 4.0}
    assert policy.terms.locality == 0.1
    assert policy.nodes[0].match == {"karpenter.sh/capacity-type": "spot"}
    assert policy.nodes[1].gpu_hour is None
    assert policy.carbon.classes["clean"].max_grams_per_kwh == 150
    assert policy.carbon.file_clock_start is not None
    assert policy.planner.max_patch_concurrency == 8


def test_every_key_has_a_default():
    assert load_cluster_policy("kind: ClusterPolicy", WHERE) == ClusterPolicy()
    assert ClusterPolicy().prices == Prices(gpu_hour=2.5)


def test_the_zone_of_norway_is_not_a_boolean():
    policy = load_cluster_policy("carbon: {static: {NO: 25}, regions: {eu-north-2: NO}}", WHERE)
    assert policy.carbon.static == {"NO": 25.0}
    assert policy.carbon.regions == {"eu-north-2": "NO"}


def test_every_key_of_the_autoscaling_policy_is_read():
    policy = load_autoscaling_policy(SCALING, WHERE)
    assert policy.target.name == "llm"
    assert policy.latency is not None
    assert (policy.latency.p95_seconds, policy.latency.measure) == (0.8, "ttft")
    assert policy.in_flight is not None
    assert policy.in_flight.per_replica == 16
    assert policy.scale_down.margin == 0.1
    assert policy.outage.fallback_replicas is None


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "prices: {gpuHour: -1}",
            "prices.gpuHour (line 1): got -1, expected a number of at least 0 (money per hour",
        ),
        ("prices:\n  gpuHour: .nan", "prices.gpuHour (line 2): got nan, expected a finite number"),
        ("prices: {gpuHour: .inf}", "got inf, expected a finite number"),
        ("prices: {gpuHour: '2'}", "got '2', expected a number"),
        ("prices: {gpuHour: true}", "got true, expected a number"),
        ("prices: {gpuHour: 2 EUR}", "got '2 EUR', expected a number"),
        ("prices: {gpuHour: null}", "got nothing, expected a number"),
        ("prices: {gpuHour: [1]}", "got a list [1], expected a number"),
        ("prices: 3", "prices (line 1): got 3, expected a mapping"),
        ("prices: {gpuHourByModel: {H100-80GB: -2}}", "prices.gpuHourByModel.H100-80GB (line 1): got -2"),
        ("price: {}", "price (line 1): got the unknown key 'price', expected one of apiVersion, kind"),
        ("price: {}", "did you mean prices?"),
        ("prices: {gpu_hour: 1}", "prices.gpu_hour (line 1): got the unknown key 'gpu_hour'"),
        (
            "carbon: {classes: {clean: {maxGrams: 1}}}",
            "got the unknown key 'maxGrams', expected one of maxGramsPerKwh",
        ),
        ("carbon: {classes: {clean: {}}}", "carbon.classes.clean.maxGramsPerKwh (line 1): got nothing"),
        ("nodes: [{match: {}}]", "nodes[0].name (line 1): got nothing, expected a value"),
        ("nodes: {}", "nodes (line 1): got a mapping {}, expected a list"),
        ("nodes:\n- name: a\n  match: {spot: true}", "nodes[0].match.spot (line 3): got true, expected text"),
        ("nodes: [{name: a}, {name: a}]", "nodes[1].name (line 1): got 'a', expected a name used once"),
        ("nvlink: {defaultNeed: maybe}", "got 'maybe', expected 'none', 'preferred' or 'required'"),
        ("nvlink: {defaultWeight: 1.5}", "got 1.5, expected a number of at most 1"),
        ("carbon: {provider: file}", "carbon.file (line 1): got nothing, expected a path"),
        ("carbon: {fileClockStart: 2026-01-01T00:00:00Z}", "carbon.fileClockStart (line 1): got '2026-01-01"),
        (
            "carbon: {provider: file, file: f, fileClockStart: 2026-01-01}",
            "expected an instant with its time zone",
        ),
        ("carbon: {refreshSeconds: 0}", "expected a number above 0"),
        ("planner: {maxPatchConcurrency: 2.5}", "got 2.5, expected a whole number"),
        ("planner: {enabled: 'yes'}", "got 'yes', expected true or false"),
        ("extender: {maxBodyBytes: 0}", "got 0, expected a number of at least 1"),
        (
            "kind: AutoscalingPolicy\ntarget: {name: llm}",
            "1 problem\n  kind (line 1): got 'AutoscalingPolicy', expected 'ClusterPolicy'; correct the kind",
        ),
        ("kind: AutoscalingPolicy", "kind (line 1): got 'AutoscalingPolicy', expected 'ClusterPolicy'"),
        ("apiVersion: slicewise.io/v1", "got 'slicewise.io/v1', expected 'slicewise.io/v1alpha1'"),
        ("1: 2", "got the unknown key '1'"),
    ],
)
def test_a_bad_value_is_refused_by_path_value_expectation_and_line(text: str, line: str):
    assert line in str(refusal(text))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "got nothing, expected a mapping"),
        ("# only a comment", "got nothing, expected a mapping"),
        ("- a", "got a list, expected a mapping"),
        ("hello", "got the single value 'hello'"),
        ("prices: {gpuHour: 1", "broken YAML at line 1, column 20"),
        ("a: b: c", "broken YAML at line 1, column 5"),
        ("prices:\n\tgpuHour: 1", "broken YAML at line 2, column 1"),
        ("kind: ClusterPolicy\n---\nkind: ClusterPolicy", "line 2"),
        ("prices: !!python/object/apply:os.system [x]", "broken YAML at line 1, column 9"),
        (
            "currency: USD\nterms: {}\ncurrency: EUR",
            "currency (line 3): got the same key twice, first in line 1",
        ),
        ("prices: {gpuHour: 1, gpuHour: 2}", "gpuHour (line 1): got the same key twice"),
        ("\x00", "broken YAML"),
        ("[" * 5000, "nested too deeply"),
        ("a" * 1_100_000, "at most 1048576"),
    ],
)
def test_a_text_that_is_not_one_mapping_is_refused_with_its_place(text: str, words: str):
    assert words in str(refusal(text))


def test_every_problem_is_told_at_once_in_the_order_of_the_text():
    refused = refusal("terms: {carbon: -1}\nprices: {gpuHour: -1}\nfoo: 1")
    assert [problem.path for problem in refused.problems] == ["terms.carbon", "prices.gpuHour", "foo"]


def test_aliases_that_multiply_do_not_blow_up_the_message():
    bomb = "a: &a [x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(20)
    )
    assert len(str(refusal(bomb + "prices: {gpuHour: *u}"))) < 20_000


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"target": None}, "target (line"),
        ({"minReplicas": 21}, "minReplicas (line"),
        ({"outage": {"fallbackReplicas": 50}}, "expected minReplicas (1) to maxReplicas (20)"),
        (
            {"gpuUtilisation": {"scaleDownBelow": 0.9, "scaleUpAbove": 0.8}},
            "expected less than scaleUpAbove (0.8)",
        ),
        ({"inFlight": None, "latency": None}, "expected inFlight or latency"),
        ({"maxReplicas": 0}, "expected a number of at least 1"),
        ({"latency": {"measure": "e2e"}}, "latency.p95Seconds"),
        ({"latency": {"p95Seconds": 1, "measure": "p50"}}, "expected 'e2e' or 'ttft'"),
        ({"periodSeconds": 0}, "expected a number above 0"),
        ({"server": "vlm"}, "server (line 30): got 'vlm', expected auto or one of bentoml"),
        ({"replicas": 3}, "did you mean minReplicas?"),
    ],
)
def test_an_autoscaling_policy_that_contradicts_itself_is_refused(change: dict[str, object], words: str):
    text = yaml.safe_dump({**yaml.safe_load(SCALING), **change})
    assert words in str(refusal(text, load_autoscaling_policy))


def test_policies_are_immutable():
    with pytest.raises(ValueError, match="frozen"):
        ClusterPolicy().prices.gpu_hour = 3


def test_the_schemas_use_the_keys_of_the_yaml_and_refuse_others():
    for schema in (cluster_policy_schema(), autoscaling_policy_schema()):
        assert schema["additionalProperties"] is False
        assert schema["properties"]["apiVersion"]["const"] == "slicewise.io/v1alpha1"
        assert json.loads(json.dumps(schema)) == schema
    prices = cluster_policy_schema()["$defs"]["Prices"]["properties"]
    assert prices["gpuHour"]["minimum"] == 0
    assert "money per hour" in prices["gpuHour"]["description"]


def test_a_policy_survives_being_written_and_read():
    policy = load_cluster_policy(FULL, WHERE)
    text = yaml.safe_dump(policy.model_dump(mode="json", by_alias=True))
    assert load_cluster_policy(text, WHERE) == policy


def outcome(text: str) -> ClusterPolicy | PolicyRefused:
    try:
        return load_cluster_policy(text, WHERE)
    except PolicyRefused as refused:
        return refused


@given(st.text(max_size=200))
def test_any_text_is_either_a_policy_or_refused(text: str):
    assert isinstance(outcome(text), ClusterPolicy | PolicyRefused)


documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["prices", "nodes", "carbon", "classes", "gpuHour", "match", "name"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(documents)
def test_any_document_is_either_a_policy_or_refused(document: object):
    assert isinstance(outcome(yaml.safe_dump(document)), ClusterPolicy | PolicyRefused)
