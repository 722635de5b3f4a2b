"""A KEDA-protocol client against the external scaler, over real gRPC: pull, push, errors, leadership, TLS."""

from __future__ import annotations

import contextlib
import datetime
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2

from autoscaler.doors.externalscaler import externalscaler_pb2 as pb
from autoscaler.doors.externalscaler import externalscaler_pb2_grpc as pb_grpc
from autoscaler.doors.keda import ExternalScaler
from autoscaler.doors.keda_server import KedaServer
from autoscaler.grpc_tls import server_credentials
from deploy.local.certificates import Authority, Identity
from metrics.samples import NoData
from tests.autoscaler.door_scenes import Decided
from tests.polling import SOON_SECONDS, pause, until

SECONDS = SOON_SECONDS


class Keda:
    """What KEDA's operator does with one trigger: its own metadata go along, the metric name comes back."""

    def __init__(self, channel: grpc.Channel, **metadata: str) -> None:
        self.stub = pb_grpc.ExternalScalerStub(channel)
        self.ref = pb.ScaledObjectRef(
            name="chat-scaled",
            namespace="n",
            scalerMetadata={"scalerAddress": "slicewise-keda.slicewise-system:6000", **metadata},
        )

    def target(self) -> tuple[str, int, float]:
        (spec,) = self.stub.GetMetricSpec(self.ref, timeout=SECONDS).metricSpecs
        return spec.metricName, spec.targetSize, spec.targetSizeFloat

    def value(self) -> tuple[int, float]:
        name = self.target()[0]
        request = pb.GetMetricsRequest(scaledObjectRef=self.ref, metricName=name)
        (found,) = self.stub.GetMetrics(request, timeout=SECONDS).metricValues
        assert found.metricName == name
        return found.metricValue, found.metricValueFloat

    def active(self) -> bool:
        return bool(self.stub.IsActive(self.ref, timeout=SECONDS).result)


@pytest.fixture
def decided() -> Decided:
    table = Decided()
    table.say("chat", 7)
    return table


@pytest.fixture
def server(decided: Decided) -> Iterator[KedaServer]:
    scaler = ExternalScaler(decided.advice(), push_seconds=0.02, observe=decided.results.append)
    one = KedaServer(scaler, "127.0.0.1:0", is_leader=lambda: decided.leader)
    one.start()
    yield one
    one.stop()


def dial(server: KedaServer) -> grpc.Channel:
    port = until(lambda: server.bound_port, SECONDS, "the KEDA door listens")
    return grpc.insecure_channel(f"127.0.0.1:{port}")


def refusal(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), caught.value.details()


def test_the_wire_is_that_of_keda_s_published_protocol():
    file = descriptor_pb2.FileDescriptorProto()
    pb.DESCRIPTOR.CopyToProto(file)
    assert file.package == "externalscaler"
    (service,) = file.service
    assert service.name == "ExternalScaler"
    calls = [(m.name, m.input_type, m.output_type, m.server_streaming) for m in service.method]
    ref, active, spec = (
        f".externalscaler.{n}" for n in ("ScaledObjectRef", "IsActiveResponse", "GetMetricSpecResponse")
    )
    assert calls == [
        ("IsActive", ref, active, False),
        ("StreamIsActive", ref, active, True),
        ("GetMetricSpec", ref, spec, False),
        ("GetMetrics", ".externalscaler.GetMetricsRequest", ".externalscaler.GetMetricsResponse", False),
        ("StreamMetricSpec", ref, spec, True),
    ]
    fields = {m.name: {f.name: (f.number, f.type) for f in m.field} for m in file.message_type}
    types = descriptor_pb2.FieldDescriptorProto
    assert fields["ScaledObjectRef"] == {
        "name": (1, types.TYPE_STRING),
        "namespace": (2, types.TYPE_STRING),
        "scalerMetadata": (3, types.TYPE_MESSAGE),
    }
    assert fields["IsActiveResponse"] == {"result": (1, types.TYPE_BOOL)}
    assert fields["GetMetricSpecResponse"] == {"metricSpecs": (1, types.TYPE_MESSAGE)}
    assert fields["MetricSpec"] == {
        "metricName": (1, types.TYPE_STRING),
        "targetSize": (2, types.TYPE_INT64),
        "targetSizeFloat": (3, types.TYPE_DOUBLE),
    }
    assert fields["GetMetricsRequest"] == {
        "scaledObjectRef": (1, types.TYPE_MESSAGE),
        "metricName": (2, types.TYPE_STRING),
    }
    assert fields["GetMetricsResponse"] == {"metricValues": (1, types.TYPE_MESSAGE)}
    assert fields["MetricValue"] == {
        "metricName": (1, types.TYPE_STRING),
        "metricValue": (2, types.TYPE_INT64),
        "metricValueFloat": (3, types.TYPE_DOUBLE),
    }


@pytest.mark.parametrize(
    "metadata", [{"policy": "chat-policy"}, {"kind": "Deployment", "name": "chat"}, {"name": "chat"}]
)
def test_keda_s_hpa_wishes_the_decided_count(server: KedaServer, decided: Decided, metadata: dict[str, str]):
    with dial(server) as channel:
        keda = Keda(channel, **metadata)
        assert keda.target() == ("slicewise_desired_replicas", 1, 1.0)
        assert keda.value() == (7, 7.0)
        assert keda.active()
        decided.say("chat", 0)
        assert keda.value() == (0, 0.0)
        assert not keda.active()


def test_a_push_stream_tells_at_once_and_then_every_change(server: KedaServer, decided: Decided):
    with dial(server) as channel:
        keda = Keda(channel, policy="chat-policy")
        stream = keda.stub.StreamIsActive(keda.ref)
        heard: list[bool] = []

        def listen() -> None:
            with contextlib.suppress(grpc.RpcError):
                for message in stream:
                    heard.append(message.result)

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        for replicas, expected in (
            (7, [True]),
            (9, [True]),
            (0, [True, False]),
            (0, [True, False]),
            (3, [True, False, True]),
        ):
            decided.say("chat", replicas)
            until(partial(heard.__eq__, expected), SECONDS, f"news of {replicas} replicas")
        pause(0.2)
        assert heard == [True, False, True]
        stream.cancel()
        listener.join(SECONDS)
        assert not listener.is_alive()
        assert stream.code() is grpc.StatusCode.CANCELLED


def test_there_is_no_stream_of_targets_since_they_never_change(server: KedaServer):
    with dial(server) as channel:
        keda = Keda(channel, policy="chat-policy")
        code, _ = refusal(lambda: next(keda.stub.StreamMetricSpec(keda.ref)))
        assert code is grpc.StatusCode.UNIMPLEMENTED  # by which KEDA knows, and says nothing


def test_what_is_not_known_is_a_status_and_never_a_number(server: KedaServer, decided: Decided):
    with dial(server) as channel:
        keda = Keda(channel, policy="chat-policy")
        decided.now += 16.0
        for call in (keda.value, keda.active):
            code, words = refusal(call)
            assert code is grpc.StatusCode.UNAVAILABLE
            assert "the last decision is 16 s old" in words
        assert keda.target() == ("slicewise_desired_replicas", 1, 1.0)  # KEDA can still make its HPA
    assert decided.results == ["not_known"] * 2


class Heard:
    """Listens to a push stream in a thread: what was said, and how it ended (None while it lasts)."""

    def __init__(self, keda: Keda) -> None:
        self.said: list[bool] = []
        self.ended: grpc.StatusCode | None = None
        self._stream = keda.stub.StreamIsActive(keda.ref)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with contextlib.suppress(grpc.RpcError):
            for message in self._stream:
                self.said.append(message.result)
        self.ended = self._stream.code()

    def hears(self, expected: list[bool]) -> None:
        until(partial(self.said.__eq__, expected), SECONDS, f"{expected} is heard")


def silent(heard: Heard) -> bool:
    """Whether nothing is said for a while."""
    before = len(heard.said)
    pause(0.3)
    return len(heard.said) == before


def test_a_push_stream_is_silent_while_nothing_is_known_and_goes_on(server: KedaServer, decided: Decided):
    """An error would have KEDA come back after up to a minute, however soon a decision is there again."""
    with dial(server) as channel:
        decided.now += 16.0
        heard = Heard(Keda(channel, policy="chat-policy"))
        pause(0.2)
        assert heard.said == []
        decided.say("chat", 7)
        heard.hears([True])
        decided.now += 16.0
        pause(0.2)
        decided.say("chat", 0)
        heard.hears([True, False])
        assert heard.ended is None
    assert decided.results == []


def test_a_push_stream_repeats_itself_until_the_workload_wakes(decided: Decided):
    scaler = ExternalScaler(decided.advice(), push_seconds=0.02, repeat_seconds=0.04)
    server = KedaServer(scaler, "127.0.0.1:0", is_leader=lambda: True)
    server.start()
    try:
        with dial(server) as channel:
            decided.say("chat", 0, current=0)
            heard = Heard(Keda(channel, policy="chat-policy"))
            heard.hears([False])
            pause(0.2)
            assert heard.said == [False]  # who sleeps rightly is left alone
            decided.say("chat", 3, current=0)
            until(lambda: heard.said.count(True) > 3, SECONDS, "it is told again and again")
            decided.say("chat", 3, current=1)
            until(lambda: silent(heard), SECONDS, "it is told no more")
    finally:
        server.stop()


def test_a_stream_ends_in_order_with_time_and_with_the_lead(decided: Decided):
    """KEDA's pause between its tries grows with each failure, and begins anew only after such an end."""
    scaler = ExternalScaler(decided.advice(), push_seconds=0.02, stream_seconds=0.3)
    server = KedaServer(scaler, "127.0.0.1:0", is_leader=lambda: decided.leader)
    server.start()
    try:
        with dial(server) as channel:
            keda = Keda(channel, policy="chat-policy")
            heard = Heard(keda)
            until(lambda: heard.ended, SECONDS, "the stream ends by itself")
            assert (heard.said, heard.ended) == ([True], grpc.StatusCode.OK)
            scaler._stream_seconds = 3600.0
            heard = Heard(keda)
            heard.hears([True])
            decided.leader = False
            until(lambda: heard.ended, SECONDS, "the stream ends with the lead")
            assert heard.ended is grpc.StatusCode.OK
    finally:
        server.stop()


def test_a_push_stream_ends_when_its_policy_goes(server: KedaServer, decided: Decided):
    with dial(server) as channel:
        heard = Heard(Keda(channel, policy="chat-policy"))
        heard.hears([True])
        decided.policies = {}
        until(lambda: heard.ended, SECONDS, "the stream ends")
        assert heard.ended is grpc.StatusCode.NOT_FOUND


def test_a_decision_that_holds_for_want_of_signals_is_served(server: KedaServer, decided: Decided):
    decided.say("chat", 5, NoData("Prometheus does not answer", "outage"))
    with dial(server) as channel:
        assert Keda(channel, policy="chat-policy").value() == (5, 5.0)
    assert decided.results == ["served"]


@pytest.mark.parametrize(
    ("metadata", "code", "words"),
    [
        ({}, grpc.StatusCode.INVALID_ARGUMENT, "ScaledObject chat-scaled: trigger metadata: got policy ''"),
        ({"policy": "a", "name": "b"}, grpc.StatusCode.INVALID_ARGUMENT, "expected one of them"),
        ({"policy": "nobody"}, grpc.StatusCode.NOT_FOUND, "there: chat-policy for Deployment chat"),
        ({"kind": "StatefulSet", "name": "chat"}, grpc.StatusCode.NOT_FOUND, "for StatefulSet 'chat'"),
    ],
)
def test_metadata_that_name_no_workload_are_refused_with_what_is_there(
    server: KedaServer, metadata: dict[str, str], code: grpc.StatusCode, words: str
):
    with dial(server) as channel:
        keda = Keda(channel, **metadata)
        for call in (keda.target, keda.active):
            found, said = refusal(call)
            assert found is code
            assert words in said


def test_another_metric_name_is_refused(server: KedaServer):
    with dial(server) as channel:
        keda = Keda(channel, policy="chat-policy")
        request = pb.GetMetricsRequest(scaledObjectRef=keda.ref, metricName="queue")
        code, words = refusal(lambda: keda.stub.GetMetrics(request, timeout=SECONDS))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "expected 'slicewise_desired_replicas'" in words


def test_only_the_leader_listens_and_a_lost_lead_ends_connections(server: KedaServer, decided: Decided):
    with dial(server) as channel:
        keda = Keda(channel, policy="chat-policy")
        stream = keda.stub.StreamIsActive(keda.ref)
        next(stream)
        decided.leader = False
        until(lambda: not server.bound_port, SECONDS, "the door closes")
        assert list(stream) == []
    decided.leader = True
    with dial(server) as channel:
        assert Keda(channel, policy="chat-policy").value() == (7, 7.0)


def test_mutual_tls_lets_in_only_clients_of_the_authority(decided: Decided, tmp_path: Path):
    now = datetime.datetime.now(datetime.UTC)
    authority, strangers = Authority(tmp_path / "ours", now), Authority(tmp_path / "theirs", now)
    pair = authority.server("door", ["127.0.0.1", "slicewise-keda.slicewise-system.svc"])
    server = KedaServer(
        ExternalScaler(decided.advice()),
        "127.0.0.1:0",
        is_leader=lambda: True,
        credentials=lambda: server_credentials(
            str(pair.certificate), str(pair.key), str(authority.certificate)
        ),
    )
    server.start()
    try:
        port = until(lambda: server.bound_port, SECONDS, "the KEDA door listens")
        for issuer, welcome in ((authority, True), (strangers, False)):
            client = issuer.client("keda", Identity("keda-operator"))
            credentials = grpc.ssl_channel_credentials(
                authority.certificate.read_bytes(), client.key.read_bytes(), client.certificate.read_bytes()
            )
            with grpc.secure_channel(f"127.0.0.1:{port}", credentials) as channel:
                keda = Keda(channel, policy="chat-policy")
                if welcome:
                    assert keda.value() == (7, 7.0)
                else:
                    assert refusal(keda.active)[0] is grpc.StatusCode.UNAVAILABLE
    finally:
        server.stop()
