"""The laws of the look at a request: what is refused, what is counted, and which bytes change."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire import openai
from proxy.wire.look import BadField, Hints, Look
from proxy.wire.openai import look_chat, look_completions, look_embeddings, rewrite

HELLO = [{"role": "user", "content": "Hello"}]
CHAT: dict[str, Any] = {"model": "m", "messages": HELLO}
LOOKS: dict[str, Callable[[bytes], Look]] = {
    "chat": look_chat,
    "completions": look_completions,
    "embeddings": look_embeddings,
}
MINIMAL: dict[str, dict[str, Any]] = {
    "chat": CHAT,
    "completions": {"model": "m", "prompt": "Once"},
    "embeddings": {"model": "m", "input": "Once"},
}
KINDS = list(LOOKS)


def dumped(document: Any, *, compact: bool = True, escaped: bool = False) -> bytes:
    separators = (",", ":") if compact else None
    return json.dumps(document, separators=separators, ensure_ascii=escaped).encode()


def chat(**more: Any) -> Look:
    return look_chat(dumped(CHAT | more))


def refused(kind: str, body: bytes) -> BadField:
    with pytest.raises(BadField) as caught:
        LOOKS[kind](body)
    assert str(caught.value) == caught.value.message
    return caught.value


# What is seen...


def test_a_minimal_chat() -> None:
    """Without anything said, nothing is assumed."""
    seen = chat()
    assert (seen.model, seen.stream, seen.asked_usage) == ("m", False, False)
    assert (seen.output_cap, seen.caps_present, seen.n) == (None, (), 1)
    assert (seen.user, seen.hints, seen.messages) == (None, None, 1)


def test_everything_that_matters_is_seen() -> None:
    """Wherever it stands, between whatever else."""
    document = {
        "temperature": 0.5,
        "max_completion_tokens": 20,
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        "messages": [*HELLO, *HELLO],
        "n": 3,
        "stream_options": {"include_usage": True, "include_obfuscation": False},
        "model": "vendor/Model-1:x",
        "user": "u-1",
        "stream": True,
        "metadata": {
            "biz_level": "premium",
            "prefer_cost": "low",
            "capabilities": "coding, vision,",
        },
    }
    for compact in (True, False):
        seen = look_chat(dumped(document, compact=compact))
        assert (seen.model, seen.stream, seen.asked_usage) == ("vendor/Model-1:x", True, True)
        assert (seen.output_cap, seen.caps_present, seen.n) == (20, ("max_completion_tokens",), 3)
        assert (seen.user, seen.messages) == ("u-1", 2)
        assert seen.hints == Hints("premium", "low", ("coding", "vision"))


@pytest.mark.parametrize(
    ("caps", "wanted"),
    [
        ({"max_tokens": 5}, (5, ("max_tokens",))),
        ({"max_completion_tokens": 5}, (5, ("max_completion_tokens",))),
        (
            {"max_tokens": 5, "max_completion_tokens": 7},
            (7, ("max_completion_tokens", "max_tokens")),
        ),
        (
            {"max_tokens": 9, "max_completion_tokens": 7},
            (9, ("max_completion_tokens", "max_tokens")),
        ),
        ({"max_tokens": None}, (None, ("max_tokens",))),
        (
            {"max_tokens": None, "max_completion_tokens": 7},
            (7, ("max_completion_tokens", "max_tokens")),
        ),
        ({"max_tokens": 10_000_000}, (10_000_000, ("max_tokens",))),
    ],
)
def test_the_output_cap_is_the_greatest_that_was_given(
    caps: dict[str, Any], wanted: tuple[int | None, tuple[str, ...]]
) -> None:
    """Whichever field a vendor obeys, it cannot be more than that."""
    seen = chat(**caps)
    assert (seen.output_cap, seen.caps_present) == wanted


def test_null_is_as_good_as_absent() -> None:
    """SDKs write null for what their caller did not set."""
    names = ["stream", "stream_options", "max_tokens", "max_completion_tokens", "n", "user"]
    seen = chat(**dict.fromkeys([*names, "metadata", "tools", "response_format"]))
    assert (seen.stream, seen.asked_usage, seen.output_cap, seen.n) == (False, False, None, 1)
    assert (seen.user, seen.hints) == (None, None)
    completions = {"model": "m", "prompt": None, "n": None, "best_of": None, "max_tokens": None}
    assert look_completions(dumped(completions)).n == 1


@pytest.mark.parametrize(
    ("more", "n"),
    [
        ({}, 1),
        ({"n": 3}, 3),
        ({"best_of": 4}, 4),
        ({"n": 2, "best_of": 4}, 4),
        ({"prompt": ["a", "b", "c"], "n": 2}, 6),
        ({"prompt": [1, 2, 3]}, 1),
        ({"prompt": [[1, 2], [3]], "best_of": 2}, 4),
    ],
)
def test_every_generated_answer_is_counted(more: dict[str, Any], n: int) -> None:
    """n, best_of and several prompts multiply what is generated, hence what is charged."""
    assert look_completions(dumped(MINIMAL["completions"] | more)).n == n


@pytest.mark.parametrize(
    ("metadata", "wanted"),
    [
        ({"biz_level": "normal"}, Hints("normal")),
        ({"capabilities": ["a", " b "]}, Hints(None, None, ("a", "b"))),
        ({"capabilities": ""}, None),
        ({"biz_level": None}, None),
        ({"note": "biz_level"}, None),
        ({"note": 1, "other": {"deep": []}}, None),
        ({}, None),
        ("not an object", None),
    ],
)
def test_hints_are_read_from_metadata(metadata: Any, wanted: Hints | None) -> None:
    """What metadata says beyond scheduling is the caller's own and passes unjudged."""
    for kind in KINDS:
        assert LOOKS[kind](dumped(MINIMAL[kind] | {"metadata": metadata})).hints == wanted
    body = dumped(CHAT | {"metadata": {"x": 1}}).replace(b'"x"', b'"biz_\\u006cevel"')
    assert refused("chat", body).param == "metadata.biz_level"


# What is refused...


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("change", "param", "code", "word"),
    [
        ({"model": None}, "model", "invalid_type", "string"),
        ({"model": 7}, "model", "invalid_type", "string"),
        ({"model": ["m"]}, "model", "invalid_type", "string"),
        ({"model": ""}, "model", "invalid_value", "empty"),
        ({"model": "m" * 257}, "model", "invalid_value", "longer"),
        ({"model": "a\nb"}, "model", "invalid_value", "control"),
        ({"model": "a\x7f"}, "model", "invalid_value", "control"),
        ({"model": "a\x85"}, "model", "invalid_value", "control"),
        ({"user": 7}, "user", "invalid_type", "string"),
        ({"metadata": {"biz_level": 3}}, "metadata.biz_level", "invalid_type", "string"),
        ({"metadata": {"capabilities": {"a": 1}}}, "metadata.capabilities", "invalid_type", ""),
        (
            {"metadata": {"capabilities": [1]}},
            "metadata.capabilities[0]",
            "invalid_type",
            "string",
        ),
    ],
)
def test_a_bad_field_is_named(
    kind: str, change: dict[str, Any], param: str, code: str, word: str
) -> None:
    """The answer says which field, and what it should be."""
    error = refused(kind, dumped(MINIMAL[kind] | change))
    assert (error.param, error.code) == (param, code)
    assert word in error.message
    assert param.split(".", maxsplit=1)[0] in error.message


@pytest.mark.parametrize("kind", ["chat", "completions"])
@pytest.mark.parametrize(
    ("change", "param", "code", "word"),
    [
        ({"stream": "true"}, "stream", "invalid_type", "true or false"),
        ({"stream": 1}, "stream", "invalid_type", "true or false"),
        (
            {"stream_options": {"include_usage": True}},
            "stream_options",
            "invalid_value",
            "stream: true",
        ),
        (
            {"stream": False, "stream_options": {}},
            "stream_options",
            "invalid_value",
            "stream: true",
        ),
        ({"stream": True, "stream_options": []}, "stream_options", "invalid_type", "object"),
        (
            {"stream": True, "stream_options": {"include_usage": 1}},
            "stream_options.include_usage",
            "invalid_type",
            "true or false",
        ),
        ({"n": 0}, "n", "invalid_value", "1 to 128"),
        ({"n": -1}, "n", "invalid_value", "1 to 128"),
        ({"n": 129}, "n", "invalid_value", "1 to 128"),
        ({"n": 1.5}, "n", "invalid_type", "integer"),
        ({"n": "2"}, "n", "invalid_type", "integer"),
        ({"n": True}, "n", "invalid_type", "integer"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value", "at least 1"),
        ({"max_tokens": -5}, "max_tokens", "invalid_value", "at least 1"),
        ({"max_tokens": 10_000_001}, "max_tokens", "invalid_value", "at most"),
        ({"max_tokens": 10**40}, "max_tokens", "invalid_value", "at most"),
        ({"max_tokens": "5"}, "max_tokens", "invalid_type", "integer"),
        ({"max_tokens": 1e3}, "max_tokens", "invalid_type", "integer"),
    ],
)
def test_a_bad_field_of_a_generation_is_named(
    kind: str, change: dict[str, Any], param: str, code: str, word: str
) -> None:
    """Streams, counts and caps."""
    error = refused(kind, dumped(MINIMAL[kind] | change))
    assert (error.param, error.code) == (param, code)
    assert word in error.message


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"messages": None}, "messages", "invalid_type"),
        ({"messages": "hi"}, "messages", "invalid_type"),
        ({"messages": {}}, "messages", "invalid_type"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": ["hi"]}, "messages", "invalid_type"),
        ({"messages": [*HELLO, None]}, "messages", "invalid_type"),
        ({"messages": [*HELLO, []]}, "messages", "invalid_type"),
        ({"max_completion_tokens": 0}, "max_completion_tokens", "invalid_value"),
        ({"max_completion_tokens": 5, "max_tokens": -1}, "max_tokens", "invalid_value"),
    ],
)
def test_a_bad_chat_is_refused(change: dict[str, Any], param: str, code: str) -> None:
    """Messages are a non-empty array of objects, and each cap must make sense."""
    error = refused("chat", dumped(CHAT | change))
    assert (error.param, error.code) == (param, code)


@pytest.mark.parametrize(("kind", "param"), [("completions", "prompt"), ("embeddings", "input")])
@pytest.mark.parametrize(
    "value",
    [7, True, {}, {"a": 1}, [], [None], [1.5], [[]], [[1], []], ["a", 1], [1, "a"], [["a"]]],
)
def test_a_bad_prompt_or_input_is_refused(kind: str, param: str, value: Any) -> None:
    """Text, texts, tokens, or lists of tokens, and at least one."""
    assert refused(kind, dumped(MINIMAL[kind] | {param: value})).param == param


def test_an_empty_input_is_refused_and_an_empty_prompt_is_not() -> None:
    """OpenAI embeds no empty text, but completes one."""
    assert refused("embeddings", b'{"model":"m","input":""}').param == "input"
    assert refused("embeddings", b'{"model":"m","input":null}').param == "input"
    assert look_completions(b'{"model":"m","prompt":""}').input_estimate == 1
    assert look_completions(b'{"model":"m"}').messages == 1


@pytest.mark.parametrize(
    ("kind", "missing"),
    [("chat", "model"), ("chat", "messages"), ("completions", "model"), ("embeddings", "input")],
)
def test_a_missing_field_is_named(kind: str, missing: str) -> None:
    """The caller learns what to add."""
    document = dict(MINIMAL[kind])
    del document[missing]
    error = refused(kind, dumped(document))
    assert (error.param, error.code) == (missing, "missing")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"model=m",
        b"\xef\xbb\xbf{}",
        b"{'model':'m'}",
        b'{"model":"m",}',
        b'{"model":"m","messages":[],"input":[]}}',
        b'{"model":"m","messages":[],"input":[]} {}',
        b'{"model":"m","x":NaN}',
        b'{"model":"m","x":Infinity}',
        b'{"model":"m","x":-Infinity}',
        b'{"model":"m","x":01}',
        b'{"model":"m","x":"\x00"}',
        b'{"model":"m","x":"\\x"}',
        b'{"model":"\xff"}',
        b'{"model":"m","user":"\xc3\x28"}',
        b'{"model":"m","x":' + b"[" * 100_000,
        b'{"model":"m","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"model":"m","x":' + b'{"x":' * 100_000 + b"1" + b"}" * 100_001,
    ],
    ids=lambda body: repr(body[:30]),
)
def test_what_is_no_json_is_refused(kind: str, body: bytes) -> None:
    """Malformed, not UTF-8 where it matters, or nested without end: 400 and no crash."""
    error = refused(kind, body)
    assert (error.param, error.code) == (None, "invalid_json")


def test_malformed_json_is_located() -> None:
    """The message says at which byte."""
    assert "byte 12" in refused("chat", b'{"model":"m"x').message


@pytest.mark.parametrize("body", [b"[]", b"null", b'"model"', b"7", b"[{}]"])
def test_what_is_no_object_is_refused(body: bytes) -> None:
    """JSON, but not a request."""
    for kind in KINDS:
        error = refused(kind, body)
        assert (error.param, error.code) == (None, "invalid_type")
        assert "object" in error.message


def test_deep_messages_are_refused() -> None:
    """Nesting inside messages meets the same end, whichever pass finds it."""
    for deep in (b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 100_000 + b"1" + b"}" * 100_000):
        body = b'{"model":"m","messages":[{"role":"user","content":' + deep + b"}]}"
        assert refused("chat", body).code == "invalid_json"


GUARDED = [
    "model",
    "messages",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "n",
]
VALUES = {
    "model": "m",
    "messages": HELLO,
    "stream": True,
    "stream_options": {},
    "max_tokens": 5,
    "max_completion_tokens": 5,
    "n": 1,
}


@pytest.mark.parametrize("spelling", ["same", "escaped"])
@pytest.mark.parametrize("name", GUARDED)
def test_a_member_given_twice_is_refused(name: str, spelling: str) -> None:
    """The vendor's parser may take the other one, and with it get past a limit."""
    body = dumped(CHAT | {"stream": True} | VALUES)
    key = name if spelling == "same" else f"{name[:-1]}\\u{ord(name[-1]):04x}"
    twin = f'{{"{key}":'.encode() + dumped(VALUES[name]) + b","
    for twice in (twin + body[1:], body[:-1] + b"," + twin[1:-1] + b"}"):
        error = refused("chat", twice)
        assert (error.param, error.code) == (name, "duplicate")


@pytest.mark.parametrize(
    "twin", ["Max_Tokens", "MAX_TOKENS", "max_to\u212aens", "\u017ftream", "Model", "N"]
)
def test_a_member_that_differs_only_in_case_is_refused(twin: str) -> None:
    """Go's JSON takes it for the other, Unicode's long s and Kelvin sign included."""
    body = dumped(CHAT | {twin: 5})
    error = refused("chat", body)
    assert error.param == twin
    assert "case" in error.message
    refused("chat", dumped(CHAT | {"max_tokens": 5, twin: 5}, escaped=True))


def test_names_elsewhere_are_not_members() -> None:
    """In values, nested objects, schemas and longer keys the guarded names mean nothing."""
    noise = {
        "metadata": {"model": "x", "stream": "y", "max_tokens": "z"},
        "tools": [{"parameters": {"properties": {"model": {}, "n": {}, "Stream": {}}}}],
        "stop": ["model", '"model":', "n"],
        "x-model": 1,
        'y"model': 1,
        "z\\": {"n": [{"messages": HELLO}]},
        "model2": "M",
        "é": "Model \u212a",
    }
    for compact in (True, False):
        for escaped in (True, False):
            for document in (noise | CHAT, CHAT | noise):
                body = dumped(document, compact=compact, escaped=escaped)
                seen = look_chat(body)
                assert (seen.model, seen.n, seen.stream, seen.output_cap) == ("m", 1, False, None)
                out = changed(body, upstream_model="up", output_cap=9)
                assert json.loads(out) == document | {"model": "up", "max_tokens": 9}


@pytest.mark.parametrize("kind", KINDS)
def test_lone_surrogates_pass(kind: str) -> None:
    """JavaScript sends half a pair as it is; whether that is text is for the vendor to say."""
    big = {"chat": "messages", "completions": "prompt", "embeddings": "input"}[kind]
    for half in ("\\ud800", "\\uDFFF", "\\udc00\\ud800", "\\\\\\ud83d", "\\ud83d\\ude00\\ud83d"):
        text = f'"a{half}b"'
        value = f'[{{"role":"user","content":{text}}}]' if kind == "chat" else text
        body = f'{{"x":{text},"{big}":{value},"model":"m","é":{text}}}'.encode()
        seen = LOOKS[kind](body)
        assert seen.model == "m"
        out = changed(body, kind, upstream_model="up")
        assert out == body.replace(b'"model":"m"', b'"model":"up"')
    assert refused(kind, b'{"model":"\\ud800","messages":[],"x":"\xff"').code == "invalid_json"


def test_a_bad_body_with_surrogates_is_still_bad() -> None:
    """Looking past a surrogate hides no other mistake."""
    assert refused("chat", b'{"x":"\\ud800","model":7,"messages":[]}').param == "model"
    assert refused("chat", b'{"x":"\\ud800","model":"m"').code == "invalid_json"


# Tokens...


def test_the_estimate_follows_utf8_bytes() -> None:
    """Chinese is not undercounted, and a short English text is close."""
    english = chat(messages=[{"role": "user", "content": "The quick brown fox. " * 100}])
    assert 480 <= english.input_estimate <= 560
    chinese = chat(messages=[{"role": "user", "content": "敏捷的棕色狐狸。" * 100}])
    assert 590 <= chinese.input_estimate <= 630
    assert 5 <= chat().input_estimate <= 12


def test_escaped_and_plain_text_count_the_same() -> None:
    """A client that writes ASCII only pays for the characters, not for their escapes."""
    for text in (
        "敏捷的棕色狐狸。" * 50,
        "привет мир " * 50,
        "naïve café " * 50,
        "\U0001f600" * 50,
    ):
        document = {"model": "m", "messages": [{"role": "user", "content": text}]}
        plain = look_chat(dumped(document))
        escaped = look_chat(dumped(document, escaped=True))
        assert plain.input_estimate <= escaped.input_estimate <= plain.input_estimate * 1.02 + 1
        assert plain.input_bound <= escaped.input_bound <= plain.input_bound * 1.05
        for kind, name in (("completions", "prompt"), ("embeddings", "input")):
            for value in (text, [text, text]):
                both = [
                    LOOKS[kind](dumped({"model": "m", name: value}, escaped=flag))
                    for flag in (False, True)
                ]
                assert (
                    both[0].input_estimate
                    <= both[1].input_estimate
                    <= both[0].input_estimate * 1.02 + 1
                )


@given(st.lists(st.text(max_size=30), min_size=1, max_size=4), st.booleans(), st.booleans())
def test_the_bound_is_never_below_the_bytes(texts: list[str], escaped: bool, compact: bool) -> None:
    """A byte-level tokenizer makes at most a token of each byte, whatever the spelling."""
    size = sum(len(text.encode()) for text in texts)
    messages = [{"role": "user", "content": text} for text in texts]
    seen = look_chat(dumped({"model": "m", "messages": messages}, escaped=escaped, compact=compact))
    assert seen.input_bound >= size + 4 * len(texts)
    assert 0 < seen.input_estimate <= seen.input_bound
    for kind, name in (("completions", "prompt"), ("embeddings", "input")):
        seen = LOOKS[kind](
            dumped({"model": "m", name: ["x", *texts]}, escaped=escaped, compact=compact)
        )
        assert seen.input_bound >= size
        assert 0 < seen.input_estimate <= seen.input_bound


def test_tools_and_formats_count() -> None:
    """They are part of what the model reads, also where the caller puts them somewhere new."""
    tool = {"type": "function", "function": {"name": "f", "description": "x" * 4000}}
    for more in (
        {"tools": [tool]},
        {"functions": [tool["function"]]},
        {"response_format": {"type": "x" * 4000}},
    ):
        seen = chat(**more)
        assert seen.input_estimate > 1000
        assert seen.input_bound > 4000
    assert chat(documents=["x" * 4000]).input_bound > 4000


IMAGE = "data:image/png;base64," + "iVBORw0KGgo" * 100_000


def parts(*content: Any) -> Look:
    return chat(
        messages=[{"role": "user", "content": [{"type": "text", "text": "What?"}, *content]}]
    )


def test_base64_is_not_text() -> None:
    """A megabyte of picture is no quarter of a million tokens."""
    seen = parts({"type": "image_url", "image_url": {"url": IMAGE}})
    assert 800 <= seen.input_estimate < 900
    assert 48_169 <= seen.input_bound < 49_000
    low = parts({"type": "image_url", "image_url": {"url": IMAGE, "detail": "low"}})
    assert 85 <= low.input_estimate < 150
    assert low.input_bound < 4_000
    two = parts(
        {"type": "image_url", "image_url": IMAGE},
        {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
    )
    assert 1600 <= two.input_estimate < 1700
    sound = parts({"type": "input_audio", "input_audio": {"data": "A" * 106_600, "format": "mp3"}})
    assert 100 <= sound.input_estimate < 150
    assert 2600 <= sound.input_bound < 3000
    file = parts({"type": "file", "file": {"file_data": IMAGE, "filename": "a.pdf"}})
    assert 5000 <= file.input_estimate < 5100
    assert 400_000 <= file.input_bound < 401_000
    named = parts({"type": "file", "file": {"file_id": "file-1"}})
    assert 5000 <= named.input_estimate < 5100
    film = parts({"type": "video_url", "video_url": {"url": IMAGE}})
    assert 10_000 <= film.input_estimate < 10_100


def test_base64_pasted_as_text_is_text() -> None:
    """Only a documented part is a picture; the same letters in a text are read as letters."""
    seen = parts({"type": "text", "text": IMAGE})
    assert seen.input_estimate > len(IMAGE) // 4
    odd = parts({"type": "image_url", "image_url": [IMAGE]})
    assert odd.input_estimate > len(IMAGE) // 4
    assert (
        chat(messages=[{"role": "user", "content": "[" + IMAGE}]).input_estimate > len(IMAGE) // 4
    )
    assert chat(messages=[{"role": "user", "content": 7}, {"content": [7]}]).messages == 2


@pytest.mark.parametrize(("kind", "name"), [("completions", "prompt"), ("embeddings", "input")])
def test_tokens_are_counted_exactly(kind: str, name: str) -> None:
    """A caller that has tokenized already is taken at its word."""
    seen = LOOKS[kind](dumped({"model": "m", name: list(range(1000))}))
    assert seen.input_estimate == 1000
    assert 1000 <= seen.input_bound <= 1200
    seen = LOOKS[kind](dumped({"model": "m", name: [[1, 2, 3], [4]]}, compact=False))
    assert (seen.input_estimate, seen.messages) == (4, 2)
    assert LOOKS[kind](dumped({"model": "m", name: ["", "a"]})).messages == 2


# What changes...


def changed(body: bytes, kind: str = "chat", **wanted: Any) -> bytes:
    seen = LOOKS[kind](body)
    arguments: dict[str, Any] = {
        "upstream_model": seen.model,
        "include_usage": False,
        "output_cap": None,
        "cap_field": "max_tokens",
    }
    return rewrite(body, seen, **(arguments | wanted))


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_to_change_is_the_same_object(kind: str) -> None:
    """The body that came is the body that goes."""
    body = dumped(MINIMAL[kind] | {"x": [1.10, "é\\u00e9"]}, compact=False)
    assert changed(body, kind) is body
    assert changed(body, kind, include_usage=True) is body
    capped = dumped(
        CHAT | {"max_tokens": 5, "stream": True, "stream_options": {"include_usage": True}}
    )
    assert changed(capped, output_cap=5, include_usage=True) is capped


def test_only_the_model_changes() -> None:
    """Numbers, escapes, spaces and order stay as the caller wrote them."""
    body = b'\n{ "x":1.50e+3, "messages" : [ {"content":"\\u00e9 \\/"} ] ,\t"model" :  "m" , "y":"\xc3\xa9" }\n'
    out = changed(body, upstream_model='Qwen/"x"')
    assert out == body.replace(b'"m"', b'"Qwen/\\"x\\""')
    escaped = body.replace(b'"model"', b'"m\\u006fdel"').replace(b'"m"', b'"\\u006d"')
    assert changed(escaped, upstream_model="up") == escaped.replace(b'"\\u006d"', b'"up"')
    quoted = b'{"model":"a\\"b\\\\","messages":[{}]}'
    assert changed(quoted, upstream_model="up") == b'{"model":"up","messages":[{}]}'


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (
            b"",
            b'{"stream_options":{"include_usage":true},"stream":true,"model":"m","messages":[{}]}',
        ),
        (
            b'"stream_options":null,',
            b'{"stream_options":{"include_usage":true},"stream":true,"model":"m","messages":[{}]}',
        ),
        (
            b'"stream_options":{},',
            b'{"stream_options":{"include_usage":true},"stream":true,"model":"m","messages":[{}]}',
        ),
        (
            b'"stream_options": { "a" : 1.0 },',
            b'{"stream_options": {"include_usage":true, "a" : 1.0 },"stream":true,"model":"m","messages":[{}]}',
        ),
        (
            b'"stream_options":{"a":{"include_usage":false},"include_usage" : false},',
            b'{"stream_options":{"a":{"include_usage":false},"include_usage" : true},"stream":true,"model":"m","messages":[{}]}',
        ),
        (
            b'"stream_options":{"include_usage":null},',
            b'{"stream_options":{"include_usage":true},"stream":true,"model":"m","messages":[{}]}',
        ),
    ],
)
def test_usage_is_asked_for(options: bytes, wanted: bytes) -> None:
    """Merged into what the caller gave, whose other members keep their bytes."""
    body = b"{" + options + b'"stream":true,"model":"m","messages":[{}]}'
    assert changed(body, include_usage=True) == wanted
    assert changed(body) is body


@pytest.mark.parametrize(
    ("caps", "cap_field", "wanted"),
    [
        ({}, "max_tokens", {"max_tokens": 7}),
        ({}, "max_completion_tokens", {"max_completion_tokens": 7}),
        ({}, None, {}),
        ({"max_tokens": 5}, "max_completion_tokens", {"max_tokens": 7}),
        ({"max_completion_tokens": 50}, "max_tokens", {"max_completion_tokens": 7}),
        ({"max_tokens": None}, "max_completion_tokens", {"max_tokens": 7}),
        ({"max_tokens": 5, "max_completion_tokens": 9}, "max_tokens", {"max_completion_tokens": 7}),
        ({"max_tokens": 7, "max_completion_tokens": 7}, None, {"max_completion_tokens": 7}),
        ({"max_tokens": None, "max_completion_tokens": None}, None, {"max_completion_tokens": 7}),
    ],
)
def test_one_cap_is_left(
    caps: dict[str, Any], cap_field: str | None, wanted: dict[str, Any]
) -> None:
    """Exactly one field carries the reserved cap, the caller's own where it used one."""
    for where in (CHAT | caps, caps | CHAT, {"stream": True, **caps, **CHAT, "x": 1.5}):
        for compact in (True, False):
            body = dumped(where, compact=compact)
            out = changed(body, output_cap=7, cap_field=cap_field)
            rest = {name: value for name, value in where.items() if name not in caps}
            assert json.loads(out) == rest | wanted
            both = changed(
                body, output_cap=7, cap_field=cap_field, upstream_model="up", include_usage=True
            )
            streamed = {"stream_options": {"include_usage": True}} if "stream" in where else {}
            assert json.loads(both) == rest | wanted | {"model": "up"} | streamed


def test_a_given_cap_that_fits_is_not_touched() -> None:
    """The reservation is what the caller asked for: nothing to write."""
    body = dumped(CHAT | {"max_completion_tokens": 7})
    assert changed(body, output_cap=7) is body


OTHERS = st.dictionaries(
    st.sampled_from(
        ["temperature", "x", "é", "metadata", "logit_bias", "model_", 'q"model', "tools"]
    ),
    st.recursive(
        st.none()
        | st.integers(-9, 9)
        | st.text(max_size=5)
        | st.sampled_from(['"model":', "}", "["]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from([*GUARDED, "k"]), inner, max_size=3)
        ),
        max_leaves=6,
    ),
    max_size=5,
)
CONTENT = st.text(max_size=20) | st.lists(
    st.fixed_dictionaries({"type": st.just("text"), "text": st.text(max_size=9)}), max_size=2
)


@given(
    data=st.data(),
    kind=st.sampled_from(KINDS),
    others=OTHERS,
    contents=st.lists(CONTENT, min_size=1, max_size=3),
    given=st.fixed_dictionaries(
        {},
        optional={
            "stream": st.booleans() | st.none(),
            "max_tokens": st.integers(1, 99) | st.none(),
            "max_completion_tokens": st.integers(1, 99),
            "n": st.integers(1, 3),
        },
    ),
    model=st.sampled_from(["m", "up", "Qwen/2", "é"]),
    include_usage=st.booleans(),
    cap=st.none() | st.integers(1, 99),
    style=st.tuples(st.booleans(), st.booleans()),
)
def test_a_rewritten_body_says_what_was_asked(
    data: st.DataObject,
    *,
    kind: str,
    others: dict[str, Any],
    contents: list[Any],
    given: dict[str, Any],
    model: str,
    include_usage: bool,
    cap: int | None,
    style: tuple[bool, bool],
) -> None:
    """For any order, spelling and company of members: the same document, but for what must change."""
    big: dict[str, Any] = {
        "chat": {"messages": [{"role": "user", "content": content} for content in contents]},
        "completions": {"prompt": [str(content) for content in contents]},
        "embeddings": {"input": [str(content) for content in contents]},
    }[kind]
    if kind == "completions":
        given = {name: value for name, value in given.items() if name != "max_completion_tokens"}
    if kind == "embeddings":
        given, cap = {}, None
    document = others | big | {"model": "m"} | given
    order = data.draw(st.permutations(list(document)))
    document = {name: document[name] for name in order}
    body = dumped(document, compact=style[0], escaped=style[1])
    out = changed(body, kind, upstream_model=model, include_usage=include_usage, output_cap=cap)
    wanted = document | {"model": model}
    if include_usage and document.get("stream"):
        wanted["stream_options"] = {"include_usage": True}
    if cap is not None:
        used = [name for name in ("max_completion_tokens", "max_tokens") if name in document]
        for name in used[1:]:
            del wanted[name]
        wanted[used[0] if used else "max_tokens"] = cap
    assert json.loads(out) == wanted
    left = [name for name in json.loads(out) if name in wanted and name in order]
    assert left == [name for name in order if name in wanted]


def test_a_megabyte_of_tools_is_cut_out_like_the_messages() -> None:
    """Clients with many tools do not pay for them twice; edits land where they should."""
    tools = [{"function": {"name": "f", "parameters": {"properties": {"model": {"n": 1}}}}}] * 2000
    for order in (
        ["tools", "model", "messages", "n"],
        ["n", "messages", "tools", "model"],
        ["model", "messages", "n", "tools"],
    ):
        whole = CHAT | {"tools": tools, "n": 2}
        document = {name: whole[name] for name in order}
        body = dumped(document)
        seen = look_chat(body)
        assert len(seen.frame) < 200
        assert json.loads(changed(body, upstream_model="up", output_cap=3)) == document | {
            "model": "up",
            "max_tokens": 3,
        }


def test_a_copy_of_the_messages_elsewhere_does_not_confuse() -> None:
    """The same bytes under the same name, one level down and before: still the right edits."""
    body = dumped({"x": {"messages": HELLO, "model": "m"}, "messages": HELLO, "model": "m"})
    out = json.loads(changed(body, upstream_model="up"))
    assert out == {"x": {"messages": HELLO, "model": "m"}, "messages": HELLO, "model": "up"}
    body = dumped({"y": ["messages"], "x": {"tools": [1]}, "tools": [{"a": "x" * 300}], **CHAT})
    assert json.loads(changed(body, upstream_model="up"))["model"] == "up"


@given(st.binary(max_size=50), st.sampled_from(KINDS))
def test_garbage_is_refused_and_nothing_else(data: bytes, kind: str) -> None:
    """Whatever bytes come, they are a request or a `BadField`."""
    for body in (
        data,
        dumped(MINIMAL[kind])[:-1] + b"," + data,
        dumped(MINIMAL[kind])[:-1] + data + b"}",
    ):
        seen = None
        try:
            seen = LOOKS[kind](body)
        except BadField:
            pass
        if seen is not None:
            out = rewrite(
                body,
                seen,
                upstream_model="u",
                include_usage=True,
                output_cap=2,
                cap_field="max_tokens",
            )
            assert msgspec.json.decode(out)["model"] == "u"


def test_a_request_of_the_largest_size_is_looked_at() -> None:
    """32 MB of picture: one look, one edit, no copy of the payload into the frame."""
    url = "data:image/png;base64," + "A" * (32 * 1024 * 1024)
    body = dumped(
        CHAT
        | {
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}
            ]
        }
    )
    seen = look_chat(body)
    assert seen.input_estimate < 1000
    assert len(seen.frame) < 100
    out = changed(body, upstream_model="up")
    assert len(out) == len(body) + 1
    assert openai.IMAGE_TOKENS[0] < seen.input_bound < 50_000


@pytest.mark.parametrize(
    ("content", "more", "only"),
    [
        ("say hello", {}, True),
        ('say "tools" and "image_url"', {"temperature": 1, "user": "u"}, True),
        ([{"type": "text", "text": "hi"}], {}, False),
        ([{"type": "image_url", "image_url": {"url": "https://a.b/c"}}], {}, False),
        ("x[0]", {}, False),
        ("hi", {"tools": [{"type": "function", "function": {"name": "f"}}]}, False),
        ("hi", {"functions": [{"name": "f"}]}, False),
        ("hi", {"response_format": {"type": "json_object"}}, False),
    ],
)
def test_a_chat_of_nothing_but_words_is_known_as_one(
    content: object, more: dict[str, object], only: bool
) -> None:
    """No media, no tools, no format; where it takes more than a glance to be sure, it is not said."""
    body = {"model": "m", "messages": [{"role": "user", "content": content}], **more}
    assert look_chat(json.dumps(body).encode()).only_words is only
