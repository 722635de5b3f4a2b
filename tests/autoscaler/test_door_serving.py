"""The doors as servers: flags, certificates that rotate, who is at the other end, the leader's label."""

from __future__ import annotations

import datetime
import http.client
import json
import os
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from autoscaler.__main__ import main
from autoscaler.doors.external_metrics import PEER_NAMES
from autoscaler.doors.leader_label import LABEL, LeaderLabel
from autoscaler.doors.side import DoorOptions, Doors
from autoscaler.doors.tls_server import CertificateFiles, NotServing, TlsServer, common_names, listening
from cluster.client import Api
from deploy.local.certificates import Authority, Identity, KeyPair
from deploy.local.control_plane import ControlPlane
from tests.autoscaler.refusals import refusal
from tests.polling import SOON_SECONDS

NOW = datetime.datetime.now(datetime.UTC)


async def who(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the common names of the client's certificate."""
    names = scope[PEER_NAMES]
    body = json.dumps(None if names is None else sorted(names)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def asked(port: int, context: ssl.SSLContext) -> Any:
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=SOON_SECONDS)
    try:
        connection.request("GET", "/")
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def trusting(authority: Authority, client: KeyPair | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.certificate))
    if client is not None:
        context.load_cert_chain(client.certificate, client.key)
    return context


def test_the_app_learns_whose_certificate_a_connection_has(tmp_path: Path):
    serving, proxies = Authority(tmp_path / "serving", NOW), Authority(tmp_path / "proxies", NOW)
    pair = serving.server("door")
    server = TlsServer(
        who, listening("--p", 0, "127.0.0.1"), CertificateFiles(str(pair.certificate), str(pair.key))
    )
    server.start()
    try:
        proxy = proxies.client("proxy", Identity("front-proxy-client"))
        assert asked(server.port, trusting(serving)) is None
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
            asked(server.port, trusting(serving, proxy))  # nobody said yet to trust that authority
        server.trust_clients_of(proxies.certificate.read_text())
        assert asked(server.port, trusting(serving, proxy)) == ["front-proxy-client"]
        stranger = serving.client("stranger", Identity("front-proxy-client"))
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
            asked(server.port, trusting(serving, stranger))
    finally:
        server.stop()


def test_a_rotated_certificate_serves_the_next_connection(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    before, after = Authority(tmp_path / "before", NOW), Authority(tmp_path / "after", NOW)
    crt, key = tmp_path / "tls.crt", tmp_path / "tls.key"

    def put(certificate: bytes, private: bytes, time: int) -> None:
        for path, content in ((crt, certificate), (key, private)):
            path.write_bytes(content)
            os.utime(path, (time, time))

    old, new = before.server("door"), after.server("door")
    put(old.certificate.read_bytes(), old.key.read_bytes(), 1_000)
    files = CertificateFiles(str(crt), str(key))
    server = TlsServer(who, listening("--p", 0, "127.0.0.1"), files)
    server.start()
    try:
        assert asked(server.port, trusting(before)) is None
        put(b"half a file", new.key.read_bytes(), 2_000)
        files.look()
        assert "not usable, the old one stays" in caplog.text
        assert asked(server.port, trusting(before)) is None
        put(new.certificate.read_bytes(), new.key.read_bytes(), 3_000)
        files.look()
        assert asked(server.port, trusting(after)) is None
    finally:
        server.stop()


def test_common_names_are_read_from_what_ssl_tells():
    subject = ((("organizationName", "system:masters"),), (("commonName", "one"),), (("commonName", "two"),))
    assert common_names({"subject": subject}) == {"one", "two"}
    assert common_names({"subject": ()}) == frozenset()
    assert common_names({}) is None
    assert common_names(None) is None


def test_a_taken_port_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(NotServing, match=f"--external-metrics-port: cannot listen on port {port}"):
            listening("--external-metrics-port", port, "127.0.0.1")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--external-metrics-port", "0"], "expected --serving-cert-file and --serving-key-file beside it"),
        (["--keda-port", "0", "--serving-cert-file", __file__], "expected both or none"),
        (
            ["--keda-port", "0", "--serving-cert-file", __file__, "--serving-key-file", __file__],
            "got no usable pair",
        ),
        (["--keda-port", "0", "--serving-cert-file", "/no"], "--serving-cert-file: cannot read"),
        (["--keda-port", "0", "--keda-client-ca-file", __file__], "--keda-client-ca-file: expected"),
        (["--keda-port", "0", "--keda-client-ca-file", "/no"], "--keda-client-ca-file: cannot read"),
    ],
)
def test_flags_that_cannot_be_served_are_one_sentence_and_status_2(
    flags: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert words in refusal(flags, tmp_path, capsys)


@pytest.mark.parametrize("text", ["x", "-1", "65536", "²"])
def test_a_port_is_a_number(text: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["--prometheus-url", "http://127.0.0.1:1", f"--keda-port={text}"])
    assert "expected a port from 0 to 65535" in capsys.readouterr().err


def test_the_leader_s_pod_alone_has_the_label(control_plane: ControlPlane, namespace: str):
    path = f"/api/v1/namespaces/{namespace}/pods"
    for name, labels in (("a", {}), ("b", {}), ("dead", {LABEL: "true"})):
        document = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": labels},
            "spec": {"containers": [{"name": "c", "image": "none"}], "schedulerName": "nobody"},
        }
        control_plane.request("POST", path, document)

    def labelled() -> list[str]:
        items = control_plane.request("GET", f"{path}?labelSelector={LABEL}%3Dtrue")["items"]
        return [item["metadata"]["name"] for item in items]

    api = Api.connect(str(control_plane.kubeconfig_for("slicewise-controller")))
    leader = ["a"]

    def label_of(pod: str) -> LeaderLabel:
        return LeaderLabel(api, namespace, pod, is_leader=lambda: leader == [pod])

    keepers = {pod: label_of(pod) for pod in ("a", "b")}
    try:
        for leads, order in (("a", "ab"), ("b", "ba"), ("a", "ba")):
            leader[:] = [leads]
            for name in order:
                keepers[name].step()
            assert labelled() == [leads]
        keepers["a"].start()
        keepers["a"].stop()
        assert labelled() == []
    finally:
        api.close()


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_dry_run_leaves_its_pod_without_the_label(dry_run: bool):
    patched = []

    class Recorded:
        def patch(self, path: str, body: object) -> None:
            patched.append(path)

    options = DoorOptions(keda_port=0, host="127.0.0.1", pod="a")
    doors = Doors(options, Recorded(), "ns", None, lambda: False, dry_run=dry_run)  # type: ignore[arg-type]
    doors.start()
    doors.stop()
    assert patched == ([] if dry_run else ["/api/v1/namespaces/ns/pods/a"])
