"""The extender on a real socket: keep-alive, large requests, oversized ones, drain on SIGTERM, a busy port,
TLS.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from scheduler.extender.server import CannotListen, ExtenderServer, Tls, listen
from tests.polling import SOON_SECONDS
from tests.scheduler.extender_calls import Scripted, app_over

POD = {"metadata": {"name": "p", "namespace": "d"}, "spec": {"containers": [{"name": "c"}]}}
JSON = {"Content-Type": "application/json"}


class Running:
    def __init__(self, app, **options):
        self.server = ExtenderServer(app, **options)
        self.listener = listen("127.0.0.1", 0)
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.server.serve_on, args=(self.listener,))

    def __enter__(self):
        self.thread.start()
        deadline = time.monotonic() + SOON_SECONDS
        while not self.server.started and time.monotonic() < deadline:
            self.thread.join(0.01)
        assert self.server.started
        return self

    def __exit__(self, *_):
        self.server.stop()
        self.thread.join(SOON_SECONDS)
        self.listener.close()
        assert not self.thread.is_alive()


def exchange(connection, path, body):
    connection.request("POST", path, body, JSON)
    answer = connection.getresponse()
    return answer, answer.read()


def test_one_connection_serves_cycle_after_cycle_of_five_thousand_names():
    names = [f"ip-10-0-{i // 256}-{i % 256}.eu-north-1.compute.internal" for i in range(5000)]
    body = json.dumps({"Pod": POD, "NodeNames": names})
    with Running(app_over(Scripted(scores=[5] * 5000))) as running:
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=SOON_SECONDS)
        connection.connect()
        first = connection.sock
        for _ in range(3):
            answer, content = exchange(connection, "/scheduler/filter", body)
            assert answer.status == 200
            assert json.loads(content)["NodeNames"] == names
            answer, content = exchange(connection, "/scheduler/prioritize", body)
            assert len(json.loads(content)) == 5000
        assert connection.sock is first
        connection.close()


def test_an_oversized_body_is_refused_and_the_next_request_is_served():
    with Running(app_over(Scripted(), max_body_bytes=lambda: 200_000)) as running:
        for size in (250_000, 8_000_000):
            connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=SOON_SECONDS)
            answer, content = exchange(connection, "/scheduler/filter", b" " * size)
            assert answer.status == 413
            assert json.loads(content)["expected"] == "at most 200000 bytes"
            answer, _ = exchange(
                connection, "/scheduler/filter", json.dumps({"Pod": POD, "NodeNames": ["n"]})
            )
            assert answer.status == 200
            connection.close()


def test_a_port_in_use_is_told_without_a_traceback():
    held = listen("127.0.0.1", 0)
    try:
        with pytest.raises(CannotListen, match=r"Address already in use.*choose another"):
            listen("127.0.0.1", held.getsockname()[1])
    finally:
        held.close()


@pytest.mark.parametrize(("host", "port"), [("no-such-host.invalid", 0), ("127.0.0.1", 70000)])
def test_an_impossible_address_is_told(host, port):
    with pytest.raises(CannotListen, match="--listen"):
        listen(host, port)


PROGRAM = """
import sys
sys.path.insert(0, "tests/scheduler")
from tests.scheduler.extender_calls import Scripted, app_over
from scheduler.extender.server import ExtenderServer, listen
app = app_over(Scripted(), draining=lambda: server.draining())
server = ExtenderServer(app, drain_seconds=float(sys.argv[1]))
listener = listen("127.0.0.1", 0)
print(listener.getsockname()[1], flush=True)
server.serve_on(listener)
print("left in order", flush=True)
"""


def test_sigterm_drains_and_leaves_in_order():
    root = Path(__file__).parents[2]
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "2.0"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        connection = http.client.HTTPConnection(
            "127.0.0.1", int(child.stdout.readline()), timeout=SOON_SECONDS
        )
        body = json.dumps({"Pod": POD, "NodeNames": ["n"]})
        assert exchange(connection, "/scheduler/filter", body)[0].status == 200
        child.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + SOON_SECONDS
        closing = False
        while not closing and time.monotonic() < deadline:
            answer, _ = exchange(connection, "/scheduler/filter", body)
            assert answer.status == 200
            closing = answer.headers["Connection"] == "close"
        assert closing
        assert child.stdout.readline() == "left in order\n"
        assert child.wait(SOON_SECONDS) == 0
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def certificate(folder):
    """A self-signed certificate for 127.0.0.1."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "slicewise")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(minutes=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "crt").write_bytes(made.public_bytes(pem))
    (folder / "key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return str(folder / "crt"), str(folder / "key")


def test_tls_serves_clients_that_trust_the_certificate(tmp_path):
    crt, key = certificate(tmp_path)
    with Running(app_over(Scripted()), tls=Tls(crt, key)) as running:
        trusting = ssl.create_default_context(cafile=crt)
        connection = http.client.HTTPSConnection(
            "127.0.0.1", running.port, context=trusting, timeout=SOON_SECONDS
        )
        body = json.dumps({"Pod": POD, "NodeNames": ["n"]})
        assert exchange(connection, "/scheduler/filter", body)[0].status == 200
        connection.close()


def test_a_client_that_speaks_no_http_gets_an_answer_or_a_closed_connection():
    with Running(app_over(Scripted())) as running:
        with socket.create_connection(("127.0.0.1", running.port), timeout=SOON_SECONDS) as raw:
            raw.sendall(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
            assert raw.recv(4096)[:12] in (b"HTTP/1.1 400", b"")
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=SOON_SECONDS)
        connection.request("GET", "/healthz")
        assert connection.getresponse().read() == b"ok"
        connection.close()
