"""Parser for the subset of CEL (Common Expression Language) that device selectors use.

Covers: literals (strings with escapes, raw strings, ints, doubles, true, false, null), lists, ``a.b``,
``a["b"]``, calls and methods, ``! - * / % + < <= > >= == != in && || ?:`` and parentheses. Source: the CEL
language definition (google/cel-spec) and k8s.io/dynamic-resource-allocation/cel. Left out, and refused by
name: optional syntax (``?.``), message and map literals, bytes, unsigned and hexadecimal numbers,
triple-quoted strings. Evaluation is in ``dra.cel_eval``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

Scalar = str | int | float | bool | None


class CelUnsupported(Exception):
    """The expression uses something outside the subset, or is not CEL; the text says what and where."""


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant."""

    value: Scalar


@dataclass(frozen=True, slots=True)
class Name:
    """A variable."""

    name: str


@dataclass(frozen=True, slots=True)
class Select:
    """``operand.field``."""

    operand: Node
    field: str


@dataclass(frozen=True, slots=True)
class Index:
    """``operand[key]``."""

    operand: Node
    key: Node


@dataclass(frozen=True, slots=True)
class Call:
    """``function(arguments)``, or with a target ``target.function(arguments)``."""

    target: Node | None
    function: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Operation:
    """An operator with one, two or (``?:``) three operands."""

    operator: str
    operands: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list literal."""

    items: tuple[Node, ...]


Node = Literal | Name | Select | Index | Call | Operation | ListOf

_TOKEN = re.compile(
    r"""\s+|//[^\n]*
    |(?P<number>(?:\d+\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+|\d+)(?![\w.]))
    |(?P<string>[rR]?(?:"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'))
    |(?P<name>[A-Za-z_]\w*)
    |(?P<operator>&&|\|\||==|!=|<=|>=|[-+*/%<>!?:.,()\[\]])""",
    re.VERBOSE,
)
_BINARY = (("||",), ("&&",), ("==", "!=", "<", "<=", ">", ">=", "in"), ("+", "-"), ("*", "/", "%"))
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_CONSTANTS: dict[str, Scalar] = {"true": True, "false": False, "null": None}
_DEEPEST = 32
_LONGEST = 100


@lru_cache(maxsize=4096)
def parse(expression: str) -> Node:
    """The syntax tree of an expression. Raises CelUnsupported."""
    parser = _Parser(expression)
    node = parser.ternary()
    parser.end()
    return node


class _Parser:
    """Recursive descent; precedence as in the CEL grammar."""

    def __init__(self, expression: str) -> None:
        self._expression = expression
        self._tokens = self._scan()
        self._position = 0
        self._depth = 0

    def _scan(self) -> list[tuple[str, str]]:
        tokens: list[tuple[str, str]] = []
        at = 0
        while at < len(self._expression):
            match = _TOKEN.match(self._expression, at)
            if match is None or self._expression.startswith(('"""', "'''"), at):
                raise CelUnsupported(f"CEL: cannot read {self._expression[at : at + 12]!r} at character {at}")
            if match.lastgroup is not None:
                tokens.append((match.lastgroup, match.group()))
            at = match.end()
        return tokens

    def _peek(self) -> str | None:
        if self._position < len(self._tokens):
            kind, text = self._tokens[self._position]
            return None if kind == "string" else text
        return None

    def _accept(self, *texts: str) -> str | None:
        text = self._peek()
        if text in texts and text is not None:
            self._position += 1
            return text
        return None

    def _expect(self, text: str) -> None:
        if self._accept(text) is None:
            raise self._refused(f"expected {text!r}")

    def _refused(self, problem: str) -> CelUnsupported:
        token = self._tokens[self._position][1] if self._position < len(self._tokens) else "the end"
        return CelUnsupported(f"CEL: {problem}, got {token!r} in {self._expression!r}")

    def end(self) -> None:
        """Refuse whatever follows a complete expression."""
        if self._position < len(self._tokens):
            raise self._refused("expected the end")

    def ternary(self) -> Node:
        """An expression of the lowest precedence."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise CelUnsupported(f"CEL: nested deeper than {_DEEPEST} levels")
        node = self._binary(0)
        if self._accept("?"):
            yes = self._binary(0)
            self._expect(":")
            node = Operation("?:", (node, yes, self.ternary()))
        self._depth -= 1
        return node

    def _binary(self, level: int) -> Node:
        if level == len(_BINARY):
            return self._unary()
        node = self._binary(level + 1)
        links = 0
        while operator := self._accept(*_BINARY[level]):
            links += 1
            if links > _LONGEST:
                raise CelUnsupported(f"CEL: more than {_LONGEST} operators in a row")
            node = Operation(operator, (node, self._binary(level + 1)))
        return node

    def _unary(self) -> Node:
        prefix: list[str] = []
        while operator := self._accept("!", "-"):
            prefix.append(operator)
            if len(prefix) > _DEEPEST:
                raise CelUnsupported(f"CEL: nested deeper than {_DEEPEST} levels")
        node = self._member()
        for operator in reversed(prefix):
            node = Operation(operator, (node,))
        return node

    def _member(self) -> Node:
        node = self._primary()
        for _ in range(_LONGEST):
            if self._accept("."):
                if self._position >= len(self._tokens) or self._tokens[self._position][0] != "name":
                    raise self._refused("expected a field name")
                name = self._tokens[self._position][1]
                self._position += 1
                node = Call(node, name, self._arguments()) if self._accept("(") else Select(node, name)
            elif self._accept("["):
                key = self.ternary()
                self._expect("]")
                node = Index(node, key)
            else:
                return node
        raise CelUnsupported(f"CEL: more than {_LONGEST} selections in a row")

    def _arguments(self) -> tuple[Node, ...]:
        return self._items(")")

    def _items(self, closing: str) -> tuple[Node, ...]:
        items: list[Node] = []
        while not self._accept(closing):
            if items:
                self._expect(",")
                if self._accept(closing):
                    break
            items.append(self.ternary())
        return tuple(items)

    def _primary(self) -> Node:
        if self._accept("("):
            node = self.ternary()
            self._expect(")")
            return node
        if self._accept("["):
            return ListOf(self._items("]"))
        if self._position >= len(self._tokens):
            raise self._refused("expected a value")
        kind, text = self._tokens[self._position]
        if kind == "operator" or text == "in":
            raise self._refused("expected a value")
        self._position += 1
        if kind == "string":
            return Literal(_unquoted(text))
        if kind == "number":
            return Literal(int(text) if text.isdigit() else float(text))
        if text in _CONSTANTS:
            return Literal(_CONSTANTS[text])
        return Call(None, text, self._arguments()) if self._accept("(") else Name(text)


def _unquoted(text: str) -> str:
    if text[0] in "rR":
        return text[2:-1]
    body = text[1:-1]
    if "\\" not in body:
        return body

    def unescape(match: re.Match[str]) -> str:
        letter = match.group(1)
        if letter[0] in "xuU":
            return chr(int(letter[1:], 16))
        return _ESCAPES.get(letter, letter)

    if re.search(r"(?<!\\)(?:\\\\)*\\(?:[0-7]|x(?![0-9a-fA-F]{2})|u(?![0-9a-fA-F]{4})|U)", body):
        raise CelUnsupported(f"CEL: escape in {text} is outside the subset")
    return re.sub(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)", unescape, body)
