"""What a call is about and how hard it is: by form first, by words second, and never by how often one is repeated."""

import json
from itertools import product
from string import ascii_lowercase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.openai import look_chat
from routing.classify import (
    _MARKS,
    HEAD,
    LEXICAL,
    TAIL,
    _shipped,
    classify,
    features,
    language,
    window,
)
from routing.listing import TASKS


def body(*texts: str, **more: object) -> bytes:
    messages = [{"role": "user", "content": text} for text in texts]
    return json.dumps({"model": "auto", "messages": messages, **more}).encode()


def judged(*texts: str, **more: object) -> tuple[str, float]:
    """Classify a request the way that the edge does."""
    data = body(*texts, **more)
    seen = look_chat(data)
    sizes = {"tokens": seen.input_estimate, "messages": seen.messages}
    found = classify(data, seen.cuts, seen.frame, **sizes, only_words=seen.only_words)
    # It only spares the search for what the look has not found.
    assert found == classify(data, seen.cuts, seen.frame, **sizes)
    return found


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("Fix this TypeError in my React component", "coding"),
        ("Write a Python function that reverses a linked list and add unit tests.", "coding"),
        ("A farmer has 17 sheep and sells 8 for $12 each. How much money does he get?", "math"),
        ("If $(x + y)^2 = 45$ and $xy = 10$, what is $(x - y)^2$?", "math"),
        ("Extract the invoice number and the total from the text below as JSON.", "extraction"),
        ("Write a friendly email to my colleague about the meeting", "chat"),
        ("who wrote the song that won the contest", "chat"),
        ("hi", "chat"),
        ("请帮我写一封邮件给客户告诉他们会议推迟了", "multilingual"),
        ("Schreibe mir bitte eine E-Mail an die Kollegen, dass ich nicht komme", "multilingual"),
        ("напиши короткое письмо коллегам про встречу", "multilingual"),
    ],
)
def test_words_say_what_it_is_about(text: str, task: str) -> None:
    """Plain requests of each kind."""
    assert judged(text)[0] == task


@pytest.mark.parametrize(
    ("more", "task"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "extraction"),
        ({}, "chat"),
    ],
)
def test_the_form_says_more_than_words(more: dict[str, object], task: str) -> None:
    """Tools that are offered, and a format that is asked for."""
    assert judged("what is the capital of the country", **more)[0] == task


def test_a_word_about_tools_offers_none() -> None:
    """The frame is looked at, which holds no word of the caller's text."""
    assert judged('say "tools" and "response_format" please')[0] == "chat"


def test_a_long_call_is_about_its_length() -> None:
    """Whatever its words are."""
    data = body("fix this bug in my code " * 9000)
    assert classify(data, tokens=54_000)[0] == "long-context"


def test_the_conversation_is_found_among_large_members() -> None:
    """Also behind tools that are longer than it."""
    tool = {"type": "function", "function": {"name": "f", "description": "x" * 5000}}
    data = json.dumps(
        {
            "tools": [tool],
            "model": "auto",
            "messages": [{"role": "user", "content": "solve for x"}],
            "temperature": 1,
        }
    ).encode()
    seen = look_chat(data)
    assert window(data, seen.cuts, seen.frame) == b'[{"role": "user", "content": "solve for x"}]'


def test_a_conversation_that_was_not_cut_out_is_found_by_its_name() -> None:
    """As in protocols whose look leaves the body whole; what stands before it is not looked at."""
    data = json.dumps({"model": "x" * 300, "input": "solve for x", "store": False}).encode()
    assert window(data) == b' "solve for x", "store": false}'
    assert window(b"no body at all") == b"no body at all"


def test_small_talk_is_easier_than_deliberation() -> None:
    """Whatever the tables ask."""
    easy = judged("hi, how are you today?")[1]
    hard = judged("Compare the trade-offs of both designs and decide which one we should choose")[1]
    assert easy < 0.5 < hard


def test_the_look_is_bounded() -> None:
    """A conversation of megabytes costs what one of a kilobyte does: its beginning and its end."""
    data = body("begin", "x" * 3_000_000, "fix this bug in my Python function")
    seen = look_chat(data)
    looked = window(data, seen.cuts, seen.frame)
    assert len(looked) == HEAD + TAIL + 1
    assert b"begin" in looked
    assert b"Python function" in looked


@given(st.lists(st.sampled_from(["prove", "theorem", "integral", "optimal", "step", "why"])))
def test_repeating_words_changes_nothing(words: list[str]) -> None:
    """A set of them is what counts, as long as the text is not longer by a power of two."""
    once = " ".join(sorted(set(words))).encode()
    more = " ".join([*sorted(set(words)), *words]).encode()
    assert features(once)[1] == features(more)[1]


@given(st.text(max_size=2000), st.integers(0, 1000))
def test_words_move_the_complexity_within_bounds(text: str, tokens: int) -> None:
    """However a short call is stuffed, and whatever bytes it holds."""
    data = text.encode()
    task, complexity = classify(data, tokens=tokens)
    assert task in TASKS
    assert 0.5 - LEXICAL <= complexity <= 0.5 + LEXICAL


@given(st.binary(max_size=300), st.integers(0, 10**9), st.integers(0, 10**6))
def test_anything_has_a_task_and_a_complexity(data: bytes, tokens: int, messages: int) -> None:
    """Never an exception, never beyond 0 and 1."""
    task, complexity = classify(data, tokens=tokens, messages=messages)
    assert task in TASKS
    assert 0 < complexity < 1


def test_length_and_turns_make_a_call_harder() -> None:
    """By a little for each doubling, and for each turn."""
    data = body("why is that so")
    by_tokens = [classify(data, tokens=tokens)[1] for tokens in (100, 1000, 4000, 16_000)]
    assert by_tokens == sorted(by_tokens)
    assert by_tokens[0] < by_tokens[-1]
    assert classify(data, tokens=100, messages=12)[1] > classify(data, tokens=100)[1]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("How do I get the best out of this?", "en"),
        ("", "en"),
        ("Wie komme ich mit der Bahn nach Berlin und was kostet das", "de"),
        ("Comment puis-je aller dans les Alpes avec une amie et sur quelle route", "fr"),
        ("¿Cómo puedo ir a la playa con los niños y qué tren es el mejor para una familia?", "es"),
        ("今日の天気はどうですか", "ja"),
        ("今天天气怎么样", "zh"),
        ("오늘 날씨 어때요", "ko"),
        ("какая сегодня погода", "ru"),
        ("ما هو الطقس اليوم", "ar"),
    ],
)
def test_languages_are_guessed_by_script_or_common_words(text: str, code: str) -> None:
    """Roughly: enough to tell English from the rest."""
    assert language(text.encode()) == code


def test_escaped_text_is_not_taken_for_english() -> None:
    """Clients that write ASCII only send what is not English as escapes."""
    text = json.dumps("今日の天気はどうですか、明日は").encode()
    assert text.isascii()
    assert language(text) == "other"


def test_what_is_said_does_not_depend_on_what_was_said_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Words are remembered, and forgotten when they are too many; neither changes anything."""
    bodies = [
        body(text) for text in ("hi", "fix this bug in x1", "Wie komme ich und was ist das 7")
    ]
    first = [classify(data, tokens=10) for data in bodies]
    known = _shipped()
    most = len(known) + 50
    monkeypatch.setattr("routing.classify._MOST_KNOWN", most)
    for one, other in product(ascii_lowercase, repeat=2):
        classify(f"more {one}{other} {'long' * 9}{one}".encode(), tokens=10)
        assert len(known) <= most
    assert b"more" in known
    assert b"fix" not in known
    assert not any(word.startswith(b"longlong") for word in known)
    assert [classify(data, tokens=10) for data in bodies] == first


@given(
    st.text(
        st.sampled_from("abAd0 `()=;{}$^?<>/.\\nSELECTdef frac"),
        max_size=200,
    )
)
def test_every_mark_is_found_however_it_is_looked_for(text: str) -> None:
    """As by looking for each of them."""
    data = text.encode()
    marks = {feature for mark, feature in _MARKS if mark in data}
    found, words = features(data)
    others = {each for each in found - words if not each.startswith((b"#size", b"#zeros"))}
    assert others == marks
