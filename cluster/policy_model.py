"""The base of the policy models, their bounded numbers, and how a refusal is worded.

Pure. pydantic finds what is wrong; this module says it with path, got, expected and what to do. Numbers are
strict (``"20"`` in quotes is text, not 20; true is not 1) and finite. Keys are camelCase in YAML; Python
code may build the models by field name, YAML may not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

from cluster.policy_text import (
    PolicyDocument,
    PolicyRefused,
    Problem,
    read_document,
    shown,
    unknown_key,
    wrong_value,
)

NonNegative = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True, ge=0, le=2_147_483_647)]
AtLeastOne = Annotated[int, Field(strict=True, ge=1, le=2_147_483_647)]
Flag = Annotated[bool, Field(strict=True)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=253)]

API_VERSION = "slicewise.io/v1alpha1"


class PolicyModel(BaseModel):
    """A section of a policy: immutable, unknown keys refused."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )

    def contradictions(self) -> Sequence[tuple[tuple[str | int, ...], object, str, str]]:
        """Return what the values say against one another: (path, got, expected, what to do) each."""
        return ()


M = TypeVar("M", bound=PolicyModel)


def load(model: type[M], text: str, where: str) -> M:
    """Read ``text`` as a policy of type ``model``; ``where`` names the text in messages.

    Raises PolicyRefused with every problem found.
    """
    document = read_document(text, where)
    other = _other_kind(model, document)
    if other is not None:
        raise PolicyRefused(where, [other])
    try:
        policy = model.model_validate(document.data, by_alias=True, by_name=False)
    except ValidationError as error:
        found = error.errors(include_url=False)
        problems = [_problem(model, document, details) for details in found]
        raise PolicyRefused(where, sorted(problems, key=lambda problem: problem.line)) from error
    against = [wrong_value(document, *parts) for parts in policy.contradictions()]
    if against:
        raise PolicyRefused(where, against)
    return policy


def _other_kind(model: type[PolicyModel], document: PolicyDocument) -> Problem | None:
    """The one thing worth saying of a document of another kind: none of its keys is meant for this one."""
    kind = model.model_fields["kind"].default if "kind" in model.model_fields else None
    got = document.data.get("kind")
    if kind is None or not isinstance(got, str) or got == kind:
        return None
    return wrong_value(document, ("kind",), got, repr(kind), f"correct the kind, or give the {kind}")


def schema(model: type[PolicyModel], title: str) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a policy, keys as in YAML."""
    result = model.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **result, "title": title}


def _problem(model: type[PolicyModel], document: PolicyDocument, details: ErrorDetails) -> Problem:
    path = tuple(step for step in details["loc"] if step != "[key]")
    kind = details["type"]
    if kind in ("extra_forbidden", "invalid_key"):
        return unknown_key(document, path, _keys(_model_at(model, path[:-1])))
    expected, advice = _expectation(kind, details.get("ctx") or {})
    if kind == "missing":
        expected, advice = "a value", "add the key"
    meaning = _meaning(model, path)
    if meaning:
        expected = f"{expected} ({meaning})"
    if details["loc"] and details["loc"][-1] == "[key]":
        expected = f"a key that is {expected}"
    got = None if kind == "missing" else details["input"]
    problem = wrong_value(document, path, got, expected, advice)
    if isinstance(got, dict | list):
        what = ("a mapping" if isinstance(got, dict) else "a list") + f" {shown(got)}"
        return Problem(problem.path, what, expected, advice, problem.line)
    return problem


_TYPES = {
    "float_type": "a number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "string_type": "text",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "tuple_type": "a list",
    "list_type": "a list",
    "finite_number": "a finite number",
    "string_too_short": "text that is not empty",
}


def _expectation(kind: str, context: dict[str, Any]) -> tuple[str, str]:
    """Return (expected, what to do) for a kind of pydantic error."""
    if kind == "greater_than_equal":
        return f"a number of at least {context['ge']:g}", "raise it"
    if kind == "greater_than":
        return f"a number above {context['gt']:g}", "raise it"
    if kind == "less_than_equal":
        return f"a number of at most {context['le']:g}", "lower it"
    if kind == "less_than":
        return f"a number below {context['lt']:g}", "lower it"
    if kind in ("literal_error", "enum"):
        return str(context["expected"]), "use one of these, spelled exactly so"
    if kind == "string_type":
        return "text", 'put it in quotes, as in "true"'
    if kind == "string_too_long":
        return f"text of at most {context['max_length']} characters", "shorten it"
    if kind in ("float_type", "int_type", "int_from_float"):
        return _TYPES[kind], "write the bare number, without quotes or a unit"
    if kind.startswith(("datetime", "timezone")):
        return "an instant with its time zone", "write it as 2026-01-31T00:00:00Z"
    return _TYPES.get(kind, f"another value ({kind.replace('_', ' ')})"), "correct or delete the key"


def _model_at(model: type[PolicyModel], path: Sequence[str | int]) -> type[PolicyModel] | None:
    """Return the section that ``path`` leads to, None where the path leaves the models."""
    current: Any = model
    for step in path:
        if isinstance(current, type) and issubclass(current, PolicyModel):
            current = next(
                (field.annotation for field in current.model_fields.values() if field.alias == step), None
            )
        else:
            current = _element(current)
        current = _without_none(current)
    return current if isinstance(current, type) and issubclass(current, PolicyModel) else None


def _element(annotation: Any) -> Any:
    """Return the type of the values of a mapping or of the items of a tuple."""
    arguments = [part for part in get_args(annotation) if part is not Ellipsis]
    return arguments[-1] if arguments else None


def _without_none(annotation: Any) -> Any:
    options = [part for part in get_args(annotation) if part is not type(None)]
    return options[0] if len(options) == 1 and type(None) in get_args(annotation) else annotation


def _keys(model: type[PolicyModel] | None) -> tuple[str, ...]:
    if model is None:
        return ()
    return tuple(field.alias or name for name, field in model.model_fields.items())


def _meaning(model: type[PolicyModel], path: Sequence[str | int]) -> str:
    """Return the description of the field that holds the value, the nearest one up the path."""
    for length in range(len(path), 0, -1):
        section = _model_at(model, path[: length - 1])
        if section is not None:
            for field in section.model_fields.values():
                if field.alias == path[length - 1]:
                    return field.description or ""
    return ""
