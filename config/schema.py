"""
What is told about the configuration: the JSON schema for editors, and the page for people.

Both are made from the models alone; `python -m config.schema` writes them into `docs/`, and a test
holds them to the models.
"""

import copy
import inspect
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path as FilePath
from typing import Any, get_args, get_origin

import orjson

from config.models import Config
from config.secrets import Secret
from config.section import Section
from config.tree import bare, written_fields

DOCS = FilePath(__file__).parent.parent / "docs"
SCHEMA_FILE = "penstock.schema.json"
PAGE_FILE = "configuration.md"

_REFERENCE = {
    "description": "A text with a reference to an environment variable in it.",
    "type": "string",
    "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}",
}
_TO_REFERENCE = {"$ref": "#/$defs/Reference"}


# For editors...


def json_schema() -> dict[str, Any]:
    """Give the JSON schema of a configuration file, which allows `${NAME}` in every value."""
    schema = Config.model_json_schema(by_alias=True)
    sections = schema.pop("$defs")
    described = {name: _for_editors(section) for name, section in sorted(sections.items())}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Penstock configuration",
        **_for_editors(schema),
        "patternProperties": {"^x-": {}},  # a place for YAML anchors
        "$defs": {**described, "Reference": _REFERENCE},
    }


def schema_text() -> str:
    """Give `json_schema` as the text of `docs/penstock.schema.json`."""
    return orjson.dumps(json_schema(), option=orjson.OPT_INDENT_2).decode() + "\n"


def _for_editors(schema: dict[str, Any]) -> dict[str, Any]:
    """Drop pydantic's titles, and let a reference stand wherever a value is not just any text."""
    said = copy.deepcopy(schema)
    said.pop("title", None)
    for part in ("properties", "patternProperties"):
        if part in said:
            said[part] = {name: _for_editors(inner) for name, inner in said[part].items()}
    for part in ("items", "additionalProperties"):
        if isinstance(said.get(part), dict):
            said[part] = _for_editors(said[part])
    if "patternProperties" in said:
        said["additionalProperties"] = False
    if "anyOf" in said:
        choices = [_for_editors(inner) for inner in said["anyOf"]]
        said["anyOf"] = _without_repeats(
            each for choice in choices for each in choice.get("anyOf", [choice])
        )
    narrow = said.get("type") in {"integer", "number", "boolean"} or (
        said.get("type") == "string" and ("pattern" in said or "enum" in said)
    )
    if narrow:
        outer: dict[str, Any] = {
            name: said.pop(name) for name in ("description", "default") if name in said
        }
        said = {"anyOf": [said, dict(_TO_REFERENCE)], **outer}
    return said


def _without_repeats(choices: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    kept: list[dict[str, Any]] = []
    for choice in choices:
        if choice not in kept:
            kept.append(choice)
    return kept


# For people...


def page_text() -> str:
    """Give the text of `docs/configuration.md`: the preface, then every setting of every section."""
    schema = Config.model_json_schema(by_alias=True)
    chapters = [files("config").joinpath("preface.md").read_text(encoding="utf-8").rstrip()]
    chapters.append("## Settings\n\nMade from the models by `python -m config.schema`.")
    for title, section in _sections():
        said = schema["$defs"].get(section.__name__, schema)
        chapters.append(_chapter(title, section, said))
    return "\n\n".join(chapters) + "\n"


def _sections() -> list[tuple[str, type[Section]]]:
    """Give every section once, with its place in the file; those of many places last."""
    places: dict[type[Section], list[str]] = {}

    def visit(section: type[Section], place: str, above: tuple[type[Section], ...] = ()) -> None:
        if section in above:
            return  # a part of an organization is an organization
        places.setdefault(section, []).append(place)
        for name, field in written_fields(section).items():
            annotation, inner = bare(field.annotation), f"{place}.{name}" if place else name
            if get_origin(annotation) is dict:
                annotation, inner = bare(get_args(annotation)[1]), f"{inner}.<name>"
            elif get_origin(annotation) is tuple:
                annotation, inner = bare(get_args(annotation)[0]), f"{inner}[]"
            if isinstance(annotation, type) and issubclass(annotation, Section):
                visit(annotation, inner, (*above, section))

    visit(Config, "")
    once = [
        (found[0] or "top level", section) for section, found in places.items() if not found[1:]
    ]
    often = [
        (
            ", ".join(
                dict.fromkeys(
                    each.removesuffix(".<name>").split(".")[-1].removesuffix("[]") for each in found
                )
            ),
            section,
        )
        for section, found in places.items()
        if found[1:]
    ]
    return once + often


def _chapter(title: str, section: type[Section], schema: dict[str, Any]) -> str:
    lines = [
        f"### `{title}`",
        "",
        inspect.cleandoc(section.__doc__ or ""),
        "",
        "| setting | value | default | meaning |",
        "|---|---|---|---|",
    ]
    for name, field in written_fields(section).items():
        value = _value(field.annotation, schema["properties"][name])
        meaning = (field.description or "").replace("|", "\\|")
        lines.append(f"| `{name}` | {value} | {_default(field)} | {meaning} |")
    return "\n".join(lines)


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if isinstance(default, Section) or default in (None, (), {}, ""):
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _value(annotation: Any, schema: dict[str, Any]) -> str:
    """Say in a few words what may be written."""
    if bare(annotation) is Secret:
        return "secret"
    choices = [each for each in schema.get("anyOf", [schema]) if each.get("type") != "null"]
    return " or ".join(dict.fromkeys(_one_value(each) for each in choices))


def _one_value(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return _link(schema["$ref"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return " \\| ".join(f"`{word}`" for word in schema["enum"])
    kind = schema.get("type")
    if kind in {"integer", "number"}:
        what = "whole number" if kind == "integer" else "number"
        low = f"above {schema['exclusiveMinimum']:g} to" if "exclusiveMinimum" in schema else ""
        low = low or f"{schema['minimum']:g} to"
        return f"{what}, {low} {schema['maximum']:,}".replace(".0", "")
    if kind == "boolean":
        return "`true` \\| `false`"
    if kind == "array":
        return f"list of {_one_value(schema['items'])}"
    if kind == "object":
        (values,) = schema["patternProperties"].values()
        return f"mapping of names to {_one_value(values)}"
    return "text"


def _link(reference: str) -> str:
    name = reference.rsplit("/", 1)[-1]
    for title, section in _sections():
        if section.__name__ == name:
            anchor = "".join(
                each for each in title.lower().replace(" ", "-") if each.isalnum() or each in "_-"
            )
            return f"[`{title}`](#{anchor})"
    raise LookupError(f"no section is called {name}")


def main() -> int:
    """Write both files into `docs/`."""
    for name, text in ((SCHEMA_FILE, schema_text()), (PAGE_FILE, page_text())):
        (DOCS / name).write_text(text, encoding="utf-8")
        sys.stdout.write(f"wrote docs/{name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
