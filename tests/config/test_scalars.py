"""Readers of single values: each takes what it says, and says what it takes."""

import re
from decimal import Decimal
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from config.scalars import (
    ANY_NAME,
    PLAIN_NAME,
    BaseUrl,
    Flag,
    Listen,
    Money,
    Number,
    Plain,
    Reader,
    StoreUrl,
    Text,
    Whole,
    Word,
    split_listen,
)

READERS: list[Reader] = [
    Whole(1, 10),
    Whole(1, 10, or_word="auto"),
    Number(0, 1),
    Number(0, 1, above=True),
    Money(9_000_000, above=True),
    Money(9_000_000, above=False),
    Flag(),
    Word(("day", "week")),
    Text(),
    ANY_NAME,
    PLAIN_NAME,
    Listen(),
    BaseUrl(),
    StoreUrl(),
]

REFUSED = object()


def read(reader: Reader, value: object) -> Any:
    try:
        return reader.read(value)
    except PydanticCustomError as error:
        return REFUSED if (error.context or {})["expected"] else error


ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.decimals(),
    st.text(),
    st.text().map(Plain),
    st.from_regex(r"[-+0-9._eE]{0,40}", fullmatch=True).map(Plain),
    st.lists(st.text(), max_size=2),
    st.dictionaries(st.text(), st.text(), max_size=2),
)


@given(st.sampled_from(READERS), ANYTHING)
def test_a_reader_takes_a_value_or_says_what_it_expected(reader: Reader, value: object) -> None:
    """No other exception, whatever comes; and what was taken is taken again as it is."""
    found = read(reader, value)
    if found is not REFUSED:
        assert not isinstance(found, Plain)
        assert type(reader.read(found)) is type(found)
        assert reader.read(found) == found


@given(st.integers(-(10**30), 10**30), st.integers(1, 10**12), st.integers(1, 10**12))
def test_whole_numbers_are_bounded_on_both_sides(value: int, one: int, other: int) -> None:
    """Exactly the numbers from low to high, written as YAML or given as Python."""
    low, high = sorted((one, other))
    for written in (value, Plain(value), Plain(f"{value:_}"), Plain(f"{value:+}")):
        expected = value if low <= value <= high else REFUSED
        assert read(Whole(low, high), written) == expected


@pytest.mark.parametrize(
    "value", ["5", Plain("5.0"), Plain("0x5"), Plain("five"), 5.0, True, None, Plain("5" * 99), []]
)
def test_a_whole_number_is_nothing_else(value: object) -> None:
    """No text in quotes, no fraction, no switch, no hexadecimal."""
    assert read(Whole(1, 10), value) is REFUSED


def test_a_word_may_stand_for_a_number() -> None:
    """`auto` as YAML or as text, and only that word."""
    reader = Whole(1, 10, or_word="auto")
    assert [read(reader, each) for each in ("auto", Plain("auto"), Plain("4"))] == [
        *("auto", "auto", 4),
    ]
    assert read(reader, "Auto") is REFUSED


@given(st.integers(1, 9_000_000 * 10**9))
def test_money_is_exact_to_the_nano(nusd: int) -> None:
    """Every number of nano-USD that a budget may have survives reading."""
    text = f"{nusd // 10**9}.{nusd % 10**9:09}"
    found = Money(9_000_000, above=True).read(Plain(text))
    assert int(found * 10**9) == nusd


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Plain("0"), REFUSED),
        (Plain("-1"), REFUSED),
        (Plain("9000000"), Decimal(9_000_000)),
        (Plain("9000000.000000001"), REFUSED),
        (Plain("0.0000000001"), REFUSED),
        (Plain("1e3"), Decimal(1000)),
        (Plain("1_000.5"), Decimal("1000.5")),
        (Plain("1e999"), REFUSED),
        (Plain("1e-999"), REFUSED),
        (Plain("nan"), REFUSED),
        (Plain(".inf"), REFUSED),
        (Plain(""), REFUSED),
        (Plain("."), REFUSED),
        ("5", REFUSED),
        (0.1, Decimal("0.1")),
        (float("nan"), REFUSED),
        (True, REFUSED),
    ],
)
def test_money_has_bounds_and_nine_decimals(value: object, expected: object) -> None:
    """More than nothing, at most what stays exact in a Lua number, no finer than a nano-USD."""
    assert read(Money(9_000_000, above=True), value) == expected


def test_nothing_is_a_price_but_not_a_budget() -> None:
    """A price of 0 is a server of one's own; a budget of 0 is a mistake."""
    assert read(Money(10, above=False), Plain("0")) == 0
    assert read(Money(10, above=True), Plain("0")) is REFUSED


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Plain("0"), 0.0),
        (Plain("1"), 1.0),
        (Plain(".5"), 0.5),
        (Plain("5e-1"), 0.5),
        (Plain("1.01"), REFUSED),
        (Plain("-0.1"), REFUSED),
        ("0.5", REFUSED),
        (float("inf"), REFUSED),
    ],
)
def test_a_number_has_bounds(value: object, expected: object) -> None:
    """From low to high; `above` leaves low out."""
    assert read(Number(0, 1), value) == expected
    if expected == 0.0:
        assert read(Number(0, 1, above=True), value) is REFUSED


@pytest.mark.parametrize("word", ["yes", "no", "on", "off", "Yes", "NO"])
def test_old_words_for_a_switch_are_refused_with_the_right_one(word: str) -> None:
    """Whoever writes `on` is told to write `true`; nothing is guessed."""
    right = "true" if word.lower() in {"yes", "on"} else "false"
    with pytest.raises(PydanticCustomError) as caught:
        Flag().read(Plain(word))
    assert (caught.value.context or {})["remedy"] == f"write {right}"
    assert read(Text(), Plain(word)) == word


def test_a_switch_is_true_or_false() -> None:
    """In any case of YAML, unquoted."""
    assert [read(Flag(), Plain(each)) for each in ("true", "True", "FALSE")] == [True, True, False]
    assert [read(Flag(), each) for each in ("true", Plain("1"), 1, None)] == [REFUSED] * 4


def test_words_come_from_their_literal() -> None:
    """`Word.of` lists what the type lists, and takes nothing else."""
    reader = Word.of(Literal["day", "week"])
    assert reader.words == ("day", "week")
    assert read(reader, Plain("day")) == "day"
    assert read(reader, "Day") is REFUSED


@pytest.mark.parametrize(
    ("value", "fits"),
    [
        ("a", True),
        ("gpt-4.1", True),
        ("Qwen/Qwen3-32B:free@eu+x_1", True),
        ("a" * 128, True),
        ("a" * 129, False),
        ("", False),
        ("-a", False),
        (".a", False),
        ("a b", False),
        ("a\n", False),
        ("ä", False),
        ("a#2", False),
        (5, False),
    ],
)
def test_names_are_plain(value: object, fits: bool) -> None:
    """What can stand in a Redis key, a metric label and a URL without a second thought."""
    assert (read(ANY_NAME, value) is not REFUSED) == fits


def test_names_of_callers_have_no_slash() -> None:
    """So that `org/team/key` can be taken apart in one way."""
    assert read(PLAIN_NAME, "a/b") is REFUSED
    assert read(PLAIN_NAME, "a-b") == "a-b"


@pytest.mark.parametrize(
    "value", ["a\tb", "a\x00", "\x1b[31m", "a\u2028", " a", "a ", "\ud800", ""]
)
def test_a_text_has_no_control_characters(value: str) -> None:
    """Nothing that could forge a log line or a header."""
    assert read(Text(), value) is REFUSED


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:65535", ("::1", 65535)),
        ("edge-1.example:80", ("edge-1.example", 80)),
    ],
)
def test_an_address_is_a_host_and_a_port(address: str, parts: tuple[str, int]) -> None:
    """Names, IPv4, and IPv6 in brackets."""
    assert read(Listen(), address) == address
    assert split_listen(address) == parts


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (":8080", "to listen on every address, write 0.0.0.0:8080 or [::]:8080"),
        ("8080", "end it with a port"),
        ("host", "end it with a port"),
        ("host:", "end it with a port"),
        ("host:65536", "end it with a port"),
        ("host:-1", "end it with a port"),
        ("::1:80", "put an IPv6 address in brackets"),
        ("[::1:80", "put an IPv6 address in brackets"),
        ("[1.2.3.4]:80", "the host is no name and no address"),
        ("[]:80", "the host is no name and no address"),
        ("1.2.3:80", "the host is no name and no address"),
        ("256.1.1.1:80", "the host is no name and no address"),
        ("a b:80", "the host is no name and no address"),
        ("http://h:80", "put an IPv6 address in brackets"),
    ],
)
def test_what_is_no_address_is_told_how_to_be_one(address: str, words: str) -> None:
    """The remedy names the part that is wrong."""
    with pytest.raises(ValueError, match=words.replace("[", r"\[")):
        split_listen(address)
    assert read(Listen(), address) is REFUSED


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com/v1"),
        ("https://api.openai.com/v1/", "https://api.openai.com/v1"),
        ("http://10.0.0.5:8000", "http://10.0.0.5:8000"),
        ("http://[::1]:8000/", "http://[::1]:8000"),
        ("ftp://h", REFUSED),
        ("//h", REFUSED),
        ("h", REFUSED),
        ("http://", REFUSED),
        ("http:///v1", REFUSED),
        ("https://u:p@h", REFUSED),
        ("https://@h", REFUSED),
        ("https://h?x=1", REFUSED),
        ("https://h?", REFUSED),
        ("https://h#x", REFUSED),
        ("https://h:99999", REFUSED),
        ("https://h:0", REFUSED),
        ("https://h:x", REFUSED),
        ("https://[::1", REFUSED),
        ("https://[zz]", REFUSED),
        ("https://h/a b", REFUSED),
        ("https://h/\r\nx: y", REFUSED),
        ("https://häuser", REFUSED),
        ("https://-.", REFUSED),
        ("https://1.2.3", REFUSED),
        ("https://h/" + "a" * 2048, REFUSED),
        (5, REFUSED),
    ],
)
def test_a_base_url_is_an_origin_and_a_path(url: object, expected: object) -> None:
    """Either http or https, no user, no query, no fragment, nothing that a request line cannot carry."""
    assert read(BaseUrl(), url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "embedded",
        "redis://h:7000/3",
        "unix:///run/r.sock?db=1",
        "rediss+sentinel://u:p@s1,s2:26000/main/2?ssl_ca_certs=/ca",
        "redis+cluster://n1:7000,n2",
    ],
)
def test_a_store_is_named_in_several_forms(url: str) -> None:
    """As `store.target` reads them, and editors do."""
    assert read(StoreUrl(), Plain(url)) == url
    pattern = StoreUrl().schema()["pattern"]
    assert re.search(pattern, url)
    assert not re.search(pattern, f"{url} ")
    assert not re.search(pattern, f"x{url}")


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("redis+sentinel://s1,s2", "needs the service"),
        ("redis+cluster://n1/1", "one database"),
        ("redis://n1,n2", "redis+cluster://host1,host2"),
        ("redis://h:x", "ports must be numbers"),
        ("http://h", ""),
        ("redis+clustr://h", ""),
        ("Embedded", ""),
    ],
)
def test_a_store_that_could_not_be_reached_is_refused_with_its_remedy(
    url: str, remedy: str
) -> None:
    """All forms are named, and what is wrong with this one."""
    with pytest.raises(PydanticCustomError) as told:
        StoreUrl().read(Plain(url))
    said = told.value.context or {}
    assert "redis+sentinel://" in said["expected"]
    assert remedy in said["remedy"]
