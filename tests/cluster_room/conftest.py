"""A scripted API server and a client for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from kubernetes.client.configuration import Configuration

from cluster.client import Api
from tests.cluster_room.scripted_server import Script, ScriptedServer


@pytest.fixture
def serve() -> Iterator[Callable[[Script], tuple[ScriptedServer, Api]]]:
    opened: list[tuple[ScriptedServer, Api]] = []

    def start(script: Script) -> tuple[ScriptedServer, Api]:
        server = ScriptedServer(script)
        api = Api(lambda: Configuration(host=server.url), connect_timeout_seconds=2, read_timeout_seconds=5)
        opened.append((server, api))
        return server, api

    yield start
    for server, api in opened:
        server.close()
        api.close()
