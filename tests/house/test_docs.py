"""The docs: whatever an operator can set, type, call or watch is described, and what is described is true of the tree."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from config import schema
from config.loader import check_text
from config.models import Config
from console import admin, openapi
from console.cli import COMMANDS
from loadtests.drills.faults import FAULTS as DRILLED
from proxy.observe import METRICS, AccessLine
from store.places import CHECKOUT

DOCS = sorted([*CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").rglob("*.md")])
READ_BY_OPERATORS = "\n".join(path.read_text(encoding="utf-8") for path in DOCS)

_NOT_OURS = {".git", ".venv", ".venv-clients", "var", "__pycache__", "node_modules"}
_SUFFIXES = {
    *(".py", ".lua", ".sql", ".js", ".html", ".css", ".md", ".toml", ".yaml", ".yml", ".json"),
    *(".conf", ".lock", ".txt", ".sh", ".tmpl", ""),
}


def our_files() -> list[Path]:
    """Every text file of the checkout that somebody wrote or that is generated into it."""

    def below(folder: Path) -> Iterator[Path]:
        for path in folder.iterdir():
            hidden_cache = path.name.startswith(".") and path.name.endswith("_cache")
            if path.name in _NOT_OURS or hidden_cache or path.name == ".hypothesis":
                continue
            if path.is_dir():
                yield from below(path)
            elif path.suffix in _SUFFIXES and path.stat().st_size < 2_000_000:
                yield path

    return sorted(below(CHECKOUT))


def relative(path: Path) -> str:
    return path.relative_to(CHECKOUT).as_posix()


# Everything that can be set, typed, called or watched is described...


def settings(model: type[BaseModel], seen: frozenset[type] = frozenset()) -> Iterator[str]:
    """Walk the configuration: every field, as it is written in YAML."""

    def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield annotation
        for part in get_args(annotation):
            yield from models_in(part)

    for name, field in model.model_fields.items():
        yield str(field.validation_alias or name)
        for inner in models_in(field.annotation):
            if inner not in seen:
                yield from settings(inner, seen | {inner})


@pytest.mark.parametrize("setting", sorted(set(settings(Config))))
def test_every_setting_is_described(setting: str) -> None:
    """In `docs/configuration.md`, by its name in code letters."""
    described = (CHECKOUT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert re.search(rf"`[^`\n]*\b{re.escape(setting)}\b[^`\n]*`", described)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_metric_is_described_with_its_labels(metric: Any) -> None:
    """In `docs/metrics.md`: what is not described is not alerted on."""
    described = (CHECKOUT / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = [line for line in described.splitlines() if f"`{metric.name}`" in line]
    assert rows
    for label in metric.labels:
        assert any(f"`{label}`" in row for row in rows), f"the label {label} is missing"


@pytest.mark.parametrize("field", AccessLine.__struct_fields__)
def test_every_field_of_the_access_line_is_described(field: str) -> None:
    """In `docs/operations.md`: whoever collects the lines reads them by it."""
    described = (CHECKOUT / "docs" / "operations.md").read_text(encoding="utf-8")
    table = described.partition("### Access lines")[2].partition("\n## ")[0]
    assert f"`{field}`" in table


def launcher_verbs() -> list[str]:
    launcher = (CHECKOUT / "penstock").read_text(encoding="utf-8")
    found = re.search(r'^verbs="([^"]+)"', launcher, re.MULTILINE)
    assert found
    return [verb for verb in found[1].split() if verb not in {"help", "version"}]


@pytest.mark.parametrize(
    ("file", "module", "made"),
    [
        (schema.DOCS / schema.SCHEMA_FILE, "config.schema", schema.schema_text),
        (schema.DOCS / schema.PAGE_FILE, "config.schema", schema.page_text),
        (openapi.FILE, "console.openapi", lambda: openapi.text(admin.routes())),
    ],
    ids=lambda each: each.name if isinstance(each, Path) else "",
)
def test_what_is_made_is_in_step(file: Path, module: str, made: Callable[[], str]) -> None:
    """The module was run after the last change of a setting or a route."""
    assert file.read_text(encoding="utf-8") == made(), f"run python -m {module}"


def test_every_command_can_be_typed() -> None:
    """What `console` can do is a verb of the launcher; `serve` is a role, which the supervisor starts."""
    assert set(COMMANDS) - {"serve"} <= set(launcher_verbs())


@pytest.mark.parametrize("verb", launcher_verbs())
def test_every_command_is_described(verb: str) -> None:
    """As people type it, and in the launcher's own help."""
    assert re.search(rf"\./penstock {verb}\b", READ_BY_OPERATORS)
    usage = (CHECKOUT / "penstock").read_text(encoding="utf-8").split("HELP")[1]
    assert f"./penstock {verb}" in usage


ROUTE = re.compile(r"""["'](/(?:v1|health|metrics|snapshot|api)\b[a-z0-9_/{}.-]*)["']""")


def routes() -> list[str]:
    """Find the paths that our servers answer, as they are written in the sources."""
    found = set()
    for package in ("proxy", "console"):
        for path in (CHECKOUT / package).rglob("*.py"):
            found |= set(ROUTE.findall(path.read_text(encoding="utf-8")))
    return sorted(route.rstrip("/") for route in found)


@pytest.mark.parametrize("route", routes())
def test_every_route_is_described(route: str) -> None:
    """Whatever is served is documented, a parameter by any name."""
    pattern = re.sub(r"\\{[^}]*\\}", r"[{<][^}>]+[}>]", re.escape(route))
    assert re.search(rf"`[^`\n]*{pattern}[^`\n]*`|^\s.*{pattern}", READ_BY_OPERATORS, re.MULTILINE)


HEADER = re.compile(r"""b?["'](x-(?:penstock|ratelimit|should|biz|prefer|capabilities)[a-z-]*)""")


def headers() -> list[str]:
    """Find the headers of our own that callers see or send."""
    found = set()
    for path in (CHECKOUT / "proxy").rglob("*.py"):
        found |= set(HEADER.findall(path.read_text(encoding="utf-8")))
    return sorted(header.rstrip("-") for header in found)


@pytest.mark.parametrize("header", headers())
def test_every_header_of_ours_is_described(header: str) -> None:
    """Callers build on headers; `x-ratelimit-{limit,…}-…` may be described as a family."""
    family = re.sub(r"^(x-ratelimit)-.*", r"\1", header)
    assert family in READ_BY_OPERATORS


VARIABLE = re.compile(r"\b(PENSTOCK_[A-Z_]+)\b")


def test_every_environment_variable_of_ours_is_described() -> None:
    """Those that processes hand to one another are not for people."""
    between_processes = {
        *("PENSTOCK_PARENT_FD", "PENSTOCK_DEMO_PORT", "PENSTOCK_DEMO_ADMIN_PORT"),
        "PENSTOCK_DEMO_VENDOR",
    }
    used = set()
    for path in our_files():
        if path.suffix in {".py", ""} and "tests" not in path.parts:
            used |= set(VARIABLE.findall(path.read_text(encoding="utf-8")))
    missing = {name for name in used - between_processes if name not in READ_BY_OPERATORS}
    assert missing == set()


# And what is described is true...


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that are sentences: no code, table, heading or quoted output."""
    fenced = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced and not line.startswith(("|", "#", "    ", "<")):
            yield number, line


@pytest.mark.parametrize("path", DOCS, ids=relative)
def test_a_line_of_prose_is_one_sentence(path: Path) -> None:
    """Changes are read line by line, so a line holds one thought."""
    several = []
    for number, line in prose(path):
        plain = re.sub(r"`[^`]*`", "`c`", line)
        plain = re.sub(r"\b(e\.g|i\.e|etc|vs|cf|No)\.", r"\1", plain)
        if re.search(r"[\w`)\]*\"][.!?][)\"]? +[A-Z`*\[(]", re.sub(r"^\s*\d+\.", "", plain)):
            several.append(f"{relative(path)}:{number}: {line}")
    assert several == []


LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page, made from its headings as forges make them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).strip().replace(" ", "-")
        for heading in headings
    }


@pytest.mark.parametrize("path", DOCS, ids=relative)
def test_every_link_leads_somewhere(path: Path) -> None:
    """Files and headings that a page points to exist."""
    broken = []
    for target in LINK.findall(path.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        page = (path.parent / file).resolve() if file else path
        exists = page.exists() and page.is_relative_to(CHECKOUT)
        if not exists or (anchor and page.suffix == ".md" and anchor not in anchors(page)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("path", DOCS, ids=relative)
def test_configurations_that_are_shown_can_be_used(path: Path) -> None:
    """Whoever copies one from a page has one without mistakes; its variables are the reader's."""
    blocks = re.findall(
        r"^```yaml\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    for block in blocks:
        if "organizations:" in block:
            variables = dict.fromkeys(
                re.findall(r"\$\{(\w+)\}", block), "a-secret-of-24-characters"
            )
            assert check_text(block, source=relative(path), environ=variables) == ()


NAMED_FILE = re.compile(
    r"`((?:proxy|console|ratelimit|routing|governance|config|store|loadtests|docs|deploy|tests)/[\w./-]+\.\w+)`"
)


@pytest.mark.parametrize("path", DOCS, ids=relative)
def test_every_file_that_is_named_exists(path: Path) -> None:
    """A page that speaks of a file that was moved misleads."""
    named = set(NAMED_FILE.findall(path.read_text(encoding="utf-8")))
    assert {name for name in named if not (CHECKOUT / name).exists()} == set()


# Spelled apart, so that this file does not hold what it looks for.
THIS_MACHINE = re.compile(r"(?<![\w.-])/(?:wo" + r"rk|ro" + r"ot|home/[a-z]+)/\w")
REGISTRY = re.compile(
    "|".join(("py" + r"pi\.org", "python" + "hosted", r"registry\.npm" + "js", r"gh" + r"cr\.io"))
)


def test_no_file_speaks_of_one_machine_or_of_one_registry() -> None:
    """The checkout works wherever it is cloned and wherever its packages come from."""
    found = []
    for path in our_files():
        text = path.read_text(encoding="utf-8", errors="replace")
        found += [
            f"{relative(path)}: {match[0]}"
            for pattern in (THIS_MACHINE, REGISTRY)
            for match in pattern.finditer(text)
        ]
    assert found == []


def test_the_changelog_is_for_operators() -> None:
    """Unreleased changes on top, each one line that says what became true."""
    lines = (CHECKOUT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    headings = [line for line in lines if line.startswith("## ")]
    assert headings[0] == "## Unreleased"
    entries = [line for line in lines if line.startswith("- ")]
    assert entries
    assert all(re.match(r"- [A-Z`].*\.$", entry) for entry in entries)
    assert len(set(entries)) == len(entries)


FAILURES = re.search(r"### The failure table\n(.*?)\n\nWhile", READ_BY_OPERATORS, re.DOTALL)
TESTS = "\n".join(
    path.read_text(encoding="utf-8") for path in sorted((CHECKOUT / "tests").rglob("test_*.py"))
)


def faults() -> list[str]:
    assert FAILURES is not None
    rows = [line for line in FAILURES[1].splitlines() if line.startswith("| ")]
    return rows[1:]


@pytest.mark.parametrize("row", faults(), ids=lambda row: row.split("|")[1].strip()[:30])
def test_every_fault_of_the_table_is_held_by_tests(row: str) -> None:
    """Each cell says something, and what holds the row exists: tests by their names, drills by theirs."""
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert len(cells) == 10
    assert all(cells)
    held = re.findall(r"`(\w+)`", cells[-1])
    assert held
    known = set(re.findall(r"def (test_\w+)\(", TESTS)) | set(DRILLED)
    assert set(held) <= known
