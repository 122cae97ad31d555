"""The laws of the look at Gemini's requests: both spellings, what is counted, and that only the cap ever changes."""

import json
from typing import Any

import pytest

from proxy.wire import gemini
from proxy.wire.gemini import UNSEEN_TOKENS, look_count, look_stream, look_whole, rewrite
from proxy.wire.look import BadField, Look

MINIMAL: dict[str, Any] = {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}


def dumped(**changed: Any) -> bytes:
    return json.dumps(MINIMAL | changed).encode()


def look(**changed: Any) -> Look:
    return look_whole(dumped(**changed))


def changed(body: bytes, cap: int | None) -> bytes:
    return rewrite(
        body,
        look_whole(body),
        upstream_model="up",
        include_usage=True,
        output_cap=cap,
        cap_field=None,
    )


@pytest.mark.parametrize("config", ["generationConfig", "generation_config"])
@pytest.mark.parametrize("cap", ["maxOutputTokens", "max_output_tokens"])
def test_both_spellings_are_read(config: str, cap: str) -> None:
    """As Google reads them; the model and the stream are the URL's to say."""
    body = dumped(**{config: {cap: 20, "candidateCount": 2, "temperature": 0.5}})
    seen = look_stream(body)
    assert (seen.model, seen.stream, seen.asked_usage) == ("", True, True)
    assert (seen.output_cap, seen.n, seen.messages) == (20, 2, 1)
    assert not look_whole(body).stream


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"contents": []}, "contents"),
        ({"contents": "Hello"}, "contents"),
        ({"contents": None}, "contents"),
        ({"generationConfig": {"maxOutputTokens": 0}}, "generationConfig.maxOutputTokens"),
        ({"generationConfig": {"maxOutputTokens": "9"}}, "generationConfig.maxOutputTokens"),
        ({"generationConfig": {"candidateCount": 900}}, "generationConfig.candidateCount"),
        ({"generationConfig": {}, "generation_config": {}}, "generationConfig"),
        ({"tools": "x"}, "tools"),
    ],
)
def test_a_mistake_is_named(change: dict[str, Any], param: str) -> None:
    """In the words of the protocol."""
    with pytest.raises(BadField) as caught:
        look(**change)
    assert caught.value.param == param


def test_a_member_that_is_there_twice_is_refused() -> None:
    """Two parsers may take another one of them."""
    for twice in (b'{"contents":[{}],', b'{"generationConfig":{},"generationConfig":{},'):
        with pytest.raises(BadField) as caught:
            look_whole(twice + dumped()[1:])
        assert caught.value.code == "duplicate"


def test_input_counts_by_its_bytes() -> None:
    """Text, instructions and tools; a picture as it is documented, however many bytes carry it."""
    plain = look().input_estimate
    instruction = {"parts": [{"text": "x" * 400}]}
    assert look(systemInstruction=instruction).input_estimate == pytest.approx(plain + 106, abs=3)
    blob = {"mimeType": "image/png", "data": "A" * 100_000}
    for name in ("inlineData", "inline_data"):
        seen = look(contents=[{"parts": [{name: blob}]}])
        assert gemini.IMAGE_TOKENS[0] < seen.input_estimate < gemini.IMAGE_TOKENS[0] + 100
        assert gemini.IMAGE_TOKENS[1] < seen.input_bound < gemini.IMAGE_TOKENS[1] + 2000
    assert look(contents=[{"parts": [{"text": 7}, {"x": "y" * 400}]}]).input_estimate > 100


def test_what_google_keeps_and_runs_is_seen() -> None:
    """A cache ties the call to it, and brings input that nobody sees; a search costs besides."""
    kept = look(cachedContent="cachedContents/1")
    assert (kept.tied, kept.input_bound) == ("cachedContent", UNSEEN_TOKENS)
    assert look(tools=[{"googleSearch": {}}]).dearer == ("tools", "googleSearch")
    assert look(tools=[{"functionDeclarations": []}]).dearer is None


def test_only_the_cap_changes() -> None:
    """Wherever it has to be written; every other byte stays as it was."""
    body = b'{ "contents":[{"parts":[{"text":"%b"}]}], "generationConfig" : {"topK":1.0} }' % (
        b"x" * 500
    )
    assert changed(body, None) is body
    assert changed(body, 7) == body.replace(b'{"topK"', b'{"maxOutputTokens":7,"topK"')
    for config in ({"maxOutputTokens": 20}, {"max_output_tokens": 20, "seed": 1}, None):
        out = json.loads(changed(dumped(generationConfig=config), 7))
        assert out["generationConfig"]["maxOutputTokens"] == 7
        assert "max_output_tokens" not in out["generationConfig"]
    assert json.loads(changed(dumped(), 7)) == MINIMAL | {
        "generationConfig": {"maxOutputTokens": 7}
    }
    same = dumped(generationConfig={"maxOutputTokens": 7})
    assert changed(same, 7) is same


def test_counting_uses_nothing() -> None:
    """A count has no input, no output and no cap, in either of its forms."""
    for body in (dumped(), b'{"generateContentRequest":{}}'):
        seen = look_count(body)
        assert (seen.input_estimate, seen.input_bound, seen.output_cap) == (0, 0, None)
    with pytest.raises(BadField):
        look_count(b"[]")
