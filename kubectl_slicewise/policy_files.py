"""From a file to the policies in it: bare ones, and ConfigMaps that hold one under ``policy.yaml``.

Pure but for reading the file. A manifest of several documents is looked through whole. A policy that
stands as a block in its ConfigMap keeps the lines of the file, so that a refusal names the line to be edited.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cluster.policy_source import AUTOSCALING_SELECTOR

CLUSTER, AUTOSCALING = "ClusterPolicy", "AutoscalingPolicy"
CLUSTER_POLICY_NAME = "slicewise-policy"
POLICY_KEY = "policy.yaml"


class NotFound(Exception):
    """What was asked for is not there; the message says where it was looked for."""


class Unreadable(Exception):
    """A file that was given cannot be read; the message says what to give."""


@dataclass(frozen=True, slots=True)
class PolicyText:
    """One policy's text; ``notes`` are why the product would not read it where it stands."""

    kind: str
    text: str
    notes: tuple[str, ...] = ()


def read_policies(file: str) -> list[PolicyText]:
    """The policies of ``file`` (- is stdin), at least one. Raises Unreadable, NotFound for none."""
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        got = getattr(problem, "strerror", None) or problem
        raise Unreadable(f"{file}: {got}; expected a YAML file; give its path, or - for stdin") from None
    try:
        nodes = [node for node in yaml.compose_all(text, Loader=yaml.SafeLoader) if node is not None]
    except (yaml.YAMLError, RecursionError):
        # The policy's own reader says line and column.
        return [PolicyText(AUTOSCALING if f"kind: {AUTOSCALING}" in text else CLUSTER, text)]
    if len(nodes) <= 1 and not _is_object(nodes):
        kind = AUTOSCALING if nodes and _scalar(nodes[0], "kind") == AUTOSCALING else CLUSTER
        return [PolicyText(kind, text)]
    found = [policy for node in nodes for policy in _policies(text, node)]
    if not found:
        kinds = ", ".join(dict.fromkeys(_scalar(node, "kind") or "no kind" for node in nodes))
        raise NotFound(
            f"{file}: got {kinds}; expected a {CLUSTER}, an {AUTOSCALING}, or a ConfigMap that holds one as "
            f"text under data, key {POLICY_KEY}"
        )
    return found


def _is_object(nodes: list[yaml.Node]) -> bool:
    """Whether the one document is a Kubernetes object and no policy, broken or not."""
    kind = _scalar(nodes[0], "kind") if nodes else None
    return bool(kind) and kind not in (CLUSTER, AUTOSCALING) and _child(nodes[0], "metadata") is not None


def _policies(text: str, node: yaml.Node) -> Iterator[PolicyText]:
    kind = _scalar(node, "kind")
    if kind in (CLUSTER, AUTOSCALING):
        # As many empty lines before it as there are lines before it in the file.
        first = node.start_mark.line
        yield PolicyText(kind, "\n" * first + text[node.start_mark.index : node.end_mark.index])
    elif kind == "ConfigMap":
        yield from _of_config_map(node)
    elif kind is not None and kind.endswith("List"):
        items = _child(node, "items")
        for item in items.value if isinstance(items, yaml.SequenceNode) else ():
            yield from _policies(text, item)


def _of_config_map(node: yaml.Node) -> Iterator[PolicyText]:
    data = _child(node, "data")
    held = None if data is None else _child(data, POLICY_KEY)
    if not isinstance(held, yaml.ScalarNode):
        return
    # Only a literal block has the lines of the policy one for one.
    before = held.start_mark.line + 1 if held.style == "|" else 0
    kind = _kind_of(held.value)
    yield PolicyText(kind, "\n" * before + held.value, tuple(_unread(kind, node)))


def _unread(kind: str, node: yaml.Node) -> Iterator[str]:
    """Why slicewise-controller would not look at this ConfigMap."""
    metadata = _child(node, "metadata")
    if metadata is None:
        return
    name = _scalar(metadata, "name") or ""
    if kind == CLUSTER:
        if name != CLUSTER_POLICY_NAME:
            yield f"ConfigMap {name} is not read: the cluster policy is read from {CLUSTER_POLICY_NAME}"
        return
    key, value = AUTOSCALING_SELECTOR.split("=")
    labels = _child(metadata, "labels")
    if labels is None or _scalar(labels, key) != value:
        yield f"ConfigMap {name} is not read: it lacks the label {key}: {value}"


def _kind_of(text: str) -> str:
    try:
        document: Any = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError):
        document = None
    kind = document.get("kind") if isinstance(document, Mapping) else None
    return AUTOSCALING if kind == AUTOSCALING else CLUSTER


def _child(node: yaml.Node, key: str) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if isinstance(name, yaml.ScalarNode) and name.value == key:
                return value  # type: ignore[no-any-return]
    return None


def _scalar(node: yaml.Node, key: str) -> str | None:
    child = _child(node, key)
    return child.value if isinstance(child, yaml.ScalarNode) else None
