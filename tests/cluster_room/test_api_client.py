"""The client: what is sent, what a refusal says, and which failures are tried again."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from kubernetes.client.configuration import Configuration

from cluster.client import JSON_PATCH, Api, ApiRefused, ApiUnreachable, NotConfigured, connect
from cluster.wire import ConfigMap
from tests.cluster_room.scripted_server import Exchange, ScriptedServer, config_map, page


def test_objects_are_read_and_written_as_json_with_the_right_content_types(serve):
    server, api = serve(lambda exchange: exchange.json(200, config_map("a", 1, k="v")))

    read = api.get("/api/v1/namespaces/default/configmaps/a", ConfigMap, {"pretty": False})
    assert (read.metadata.name, read.data) == ("a", {"k": "v"})
    api.post("/p", {"x": 1})
    api.put("/p", b'{"raw":true}')
    api.patch("/p", {"status": {"nominatedNodeName": "n"}})
    api.patch("/p", [{"op": "remove", "path": "/spec/schedulingGates/0"}], JSON_PATCH)
    api.delete("/p")

    sent = [(r.method, r.headers.get("Content-Type"), r.body) for r in server.requests]
    assert sent == [
        ("GET", None, b""),
        ("POST", "application/json", b'{"x":1}'),
        ("PUT", "application/json", b'{"raw":true}'),
        ("PATCH", "application/merge-patch+json", b'{"status":{"nominatedNodeName":"n"}}'),
        ("PATCH", "application/json-patch+json", b'[{"op":"remove","path":"/spec/schedulingGates/0"}]'),
        ("DELETE", None, b""),
    ]
    assert server.requests[0].query == {"pretty": "false"}
    assert server.requests[0].headers["User-Agent"] == "slicewise"


def test_a_whole_list_is_read_page_by_page(serve):
    def answer(exchange: Exchange) -> None:
        last = exchange.query.get("continue") == "more"
        exchange.json(200, page([config_map("b" if last else "a", 1)], 9, "" if last else "more"))

    _, api = serve(answer)
    assert [item.metadata.name for item in api.list_objects("/l", ConfigMap, page_size=1)] == ["a", "b"]


def test_a_refusal_carries_status_reason_message_and_the_wait_that_is_asked_for(serve):
    _, api = serve(lambda exchange: exchange.refuse(429, "TooManyRequests", "slow down", Retry_After="7"))

    with pytest.raises(ApiRefused) as refused:
        api.get("/api/v1/nodes/n", ConfigMap)
    assert refused.value.status == 429
    assert refused.value.reason == "TooManyRequests"
    assert refused.value.retry_after_seconds == 7.0
    assert "GET /api/v1/nodes/n" in str(refused.value)
    assert "slow down" in str(refused.value)


def test_a_refusal_that_is_not_the_api_servers_own_shows_the_beginning_of_its_body(serve):
    _, api = serve(lambda exchange: exchange.raw(502, b"<html>bad gateway</html>"))
    with pytest.raises(ApiRefused, match="bad gateway"):
        api.post("/p", {})


def test_an_answer_of_another_kind_is_named_as_such(serve):
    _, api = serve(lambda exchange: exchange.raw(200, b"<html>log in</html>"))
    with pytest.raises(ApiUnreachable, match="not the expected JSON"):
        api.get("/p", ConfigMap)


def test_nobody_listening_is_unreachable_with_the_address_in_the_message():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
    api = Api(lambda: Configuration(host=f"http://127.0.0.1:{port}"))
    with pytest.raises(ApiUnreachable, match=f"127.0.0.1:{port}"):
        api.get("/p", ConfigMap)


def test_a_server_that_never_answers_is_given_up_after_the_read_timeout(serve):
    _, api = serve(lambda exchange: exchange.hang())
    with pytest.raises(ApiUnreachable, match="Timeout"):
        api.request("GET", "/p", read_timeout_seconds=0.2)


def test_a_get_on_a_connection_that_broke_is_tried_once_more_and_a_post_is_not(serve):
    def answer(exchange: Exchange) -> None:
        if len(server.requests) % 2:
            exchange.drop()
        else:
            exchange.json(200, config_map("a", 1))

    server, api = serve(answer)
    assert api.get("/p", ConfigMap).metadata.name == "a"
    with pytest.raises(ApiUnreachable):
        api.post("/p", {})
    assert [request.method for request in server.requests] == ["GET", "GET", "POST"]


def test_an_unauthorised_answer_loads_the_credentials_anew_once(serve):
    def answer(exchange: Exchange) -> None:
        if exchange.headers["Authorization"] == "Bearer new":
            exchange.json(200, config_map("a", 1))
        else:
            exchange.refuse(401, "Unauthorized")

    server, _ = serve(answer)
    tokens = iter(["Bearer old", "Bearer new", "Bearer bad", "Bearer bad"])

    def configure() -> Configuration:
        return Configuration(host=server.url, api_key={"BearerToken": next(tokens)})

    api = Api(configure)
    assert api.get("/p", ConfigMap).metadata.name == "a"
    assert len(server.requests) == 2
    assert api.get("/p", ConfigMap).metadata.name == "a"
    assert len(server.requests) == 3


KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "URL"}}]
users: [{name: u, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: COMMAND}}}]
contexts: [{name: one, context: {cluster: c, user: u}}]
current-context: one
"""


def test_a_kubeconfig_with_an_exec_plugin_gives_its_token(serve, tmp_path: Path):
    server, _ = serve(lambda exchange: exchange.json(200, config_map("a", 1)))
    credential = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"}
    plugin = tmp_path / "plugin"
    plugin.write_text(f"#!/bin/sh\necho '{json.dumps({**credential, 'status': {'token': 'from-exec'}})}'\n")
    plugin.chmod(0o755)
    file = tmp_path / "kubeconfig"
    file.write_text(KUBECONFIG.replace("URL", server.url).replace("COMMAND", str(plugin)))

    api = connect(str(file), "one")
    api.get("/p", ConfigMap)
    api.close()
    assert server.requests[-1].headers["Authorization"] == "Bearer from-exec"


def test_in_a_pod_the_service_account_is_used_and_a_given_kubeconfig_goes_before_it(
    serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from kubernetes.config import incluster_config

    from cluster.credentials import authorisation, load_configuration

    for name, content in (("TOKEN", "rotating"), ("CERT", "certificate")):
        (tmp_path / name).write_text(content)
        monkeypatch.setattr(incluster_config, f"SERVICE_{name}_FILENAME", str(tmp_path / name))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")

    configuration = load_configuration(None, None)
    assert configuration.host == "https://10.0.0.1:443"
    assert configuration.ssl_ca_cert == str(tmp_path / "CERT")
    assert authorisation(configuration) == {"authorization": "bearer rotating"}

    (tmp_path / "TOKEN").unlink()
    with pytest.raises(NotConfigured, match="token"):
        load_configuration(None, None)

    server, _ = serve(lambda exchange: exchange.json(200, config_map("a", 1)))
    plugin = "/bin/true"
    file = tmp_path / "kubeconfig"
    file.write_text(KUBECONFIG.replace("URL", server.url).replace("COMMAND", plugin))
    assert connect(str(file)).host == server.url


def test_a_missing_kubeconfig_or_context_says_what_was_looked_for(tmp_path: Path):
    with pytest.raises(NotConfigured, match="nowhere"):
        connect(str(tmp_path / "nowhere"))
    file = tmp_path / "kubeconfig"
    file.write_text(KUBECONFIG)
    with pytest.raises(NotConfigured, match="with context 'two'"):
        connect(str(file), "two")


def test_closing_a_server_does_not_leave_a_thread(serve):
    server = ScriptedServer(lambda exchange: exchange.json(200, {}))
    server.close()
    with pytest.raises(ApiUnreachable):
        Api(lambda: Configuration(host=server.url)).get("/p", ConfigMap)
