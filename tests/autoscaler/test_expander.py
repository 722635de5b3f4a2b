"""The gRPC expander as Cluster Autoscaler calls it: a real client, serialised pods and nodes."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import msgspec
import pytest

from autoscaler.nodes import fresh_node
from autoscaler.nodes.expander import AddressTaken, Expander, Tls, sentences
from autoscaler.nodes.expander_v1 import api_pb2 as pb
from autoscaler.nodes.expander_v1.api_pb2_grpc import ExpanderStub
from autoscaler.nodes.messages import MOST_ANSWER_BYTES
from autoscaler.nodes.node_options import Choice
from autoscaler.nodes.node_prices import FleetPrices
from cluster.policy import ClusterPolicy
from cluster.wire import Pod
from metrics.carbon.intensity import Intensity
from scheduler.fleet import Fleet
from scheduler.service import Service, Sources
from tests.autoscaler.expander_questions import node_message, pod_message, question
from tests.polling import SOON_SECONDS
from tests.scheduler.fleet_objects import (
    H100,
    L40S,
    device_class,
    node,
    policy,
    slices,
    template,
)

NOW = 1_000_000.0
CPU = {"cpu": "64", "memory": "512Gi"}
H100_LABELS = {
    "nvidia.com/gpu.product": H100,
    "topology.kubernetes.io/region": "eu-north-1",
    "node.kubernetes.io/instance-type": "p5.48xlarge",
}
L40S_LABELS = {
    "nvidia.com/gpu.product": L40S,
    "topology.kubernetes.io/region": "eu-north-1",
    "node.kubernetes.io/instance-type": "g6e.12xlarge",
}
PRICES = {"gpuHour": 4.0, "gpuHourByModel": {"L40S-48GB": 1.0}}
GRAMS = {
    zone: Intensity(zone, grams, "average", 0.0, 1e18, "test", False)
    for zone, grams in {"SE": 30.0, "DE": 400.0}.items()
}


class Observer:
    def __init__(self) -> None:
        self.choices: list[Choice] = []
        self.problems: list[str] = []

    def chose(self, choice: Choice, seconds: float) -> None:
        self.choices.append(choice)

    def failed(self, problem: str) -> None:
        self.problems.append(problem)


class Daemons:
    """DaemonSets in memory."""

    def __init__(self, *pods: Pod, settled: bool = True) -> None:
        self.pods, self.settled = pods, settled

    def templates(self) -> tuple[Pod, ...]:
        return self.pods


def service(*, carbon: bool = True, ready: bool = True, **sections: object) -> Service:
    sections.setdefault("prices", PRICES)
    chosen = policy(**({"carbon": {"provider": "static"}} | sections))
    sources = Sources(
        policy=lambda: chosen,
        parts=lambda: {"fleet": ready},
        age_seconds=lambda: 0.0,
        carbon=GRAMS if carbon else {},
    )
    made = Service(Fleet(), sources, provider=None)
    made.test_policy = chosen  # type: ignore[attr-defined]
    return made


Asker = Callable[..., pb.BestOptionsResponse]


@pytest.fixture
def serve() -> Iterator[Callable[..., tuple[Asker, Observer]]]:
    expanders: list[Expander] = []
    channels: list[grpc.Channel] = []

    def start(
        made: Service, tls: Tls | None = None, ca: Path | None = None, daemons: Daemons | None = None
    ) -> tuple[Asker, Observer]:
        if made._sources.parts()["fleet"]:
            made.prepare()
        observer = Observer()
        chosen: ClusterPolicy = made.test_policy  # type: ignore[attr-defined]
        prices = FleetPrices(made, lambda: chosen, lambda: NOW, daemons)
        expander = Expander(prices, "127.0.0.1:0", observer, tls)
        expander.start()
        expanders.append(expander)
        target = f"localhost:{expander.port}"
        if ca is None:
            channel = grpc.insecure_channel(target)
        else:
            channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(ca.read_bytes()))
        channels.append(channel)
        stub = ExpanderStub(channel)
        return lambda request: stub.BestOptions(request, timeout=SOON_SECONDS), observer

    yield start
    for channel in channels:
        channel.close()
    for expander in expanders:
        expander.stop()


def groups(response: pb.BestOptionsResponse) -> list[str]:
    return [option.nodeGroupId for option in response.options]


def whole(count: int) -> list[object]:
    return [pod_message(f"llm-{i}", {"nvidia.com/gpu": "1"}, requests={"cpu": "4"}) for i in range(count)]


@pytest.mark.parametrize("serialised", [True, False], ids=["from 1.35", "before"])
def test_the_group_with_the_least_price_a_replica_is_answered_alone_and_as_it_came(serve, serialised: bool):
    ask, observer = serve(service())
    h100 = node_message("template-a", {**CPU, "nvidia.com/gpu": "8"}, H100_LABELS)
    l40s = node_message("template-b", {**CPU, "nvidia.com/gpu": "4"}, L40S_LABELS)
    request = question({"h100": (1, h100, whole(4)), "l40s": (1, l40s, whole(4))}, serialised=serialised)
    # A field of core/v1 that is not read here must come back too.
    response = ask(request)
    assert groups(response) == ["l40s"]
    assert response.options[0] == request.options[1]
    assert observer.choices[0].about_gpus
    assert observer.choices[0].sentence.startswith("l40s: 4 GPU pods on 1 nodes at ")


def test_fields_that_are_not_read_come_back_unharmed(serve):
    ask, _ = serve(service())
    option = question(
        {"a": (1, node_message("t", {**CPU, "nvidia.com/gpu": "1"}), whole(1))}, serialised=False
    )
    raw = option.options[0].pod[0].SerializeToString()
    # PodSpec.hostNetwork = 11 is not in our messages: appended to the spec on the wire.
    spec = option.options[0].pod[0].spec.SerializeToString() + bytes([11 << 3, 1])
    option.options[0].pod[0].spec.ParseFromString(spec)
    assert option.options[0].pod[0].SerializeToString() != raw
    response = ask(option)
    assert response.options[0] == option.options[0]
    assert bytes([11 << 3, 1]) in response.SerializeToString()


def test_a_big_node_for_one_pod_loses_unless_what_is_left_will_be_used(serve):
    small = node_message(
        "s", {**CPU, "nvidia.com/gpu": "1"}, H100_LABELS | {"node.kubernetes.io/instance-type": "p5.4xlarge"}
    )
    big = node_message("b", {**CPU, "nvidia.com/gpu": "8"}, H100_LABELS)
    ask, _ = serve(service())
    assert groups(ask(question({"big": (1, big, whole(1)), "small": (1, small, whole(1))}))) == ["small"]


def test_equal_options_are_all_answered(serve):
    ask, _ = serve(service())
    one = node_message("a", {**CPU, "nvidia.com/gpu": "8"}, H100_LABELS)
    request = question({"zone-a": (1, one, whole(8)), "zone-b": (1, one, whole(8))})
    assert groups(ask(request)) == ["zone-a", "zone-b"]


def test_the_cleaner_of_two_equal_zones_wins_and_an_unknown_zone_switches_carbon_off(serve):
    ask, observer = serve(service())
    here = node_message("a", {**CPU, "nvidia.com/gpu": "8"}, H100_LABELS)
    there = node_message(
        "b", {**CPU, "nvidia.com/gpu": "8"}, {**H100_LABELS, "topology.kubernetes.io/region": "eu-central-1"}
    )
    nowhere = node_message(
        "c", {**CPU, "nvidia.com/gpu": "8"}, {**H100_LABELS, "topology.kubernetes.io/region": "moon-1"}
    )
    assert groups(ask(question({"de": (1, there, whole(8)), "se": (1, here, whole(8))}))) == ["se"]
    request = question({"de": (1, there, whole(8)), "se": (1, here, whole(8)), "x": (1, nowhere, whole(8))})
    assert groups(ask(request)) == ["de", "se", "x"]
    assert "no known topology.kubernetes.io/region" in next(iter(sentences(observer.choices[-1])))


def test_a_zone_without_a_node_is_looked_up_from_the_first_question_on(serve):
    made = service(carbon=False)
    ask, _ = serve(made)
    here = node_message("a", {**CPU, "nvidia.com/gpu": "8"}, H100_LABELS)
    ask(question({"se": (1, here, whole(8))}))
    assert made.other_zones == {"SE"}


def test_options_without_a_gpu_pod_are_left_to_the_next_expander_least_waste_first(serve):
    ask, observer = serve(service())
    pods = [pod_message("web", {}, requests={"cpu": "4", "memory": "4Gi"})]
    small = node_message("s", {"cpu": "8", "memory": "8Gi"})
    large = node_message("l", {"cpu": "64", "memory": "256Gi"})
    assert groups(ask(question({"large": (1, large, pods), "small": (1, small, pods)}))) == ["small", "large"]
    assert not observer.choices[0].about_gpus


def test_an_option_that_helps_no_gpu_pod_never_beats_one_that_does(serve):
    ask, observer = serve(service())
    gpu = node_message("g", {**CPU, "nvidia.com/gpu": "8"}, H100_LABELS)
    plain = node_message("p", {"cpu": "8", "memory": "8Gi"})
    web = pod_message("web", {}, requests={"cpu": "8", "memory": "8Gi"})
    wide = [pod_message("wide", {"nvidia.com/gpu": "16"})]
    request = question({"plain": (1, plain, [web]), "wide": (1, gpu, wide), "gpu": (1, gpu, whole(1))})
    assert groups(ask(request)) == ["gpu"]
    told = list(sentences(observer.choices[0]))
    assert "plain: has no GPU pod" in told
    assert "wide: no GPU pod fits on such a node" in told


def test_claims_are_priced_on_the_slices_that_a_running_node_of_the_type_publishes(serve):
    made = service()
    made.fleet.apply_node(node("p5-1", labels={"node.kubernetes.io/instance-type": "p5.48xlarge"}))
    for item in slices("p5-1"):
        made.fleet.apply_slice(item)
    expression = "device.driver == 'gpu.nvidia.com' && device.attributes['gpu.nvidia.com'].type == 'mig'"
    made.fleet.apply_class(device_class("mig.nvidia.com", expression))
    made.fleet.apply_template(template("small", "1g.10gb"))
    ask, observer = serve(made)
    pods = [pod_message(f"small-{i}", {}, template="small") for i in range(14)]
    bare = node_message("t", CPU, {"node.kubernetes.io/instance-type": "p5.48xlarge"})
    other = node_message("o", CPU, {"node.kubernetes.io/instance-type": "m5.large"})
    assert groups(ask(question({"m5": (1, other, pods), "p5": (1, bare, pods)}))) == ["p5"]
    bill = observer.choices[0].bills[1]
    assert (bill.replicas, bill.nodes) == (14, 1)


def test_an_answer_too_large_for_a_grpc_client_goes_without_its_pods(serve):
    ask, _ = serve(service())
    pods = whole(8)
    pods[0].metadata.annotations["notes"] = "x" * (MOST_ANSWER_BYTES + 1)
    one = node_message("a", {**CPU, "nvidia.com/gpu": "8"}, H100_LABELS)
    response = ask(question({"a": (1, one, pods)}))
    assert groups(response) == ["a"]
    assert not response.options[0].podBytes


def test_daemons_that_leave_a_group_too_little_cost_it_the_choice(serve):
    agent = msgspec.convert(
        {
            "spec": {
                "nodeSelector": {"node.kubernetes.io/instance-type": "g6e.12xlarge"},
                "containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}],
            }
        },
        Pod,
    )
    h100 = node_message("template-a", {**CPU, "nvidia.com/gpu": "8"}, H100_LABELS)
    l40s = node_message("template-b", {"cpu": "4", "memory": "64Gi", "nvidia.com/gpu": "1"}, L40S_LABELS)
    request = question({"h100": (1, h100, whole(1)), "l40s": (1, l40s, whole(1))})
    ask, _ = serve(service())
    assert groups(ask(request)) == ["l40s"]
    ask, observer = serve(service(), daemons=Daemons(agent))
    assert groups(ask(request)) == ["h100"]
    assert "l40s: no GPU pod fits on such a node" in list(sentences(observer.choices[0]))


def test_nothing_is_answered_before_the_daemon_sets_are_known(serve):
    ask, observer = serve(service(), daemons=Daemons(settled=False))
    with pytest.raises(grpc.RpcError) as refused:
        ask(question({}))
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    assert observer.problems == ["not known yet: DaemonSets"]


def test_nothing_is_answered_before_the_fleet_is_known(serve):
    ask, observer = serve(service(ready=False))
    with pytest.raises(grpc.RpcError) as refused:
        ask(question({}))
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "fleet" in observer.problems[0]


def test_bytes_that_are_no_pod_are_refused_in_words(serve):
    ask, _ = serve(service())
    request = question({"a": (1, node_message("a", CPU), [])})
    request.options[0].podBytes.append(b"\xff\xff\xff")
    with pytest.raises(grpc.RpcError) as refused:
        ask(request)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "options[a].podBytes: got 3 bytes" in refused.value.details()


def test_the_work_does_not_grow_with_the_number_of_equal_pods(serve, monkeypatch):
    made: list[object] = []
    fresh = fresh_node._Fresh

    def counted(*arguments):
        made.append(arguments)
        return fresh(*arguments)

    monkeypatch.setattr(fresh_node, "_Fresh", counted)
    ask, observer = serve(service())
    pods = whole(500)
    types = [
        node_message(f"t{i}", {"cpu": "192", "memory": "2Ti", "nvidia.com/gpu": str(1 + i % 8)}, H100_LABELS)
        for i in range(20)
    ]
    assert groups(ask(question({f"g{i:02}": (500, one, pods) for i, one in enumerate(types)})))
    assert all(bill.replicas == 500 for bill in observer.choices[0].bills)
    assert len(made) <= 2 * 20  # a filling that repeats, and the rest


def test_a_certificate_is_shown_where_one_is_given(serve, tmp_path: Path):
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "1",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
            "-keyout",
            str(key),
            "-out",
            str(certificate),
        ],
        check=True,
        capture_output=True,
    )
    ask, _ = serve(service(), Tls(str(certificate), str(key)), ca=certificate)
    one = node_message("a", {**CPU, "nvidia.com/gpu": "8"}, H100_LABELS)
    assert groups(ask(question({"a": (1, one, whole(8))}))) == ["a"]


def test_a_taken_port_is_told_in_words():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        made = service()
        prices = FleetPrices(made, lambda: made.test_policy, lambda: NOW)
        with pytest.raises(AddressTaken, match="--expander-port: cannot listen"):
            Expander(prices, address, Observer()).start()
