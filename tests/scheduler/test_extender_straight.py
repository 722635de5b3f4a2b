"""The straight way over a real socket: the same answers, and uvicorn for all that is unusual."""

from __future__ import annotations

import http.client
import json
import socket
from contextlib import closing

import pytest

from scheduler.extender.exchange import Hot
from scheduler.extender.straight import read_head
from tests.polling import SOON_SECONDS
from tests.scheduler.extender_calls import Scripted, app_over
from tests.scheduler.test_extender_server import Running

POD = {"metadata": {"name": "p", "namespace": "d"}, "spec": {"containers": [{"name": "c"}]}}
BODY = json.dumps({"Pod": POD, "NodeNames": ["a", "b"]}).encode()
HOT = Hot("filter", lambda body: body)
LINE = b"POST /scheduler/filter HTTP/1.1"


def request(body: bytes = BODY, *extra: bytes, line: bytes = LINE) -> bytes:
    fields = (b"Host: x", b"Content-Type: application/json", b"Content-Length: %d" % len(body), *extra)
    return b"\r\n".join((line, *fields, b"", body))


def answers(sock: socket.socket, count: int) -> list[tuple[int, bytes]]:
    """Read so many answers off a connection."""
    found = []
    with sock.makefile("rb") as stream:
        for _ in range(count):
            status = int(stream.readline().split()[1])
            length = 0
            while (line := stream.readline().strip().lower()) != b"":
                if line.startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            found.append((status, stream.read(length)))
    return found


@pytest.fixture(scope="module")
def running():
    with Running(app_over(Scripted(scores=[5, 7]), max_body_bytes=lambda: 100_000)) as server:
        yield server


@pytest.fixture
def connection(running):
    with socket.create_connection(("127.0.0.1", running.port), timeout=SOON_SECONDS) as made:
        yield made


def test_a_plain_request_is_cut_out_with_its_length():
    assert read_head(request(), {LINE: HOT}, 10_000) == (HOT, request().index(BODY), len(BODY))


@pytest.mark.parametrize(
    "unusual",
    [
        request(line=b"POST /scheduler/filter HTTP/1.0"),
        request(line=b"GET /scheduler/filter HTTP/1.1"),
        request(BODY, b"Transfer-Encoding: chunked"),
        request(BODY, b"Expect: 100-continue"),
        request(BODY, b"Connection: close"),
        request(BODY, b"Content-Length: 3"),
        request(b"x" * 10_001),
        request()[: len(LINE) + 9],
        request().replace(b"application/json", b"text/plain"),
        request().replace(b"Content-Length: ", b"Content-Length: +"),
        request().replace(b"Content-Length:", b"Content-Length :"),
    ],
)
def test_what_is_unusual_is_left_to_uvicorn(unusual):
    assert read_head(unusual, {LINE: HOT}, 10_000) is None


def test_both_ways_answer_alike(running, connection):
    connection.sendall(request())
    ((status, straight),) = answers(connection, 1)
    with closing(http.client.HTTPConnection("127.0.0.1", running.port, timeout=SOON_SECONDS)) as other:
        other.request("POST", "/scheduler/filter", iter([BODY]), {"Content-Type": "application/json"})
        roundabout = other.getresponse()
        assert (status, straight) == (roundabout.status, roundabout.read())


@pytest.mark.parametrize("size", [1, 7, 100, 5000])
def test_a_request_may_come_in_pieces(connection, size):
    data = request(BODY + b" " * 3000)
    for start in range(0, len(data), size):
        connection.sendall(data[start : start + size])
    ((status, _),) = answers(connection, 1)
    assert status == 200


def test_requests_sent_in_one_go_are_answered_in_order(connection):
    prioritize = request(line=b"POST /scheduler/prioritize HTTP/1.1")
    connection.sendall(request() + prioritize + request())
    found = answers(connection, 3)
    assert [status for status, _ in found] == [200, 200, 200]
    assert [body[:8] for _, body in found] == [b'{"Nodes"', b'[{"Host"', b'{"Nodes"']


def test_ways_alternate_on_one_connection(connection):
    chunked = request(b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)).replace(
        b"Content-Length: %d" % (len(BODY) + len(b"%x\r\n\r\n0\r\n\r\n" % len(BODY))),
        b"Transfer-Encoding: chunked",
    )
    assert b"chunked" in chunked
    for data in (request(), chunked, request(), chunked):
        connection.sendall(data)
        assert answers(connection, 1)[0][0] == 200


def test_a_body_that_looks_like_a_request_does_not_start_one(connection):
    chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    head = request(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    connection.sendall(head)
    connection.sendall(chunk[:5])
    connection.sendall(chunk[5:])
    assert answers(connection, 1)[0][0] == 200


def test_an_unreadable_body_is_told_so_and_the_connection_lives_on(connection):
    connection.sendall(request(b"{nonsense"))
    assert answers(connection, 1)[0][0] == 400
    connection.sendall(request())
    assert answers(connection, 1)[0][0] == 200


def test_a_body_above_the_limit_is_refused(connection):
    connection.sendall(request(b" " * 100_001))
    assert answers(connection, 1)[0][0] == 413


def test_what_follows_a_decision_runs_after_its_answer():
    scripted = Scripted(scores=[5, 7])
    with (
        Running(app_over(scripted)) as running,
        socket.create_connection(("127.0.0.1", running.port), timeout=SOON_SECONDS) as made,
    ):
        for _ in range(2):
            made.sendall(request(line=b"POST /scheduler/prioritize HTTP/1.1"))
            answers(made, 1)
    assert scripted.refreshed == [["the demand"], ["the demand"]]
