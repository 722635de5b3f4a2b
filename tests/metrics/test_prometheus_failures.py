"""Whatever goes wrong with Prometheus ends in a typed absence with a reason, in bounded time."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Any

import pytest

from metrics.prometheus import PARALLEL_QUERIES, Prometheus, token_in
from metrics.samples import Vector
from tests.metrics.absences import absent
from tests.polling import SOON_SECONDS

QUERY = "/api/v1/query"


def vector(*series):
    return {"status": "success", "data": {"resultType": "vector", "result": list(series)}}


def series(value, **labels):
    return {"metric": labels, "value": [1000.0, value]}


@pytest.fixture
def prometheus(api):
    with Prometheus(api.url, timeout_seconds=2.0) as connected:
        yield connected


def test_samples_carry_labels_value_and_the_instant_asked_for(api, prometheus):
    api.answers[QUERY] = vector(series("3.5", pod="a"), series("NaN", pod="b"), series("+Inf", pod="c"))
    answer = prometheus.query("up", 1234.5)
    assert isinstance(answer, Vector)
    assert [(s.labels, s.value, s.at_seconds) for s in answer.samples] == [({"pod": "a"}, 3.5, 1234.5)]
    assert answer.nan_labels == ({"pod": "b"}, {"pod": "c"})
    assert api.asked[0].query["query"] == "up"
    assert float(api.asked[0].query["time"]) == 1234.5


def test_a_scalar_is_one_sample_without_labels(api, prometheus):
    api.answers[QUERY] = {"status": "success", "data": {"resultType": "scalar", "result": [1000.0, "7"]}}
    assert prometheus.query("scalar(x)", 0.0).find() == 7.0


def test_all_not_a_number_is_a_vector_that_says_so(api, prometheus):
    api.answers[QUERY] = vector(series("NaN", pod="a"))
    answer = prometheus.query("x", 0.0)
    assert answer.samples == ()
    absent(answer.find(pod="a"), "not-a-number")


def test_an_empty_result_is_absence_not_zero(api, prometheus):
    api.answers[QUERY] = vector()
    absent(prometheus.query("x", 0.0), "empty")


def test_no_connection_is_an_outage_that_names_the_address():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with Prometheus(url, timeout_seconds=2.0) as prometheus:
            reason = absent(prometheus.query("up", 0.0), "outage")
    assert url in reason
    assert "refused" in reason


def test_a_bad_query_is_refused_in_prometheus_own_words(api, prometheus):
    error = {"status": "error", "errorType": "bad_data", "error": 'parse error: unexpected "("'}
    api.answers[QUERY] = (400, error, {})
    reason = absent(prometheus.query("sum((", 0.0), "refused")
    assert "400" in reason
    assert 'unexpected "("' in reason


@pytest.mark.parametrize("status", [401, 403, 404, 500, 502, 503, 504])
def test_an_http_error_is_refused_at_once_without_retries(api, prometheus, status):
    api.answers[QUERY] = (status, b"no", {})
    assert str(status) in absent(prometheus.query("up", 0.0), "refused")
    assert len(api.asked) == 1


def test_a_rate_limit_says_when_to_come_back(api, prometheus):
    api.answers[QUERY] = (429, b"slow down", {"Retry-After": "17"})
    answer = prometheus.query("up", 0.0)
    absent(answer, "refused")
    assert answer.retry_after_seconds == 17.0


def test_a_login_page_is_no_answer_and_is_not_followed(api, prometheus):
    api.answers[QUERY] = (302, b"", {"Location": "/login"})
    api.answers["/login"] = b"<html>"
    assert "/login" in absent(prometheus.query("up", 0.0), "refused")
    assert len(api.asked) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"<html>hello</html>",
        b"",
        b'{"status":',
        b"[]",
        b"null",
        b'{"data": {}}',
        b'{"data": {"result": 5}}',
        b'{"data": {"result": [1, "x"]}}',
        b'{"data": {"result": [{"metric": {}, "value": [1]}]}}',
        b'{"data": {"result": [{"value": [1, "2"]}]}}',
        b'{"data": {"result": [{"metric": {}, "value": [1, "two"]}]}}',
    ],
)
def test_an_answer_of_another_form_is_malformed(api, prometheus, body):
    api.answers[QUERY] = (200, body, {})
    absent(prometheus.query("up", 0.0), "malformed")


def test_native_histograms_are_no_numbers(api, prometheus):
    api.answers[QUERY] = vector({"metric": {}, "histogram": [1000.0, {"count": "3"}]})
    absent(prometheus.query("x", 0.0), "malformed")


def test_an_answer_that_breaks_off_is_an_outage(api, prometheus):
    api.answers[QUERY] = (200, b'{"data"', {"Content-Length": "5000", "Connection": "close"})
    absent(prometheus.query("up", 0.0), "outage")


def test_an_answer_that_is_too_large_is_not_read(api):
    api.answers[QUERY] = vector(*[series("1", pod=f"pod-{i}") for i in range(500)])
    with Prometheus(api.url, max_answer_bytes=1000) as prometheus:
        assert "1000 bytes" in absent(prometheus.query("up", 0.0), "malformed")


def test_a_trickling_answer_ends_at_the_deadline(api):
    def trickle(_, handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        deadline = time.monotonic() + SOON_SECONDS
        while time.monotonic() < deadline:
            handler.wfile.write(b" ")  # ends with a broken pipe as soon as the client has gone
            handler.wfile.flush()

    api.answers[QUERY] = trickle
    with Prometheus(api.url, timeout_seconds=0.4) as prometheus:
        began = time.monotonic()
        absent(prometheus.query("up", 0.0), "timeout")
        assert time.monotonic() - began < SOON_SECONDS, "not when the answer was complete"


def silence(asked, handler):
    handler.connection.settimeout(SOON_SECONDS)
    with contextlib.suppress(TimeoutError):
        handler.connection.recv(1)  # returns when the client hangs up
    handler.close_connection = True


def test_a_silent_server_is_a_timeout(api):
    api.answers[QUERY] = silence
    with Prometheus(api.url, timeout_seconds=0.3) as prometheus:
        assert "0.3 s" in absent(prometheus.query("up", 0.0), "timeout")


def test_a_batch_against_a_silent_server_takes_one_timeout(api):
    api.answers[QUERY] = silence
    timeout, many = 1.0, 20
    with Prometheus(api.url, timeout_seconds=timeout) as prometheus:
        began = time.monotonic()
        answers: Any = prometheus.query_many({f"q{i}": "up" for i in range(many)}, 0.0)
        assert time.monotonic() - began < timeout * many / PARALLEL_QUERIES, "not one for each turn of some"
    assert len(answers) == 20
    assert {answer.cause for answer in answers.values()} == {"timeout"}


def test_a_batch_keeps_names_and_one_instant(api, prometheus):
    api.answers[QUERY] = lambda asked, _: vector(series("1", q=asked.query["query"]))
    answers = prometheus.query_many({f"name{i}": f"metric{i}" for i in range(12)}, 77.0)
    assert list(answers) == [f"name{i}" for i in range(12)]
    assert all(answers[f"name{i}"].samples[0].labels == {"q": f"metric{i}"} for i in range(12))
    assert {asked.query["time"] for asked in api.asked} == {"77.000"}


def test_one_bad_query_does_not_spoil_the_batch(api, prometheus):
    def answer(asked, _):
        return (400, {"error": "parse error"}, {}) if asked.query["query"] == "((" else vector(series("1"))

    api.answers[QUERY] = answer
    answers = prometheus.query_many({"good": "up", "bad": "(("}, 0.0)
    assert answers["good"].find() == 1.0
    absent(answers["bad"], "refused")


def test_a_range_gives_points_in_order_and_counts_not_a_number(api, prometheus):
    matrix = [{"metric": {"pod": "a"}, "values": [[10, "1"], [20, "NaN"], [30, "3"]]}]
    api.answers["/api/v1/query_range"] = {"data": {"resultType": "matrix", "result": matrix}}
    (one,) = prometheus.query_range("x", 10.0, 30.0, 10.0)
    assert one.points == ((10.0, 1.0), (30.0, 3.0))
    assert one.nan_points == 1
    assert api.asked[0].query["step"] == "10"


def test_a_rotated_token_is_followed_and_an_unreadable_one_is_named(api, tmp_path):
    api.answers[QUERY] = vector(series("1"))
    token = tmp_path / "token"
    token.write_text("one\n")
    with Prometheus(api.url, bearer_token=token_in(str(token))) as prometheus:
        prometheus.query("up", 0.0)
        token.write_text("two\n")
        prometheus.query("up", 0.0)
        token.unlink()
        assert "token" in absent(prometheus.query("up", 0.0), "misconfigured")
    assert [asked.headers["authorization"] for asked in api.asked] == ["Bearer one", "Bearer two"]


def test_the_observer_is_told_of_every_query(api):
    told = []
    api.answers[QUERY] = vector(series("1"))
    with Prometheus(api.url, observer=lambda result, seconds: told.append((result, seconds))) as prometheus:
        prometheus.query("up", 0.0)
        api.answers[QUERY] = vector()
        prometheus.query("up", 0.0)
    assert [result for result, _ in told] == ["data", "empty"]
    assert all(0 <= seconds < SOON_SECONDS for _, seconds in told)


@pytest.mark.parametrize("arguments", [{"url": "prometheus:9090"}, {"url": "http://x", "timeout_seconds": 0}])
def test_impossible_settings_are_refused_by_name(arguments):
    with pytest.raises(ValueError, match="got"):
        Prometheus(**arguments)
