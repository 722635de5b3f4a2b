"""Small parts of the node's process: options, API access, endpoint, what is claimed, the watchman."""

from __future__ import annotations

import argparse
import threading
import urllib.error
import urllib.request
from types import SimpleNamespace

import msgspec
import pytest

from cluster.api_errors import NotConfigured
from cluster.wire import ConfigMap
from dra.cards import CardRefused, HealthEvent
from dra.device_order import KEY, order_table, render_tables
from dra.resource_api import ResourceClaim
from node import light_api
from node.claimed import Claimed
from node.endpoint import Endpoint, EndpointRefused
from node.keeper import Keeper
from node.kube_api import slice_form
from node.options import OptionsRefused, add_arguments, serve_options
from node.order_tables import OrderTables
from tests.dra.memory_cards import POOL, Node, card
from tests.kubeconfigs import nobody
from tests.polling import SOON_SECONDS, until

SOON = SOON_SECONDS


def options(*arguments):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return serve_options(parser.parse_args(["--node-name", "n", *arguments]))


def test_the_state_is_in_the_kubelets_folder_unless_told_otherwise():
    assert str(options("--kubelet-root", "/k").state_dir) == "/k/plugins/gpu.slicewise.io"
    assert str(options("--kubelet-root", "/k", "--state-dir", "/s").state_dir) == "/s"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--node-name", ""], "--node-name"),
        (["--refresh-seconds", "0"], "--refresh-seconds: got 0.0"),
        (["--driver-root", "x"], "--driver-root: got x"),
        (["--sharing", "/none"], "/none: No such file"),
        (["--cdi-base-spec", "/none"], "/none: No such file"),
    ],
)
def test_a_wrong_flag_is_named(arguments, words):
    with pytest.raises(OptionsRefused, match=words):
        options(*arguments)


def test_files_are_json_or_yaml_and_refused_by_name(tmp_path):
    path = tmp_path / "f"
    path.write_text("gpus: [{index: 0, mode: mps, shares: 2}]")
    assert options("--sharing", str(path)).sharing.gpus[0].shares == 2
    path.write_text('{"containerEdits": {"env": ["A=1"]}}')
    assert options("--cdi-base-spec", str(path)).cdi_base == {"containerEdits": {"env": ["A=1"]}}
    path.write_text("[1]")
    with pytest.raises(OptionsRefused, match="CDI document"):
        options("--cdi-base-spec", str(path))
    path.write_text("a: [")
    with pytest.raises(OptionsRefused, match="neither JSON nor YAML"):
        options("--sharing", str(path))


@pytest.mark.parametrize(("version", "form"), [((1, 34), "1.34"), ((1, 35), "1.35+"), ((2, 0), "1.35+")])
def test_the_form_of_slices_follows_the_api_server(version, form):
    assert slice_form(version) == form


def test_a_token_file_is_read_again_after_a_minute(tmp_path):
    token = tmp_path / "token"
    token.write_text("one\n")
    access = light_api.from_kubeconfig(nobody(tmp_path, tokenFile="token"))
    assert access.bearer(0.0) == "one"
    token.write_text("two\n")
    assert access.bearer(59.0) == "one"
    assert access.bearer(61.0) == "two"
    token.unlink()
    with pytest.raises(NotConfigured, match="token"):
        access.bearer(200.0)


def test_a_kubeconfig_that_cannot_be_used_says_so(tmp_path):
    with pytest.raises(NotConfigured, match="--kubeconfig"):
        light_api.from_kubeconfig(tmp_path / "none")
    path = nobody(tmp_path)
    path.write_text(path.read_text().replace("current-context: c", "current-context: other"))
    with pytest.raises(NotConfigured):
        light_api.from_kubeconfig(path)


def test_certificates_in_a_pods_folder_are_needed(tmp_path, monkeypatch):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    with pytest.raises(NotConfigured, match=r"ca\.crt"):
        light_api.in_cluster(tmp_path)


def claim(uid, *devices, pool=POOL):
    results = [{"request": "r", "driver": "gpu.slicewise.io", "pool": pool, "device": d} for d in devices]
    return msgspec.convert(
        {
            "metadata": {"uid": uid},
            "status": {"allocation": {"devices": {"results": results}}} if devices else {},
        },
        ResourceClaim,
    )


def test_what_is_allocated_here_is_followed_and_nothing_else_wakes(tmp_path):
    node = Node(tmp_path, card(0), card(1, mig=False))
    view = node.driver().view
    calls = []
    claimed = Claimed(POOL, lambda: calls.append(1))
    claimed.replaced([claim("a", "gpu-0-1g10gb-6"), claim("b", "gpu-0-1g10gb-0", pool="other/pool")])
    assert claimed.masks(view.hardware) == {"GPU-0": 1 << 6}
    claimed.changed("MODIFIED", claim("a", "gpu-0-1g10gb-6"))
    claimed.changed("ADDED", claim("c"))
    assert len(calls) == 1
    claimed.changed("ADDED", claim("d", "gpu-1", "gpu-9"))
    assert claimed.masks(view.hardware) == {"GPU-0": 1 << 6, "GPU-1": view.hardware.gpus[1].full_mask}
    claimed.changed("MODIFIED", claim("a"))
    claimed.changed("DELETED", claim("d", "gpu-1", "gpu-9"))
    assert claimed.names() == set()
    assert len(calls) == 4


def test_a_refused_device_order_leaves_the_last_one_in_force():
    calls = []
    tables = OrderTables(lambda: calls.append(1))
    good = {"H100-80GB": order_table([1.0, 0.0])}
    tables.replaced([ConfigMap(data={KEY: render_tables(good)})])
    assert tables.current == good
    tables.changed("MODIFIED", ConfigMap(data={KEY: "nonsense"}))
    tables.changed("DELETED", ConfigMap())
    tables.changed("MODIFIED", ConfigMap(data={KEY: render_tables(good)}))
    assert tables.current == good
    assert len(calls) == 1


def page(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=SOON_SECONDS) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as answer:
        with answer:
            return answer.code, answer.read().decode()


def test_the_endpoint_says_what_is_waited_for():
    waiting, problem = ["slices"], []
    endpoint = Endpoint(
        "127.0.0.1:0",
        metrics=lambda: (b"x 1\n", "text/plain"),
        waiting=lambda: waiting,
        alive=lambda: "".join(problem),
    )
    endpoint.start()
    try:
        assert page(endpoint.port, "/readyz") == (503, "waiting for slices\n")
        waiting.clear()
        assert page(endpoint.port, "/readyz") == (200, "ok\n")
        assert page(endpoint.port, "/metrics") == (200, "x 1\n")
        assert page(endpoint.port, "/healthz") == (200, "ok\n")
        problem.append("stuck")
        assert page(endpoint.port, "/healthz") == (500, "stuck\n")
        assert page(endpoint.port, "/other")[0] == 404
        with pytest.raises(EndpointRefused, match="--metrics-address"):
            Endpoint(f"127.0.0.1:{endpoint.port}", metrics=None, waiting=None, alive=None)
    finally:
        endpoint.stop()
    with pytest.raises(EndpointRefused, match="host:port"):
        Endpoint("nonsense", metrics=None, waiting=None, alive=None)


class Watched:
    """A keeper over a node in memory."""

    def __init__(self, tmp_path, **flags):
        self.node = Node(tmp_path, card(0))
        self.driver = self.node.driver()
        self.looks = threading.Semaphore(0)
        self.sockets = SimpleNamespace(present=True, started=0)
        self.sockets.stop = lambda: None
        self.sockets.start = self._start
        arguments = [
            word for name, value in flags.items() for word in (f"--{name.replace('_', '-')}", str(value))
        ]
        self.keeper = Keeper(
            options("--refresh-seconds", "0.1", *arguments),
            self.node.cards,
            self.driver,
            self.node.claims,
            self.sockets,
            unprepare=self.driver.unprepare,
            ask_server=lambda: None,
            looked=lambda before, after: self.looks.release(),
        )

    def _start(self):
        self.sockets.present = True
        self.sockets.started += 1

    def __enter__(self):
        self.keeper.start()
        return self

    def __exit__(self, *_):
        self.keeper.stop()


def test_the_keeper_finds_foreign_instances_and_lost_sockets(tmp_path):
    with Watched(tmp_path) as watched:
        watched.node.cards.put("GPU-0", 19, 0)
        until(lambda: watched.driver.view.foreign, SOON, "the foreign instance")
        watched.sockets.present = False
        until(lambda: watched.sockets.started == 1, SOON, "new sockets")
        assert watched.keeper.problem() == ""


def test_the_keeper_gives_back_what_a_gone_claim_holds_but_only_then(tmp_path):
    watched = Watched(tmp_path, stale_claim_seconds=0.1)
    reference = watched.node.claims.allocate("a", "gpu-0-1g10gb-6")
    assert not isinstance(watched.driver.prepare([reference])[reference.uid], str)
    kept = watched.node.claims.allocate("kept", "gpu-0-1g10gb-5")
    watched.driver.prepare([kept])
    with watched:
        watched.node.claims.away = True
        del watched.node.claims.objects["a"]
        for _ in range(3):
            assert watched.looks.acquire(timeout=SOON)
        assert len(watched.node.live()) == 2, "an API server that is away proves nothing"
        watched.node.claims.away = False
        until(lambda: len(watched.node.live()) == 1, SOON, "the gone claim's instance")
    assert set(watched.driver.view.checkpoint.claims) == {kept.uid}


def test_the_keeper_outlives_cards_that_refuse(tmp_path):
    watched = Watched(tmp_path)
    answers = [HealthEvent("GPU-0", "xid", 79), CardRefused("wait", "other", "?"), None]
    watched.node.cards.wait_event = lambda seconds: _next(answers)
    with watched:
        for _ in range(2):
            assert watched.looks.acquire(timeout=SOON)


def _next(answers):
    answer = answers.pop(0) if answers else None
    if isinstance(answer, Exception):
        raise answer
    if answer is None:
        threading.Event().wait(0.05)
    return answer
