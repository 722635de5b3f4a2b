"""From the text of a policy to plain data, and from what is wrong with it to words.

Pure. YAML is read by the core schema of YAML 1.2: only true and false are booleans (so the grid zone NO
stays a zone), ``1e3`` is a number and a number with a leading zero is text. A key written twice is
refused. Every problem carries path, what was there, what was expected and what to do.
"""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

_LONGEST_TEXT = 1_048_576  # a ConfigMap holds at most 1 MiB


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a policy.

    ``path`` is dotted (``prices.gpuHour``, ``nodes[0].match``), empty for the document; ``line`` counts
    from 1, 0 where it is not known.
    """

    path: str
    got: str
    expected: str
    advice: str
    line: int = 0

    def __str__(self) -> str:
        where = self.path or "the document"
        if self.line:
            where += f" (line {self.line})"
        return f"{where}: got {self.got}, expected {self.expected}; {self.advice}"


class PolicyRefused(ValueError):
    """A policy text that cannot be used; ``problems`` is never empty."""

    def __init__(self, where: str, problems: Sequence[Problem]) -> None:
        self.where = where
        self.problems = tuple(problems)
        lines = "\n".join(f"  {problem}" for problem in self.problems)
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__(f"{where}: policy refused, {count}\n{lines}")


class _CoreLoader(yaml.SafeLoader):
    """SafeLoader with the scalars of YAML 1.2's core schema and without repeated keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        if isinstance(node, yaml.MappingNode):
            seen: dict[str, yaml.Mark] = {}
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                    continue
                if key.value in seen:
                    raise _RepeatedKeyError(key.value, seen[key.value], key.start_mark)
                seen[key.value] = key.start_mark
        return super().construct_mapping(node, deep=deep)


class _RepeatedKeyError(Exception):
    def __init__(self, key: str, first: yaml.Mark, second: yaml.Mark) -> None:
        self.key, self.first, self.second = key, first, second


# The class attribute is shared with SafeLoader until it is replaced.
_CoreLoader.yaml_implicit_resolvers = {}
_CoreLoader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_CoreLoader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^(?:[-+]?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+)$"), list("-+0123456789")
)
_CoreLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^(?:[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)
_CoreLoader.add_implicit_resolver(
    "tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]
)
_CoreLoader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile(r"^(?:<<)$"), ["<"])


@dataclass(frozen=True, slots=True)
class PolicyDocument:
    """The mapping that the text holds, and where its parts stand."""

    data: dict[Any, Any]
    root: yaml.MappingNode

    def line_of(self, path: Sequence[str | int]) -> int:
        """Return the line (from 1) of the deepest part of ``path`` that the text contains."""
        node: yaml.Node = self.root
        line = 0
        for step in path:
            found = _child(node, step)
            if found is None:
                break
            node, line = found
        return line


def _child(node: yaml.Node, step: str | int) -> tuple[yaml.Node, int] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value == str(step):
                return value, key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and 0 <= step < len(node.value):
        return node.value[step], node.value[step].start_mark.line + 1
    return None


def read_document(text: str, where: str) -> PolicyDocument:
    """Read one YAML mapping. Raises PolicyRefused, whose ``where`` is the argument."""
    if len(text) > _LONGEST_TEXT:
        raise _refused(where, f"{len(text)} characters", f"at most {_LONGEST_TEXT}", "shorten it")
    loader = None
    try:
        # Inside the try: the reader refuses control characters as soon as it is made.
        loader = _CoreLoader(text)
        root = loader.get_single_node()
        data = loader.construct_document(root) if root is not None else None
    except _RepeatedKeyError as repeated:
        raise PolicyRefused(
            where,
            [
                Problem(
                    path=repeated.key,
                    got=f"the same key twice, first in line {repeated.first.line + 1}",
                    expected="each key once in a mapping",
                    advice="delete one of the two",
                    line=repeated.second.line + 1,
                )
            ],
        ) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        position = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        what = error.problem or error.context or "unreadable text"
        raise _refused(
            where,
            f"broken YAML{position}: {what}",
            "one YAML mapping",
            "mend the text there (indentation, a missing colon or quote are the usual causes)",
            mark.line + 1 if mark else 0,
        ) from error
    except yaml.YAMLError as error:
        raise _refused(
            where, f"broken YAML: {error}", "one YAML mapping", "remove what is not printable text"
        ) from error
    except RecursionError:
        raise _refused(where, "YAML nested too deeply", "one YAML mapping", "flatten it") from None
    except ValueError as error:
        raise _refused(
            where, f"a value that YAML cannot read ({error})", "one YAML mapping", "quote it"
        ) from error
    finally:
        if loader is not None:
            loader.dispose()
    if not isinstance(data, dict) or not isinstance(root, yaml.MappingNode):
        raise _refused(
            where,
            _kind(data),
            "a mapping of policy keys",
            "start with apiVersion: and kind: on lines of their own",
        )
    return PolicyDocument(data, root)


def _refused(where: str, got: str, expected: str, advice: str, line: int = 0) -> PolicyRefused:
    return PolicyRefused(where, [Problem("", got, expected, advice, line)])


def _kind(data: object) -> str:
    if data is None:
        return "nothing"
    if isinstance(data, list):
        return "a list"
    return f"the single value {shown(data)}"


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_SHORT.maxdict = _SHORT.maxlist = 4
_SHORT.maxlevel = 3


def shown(value: object) -> str:
    """Return a value for a message: bounded in length whatever it holds."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    return _SHORT.repr(value)


def path_text(path: Sequence[str | int]) -> str:
    """Return ``("nodes", 0, "match")`` as ``nodes[0].match``."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else (f".{step}" if text else str(step))
    return text


def unknown_key(document: PolicyDocument, path: Sequence[str | int], known: Sequence[str]) -> Problem:
    """Return the problem of a key that the policy does not have."""
    key = str(path[-1])
    near = difflib.get_close_matches(key, known, n=1)
    advice = f"did you mean {near[0]}?" if near else "delete it or correct its name"
    return Problem(
        path_text(path),
        f"the unknown key {key!r}",
        "one of " + ", ".join(known) if known else "no keys here",
        advice,
        document.line_of(path),
    )


def wrong_value(
    document: PolicyDocument, path: Sequence[str | int], got: object, expected: str, advice: str
) -> Problem:
    """Return the problem of a value that does not fit."""
    return Problem(path_text(path), shown(got), expected, advice, document.line_of(path))
