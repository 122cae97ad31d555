"""Loading: everything that is right is read as it was meant, everything that is wrong is said at once."""

import re
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import document
from config.changes import Draft
from config.loader import (
    ConfigError,
    Problem,
    as_written,
    check_file,
    check_text,
    load_file,
    load_published,
    load_text,
)
from config.node import Entry, Node
from config.problems import Path, spell
from config.tree import is_private, section_at, written_fields
from tests.config.samples import ENVIRON, FULL, as_yaml, configurations, secret_environ


def check(text: str, environ: dict[str, str] | None = None) -> tuple[Problem, ...]:
    return check_text(text, source="penstock.yaml", environ=ENVIRON if environ is None else environ)


def said(text: str, environ: dict[str, str] | None = None) -> list[str]:
    return [str(problem) for problem in check(text, environ)]


# What is right...


def test_a_full_configuration_is_read_as_it_was_meant() -> None:
    """References, anchors, quotes, odd texts, one budget or many: each becomes what its field says."""
    loaded = load_text(FULL, source="penstock.yaml", environ={**ENVIRON, "WORKERS": "4"})
    config = loaded.config
    assert loaded.problems == ()
    assert (config.edge.workers, config.edge.access_log) == (4, "off")
    assert config.store.redis == "embedded"
    assert config.admin.token is not None
    assert config.admin.token.reveal() == ENVIRON["ADMIN_TOKEN"]
    house = config.providers["house"]
    assert house.base_url == "http://10.0.0.5:8000/v1"
    assert house.first_byte_timeout_s == 300
    assert house.headers == {"x-team": "a b", "X-Auth": "Token token-of-the-house"}
    assert config.models["gpt-4.1"].tags == ("chat", "no", "1e3")
    assert config.models["gpt-4.1"].deployments[1].name == "0123"
    assert config.models["gpt-4.1"].deployments[1].limits.rpm == 3000
    assert list(config.deployments) == ["gpt-4.1/openai", "gpt-4.1/house", "spare", "qwen/house"]
    acme = config.organizations["acme"]
    assert [each.limit_nusd for each in acme.budgets] == [2000 * 10**9]
    assert [each.mode for each in acme.teams["no"].budgets] == ["strict", "soft"]
    assert [each.id for each in config.placed_keys()] == ["acme/no/helpdesk", "acme/no/other"]


def test_a_document_without_settings_is_the_default_configuration() -> None:
    """Nothing set is nothing changed."""
    for text in ("{}", "{} # nothing\n", "x-anchors: {a: 1}", "edge:\nmodels:\n"):
        assert load_text(text, source="f", environ={}).config.edge.workers == "auto"


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n", "~"])
def test_a_file_that_is_empty_is_refused(text: str) -> None:
    """It was most likely cut short, by a full disk or a command that failed, and would take everything away."""
    with pytest.raises(ConfigError) as refused:
        load_text(text, source="f", environ={})
    assert str(refused.value) == "f:1: it is empty; write {} if nothing is to be set"


@given(configurations(), st.sampled_from([True, False, None]))
def test_any_valid_configuration_is_taken(data: dict[str, Any], flow: bool | None) -> None:
    """What the settings allow has no problems, in whatever style of YAML it is written."""
    text = as_yaml(data, flow=flow)
    assert load_text(text, source="f", environ=secret_environ()).problems == ()


# What is published...


@given(configurations())
def test_the_published_form_is_read_as_what_was_published(data: dict[str, Any]) -> None:
    """A replica with the same environment comes to an equal configuration, in the same order."""
    environ = secret_environ()
    loaded = load_text(as_yaml(data), source="f", environ=environ)
    published = load_published(loaded.document, environ)
    assert published == loaded.config
    assert list(published.deployments) == list(loaded.config.deployments)
    assert list(published.models) == list(loaded.config.models)


@given(configurations(), st.sampled_from([True, False, None]))
def test_the_published_form_is_one_text_for_one_meaning(
    data: dict[str, Any], flow: bool | None
) -> None:
    """Style and comments make no difference, and publishing the published form changes nothing."""
    environ = secret_environ()
    document_text = as_written("# a comment\n" + as_yaml(data), environ)
    assert as_written(document_text, environ) == document_text
    # In flow style some texts need quotes, which are kept; hence meaning, not text, is compared
    restyled = as_written(as_yaml(data, flow=flow), environ)
    assert load_published(restyled, environ) == load_published(document_text, environ)


@given(configurations())
def test_nothing_of_the_environment_is_shown(data: dict[str, Any]) -> None:
    """Secrets are in no repr, no dump and no published document."""
    loaded = load_text(as_yaml(data), source="f", environ=secret_environ())
    for shown in (repr(loaded), str(loaded.config), loaded.config.model_dump_json()):
        assert "hush" not in shown
    assert "hush" not in loaded.document


def test_only_what_a_replica_needs_must_be_set_there() -> None:
    """Callers' keys are in the document as hashes; store and admin token are the control's."""
    text = FULL.replace("${REDIS_URL:-embedded}", "${REDIS_URL}")
    environ = {**ENVIRON, "REDIS_URL": "redis://h"}
    loaded = load_text(text, source="f", environ=environ)
    here = {name: ENVIRON[name] for name in ("OPENAI_API_KEY", "HOUSE_TOKEN")}
    published = load_published(loaded.document, here)
    assert published.organizations == loaded.config.organizations
    assert published.providers == loaded.config.providers
    assert (published.store.redis, published.admin.token) == ("embedded", None)
    with pytest.raises(ConfigError, match=r"openai\.api_key: the variable OPENAI_API_KEY is"):
        load_published(loaded.document, {"HOUSE_TOKEN": "x"})


def test_what_is_published_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A document that unfolds beyond what a replica reads is refused where it is published."""
    models = "\n".join(f"  m{n}: *m" for n in range(100))
    text = (
        "providers: {p: {protocol: openai, base_url: http://h}}\n"
        f"models:\n  m: &m {{deployments: [{{provider: p}}]}}\n{models}\n"
    )
    assert load_published(as_written(text, {}), {})
    monkeypatch.setattr(document, "LARGEST_BYTES", len(text) + 100)
    assert said(text) == [f"penstock.yaml: more than {len(text) + 100} bytes in its published form"]


def test_an_edited_comment_publishes_nothing_new() -> None:
    """The document, and with it its digest, depends on what is written only."""
    assert as_written("# other\n\n" + FULL, ENVIRON) == as_written(FULL, ENVIRON)


def test_a_changed_caller_key_is_a_change() -> None:
    """A key that was rotated in the environment makes another document."""
    rotated = {**ENVIRON, "HELPDESK_KEY": "another-key-in-clear"}
    assert as_written(FULL, rotated) != as_written(FULL, ENVIRON)


# What is wrong...


def sections(node: Node, path: Path = ()) -> Iterator[tuple[Path, Node]]:
    """Give every place of a tree where a section stands."""
    if node.kind == "mapping" and section_at(path) is not None:
        yield path, node
    for at, item in enumerate(node.items):
        yield from sections(item, (*path, at))
    for name, entry in node.entries.items():
        yield from sections(entry.node, (*path, name))


def tree(text: str) -> Node:
    """Compose a text, with aliases written out, so that each place has a node of its own."""
    first, _ = document.compose(text)
    assert first is not None
    root, flaws = document.compose(document.write(first, {}))
    assert root is not None
    assert flaws == []
    return root


ROOT = tree(FULL)
PLACES = list(sections(ROOT))
ANY_KEY = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=20)


@given(st.sampled_from(range(len(PLACES))), ANY_KEY, st.randoms(use_true_random=False))
def test_an_unknown_field_is_reported_with_its_place(at: int, name: str, random: Any) -> None:
    """Anywhere, whatever its name: exactly one problem, with the exact path and the exact line."""
    path, _ = PLACES[at]
    section = section_at(path)
    assert section is not None
    if name in written_fields(section) or (path == () and name.startswith("x-")):
        name = "unknown" + name
    root = tree(FULL)
    node = dict(sections(root))[path]
    entries = list(node.entries.items())
    marked = Node("scalar", 0, 0, raw="marked-value", plain=True)
    entries.insert(random.randint(0, len(entries)), (name, Entry(0, 0, marked)))
    node.entries = dict(entries)
    text = document.write(root, {})
    (line,) = [n for n, each in enumerate(text.splitlines(), 1) if "marked-value" in each]
    (problem,) = check(text)
    assert problem.message == "unknown field"
    assert (problem.path, problem.line) == (spell((*path, name)), line)
    assert "marked" not in str(problem)


@given(st.sampled_from(range(len(PLACES))), st.data())
def test_a_slip_of_a_letter_is_understood(at: int, data: st.DataObject) -> None:
    """A field with two letters swapped is an unknown field, and the right name is proposed."""
    path, _ = PLACES[at]
    section = section_at(path)
    assert section is not None
    known = sorted(written_fields(section))
    name = data.draw(st.sampled_from([each for each in known if len(each) > 4] or known))
    if len(name) <= 4:
        return
    slip = name[:2] + name[3] + name[2] + name[4:]
    if slip in known:
        return
    root = tree(FULL)
    dict(sections(root))[path].entries[slip] = Entry(
        0, 0, Node("scalar", 0, 0, raw="1", plain=True)
    )
    (problem,) = check(document.write(root, {}))
    assert problem.nearest == name
    assert f"unknown field; did you mean '{name}'?" in str(problem)


def test_every_mistake_is_reported_at_once() -> None:
    """One reading finds mistakes of syntax, type, range, reference, name and environment together."""
    text = FULL
    for old, new in (
        ("workers: ${WORKERS:-auto}", "workers: 0"),
        ("${OPENAI_API_KEY}", "${NOT_SET}"),
        ("provider: openai", "provider: openay"),
        ("models: [gpt-4.1, qwen]", "models: [gpt-4, qwen]"),
        ("models: [auto, qwen]", "models: [autos, qwen]"),
        ("rpm: 600,", "rmp: 600,"),
        ("quality: 0.71", "quality: 71"),
        ("per: month}\n    teams", "per: fortnight}\n    teams"),
        ("biz_level: premium", "biz_level: premium\n            biz_level: normal"),
    ):
        assert old in text
        text = text.replace(old, new, 1)
    assert said(text) == [
        'penstock.yaml:3: edge.workers: found "0", expected a whole number from 1 to 1024, or auto',
        "penstock.yaml:6: providers.openai.api_key: the variable NOT_SET is not set; set it",
        (
            'penstock.yaml:17: models."gpt-4.1".deployments[0].provider:'
            " no provider named \"openay\"; did you mean 'openai'?"
        ),
        'penstock.yaml:21: models.qwen.quality: found "71", expected a number from 0 to 1',
        "penstock.yaml:28: routes.auto.models[0]: no model named \"gpt-4\"; did you mean 'gpt-4.1'?",
        (
            'penstock.yaml:32: organizations.acme.budget.per: found "fortnight",'
            " expected day | week | month | quarter | total"
        ),
        (
            "penstock.yaml:41: organizations.acme.teams.no.keys.helpdesk.biz_level:"
            " duplicate key; first on line 40; keep one"
        ),
        (
            "penstock.yaml:43: organizations.acme.teams.no.keys.helpdesk.models[0]:"
            " no model or route named \"autos\"; did you mean 'auto'?"
        ),
        (
            "penstock.yaml:44: organizations.acme.teams.no.keys.helpdesk.limits.rmp:"
            " unknown field; did you mean 'rpm'?"
        ),
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("models: {m: {}}", "f:1: models.m.deployments: missing; add 'deployments:'"),
        (
            "models: {m: {deployments: []}}",
            "f:1: models.m.deployments: found an empty list, expected at least one entry",
        ),
        ("models: {m: }", "f:1: models.m: found nothing, expected a mapping"),
        ("models: [m]", "f:1: models: found a list, expected a mapping"),
        ("edge: 5", "f:1: edge: found a text, expected a mapping"),
        (
            "routes: {r: {models: m}}",
            "f:1: routes.r.models: found a text, expected a list",
        ),
        (
            "organizations:\n  a/b: {}",
            (
                "f:2: organizations.a/b: found \"a/b\", expected a name without '/';"
                " names here take letters, digits and . _ : @ + - after the first"
            ),
        ),
        (
            'organizations: {"\\e]0;x": {}}',
            (
                'f:1: organizations."\\x1b]0;x": found "\\x1b]0;x", expected a name without \'/\''
                " without control characters"
            ),
        ),
        (
            "edge: {drain_timeout_s: yes}",
            'f:1: edge.drain_timeout_s: found "yes", expected a number from 0 to 86400',
        ),
        (
            'edge: {workers: "4"}',
            (
                'f:1: edge.workers: found "4", expected a whole number from 1 to 1024, or auto;'
                " remove the quotes"
            ),
        ),
        (
            "edge: {workers: ${A:-1}0}",
            (
                'f:1: edge.workers: found "${A:-1}0", expected a whole number from 1 to 1024, or auto;'
                " a number is read where ${VARIABLE} stands alone"
            ),
        ),
        (
            "edge: {access_log: ${A-x}}",
            (
                "f:1: edge.access_log: malformed reference; expected ${NAME} or ${NAME:-default};"
                " write $$ for a plain $"
            ),
        ),
        (
            "edge: {access_log: ${A}}",
            "f:1: edge.access_log: the variable A is not set; set it, or write ${NAME:-default}",
        ),
        (
            "providers: {p: {protocol: openai, base_url: http://h, headers: {h: [x]}}}",
            "f:1: providers.p.headers.h: found a list, expected a header value in ASCII",
        ),
        (
            "a: [",
            "f:2: not YAML: did not find expected node content; look at this line and the one before it: brackets, quotes, indentation",
        ),
        ("a: &a [*a]", "f:1: an alias to what it stands in; write it out"),
        ("a: 1\n---\nb: 2", "f:2: a second document begins here; write everything in one"),
        (
            "- a",
            "f:1: the document is a list; expected sections such as 'providers:'; write sections by name",
        ),
    ],
)
def test_a_problem_says_where_what_and_what_to_do(text: str, problem: str) -> None:
    """The exact words for mistakes of each kind."""
    with pytest.raises(ConfigError) as caught:
        load_text(text, source="f", environ={})
    assert [str(each) for each in caught.value.problems] == [problem]
    assert str(caught.value) == problem


def test_an_unset_variable_is_said_once() -> None:
    """No second problem about the value that is missing, however often an alias repeats it."""
    text = "x-a: &a {key: '${GONE}'}\norganizations: {o: {teams: {t: {keys: {a: *a, b: *a}}}}}"
    assert said(text) == [
        "penstock.yaml:1: organizations.o.teams.t.keys.a.key: the variable GONE is not set; set it"
    ]


def test_a_value_of_the_environment_is_read_by_its_field() -> None:
    """A number where a number belongs, text where text belongs, and no structure, ever."""
    text = "edge: {workers: ${N}, access_log: ${LOG}, max_attempts: '${N}'}"
    config = load_text(text, source="f", environ={"N": "4", "LOG": "a: [b]} #c"}).config
    assert (config.edge.workers, config.edge.max_attempts) == (4, 4)
    assert config.edge.access_log == "a: [b]} #c"
    for value in ("1.0", "true", "", "4 ", "four", "null"):
        (problem,) = check(text, {"N": value, "LOG": "x"})[:1]
        assert "expected a whole number" in str(problem)


def test_an_empty_default_is_as_if_the_line_were_not_there() -> None:
    """`${NAME:-}` makes a setting optional; `${NAME}` that is set to nothing does not."""
    text = "admin: {token: ${TOKEN:-}}\nedge: {workers: ${N:-}, access_log: ${LOG:-}}"
    config = load_text(text, source="f", environ={"TOKEN": "", "N": ""}).config
    assert config.admin.token is None
    assert (config.edge.workers, config.edge.access_log) == ("auto", "stdout")
    assert said("admin: {token: ${TOKEN}}", {"TOKEN": ""}) == [
        (
            "penstock.yaml:1: admin.token: found a text that is not shown, expected a secret;"
            " it is empty: set the variable, or leave the line out"
        )
    ]


# Whatever comes...


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
FRAGMENTS = st.sampled_from(
    [*re.findall(r"\w+|\W", FULL), "&a ", "*a ", "<<: ", "!!", "? ", "${", "}", "---\n", "\t", "\0"]
)


@given(st.text() | st.lists(FRAGMENTS, max_size=60).map("".join))
def test_any_text_is_taken_or_refused_with_problems(text: str) -> None:
    """Nothing but ConfigError is ever raised, and it always says something."""
    refused: tuple[Problem, ...] = ()
    try:
        load_text(text, source="f", environ=ENVIRON)
    except ConfigError as error:
        refused = error.problems or (None,)  # type: ignore[assignment]
    assert all(str(each).startswith("f:") for each in refused)


@given(st.integers(0, len(FULL)), st.integers(0, 12), st.lists(FRAGMENTS, max_size=3).map("".join))
def test_a_damaged_file_is_taken_or_refused_with_problems(at: int, cut: int, put: str) -> None:
    """Characters lost or put anywhere: a configuration or problems, and no secret in them."""
    text = FULL[:at] + put + FULL[at + cut :]
    shown = "\n".join(said(text))
    # Only in a secret's own place can we know that it is one
    for value in (ENVIRON["OPENAI_API_KEY"], ENVIRON["HELPDESK_KEY"], ENVIRON["ADMIN_TOKEN"]):
        assert value not in shown


def every_place(node: Node, path: Path = ()) -> Iterator[Path]:
    yield path
    for at, item in enumerate(node.items):
        yield from every_place(item, (*path, at))
    for name, entry in node.entries.items():
        yield from every_place(entry.node, (*path, name))


EVERYWHERE = list(every_place(ROOT))[1:]


@given(st.sampled_from(EVERYWHERE), ANYTHING)
def test_anything_anywhere_is_taken_or_refused_with_problems(path: Path, value: Any) -> None:
    """A value of any shape at any place: what is wrong is at that place, or follows from it."""
    data = raw_data(ROOT)
    inner = data
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    for problem in check(as_yaml(data)):
        assert problem.line > 0
        assert problem.path


@pytest.mark.parametrize("word", ["nan", "-1", "1e999999999"])
def test_an_odd_number_anywhere_is_taken_or_refused_with_problems(word: str) -> None:
    """At every place where one may stand, whatever it is compared with; and briefly."""
    route = "  auto: {models: [gpt-4.1, qwen]"
    within = ", levels: {economy: {within: {low: 0.2, high: 0.1}}}"
    assert route in FULL
    text = FULL.replace(route, route + within)
    for path in every_place(Draft(text, ENVIRON).root):
        if path:
            draft = Draft(text, ENVIRON)
            draft.set(path, Node("scalar", 0, 0, word, plain=True))
            assert all(len(str(problem)) < 1000 for problem in check(draft.text())), path


@given(st.sampled_from([path for path in EVERYWHERE if is_private(path)]), ANYTHING)
def test_what_stands_where_a_secret_belongs_is_not_shown(path: Path, value: Any) -> None:
    """Whatever its shape and whatever is wrong with it."""

    def marked(value: Any) -> Any:
        if isinstance(value, dict):
            return {f"field{n}": marked(each) for n, each in enumerate(value.values())}
        return [marked(each) for each in value] if isinstance(value, list) else f"hush {value!r}"

    data = raw_data(ROOT)
    inner = data
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = marked(value)
    for problem in check(as_yaml(data)):
        assert "hush" not in str(problem)
        assert "hush" not in str(problem.as_dict())


def raw_data(node: Node) -> Any:
    """Give the tree as data with references unexpanded and numbers as numbers."""
    if node.kind == "mapping":
        return {name: raw_data(entry.node) for name, entry in node.entries.items()}
    if node.kind == "list":
        return [raw_data(item) for item in node.items]
    if node.plain and re.fullmatch(r"[0-9.]+", node.raw) and not node.raw.startswith("0"):
        return float(node.raw) if "." in node.raw else int(node.raw)
    return {"true": True, "false": False}.get(node.raw, node.raw)


def test_a_url_is_shown_without_what_may_be_secret_in_it() -> None:
    """User, password and query are taken out of an address before it is shown."""
    for url in ("redis+cluster://u:hu/sh@hush@h", "http://hush@h?a=hush", "ftp://h/?key=hush"):
        (problem,) = check(f"store: {{redis: '{url}'}}", {})
        assert "hush" not in str(problem)
        assert "***" in str(problem)


# Files...


def test_a_file_is_read_as_its_text(tmp_path: FilePath) -> None:
    """`load_file` is `load_text` of what is in it; problems name the path as it was given."""
    path = tmp_path / "penstock.yaml"
    path.write_text(FULL, encoding="utf-8")
    assert load_file(path, ENVIRON) == load_text(FULL, source=str(path), environ=ENVIRON)
    assert check_file(str(path), ENVIRON) == ()
    path.write_text("edge:\n  wrkers: 1\n")
    assert [str(each) for each in check_file(path, {})] == [
        f"{path}:2: edge.wrkers: unknown field; did you mean 'workers'?"
    ]


def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: FilePath) -> None:
    """Not there, a directory, no path, not UTF-8, too large: words, not a traceback."""
    bad = tmp_path / "bad.yaml"
    bad.write_bytes(b"edge:\n  access_log: caf\xe9\n")
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * (document.LARGEST_BYTES + 2))
    cases = {
        str(tmp_path / "none.yaml"): "cannot be read: No such file or directory",
        str(tmp_path): "cannot be read: Is a directory",
        "a\0b": "cannot be read: no path",
        str(bad): "not UTF-8; save the file as UTF-8",
        str(large): "bytes; at most",
    }
    for source, words in cases.items():
        (problem,) = check_file(source, {})
        assert words in str(problem)
    assert (check_file(bad, {})[0].line, check_file(bad, {})[0].column) == (2, 18)


# Warnings...


def test_a_secret_in_clear_is_warned_of_and_works() -> None:
    """The file can be applied; the warning names the place and not the secret."""
    text = FULL.replace("${OPENAI_API_KEY}", "hush-in-clear").replace(
        "${HELPDESK_KEY}", "hush-hush-hush-hush"
    )
    loaded = load_text(text, source="f", environ=ENVIRON)
    assert [(each.severity, each.path) for each in loaded.problems] == [
        ("warning", "providers.openai.api_key"),
        ("warning", "organizations.acme.teams.no.keys.helpdesk.key"),
    ]
    assert "hush" not in "".join(map(str, loaded.problems))
    assert "hush-hush" not in loaded.document
