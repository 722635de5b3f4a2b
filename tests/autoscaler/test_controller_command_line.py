"""A user's mistake ends in one sentence and status 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoscaler.__main__ import BadAddress, parse_address
from tests.autoscaler.refusals import refusal


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":8081", ("0.0.0.0", 8081)),
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("[::1]:9000", ("::1", 9000)),
    ],
)
def test_an_address_is_read(text: str, address: tuple[str, int]):
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "8081", "host:", "host:port", ":70000", ":-1", ":²"])
def test_a_bad_address_is_named(text: str):
    with pytest.raises(BadAddress, match="expected HOST:PORT"):
        parse_address(text)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--listen", "nowhere"], "--listen: got 'nowhere'"),
        (["--kubeconfig", "/does/not/exist"], "/does/not/exist"),
        (["--prometheus-url", "prometheus:9090"], "expected one that begins with http://"),
        (["--prometheus-timeout", "0"], "expected more than 0 seconds"),
        (["--prometheus-ca-file", "/does/not/exist"], "--prometheus-ca-file: cannot read"),
    ],
)
def test_a_bad_flag_is_one_sentence_and_status_2(
    flags: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert words in refusal(flags, tmp_path, capsys)
