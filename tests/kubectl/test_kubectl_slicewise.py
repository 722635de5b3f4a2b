"""The kubectl plugin over a snapshot: what it prints, and how it refuses."""

from __future__ import annotations

import json

import pytest

from kubectl_slicewise.__main__ import main
from kubectl_slicewise.explain import as_table, explanation
from kubectl_slicewise.tables import table
from scheduler.bill import Bill

GIB = "1024Gi"


def node(name, gpus, region):
    return {
        "metadata": {
            "name": name,
            "labels": {
                "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB",
                "nvidia.com/gpu.count": str(gpus),
                "nvidia.com/gpu.memory": "81920",
                "topology.kubernetes.io/region": region,
            },
        },
        "status": {"allocatable": {"nvidia.com/gpu": str(gpus), "cpu": "64", "memory": GIB}},
    }


def pod(name, gpus, on="", **spec):
    resources = {"limits": {"nvidia.com/gpu": str(gpus)}} if gpus else {}
    return {
        "metadata": {"name": name, "namespace": "ml", "uid": f"uid-{name}"},
        "spec": {
            "nodeName": on,
            "containers": [{"name": "c", "image": "m:1", "resources": resources}],
            **spec,
        },
        "status": {"phase": "Running" if on else "Pending"},
    }


POLICY = """
apiVersion: slicewise.io/v1alpha1
kind: ClusterPolicy
currency: EUR
carbon: {provider: static, regions: {north: NO, east: DE}, static: {NO: 30, DE: 400}}
"""


@pytest.fixture
def snapshot(tmp_path):
    file = tmp_path / "snapshot.json"
    file.write_text(
        json.dumps(
            {
                "apiVersion": "slicewise.io/v1alpha1",
                "kind": "Snapshot",
                "nodes": [node("clean", 8, "north"), node("dirty", 8, "east"), node("small", 1, "north")],
                "pods": [pod("serve", 2, on="dirty"), pod("wait", 4), pod("web", 0, on="clean")],
                "policy": POLICY,
            }
        )
    )
    return str(file)


def test_explain_shows_the_bill_of_the_chosen_node_and_of_cheaper_ones(snapshot, capsys):
    assert main(["explain", "pod", "serve", "-n", "ml", "--from-snapshot", snapshot, "-o", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["currency"] == "EUR"
    assert shown["chosen"]["node"] == "dirty"
    assert [bill["node"] for bill in shown["alternatives"]] == ["clean"]
    assert shown["alternatives"][0]["terms"]["carbon"] < shown["chosen"]["terms"]["carbon"]
    assert sum(shown["chosen"]["terms"].values()) == pytest.approx(shown["chosen"]["total"])
    assert shown["refused"][0]["nodes"] == 1


def test_explain_prints_every_term_in_money_per_hour(snapshot, capsys):
    assert main(["explain", "pod", "wait", "-n", "ml", "--from-snapshot", snapshot]) == 0
    text = capsys.readouterr().out
    assert "EUR per hour" in text
    for word in ("CARBON", "FRAGMENTATION", "LOCALITY", "MONEY", "NVLINK", "TOTAL", "clean", "dirty"):
        assert word in text
    assert "1 cannot:" in text
    assert "Left out everywhere: interference (the policy declares no slowdown" in text


def test_explain_notes_a_carbon_class_that_the_policy_lacks(tmp_path, capsys):
    clean = pod("wait", 1)
    clean["metadata"]["annotations"] = {"slicewise.io/carbon-class": "clean"}
    document = {
        "apiVersion": "slicewise.io/v1alpha1",
        "kind": "Snapshot",
        "nodes": [node("clean", 8, "north")],
        "pods": [clean],
    }
    file = tmp_path / "snapshot.json"
    command = ["explain", "pod", "wait", "-n", "ml", "--from-snapshot", str(file)]
    for policy, words in (
        (POLICY, "expected a class of the policy, which has none (carbon.classes)"),
        ("carbon: {classes: {green: {maxGramsPerKwh: 100}}}", "got 'clean', expected one of green"),
        ("carbon: {classes: {clean: {maxGramsPerKwh: 100}}}", ""),
    ):
        file.write_text(json.dumps({**document, "policy": policy}))
        assert main(command) == 0
        said = capsys.readouterr().err
        assert words in said
        assert bool(words) == ("carbon-class" in said)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["explain", "pod", "nobody", "-n", "ml"], "pod ml/nobody: not among the 3 unfinished pods"),
        (["explain", "pod", "web", "-n", "ml"], "asks for no GPU"),
    ],
)
def test_what_cannot_be_explained_is_said_in_one_line(snapshot, capsys, arguments, words):
    assert main([*arguments, "--from-snapshot", snapshot]) == 1
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.out == ""


def test_nodes_lists_models_use_and_grid(snapshot, capsys):
    assert main(["nodes", "--from-snapshot", snapshot]) == 0
    lines = capsys.readouterr().out.splitlines()
    row = next(line for line in lines if line.startswith("dirty"))
    assert "8 × A100-80GB" in row
    assert "400" in row
    assert "3 nodes, 17 GPUs" in lines[-1]


def test_a_snapshot_passes_through_unharmed(snapshot, capsys, tmp_path):
    assert main(["snapshot", "--from-snapshot", snapshot]) == 0
    copy = tmp_path / "copy.json"
    copy.write_text(capsys.readouterr().out)
    assert main(["explain", "pod", "wait", "-n", "ml", "--from-snapshot", str(copy)]) == 0


def test_a_file_that_is_no_snapshot_is_refused_without_a_traceback(tmp_path, capsys):
    file = tmp_path / "x.json"
    file.write_text("{}")
    assert main(["nodes", "--from-snapshot", str(file)]) == 2
    assert "expected Snapshot" in capsys.readouterr().err


def test_validate_takes_a_policy_or_the_config_map_that_holds_it(tmp_path, capsys):
    bare = tmp_path / "policy.yaml"
    bare.write_text(POLICY)
    assert main(["policy", "validate", str(bare)]) == 0
    assert main(["policy", "validate", "deploy/manifests/policy.yaml"]) == 0
    assert "a valid ClusterPolicy" in capsys.readouterr().out


def test_validate_remarks_on_a_zero_that_cannot_be_left(tmp_path, capsys):
    file = tmp_path / "policy.yaml"
    text = "kind: AutoscalingPolicy\ntarget: {name: llm}\nminReplicas: 0\nmaxReplicas: 2\ninFlight: {}\n"
    file.write_text(text)
    assert main(["policy", "validate", str(file)]) == 0
    assert "minReplicas: 0 without outside: one replica stays" in capsys.readouterr().err
    file.write_text(f"{text}outside: {{source: istio}}\n")
    assert main(["policy", "validate", str(file)]) == 0
    assert capsys.readouterr().err == ""
    file.write_text(text.replace("inFlight: {}", "lag: {source: kafka-exporter, group: g}"))
    assert main(["policy", "validate", str(file)]) == 0
    assert capsys.readouterr().err == ""


def test_validate_names_the_key_that_is_wrong(tmp_path, capsys):
    bad = tmp_path / "policy.yaml"
    bad.write_text("apiVersion: slicewise.io/v1alpha1\nkind: ClusterPolicy\nprices: {gpuHour: -1}\n")
    assert main(["policy", "validate", str(bad)]) == 1
    assert "prices.gpuHour" in capsys.readouterr().err


MANIFEST = """\
apiVersion: v1
kind: Service
metadata: {name: llm}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: llm-policy}
data:
  policy.yaml: |
    kind: AutoscalingPolicy
    target: {name: llm}
    server: vlm
    maxReplicas: 2
    inFlight: {}
---
kind: ClusterPolicy
prices: {gpuHour: 3}
"""


def test_validate_finds_every_policy_of_a_manifest_and_names_lines_of_the_file(tmp_path, capsys):
    file = tmp_path / "all.yaml"
    file.write_text(MANIFEST)
    assert main(["policy", "validate", str(file)]) == 1
    captured = capsys.readouterr()
    assert "server (line 12): got 'vlm', expected auto or one of bentoml" in captured.err
    assert (
        "ConfigMap llm-policy is not read: it lacks the label slicewise.io/policy: autoscaling"
        in captured.err
    )
    assert captured.out == f"{file}: a valid ClusterPolicy\n"
    labelled = "{name: llm-policy, labels: {slicewise.io/policy: autoscaling}}"
    file.write_text(MANIFEST.replace("{name: llm-policy}", labelled).replace("vlm", "vllm"))
    assert main(["policy", "validate", str(file)]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "a valid AutoscalingPolicy for Deployment llm" in captured.out


def test_validate_remarks_on_names_that_nothing_answers_to(tmp_path, capsys):
    file = tmp_path / "policy.yaml"
    file.write_text(
        "kind: ClusterPolicy\n"
        "prices: {gpuHourByModel: {H100: 4}}\n"
        'demand: {classes: {"mig:1g.10gb": 1, "mig:9g.9gb": 1, gpus: 2, "whole:1@A100": 1}}\n'
        "scaleDown: {keepFor: [whole]}\n"
        "migGeometry: {configs: [{name: mine, model: H100-80GB, devices: {1g.11gb: 7}}]}\n"
    )
    assert main(["policy", "validate", str(file)]) == 0
    notes = capsys.readouterr().err.splitlines()
    assert [note.partition("note: ")[2].partition(":")[0] for note in notes] == [
        "prices.gpuHourByModel",
        *["demand.classes"] * 3,
        "scaleDown.keepFor",
        "migGeometry.configs, mine",
    ]
    assert "no GPU model 'H100'" in notes[0]
    assert "did you mean H100-" in notes[0]
    assert "no MIG profile '9g.9gb'" in notes[1]
    assert "'gpus' is not read; expected mig:PROFILE, whole:COUNT or shared" in notes[2]


def test_validate_refuses_a_carbon_provider_that_cannot_be_made(tmp_path, capsys):
    file = tmp_path / "policy.yaml"
    file.write_text("kind: ClusterPolicy\ncarbon: {provider: electricity-maps}\n")
    assert main(["policy", "validate", str(file)]) == 1
    assert "carbon.tokenFile: got nothing, expected the path" in capsys.readouterr().err
    file.write_text("kind: ClusterPolicy\ncarbon: {provider: file, file: /only/in/the/pod.csv}\n")
    assert main(["policy", "validate", str(file)]) == 0


def test_validate_says_what_it_got_where_no_policy_is(capsys):
    assert main(["policy", "validate", "deploy/manifests/node.yaml"]) == 1
    assert "got DaemonSet; expected a ClusterPolicy, an AutoscalingPolicy" in capsys.readouterr().err


def test_validate_remarks_on_a_latency_that_the_server_does_not_tell(tmp_path, capsys):
    file = tmp_path / "policy.yaml"
    text = "kind: AutoscalingPolicy\ntarget: {name: llm}\nmaxReplicas: 2\nserver: mlserver\n"
    file.write_text(f"{text}slo: {{latencySeconds: 1, measure: ttft}}\n")
    assert main(["policy", "validate", str(file)]) == 0
    assert "mlserver exports no histogram of ttft" in capsys.readouterr().err
    file.write_text(f"{text}latency: {{p95Seconds: 1, measure: ttft}}\n")
    assert main(["policy", "validate", str(file)]) == 0
    assert "latency.measure: mlserver exports no ttft" in capsys.readouterr().err
    file.write_text(f"{text}slo: {{latencySeconds: 1}}\n")
    assert main(["policy", "validate", str(file)]) == 0
    assert "mlserver counts no tokens" in capsys.readouterr().err
    file.write_text(f"{text}slo: {{latencySeconds: 1}}\ninFlight: {{perReplica: 4}}\n")
    assert main(["policy", "validate", str(file)]) == 0
    assert capsys.readouterr().err == ""


def test_a_cluster_without_gpus_is_told_what_would_be_seen(tmp_path, capsys):
    file = tmp_path / "snapshot.json"
    file.write_text('{"apiVersion": "slicewise.io/v1alpha1", "kind": "Snapshot"}')
    assert main(["nodes", "--from-snapshot", str(file)]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("0 nodes, 0 GPUs")
    assert "offers a GPU that Slicewise can read: resources nvidia.com/" in said.err


def test_a_snapshot_that_does_not_say_when_it_was_taken_is_refused(tmp_path, capsys):
    file = tmp_path / "snapshot.json"
    file.write_text('{"apiVersion": "slicewise.io/v1alpha1", "kind": "Snapshot"}')
    for verb in (["nodes", "--hints"], ["nodes", "--scale-down"], ["repack"]):
        assert main([*verb, "--from-snapshot", str(file)]) == 2
        assert "takenAt: got nothing, expected a time" in capsys.readouterr().err


def test_no_kubeconfig_is_a_message_and_no_traceback(tmp_path, capsys):
    assert main(["nodes", "--kubeconfig", str(tmp_path / "none")]) == 2
    assert "none: got no such file, expected a kubeconfig" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{", "a: [", "3", "[]", "text", "clusters: 3"])
def test_a_broken_kubeconfig_is_a_message_and_no_traceback(tmp_path, capsys, text):
    broken = tmp_path / "config"
    broken.write_text(text)
    assert main(["nodes", "--kubeconfig", str(broken)]) == 2
    problem = capsys.readouterr().err
    assert str(broken) in problem
    assert "expected a kubeconfig" in problem
    assert "give --kubeconfig" in problem


@pytest.mark.parametrize(
    "arguments",
    [
        ["nodes", "--from-snapshot"],
        ["repack", "--from-snapshot"],
        ["snapshot", "--from-snapshot"],
        ["explain", "pod", "p", "--from-snapshot"],
        ["simulate", "packing", "--snapshot"],
        ["policy", "validate"],
        ["simulate", "packing", "--pods", "pods.csv", "--nodes"],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
@pytest.mark.parametrize("kind", ["missing", "folder", "bytes"])
def test_a_file_that_cannot_be_used_is_told_with_what_to_give(tmp_path, capsys, arguments, kind):
    file = tmp_path / "given"
    if kind == "folder":
        file.mkdir()
    elif kind == "bytes":
        file.write_bytes(b"\xff\xfe\x00nonsense")
    assert main([*arguments, str(file)]) == 2
    problem = capsys.readouterr().err
    assert str(file) in problem
    assert "expected" in problem or "columns" in problem
    assert "Errno" not in problem
    assert "Traceback" not in problem


@pytest.mark.parametrize(
    "verb",
    [["explain"], ["nodes"], ["snapshot"], ["repack"], ["servers"], ["workloads"], ["tune"],
     ["policy", "validate"], ["simulate", "packing"], ["simulate", "mig"], ["simulate", "autoscaling"],
     ["simulate", "batch"]],
    ids=" ".join,
)  # fmt: skip
def test_help_says_what_a_command_does_and_explains_every_flag(verb, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*verb, "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    _, _, rest = text.partition("\n\n")
    description = rest.partition("\n\n")[0]
    assert not description.startswith(("options:", "positional arguments:"))
    assert len(description.split()) > 8
    # A flag without help would stand alone on its line, with no text under it.
    lines = rest.splitlines()
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith("  -"):
            assert len(line.rstrip().split("  ")) > 2 or below.startswith(" " * 20), line


def test_an_explanation_without_a_node_lists_candidates():
    bills = [Bill("b", {"money": 2.0}, 2.0, True), Bill("a", {"money": 1.0}, 1.0, True)]
    shown = explanation(bills, namespace="n", name="p", node="", nominated=False, currency="USD")
    assert shown.chosen is None
    assert [bill.node for bill in shown.alternatives] == ["a", "b"]
    assert "candidate" in as_table(shown)


def test_a_ragged_table_is_an_error():
    with pytest.raises(ValueError, match="1 cells"):
        table(["A", "B"], [["x"]])


def test_simulate_refuses_a_missing_list_in_one_line(tmp_path, capsys):
    missing = str(tmp_path / "none.csv")
    assert main(["simulate", "packing", "--nodes", missing, "--pods", missing]) == 2
    captured = capsys.readouterr()
    assert "none.csv" in captured.err
    assert "Traceback" not in captured.err
