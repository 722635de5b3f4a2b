"""Configuration handed to the servers: the caller's words are kept, what the cluster needs is filled in."""

from __future__ import annotations

from pathlib import Path

from deploy.local.certificates import KeyPair
from deploy.local.commands import api_server, prometheus_configuration, scheduler_configuration

PAIR = KeyPair(Path("server.crt"), Path("server.key"))


def test_a_scheduler_configuration_keeps_profiles_and_extenders():
    given = {
        "profiles": [{"schedulerName": "packed"}],
        "extenders": [{"urlPrefix": "http://127.0.0.1:1", "weight": 5}],
        "percentageOfNodesToScore": 100,
    }
    merged = scheduler_configuration(given, Path("scheduler.kubeconfig"))
    assert given.items() <= merged.items()
    assert merged["kind"] == "KubeSchedulerConfiguration"


def test_a_scheduler_configuration_always_uses_this_cluster_and_no_election():
    given = {
        "clientConnection": {"kubeconfig": "/elsewhere", "qps": 7},
        "leaderElection": {"leaderElect": True},
    }
    merged = scheduler_configuration(given, Path("scheduler.kubeconfig"))
    assert merged["clientConnection"]["kubeconfig"] == "scheduler.kubeconfig"
    assert merged["clientConnection"]["qps"] == 7
    assert merged["leaderElection"] == {"leaderElect": False}


def test_feature_gates_and_runtime_configuration_reach_the_api_server():
    def argv(gates: dict[str, bool], runtime: dict[str, str]) -> list[str]:
        return api_server(
            Path("kube-apiserver"),
            port=1,
            etcd_port=2,
            authority=Path("ca.crt"),
            server=PAIR,
            token_keys=PAIR,
            kubelet_client=PAIR,
            front_proxy_authority=Path("front-proxy-ca.crt"),
            front_proxy=PAIR,
            feature_gates=gates,
            runtime_config=runtime,
        )

    full = argv({"One": True, "Two": False}, {"api/alpha": "true"})
    assert "--feature-gates=One=true,Two=false" in full
    assert "--runtime-config=api/alpha=true" in full
    assert not [flag for flag in argv({}, {}) if flag.startswith(("--feature-gates", "--runtime-config"))]


def test_servers_listen_on_loopback_only():
    flags = api_server(
        Path("kube-apiserver"),
        port=1,
        etcd_port=2,
        authority=Path("ca.crt"),
        server=PAIR,
        token_keys=PAIR,
        kubelet_client=PAIR,
        front_proxy_authority=Path("front-proxy-ca.crt"),
        front_proxy=PAIR,
        feature_gates={},
        runtime_config={},
    )
    assert "--bind-address=127.0.0.1" in flags
    assert "--authorization-mode=Node,RBAC" in flags
    # A client of the cluster's own authority cannot pass for the front proxy.
    assert "--requestheader-client-ca-file=front-proxy-ca.crt" in flags
    assert "--client-ca-file=ca.crt" in flags


def test_prometheus_scrapes_at_the_interval_asked_for():
    document = prometheus_configuration([{"job_name": "one"}], "2s", [Path("rules.yaml")])
    assert document["global"]["scrape_interval"] == document["global"]["scrape_timeout"] == "2s"
    assert document["scrape_configs"] == [{"job_name": "one"}]
    assert document["rule_files"] == ["rules.yaml"]
