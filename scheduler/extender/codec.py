"""The extender's wire format: requests of kube-scheduler into typed values, answers into bytes.

Source: ``k8s.io/kube-scheduler/extender/v1`` (KEP-1819). Those Go types carry no JSON tags, so their own keys
are CapitalisedCamel while the embedded Pod and NodeList are ordinary v1 JSON. Go reads keys in any case; so
do we, on a second, slower attempt.

With ``nodeCacheCapable: true`` requests carry ``NodeNames`` and answers must too; otherwise they carry whole
``Nodes``, of which the passed ones are returned byte for byte. Both are read; the answer takes the form of
the request.

Speed is serialisation here (5,000 names a request): msgspec decoders made once, and per node name the bytes
that every answer about it begins with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import getitem
from typing import TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from cluster.wire import Pod
from scheduler.refusal_texts import NodeTexts

T = TypeVar("T")

HIGHEST_SCORE = 10  # MaxExtenderPriority
MOST_NAMES_KEPT = 200_000

NO_PRIORITIES = b"[]"
"""The answer of prioritize that adds nothing to any node."""


class BadRequest(Exception):
    """A request that cannot be read: what came, what was expected, what to do."""

    def __init__(self, error: str, *, got: str, expected: str, do: str):
        super().__init__(error)
        self.error, self.got, self.expected, self.do = error, got, expected, do


class _Metadata(msgspec.Struct, frozen=True, gc=False):
    name: str = ""
    uid: str = ""


class _Named(msgspec.Struct, frozen=True, gc=False):
    metadata: _Metadata = _Metadata()


class _NodeList(msgspec.Struct, frozen=True, gc=False):
    items: list[msgspec.Raw] | None = None


class _ExtenderArgs(msgspec.Struct, frozen=True, gc=False, rename="pascal"):
    pod: Pod | None = None
    nodes: _NodeList | None = None
    node_names: msgspec.Raw = msgspec.Raw(b"null")


class MetaVictim(msgspec.Struct, frozen=True, gc=False):
    """A pod to be evicted, by UID."""

    uid: str = msgspec.field(name="UID", default="")


class MetaVictims(msgspec.Struct, frozen=True, gc=False):
    """The victims on one node."""

    pods: list[MetaVictim] | None = msgspec.field(name="Pods", default=None)
    pdb_violations: int = msgspec.field(name="NumPDBViolations", default=0)


class _Victims(msgspec.Struct, frozen=True, gc=False):
    pods: list[_Named] | None = msgspec.field(name="Pods", default=None)
    pdb_violations: int = msgspec.field(name="NumPDBViolations", default=0)


class _PreemptionArgs(msgspec.Struct, frozen=True, gc=False):
    pod: Pod | None = msgspec.field(name="Pod", default=None)
    victims: dict[str, _Victims | None] | None = msgspec.field(name="NodeNameToVictims", default=None)
    meta_victims: dict[str, MetaVictims | None] | None = msgspec.field(
        name="NodeNameToMetaVictims", default=None
    )


class BindingArgs(msgspec.Struct, frozen=True, gc=False):
    """Which pod to bind where."""

    pod_name: str = msgspec.field(name="PodName", default="")
    pod_namespace: str = msgspec.field(name="PodNamespace", default="")
    pod_uid: str = msgspec.field(name="PodUID", default="")
    node: str = msgspec.field(name="Node", default="")


@dataclass(frozen=True, slots=True)
class Question:
    """A filter or prioritize request. ``nodes`` are the raw Node objects, parallel to ``names``, where
    they were sent.
    """

    pod: Pod
    names: list[str]
    nodes: list[msgspec.Raw] | None


@dataclass(frozen=True, slots=True)
class Preemption:
    """A preempt request, victims by node in their Meta form."""

    pod: Pod
    victims: Mapping[str, MetaVictims]


_ARGS = msgspec.json.Decoder(_ExtenderArgs)
_PREEMPTION = msgspec.json.Decoder(_PreemptionArgs)
_BINDING = msgspec.json.Decoder(BindingArgs)
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_NAMED = msgspec.json.Decoder(_Named)
_NAMES = msgspec.json.Decoder(list[str] | None)
_ENCODER = msgspec.json.Encoder()


class NameLists:
    """Lists of names by their JSON text, the latest few: kube-scheduler sends prioritize the very names that
    filter let pass, and the same list object lets the decider know its rows again.
    """

    def __init__(self, most: int = 4) -> None:
        self._most = most
        self._lists: dict[bytes, list[str]] = {}

    def read(self, raw: msgspec.Raw) -> list[str] | None:
        """The names, None for null. Raises BadRequest."""
        text = bytes(raw)
        names = self._lists.get(text)
        if names is None:
            names = _decode(_NAMES, text, "ExtenderArgs with a list of names as NodeNames")
            if names is None:
                return None
            if len(self._lists) >= self._most:
                del self._lists[next(iter(self._lists))]
            self._lists[text] = names
        return names


def read_question(body: bytes, lists: NameLists) -> Question:
    """Decode ExtenderArgs. Raises BadRequest."""
    args = _decode(_ARGS, body, "ExtenderArgs")
    names = lists.read(args.node_names)
    if args.pod is None or (names is None and args.nodes is None):
        args = _decode(_ARGS, _canonical(body, ("Pod", "Nodes", "NodeNames")), "ExtenderArgs")
        names = lists.read(args.node_names)
    if args.pod is None:
        raise _absent("Pod", "the pod to place, a core/v1 Pod")
    if names is not None:
        return Question(args.pod, names, None)
    if args.nodes is None:
        raise _absent("NodeNames", "the candidate nodes, by name (nodeCacheCapable: true) or as Nodes")
    nodes = args.nodes.items or []
    return Question(args.pod, [_decode(_NAMED, raw, "Node").metadata.name for raw in nodes], nodes)


def read_preemption(body: bytes) -> Preemption:
    """Decode ExtenderPreemptionArgs; victims given as whole pods are reduced to their UIDs. Raises
    BadRequest.
    """
    args = _decode(_PREEMPTION, body, "ExtenderPreemptionArgs")
    keys = ("Pod", "NodeNameToVictims", "NodeNameToMetaVictims")
    if args.pod is None or (args.victims is None and args.meta_victims is None):
        args = _decode(_PREEMPTION, _canonical(body, keys), "ExtenderPreemptionArgs")
    if args.pod is None:
        raise _absent("Pod", "the pod that preempts, a core/v1 Pod")
    if args.meta_victims:
        return Preemption(args.pod, {node: v or MetaVictims() for node, v in args.meta_victims.items()})
    if args.victims is None and args.meta_victims is None:
        raise _absent("NodeNameToMetaVictims", "the victims on each candidate node")
    return Preemption(args.pod, {node: _meta(v) for node, v in (args.victims or {}).items()})


def read_binding(body: bytes) -> BindingArgs:
    """Decode ExtenderBindingArgs. Raises BadRequest."""
    args = _decode(_BINDING, body, "ExtenderBindingArgs")
    if not (args.pod_name and args.node):
        args = _decode(
            _BINDING, _canonical(body, ("PodName", "PodNamespace", "PodUID", "Node")), "ExtenderBindingArgs"
        )
    for value, key in (
        (args.pod_name, "PodName"),
        (args.pod_namespace, "PodNamespace"),
        (args.node, "Node"),
    ):
        if not value:
            raise _absent(key, "text that is not empty")
    return args


class NodeBytes(dict[str, bytes]):
    """``{"Host":"<name>","Score":<score>}`` for each node name at one score, made on first use and kept."""

    def __init__(self, score: int) -> None:
        super().__init__()
        self._score = score

    def __missing__(self, name: str) -> bytes:
        if len(self) >= MOST_NAMES_KEPT:
            self.clear()
        made = self[name] = b'{"Host":%b,"Score":%d}' % (_ENCODER.encode(name), self._score)
        return made


class Entries:
    """Ready-made entries of a HostPriorityList, by score and name."""

    def __init__(self) -> None:
        self.by_score = tuple(NodeBytes(score) for score in range(HIGHEST_SCORE + 1))


def priorities(names: Sequence[str], scores: npt.NDArray[np.uint8], known: Entries) -> bytes:
    """HostPriorityList in the request's order, of the nodes that score above 0.

    kube-scheduler adds nothing for a node that is left out, which is what a 0 adds, and reads the shorter
    list sooner.
    """
    kept = np.flatnonzero(scores)
    tables = map(known.by_score.__getitem__, scores[kept].tolist())
    parts = map(getitem, tables, map(names.__getitem__, kept.tolist()))
    return b"[" + b",".join(parts) + b"]"


def filter_result(
    question: Question,
    passed: Sequence[int] | None,
    failed: Mapping[str, str],
    unresolvable: Mapping[str, str],
) -> bytes:
    """ExtenderFilterResult; ``passed`` holds positions in the request, None means all."""
    if question.nodes is None:
        names = question.names
        kept = names if passed is None or len(passed) == len(names) else _pick(names, passed)
        nodes, node_names = b"null", _ENCODER.encode(kept)
    else:
        raw = question.nodes if passed is None else _pick(question.nodes, passed)
        nodes, node_names = b'{"items":' + _ENCODER.encode(raw) + b"}", b"null"
    return b"".join(
        (
            b'{"Nodes":', nodes, b',"NodeNames":', node_names, b',"FailedNodes":', _texts(failed),
            b',"FailedAndUnresolvableNodes":', _texts(unresolvable), b',"Error":""}',
        )
    )  # fmt: skip


def _texts(found: Mapping[str, str]) -> bytes:
    if not isinstance(found, NodeTexts):
        return _ENCODER.encode(found)
    if found.json is None:
        found.json = _ENCODER.encode(found)
    return found.json


def preemption_result(victims: Mapping[str, MetaVictims]) -> bytes:
    """ExtenderPreemptionResult, always in the Meta form."""
    return _ENCODER.encode({"NodeNameToMetaVictims": victims})


def binding_result(error: str) -> bytes:
    """ExtenderBindingResult; an empty error is success."""
    return _ENCODER.encode({"Error": error})


def problem(error: str, *, got: str, expected: str, do: str) -> bytes:
    """The body of every 4xx answer."""
    return _ENCODER.encode({"error": error, "got": got, "expected": expected, "do": do})


def _pick(items: Sequence[T], positions: Sequence[int]) -> Sequence[T]:
    return list(map(items.__getitem__, positions))


def _meta(victims: _Victims | None) -> MetaVictims:
    if victims is None:
        return MetaVictims()
    pods = [MetaVictim(pod.metadata.uid) for pod in victims.pods or ()]
    return MetaVictims(pods, victims.pdb_violations)


def _decode(decoder: msgspec.json.Decoder[T], body: bytes | msgspec.Raw, what: str) -> T:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(
            f"the body is no {what}: {error}",
            got=f"{len(memoryview(body))} bytes starting {bytes(memoryview(body)[:60])!r}"
            if body
            else "an empty body",
            expected=f"a JSON object {what} of k8s.io/kube-scheduler/extender/v1",
            do="point only kube-scheduler's extender at this address, or fix the client's body",
        ) from error


def _canonical(body: bytes, keys: Iterable[str]) -> bytes:
    """The body with its top-level keys spelled as Go writes them, whatever their case."""
    found = _decode(_OBJECT, body, "JSON object")
    spelled = {key.lower(): key for key in keys}
    return _ENCODER.encode({spelled.get(key.lower(), key): value for key, value in found.items()})


def _absent(key: str, expected: str) -> BadRequest:
    return BadRequest(
        f"{key} is absent or null",
        got="null",
        expected=f"{key}: {expected}",
        do="send it as kube-scheduler does, with that spelling",
    )
