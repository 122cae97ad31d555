"""What is told about the configuration agrees with what is read."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given

from config import schema
from config.loader import check_text, load_text
from config.models import Config
from config.schema import json_schema, page_text, schema_text
from config.tree import written_fields
from tests.config.samples import configurations, written_sections

CHECKOUT = Path(__file__).parent.parent.parent
SCHEMA = json_schema()


def wrong(value: Any, said: Any, at: str = "") -> list[str]:
    """Hold a value against as much of JSON schema as ours uses; an unknown keyword is an error."""
    keywords = {**said}
    for silent in ("$schema", "title", "description", "default", "$defs"):
        keywords.pop(silent, None)
    found: list[str] = []
    for word, wanted in keywords.items():
        if word == "$ref":
            found += wrong(value, SCHEMA["$defs"][wanted.removeprefix("#/$defs/")], at)
        elif word == "anyOf":
            found += (
                [f"{at}: none of anyOf"] if all(wrong(value, one, at) for one in wanted) else []
            )
        elif word == "type":
            found += [] if is_a(value, wanted) else [f"{at}: not {wanted}"]
        elif word in {"enum", "const"}:
            found += (
                [] if value in ([wanted] if word == "const" else wanted) else [f"{at}: {wanted}"]
            )
        elif isinstance(value, str) and word in {"minLength", "maxLength", "pattern"}:
            if word == "pattern":
                fits = re.search(wanted, value) is not None
            else:
                fits = len(value) >= wanted if word == "minLength" else len(value) <= wanted
            found += [] if fits else [f"{at}: {word} {wanted}"]
        elif is_a(value, "number") and word in {"minimum", "maximum", "exclusiveMinimum"}:
            fits = {
                "minimum": value >= wanted,
                "maximum": value <= wanted,
                "exclusiveMinimum": value > wanted,
            }[word]
            found += [] if fits else [f"{at}: {word} {wanted}"]
        elif isinstance(value, list) and word in {"items", "minItems", "maxItems"}:
            if word == "items":
                found += [
                    each for n, one in enumerate(value) for each in wrong(one, wanted, f"{at}[{n}]")
                ]
            elif len(value) < wanted if word == "minItems" else len(value) > wanted:
                found.append(f"{at}: {word}")
        elif isinstance(value, dict):
            found += wrong_in_mapping(value, word, wanted, said, at)
        else:
            assert word in KEYWORDS, word
    return found


KEYWORDS = {
    *("minLength", "maxLength", "pattern", "minimum", "maximum", "exclusiveMinimum", "items"),
    *("minItems", "properties", "patternProperties", "additionalProperties", "required"),
    *("propertyNames", "maxProperties", "minProperties", "maxItems"),
}


def wrong_in_mapping(value: Any, word: str, wanted: Any, said: Any, at: str) -> list[str]:
    assert word in KEYWORDS, word
    if word == "required":
        return [f"{at}: no {name}" for name in wanted if name not in value]
    if word == "properties":
        known = {name: each for name, each in value.items() if name in wanted}
        return [e for name, one in known.items() for e in wrong(one, wanted[name], f"{at}.{name}")]
    if word == "patternProperties":
        return [
            each
            for pattern, inner in wanted.items()
            for name, one in value.items()
            if re.search(pattern, name)
            for each in wrong(one, inner, f"{at}.{name}")
        ]
    if word == "additionalProperties" and wanted is False:
        patterns = said.get("patternProperties", {})
        known = said.get("properties", {})
        return [
            f"{at}.{name}: unknown"
            for name in value
            if name not in known and not any(re.search(each, name) for each in patterns)
        ]
    return []


def is_a(value: Any, kind: str) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return {
        "object": isinstance(value, dict),
        "array": isinstance(value, list),
        "string": isinstance(value, str),
        "integer": number and float(value).is_integer(),
        "number": number,
        "boolean": isinstance(value, bool),
        "null": value is None,
    }[kind]


def without_empty(data: Any) -> Any:
    """Take out what is empty, which the schema does not speak of."""
    if isinstance(data, dict):
        return {name: without_empty(each) for name, each in data.items() if each is not None}
    return [without_empty(each) for each in data] if isinstance(data, list) else data


@given(configurations())
def test_the_schema_takes_what_the_loader_takes(data: dict[str, Any]) -> None:
    """No editor underlines a configuration that can be applied."""
    assert wrong(without_empty(data), SCHEMA) == []


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"edgee": {}}, [".edgee: unknown"]),
        ({"edge": {"wrkers": 1}}, [".edge.wrkers: unknown"]),
        ({"edge": {"workers": 0}}, [".edge.workers: none of anyOf"]),
        ({"edge": {"workers": "many"}}, [".edge.workers: none of anyOf"]),
        ({"models": {"m": {}}}, [".models.m: no deployments"]),
        ({"models": {"a b": {"deployments": [{"provider": "p"}]}}}, [".models.a b: unknown"]),
        ({"organizations": {"a/b": {}}}, [".organizations.a/b: unknown"]),
        ({"routes": {"r": {"models": []}}}, [".routes.r.models: minItems"]),
        (
            {"organizations": {"o": {"budget": {"usd": 0, "per": "day"}}}},
            [".organizations.o.budget: none of anyOf"],
        ),
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(data: dict[str, Any], words: list[str]) -> None:
    """The mistakes that an editor can see, it sees."""
    assert wrong(data, SCHEMA) == words
    assert check_text(yaml.safe_dump(data), source="f", environ={})


def test_references_and_anchors_are_allowed_by_the_schema() -> None:
    """`${NAME}` stands wherever a number, a switch or a word may; `x-` is a place for anchors."""
    assert wrong({"x-any": [1, {"a": "b"}], "edge": {"workers": "${WORKERS:-auto}"}}, SCHEMA) == []
    data = {"p": {"protocol": "${A}", "base_url": "http://${B}/v1", "stream_usage": "${C:-true}"}}
    assert wrong({"providers": data}, SCHEMA) == []
    assert wrong({"edge": {"listen": "127.0.0.1:${PORT}"}}, SCHEMA) == []


def test_the_page_and_the_schema_describe_every_setting() -> None:
    """Each field of each section has a row with its description, and so has its schema."""
    page = page_text()
    for section in written_sections():
        said = SCHEMA if section is Config else SCHEMA["$defs"][section.__name__]
        for name, field in written_fields(section).items():
            assert f"| `{name}` |" in page
            assert str(field.description).replace("|", "\\|") in page
            assert "$ref" in said["properties"][name] or "description" in said["properties"][name]


def test_links_within_the_page_lead_somewhere() -> None:
    """Every `#anchor` is that of a heading."""
    page = page_text()
    anchors = {
        re.sub(r"[^a-z0-9_ -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    }
    assert set(re.findall(r"\(#([^)]*)\)", page)) <= anchors


def test_writing_makes_both_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`python -m config.schema` writes the schema and the page, and says so."""
    monkeypatch.setattr(schema, "DOCS", tmp_path)
    assert schema.main() == 0
    assert (tmp_path / schema.SCHEMA_FILE).read_text(encoding="utf-8") == schema_text()
    assert (tmp_path / schema.PAGE_FILE).read_text(encoding="utf-8") == page_text()
    assert (
        capsys.readouterr().out == "wrote docs/penstock.schema.json\nwrote docs/configuration.md\n"
    )


# The example...


def test_the_example_is_a_configuration_without_problems() -> None:
    """With the variables that it names, and for editors as well."""
    text = (CHECKOUT / "penstock.example.yaml").read_text(encoding="utf-8")
    variables = {"OPENAI_API_KEY", "ANTHROPIC_API_KEY", "HELPDESK_KEY"}
    loaded = load_text(text, source="f", environ=dict.fromkeys(variables, "secret-" * 4))
    assert loaded.problems == ()
    unset = check_text(text, source="f", environ={})
    assert {
        re.findall(r"variable (\w+) is not set", each.message)[0] for each in unset
    } == variables
    shielded = re.sub(r": (\$\{[^}]*\})", r': "\1"', text)
    assert wrong(yaml.safe_load(shielded), SCHEMA) == []
    assert set(yaml.safe_load(shielded)) - {"x-patient"} == set(written_fields(Config))
