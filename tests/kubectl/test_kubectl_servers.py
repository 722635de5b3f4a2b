"""``kubectl slicewise servers`` as a user meets it."""

from __future__ import annotations

import json

import pytest

from kubectl_slicewise.__main__ import main
from kubectl_slicewise.servers import as_table
from metrics.servers.check import Seen, Signal

SEEN = (
    Seen(
        "shop",
        "vllm",
        ("a", "b"),
        ("istio",),
        (
            Signal("in flight", 2, 12.0, ""),
            Signal("rate", 1, 3.5, "missing on 1 of 2 pods: idle cannot be told from silent"),
            Signal("ttft", 2, None, ""),
        ),
    ),
)


def test_one_row_a_server_with_every_finding_below():
    lines = as_table(SEEN).splitlines()
    assert lines[1].split()[:6] == ["shop", "vllm", "2", "12", "3.5", "ttft"]
    assert lines[1].endswith("rate missing on 1 of 2 pods: idle cannot be told from silent")
    assert lines[2].strip() == "also marks of istio"


def test_a_prometheus_that_is_not_there_is_named(capsys):
    assert main(["servers", "--prometheus-url", "http://127.0.0.1:1"]) == 1
    error = capsys.readouterr().err
    assert "http://127.0.0.1:1" in error
    assert "expected a Prometheus query API" in error
    assert error.count("http://127.0.0.1:1") == 1


def test_tune_says_what_to_look_at_where_prometheus_is_not_there(tmp_path, capsys):
    policy = tmp_path / "policy.yaml"
    policy.write_text("kind: AutoscalingPolicy\ntarget: {name: llm}\nmaxReplicas: 2\ninFlight: {}\n")
    assert main(["tune", str(policy), "--prometheus-url", "http://127.0.0.1:1"]) == 1
    assert "expected a Prometheus query API there: check --prometheus-url" in capsys.readouterr().err
    for flag in ("--days", "--hours", "--startup", "--prometheus-timeout"):
        with pytest.raises(SystemExit) as stopped:
            main(["tune", str(policy), "--prometheus-url", "http://127.0.0.1:1", flag, "-1"])
        assert stopped.value.code == 2
        assert f"{flag}: got '-1', expected a number above 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--prometheus-url", "prometheus:9090"], "expected one that begins with http"),
        (
            ["--prometheus-url", "http://127.0.0.1:1", "--prometheus-token-file", "/no/such"],
            "token-file: /no/such: got",
        ),
        (
            ["--prometheus-url", "https://127.0.0.1:1", "--prometheus-ca-file", "/no/such"],
            "ca-file: /no/such",
        ),
    ],
)
def test_wrong_flags_are_refused_with_status_2(flags, word, capsys):
    assert main(["servers", *flags]) == 2
    assert word in capsys.readouterr().err


def test_an_empty_answer_says_what_is_known(monkeypatch, capsys):
    monkeypatch.setattr("kubectl_slicewise.servers.check", lambda *_: ())
    assert main(["servers", "--prometheus-url", "http://127.0.0.1:1", "-o", "json"]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out) == []
    assert "vllm, sglang, tgi" in said.err
