"""Head and body of an answer leave in one write, in order, and nothing is ever kept back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scheduler.extender.one_write import Corked

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"


class Recording:
    def __init__(self):
        self.writes, self.closed = [], False

    def write(self, data):
        self.writes.append(data)

    def close(self):
        self.closed = True

    def is_closing(self):
        return self.closed


def test_head_and_body_are_one_write():
    transport = Recording()
    corked = Corked(transport)
    corked.write(HEAD)
    assert transport.writes == []
    corked.write(b"ok")
    assert transport.writes == [HEAD + b"ok"]


def test_an_empty_body_still_sends_the_head():
    transport = Recording()
    corked = Corked(transport)
    corked.write(HEAD)
    corked.write(b"")
    assert transport.writes == [HEAD]


def test_closing_sends_a_head_that_has_no_body():
    transport = Recording()
    corked = Corked(transport)
    corked.write(HEAD)
    corked.close()
    assert (transport.writes, transport.closed, corked.is_closing()) == ([HEAD], True, True)


def test_a_client_that_waits_for_100_continue_gets_it_at_once():
    transport = Recording()
    Corked(transport).write(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert transport.writes == [b"HTTP/1.1 100 Continue\r\n\r\n"]


@given(
    st.lists(st.sampled_from([HEAD, b"ok", b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"\r\n\r\n", b"HTTP/1."]))
)
def test_bytes_leave_complete_and_in_order(writes):
    transport = Recording()
    corked = Corked(transport)
    for data in writes:
        corked.write(data)
    corked.close()
    assert b"".join(transport.writes) == b"".join(writes)
