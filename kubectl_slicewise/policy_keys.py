"""Every key of a policy with what it takes, its default and its meaning, read off the policy's own schema.

Pure. ``nodes[]`` is an item of a list, ``NAME`` a key that the user chooses. A section's row carries what the
section is for; ``null`` as its default: there is none until it is written.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cluster.policy import autoscaling_policy_schema, cluster_policy_schema
from kubectl_slicewise.tables import table

SCHEMAS = {"ClusterPolicy": cluster_policy_schema, "AutoscalingPolicy": autoscaling_policy_schema}


@dataclass(frozen=True, slots=True)
class Key:
    """One key: ``takes`` is the values it allows, ``default`` as it would be written in YAML."""

    path: str
    takes: str
    default: str
    meaning: str


def keys_of(schema: Mapping[str, Any], below: str = "") -> tuple[Key, ...]:
    """The keys in the order of the schema, those at ``below`` and under it; none for an unknown one."""
    found = tuple(_keys(schema, schema["$defs"], ""))
    return tuple(key for key in found if not below or _under(key.path, below))


def as_table(keys: tuple[Key, ...]) -> str:
    """One row a key."""
    rows = [(key.path, key.takes, key.default, key.meaning) for key in keys]
    return table(("KEY", "TAKES", "DEFAULT", "MEANING"), rows)


def as_markdown(keys: tuple[Key, ...]) -> str:
    """The same as a table of a page."""
    lines = ["| key | takes | default | meaning |", "|---|---|---|---|"]
    for key in keys:
        cells = (f"`{key.path}`", key.takes, f"`{key.default}`" if key.default else "", key.meaning)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _under(path: str, below: str) -> bool:
    return path == below or path.startswith((f"{below}.", f"{below}[]"))


def _keys(model: Mapping[str, Any], models: Mapping[str, Any], prefix: str) -> Iterator[Key]:
    required = model.get("required", ())
    for name, stated in model["properties"].items():
        path = f"{prefix}{name}"
        schema, nothing = _without_null(stated)
        inner, section = _section(schema, models)
        meaning = stated.get("description") or (section or {}).get("description", "")
        yield Key(
            path, _takes(schema, section), _default(stated, section, nothing, name in required), _one(meaning)
        )
        if section is not None:
            yield from _keys(section, models, path + inner)


def _without_null(stated: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    """The schema of a value that is there, and whether there may be none."""
    options = [option for option in stated.get("anyOf", ()) if option.get("type") != "null"]
    return (options[0], True) if len(options) == 1 else (stated, False)


def _section(schema: Mapping[str, Any], models: Mapping[str, Any]) -> tuple[str, Mapping[str, Any] | None]:
    """What stands between a key and the keys of the section that it holds, and the section; None for none."""
    for between, found in (
        ("", schema),
        ("[]", schema.get("items")),
        (".NAME", schema.get("additionalProperties")),
    ):
        if isinstance(found, Mapping) and "$ref" in found:
            return f"{between}.", models[found["$ref"].rpartition("/")[2]]
    return "", None


def _takes(schema: Mapping[str, Any], section: Mapping[str, Any] | None) -> str:
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        return ", ".join(str(value) for value in schema["enum"])
    if section is not None:
        kind = {"array": "list of sections", "object": "sections by name"}
        return kind.get(schema.get("type", ""), "section")
    kind = schema.get("type", "")
    if kind in ("number", "integer"):
        return ("whole number" if kind == "integer" else "number") + _bounds(schema)
    if kind == "object":
        # Keys of a stated form stand as patterns.
        values = schema.get("additionalProperties") or next(iter(schema["patternProperties"].values()))
        return f"mapping of {_takes(values, None)}"
    if kind == "array":
        return f"list of {_takes(schema['items'], None)}"
    if schema.get("format") == "date-time":
        return "time with zone"
    return "true or false" if kind == "boolean" else "text"


def _bounds(schema: Mapping[str, Any]) -> str:
    words = {
        "minimum": "≥ {:g}",
        "exclusiveMinimum": "> {:g}",
        "maximum": "≤ {:g}",
        "exclusiveMaximum": "< {:g}",
    }
    # The largest number that fits is no bound that anybody meets.
    found = [
        text.format(schema[key]) for key, text in words.items() if key in schema and schema[key] < 2**31 - 1
    ]
    return f" {', '.join(found)}" if found else ""


def _default(
    stated: Mapping[str, Any], section: Mapping[str, Any] | None, nothing: bool, required: bool
) -> str:
    if required:
        return "required"
    default = stated.get("default")
    if default is None:
        return "null" if nothing else ""
    if isinstance(default, str) or (section is not None and isinstance(default, Mapping)):
        return default if isinstance(default, str) else ""
    return json.dumps(int(default) if isinstance(default, float) and default.is_integer() else default)


def _one(text: str) -> str:
    return " ".join(text.split())
