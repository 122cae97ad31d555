"""YAML with places: what is composed is what was written, and bombs are refused while they are read."""

import re
import tracemalloc
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from config import document
from config.document import compose, expand, from_data, to_data, write
from config.node import Node
from config.scalars import Plain


def composed(text: str) -> Node:
    root, flaws = compose(text)
    assert flaws == []
    assert root is not None
    return root


def read(text: str, **environ: str) -> Any:
    root = composed(text)
    assert expand(root, environ) == []
    return to_data(root)


def flaw(text: str) -> tuple[int, int, str]:
    _, flaws = compose(text)
    (found,) = flaws
    return found.line, found.column, found.message


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="$"), max_size=20)
DATA = st.dictionaries(
    TEXTS.filter(lambda key: not key.startswith("x-")),
    st.recursive(
        TEXTS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


@given(DATA, st.sampled_from([True, False]))
def test_what_is_composed_is_what_was_written(data: dict[str, Any], flow: bool) -> None:
    """Any tree of texts, written by PyYAML in block or flow style, comes back equal."""
    text = yaml.safe_dump(
        data, default_flow_style=flow, allow_unicode=True, sort_keys=False, default_style='"'
    )
    assert read(text) == data


@pytest.mark.parametrize("name", ["x" * 5000, "\U0001f600" * 128, "x" * 1022, "x" * 1025])
@pytest.mark.parametrize("value", ["v", {"inner": {"a": "b"}}, ["i", {"a": "b"}], {}])
def test_a_name_of_any_length_is_written_so_that_it_can_be_read(name: str, value: Any) -> None:
    """YAML has two forms of keys, and one of them ends at 1,024 characters: escaped, a name has tenfold."""
    data = {"users": {name: value, "next": "n"}}
    text = write(from_data(data), {})
    assert read(text) == data
    assert yaml.safe_load(text) == data


@given(DATA)
def test_what_is_written_is_composed_again(data: dict[str, Any]) -> None:
    """Writing a tree and composing the text is a round trip, by our parser and by PyYAML's own."""
    root = composed(yaml.safe_dump(data, allow_unicode=True, sort_keys=False, default_style='"'))
    expand(root, {})
    text = write(root, {})
    assert read(text) == data
    assert yaml.safe_load(text) == data
    assert write(composed(text), {}) == text


def test_both_of_pyyamls_parsers_give_the_same_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    """A PyYAML without libyaml reads the same values at the same places."""
    text = "a: &x {b: ${C:-1}, d: [e, 'f', \"g\"]}\nh:\n  <<: *x\n  i: |\n    j\n  k: # none\n"
    fast = composed(text)
    monkeypatch.delattr(yaml, "CSafeLoader")
    assert composed(text) == fast
    line, column, message = flaw("a: [1\nb: }")
    assert (line, column) == (2, 2)
    assert message.startswith("not YAML: ")


# Places...


def test_every_value_knows_its_line_and_column() -> None:
    """Lines and columns count from 1; references, and what hides them from YAML, shift nothing."""
    text = "é: {a: ${A:-{x}, b: c}\nl:\n  - d\n  - {e: ${E}, f: g}\n"
    root = composed(text.replace("-{x", "-x"))
    first = root.entries["é"].node
    assert (first.entries["b"].line, first.entries["b"].column) == (1, 17)
    assert (first.entries["b"].node.line, first.entries["b"].node.column) == (1, 20)
    second = root.entries["l"].node.items[1]
    assert (second.line, second.column) == (4, 5)
    assert (second.entries["f"].line, second.entries["f"].column) == (4, 15)


def test_keys_are_texts() -> None:
    """Whatever YAML would make of them: `no`, `1`, `null`, `1e3`, and nothing at all."""
    assert list(read("no: 1\n1: 1\nnull: 1\n1e3: 1\n2024-01-01: 1\n'': 1")) == [
        *("no", "1", "null", "1e3", "2024-01-01", ""),
    ]


def test_a_duplicate_key_is_a_mistake_on_its_own_line() -> None:
    """Also when it is written in another way; every one of them is reported."""
    root, flaws = compose("a: 1\n'a': 2\nb:\n  c: 1\n  c: 2\n\"a\": 3\n")
    assert [(each.line, each.path, each.message) for each in flaws] == [
        (2, ("a",), "duplicate key; first on line 1"),
        (5, ("b", "c"), "duplicate key; first on line 4"),
        (6, ("a",), "duplicate key; first on line 1"),
    ]
    assert root is not None


def test_merge_keys_bring_in_what_is_not_there() -> None:
    """What is written wins over what is merged, and the first merged over the second."""
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {<<: [*a, *b], x: 3}\nd: {y: 4, <<: *a}"
    found = read(text)
    assert found["c"] == {"x": "3", "y": "1", "z": "2"}
    assert found["d"] == {"y": "4", "x": "1"}
    assert read("a: {'<<': 1}") == {"a": {"<<": "1"}}


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("a: {<<: 1}", 1, 5, "a merge key takes a mapping or a list of mappings"),
        ("a: {<<: [{b: c}, 1]}", 1, 5, "a merge key takes a mapping or a list of mappings"),
        ("a: &a {b: c}\nd:\n  <<: *a\n  <<: *a", 4, 3, "duplicate key"),
        ("? [a]\n: b", 1, 3, "a key that is a list"),
        ("a: *b", 1, 4, 'not YAML: no anchor "b" before this alias'),
        ("a: &a\n  b: *a", 2, 6, "an alias to what it stands in"),
        ("a: !!python/object:os.system x", 1, 4, 'the YAML tag "!!python/object:os.system"'),
        ("a: !env B", 1, 4, 'the YAML tag "!env"'),
        ("a: 1\n--- \nb: 1", 2, 1, "a second document begins here"),
        ("a: 1\nb: \x07", 2, 4, "the control character U+0007"),
        ("a: 1\n\ud800", 2, 1, "a character that is not Unicode text"),
        ("[]", 1, 1, "the document is an empty list; expected sections such as 'providers:'"),
        ("text", 1, 1, "the document is a text; expected sections such as 'providers:'"),
    ],
)
def test_a_flaw_is_placed(text: str, line: int, column: int, message: str) -> None:
    """Mistakes of the text itself are reported with their line and column."""
    assert flaw(text) == (line, column, message)


def test_a_flaw_of_yaml_shows_nothing_of_the_text() -> None:
    """PyYAML's own messages quote the line, which may hold a secret; ours do not."""
    for text in ("key: hush-hush: hush", 'key: "hush\nhush', "key: [hush\nother: }", "a: *hush-"):
        _, _, message = flaw(text)
        assert "hush" not in message.replace('anchor "hush-"', "")


# Bombs...


def test_deep_documents_are_refused_as_they_are_read() -> None:
    """However deep: at once, on the line and column of the first level too many, without a stack."""
    for opening in ("[", "{", "? ", "- ", "[{a: "):
        _, column, message = flaw("a:\n " + opening * 50_000)
        assert message == "nested more than 64 levels deep"
        assert column < 400


def test_deep_documents_by_aliases_are_refused() -> None:
    """Levels count as if every alias were written out."""
    lines = ["a0: &a0 " + "[" * 20 + "]" * 20]
    lines += [f"a{n}: &a{n} [[[[[[[[[[*a{n - 1}]]]]]]]]]]" for n in range(1, 9)]
    assert flaw("\n".join(lines))[2] == "nested more than 64 levels deep"


def test_alias_bombs_are_refused_before_they_unfold() -> None:
    """A billion values in a few lines cost neither the time nor the memory of a billion values."""
    lines = ["a0: &a0 [" + ",".join("x" * 10) + "]"]
    lines += [f"a{n}: &a{n} [" + ",".join([f"*a{n - 1}"] * 10) + "]" for n in range(1, 10)]
    tracemalloc.start()
    line, _, message = flaw("\n".join(lines))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (line, message) == (6, "more than 1000000 values once its aliases are followed")
    assert peak < 5_000_000


def test_merge_bombs_are_refused_before_they_unfold() -> None:
    """Merging copies no values, and what is merged counts."""
    lines = ["a0: &a0 {" + ", ".join(f"k{n}: 1" for n in range(100)) + "}"]
    lines += [
        f"a{n}: &a{n} {{" + ", ".join(f"k{m}: *a{n - 1}" for m in range(100)) + f", <<: *a{n - 1}}}"
        for n in range(1, 5)
    ]
    assert flaw("\n".join(lines))[2] == "more than 1000000 values once its aliases are followed"


def test_huge_documents_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit on bytes, and one on values; both say what they are."""
    assert flaw("#" * (document.LARGEST_BYTES + 1))[2] == (
        "the document has 8388609 bytes; at most 8388608 are read"
    )
    monkeypatch.setattr(document, "MOST_NODES", 100)
    assert flaw("a: [" + "b," * 100 + "]")[2] == "more than 100 values"


# References...


NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,6}", fullmatch=True)


@given(NAMES, st.text(st.characters(codec="utf-8"), max_size=20))
def test_a_reference_becomes_its_value_whatever_that_is(name: str, value: str) -> None:
    """In every style of YAML, and no value of the environment can change the structure."""
    reference = f"${{{name}}}"
    text = (
        f"a: {reference}\nb: {{c: {reference}, d: [{reference}]}}\n"
        f"e: '{reference}'\nf: \"{reference}\"\ng: |-\n  {reference}\nh: <{reference}>\n"
    )
    found = read(text, **{name: value})
    assert found == {
        "a": value,
        "b": {"c": value, "d": [value]},
        "e": value,
        "f": value,
        "g": value,
        "h": f"<{value}>",
    }
    assert all(isinstance(found[one], Plain) for one in "aefg")
    assert not isinstance(found["h"], Plain)


def test_defaults_work_as_in_the_shell() -> None:
    """`:-` counts for unset and for empty; it may hold what YAML would otherwise trip over."""
    text = "a: {b: ${B:-sqlite:var/x, [y]: #z}, c: ${C:-}, d: x${D:-}}"
    expected = {"b": "sqlite:var/x, [y]: #z", "c": None, "d": "x"}
    assert read(text)["a"] == expected
    assert read(text, B="", C="", D="")["a"] == expected
    assert read(text, B="1", C="2", D="3")["a"] == {"b": "1", "c": "2", "d": "x3"}


def test_two_dollars_are_one() -> None:
    """`$$` is a plain dollar, also before a brace; a dollar alone is one too."""
    text = "a: [$$, $${X}, $$${X}, a$b, 100$, '$$$$', $X]"
    assert read(text, X="v")["a"] == ["$", "${X}", "$v", "a$b", "100$", "$$", "$X"]


@pytest.mark.parametrize(
    "written", ["${}", "${1A}", "${A B}", "${A-b}", "${A:?b}", "${A:-${B}}", "${A", "${ A }"]
)
def test_a_malformed_reference_is_a_mistake(written: str) -> None:
    """It is reported where it stands, and is no value."""
    for text in (f"a: 'x{written}'", f'a: "{written}"', f"a: {written}"):
        root, flaws = compose(text)
        if root is None:
            assert flaws
            continue
        wrong = expand(root, {"A": "a", "B": "b"})
        assert [message for _, message, _ in wrong] == [
            "malformed reference; expected ${NAME} or ${NAME:-default}"
        ]
        assert root.entries["a"].node.unset


def test_every_unset_variable_of_a_scalar_is_named() -> None:
    """Two variables missing in one value are two mistakes."""
    wrong = expand(composed("a: ${B}/${C}"), {})
    assert [message for _, message, _ in wrong] == [
        "the variable B is not set",
        "the variable C is not set",
    ]


def test_characters_that_hide_references_may_be_in_the_text() -> None:
    """A text full of private-use characters, which stand in for others while YAML is parsed."""
    used = "".join(map(chr, range(0xF0000, 0xF0100)))
    assert read(f"a: {{b: {used}, c: ${{C:-{{}}}}") == {"a": {"b": used, "c": "{"}}
    assert read('a: {b: "\\U000f0000", c: ${C:-,}}') == {"a": {"b": "\U000f0000", "c": ","}}
    every_one = "".join(map(chr, range(0xF0000, 0xFFFF0)))
    assert flaw(f"a: {every_one}") == (1, 1, "thousands of private-use characters")


def test_top_level_names_with_x_are_a_place_for_anchors() -> None:
    """They are not in the tree; what refers to them is. Deeper down they are names like others."""
    assert read("x-a: &a {b: c}\nd: *a\ne: {x-f: g}") == {"d": {"b": "c"}, "e": {"x-f": "g"}}


def test_a_text_is_written_so_that_any_yaml_reader_takes_it() -> None:
    """Bare only where no version of YAML sees anything else in it; all odd characters escaped."""
    odd = ["", "~", "null", "a: b", "a #b", "- a", "-", "a:", "{a", "[", "*a", "&a", "!a", "%", "@"]
    odd += ["\x85", "\u2028", "\ufeff", "\U0001f600", "\x7f", "a\nb", " a ", '"', "'", "\\", "..."]
    entries = {
        f"k{n}": document.Entry(1, 1, Node("scalar", 1, 1, raw=text, plain=False))
        for n, text in enumerate(odd)
    }
    text = write(Node("mapping", 1, 1, entries=entries), {})
    assert re.fullmatch(r"[\x20-\x7e\n]*", text)
    assert list(yaml.safe_load(text).values()) == odd
