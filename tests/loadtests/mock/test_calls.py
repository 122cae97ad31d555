"""Laws of what a call must hold, and of the words in which one that does not is refused."""

import json

import pytest

from loadtests.mock.calls import BadCall, reader_of, refusal_of
from tests.loadtests.mock.lines import chat, line_to, request


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{", None),
        (b"", None),
        (b"[]", None),
        (b"\xff\xfe", None),
        (b'{"messages": []}', "model"),
        (b'{"model": 5, "messages": []}', "model"),
        (b'{"model": "sim"}', "messages"),
        (b'{"model": "sim", "messages": [], "stream": "yes"}', "stream"),
        (b'{"model": "sim", "messages": [], "max_tokens": 0}', "max_tokens"),
        (b'{"model": "sim", "messages": [], "stream_options": {}}', "stream_options"),
    ],
)
async def test_a_bad_body_is_refused_as_openai_does(any_mock, body, param):
    """What cannot be parsed, or misses what it must have, is a 400 that names the field; the connection lives."""
    async with line_to(any_mock) as line:
        line.send(request(body))
        status, _, payload = await line.answer()
        assert status == 400
        error = json.loads(payload)["error"]
        assert (error["type"], error["param"]) == ("invalid_request_error", param)
        line.send(request(chat("sim")))
        assert (await line.answer())[0] == 200
    assert any_mock.books()["totals"]["outcomes"] == {"bad_request": 1, "ok": 1}


@pytest.mark.parametrize(
    ("url", "model"),
    [
        (b"/v1/chat/completions", "sim"),
        (b"/v1/messages?beta=true", "sim"),
        (b"/v1beta/models/sim-g:generateContent", "sim-g"),
        (b"/v1beta/models/sim-g:streamGenerateContent?alt=sse", "sim-g"),
        (b"/model/sim-c/converse-stream", "sim-c"),
    ],
)
def test_the_model_is_in_the_body_or_in_the_url(url, model):
    """As each vendor has it; whether a stream is asked for, too."""
    body = b'{"model": "sim", "messages": [], "contents": [], "max_tokens": 4}'
    asked = reader_of(url)(body)
    assert (asked.model, asked.stream) == (model, b"tream" in url)


def test_what_is_no_call_has_no_reader():
    """Models, books and everything unknown are answered elsewhere."""
    assert reader_of(b"/v1/models") is None
    assert reader_of(b"/v1beta/models/sim-g") is None


def test_a_refusal_names_the_field_where_it_can():
    """And says the same whoever found the mistake."""
    assert refusal_of(BadCall("no", "prompt")) == ("no", "prompt")
    assert refusal_of(ValueError("odd")) == (
        "We could not parse the JSON body of your request: odd",
        None,
    )
