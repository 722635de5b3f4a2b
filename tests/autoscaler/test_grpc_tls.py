"""Certificates of gRPC ports: rotated while the server runs, and a broken pair leaves the old one serving."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from autoscaler.grpc_tls import server_credentials
from deploy.local.certificates import Authority, KeyPair
from tests.polling import SOON_SECONDS

SECONDS = SOON_SECONDS


class Files:
    def __init__(self, folder: Path) -> None:
        self.certificate, self.key, self.time = folder / "tls.crt", folder / "tls.key", 0

    def put(self, pair: KeyPair | None) -> None:
        self.time += 1000
        for path, source in (
            (self.certificate, pair and pair.certificate),
            (self.key, pair and pair.key),
        ):
            path.write_bytes(source.read_bytes() if source else b"no PEM")
            os.utime(path, (self.time, self.time))


class Served:
    def __init__(self, folder: Path) -> None:
        now = datetime.datetime.now(datetime.UTC)
        self.first, self.second = Authority(folder / "first", now), Authority(folder / "second", now)
        self.files = Files(folder)
        self.files.put(self.first.server("localhost"))
        self.server = grpc.server(ThreadPoolExecutor(1))
        credentials = server_credentials(str(self.files.certificate), str(self.files.key))
        self.port = self.server.add_secure_port("127.0.0.1:0", credentials)
        self.server.start()

    def shown_by(self, authority: Authority) -> bool:
        """Whether a new connection is shown a certificate of this authority."""
        trusted = grpc.ssl_channel_credentials(authority.certificate.read_bytes())
        with grpc.secure_channel(f"localhost:{self.port}", trusted) as channel:
            call = channel.unary_unary("/none/None")
            with pytest.raises(grpc.RpcError) as refused:
                call(b"", timeout=SECONDS)
        return bool(refused.value.code() is grpc.StatusCode.UNIMPLEMENTED)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path)
    yield made
    made.server.stop(0).wait()


def test_a_rotated_certificate_is_shown_to_the_next_connection(served: Served):
    assert served.shown_by(served.first)
    assert not served.shown_by(served.second)
    served.files.put(served.second.server("localhost"))
    assert served.shown_by(served.second)
    assert not served.shown_by(served.first)


def test_a_broken_pair_leaves_the_old_one_serving(served: Served, caplog: pytest.LogCaptureFixture):
    served.files.put(None)
    assert served.shown_by(served.first)
    assert served.shown_by(served.first)
    assert caplog.text.count("not usable, the old one stays") == 1


def test_files_that_are_not_there_are_told_before_anything_serves(tmp_path: Path):
    with pytest.raises(OSError, match=r"none\.crt|none\.key"):
        server_credentials(str(tmp_path / "none.crt"), str(tmp_path / "none.key"))
