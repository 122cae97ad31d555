"""A deployment as the hot path uses it: how it is asked, and what is said of it to others."""

from dataclasses import replace

import pytest

from proxy.place import Place
from tests.proxy.test_live import CHAT, KEY, PROVIDERS, ROWS, live, offer


def test_a_place_says_all_that_a_request_needs() -> None:
    """Where, how, for how long, and at what price."""
    place, far = offer(live()).places
    assert str(place.origin) == "http://127.0.0.1:8000"
    assert place.ways[ROWS["openai.embeddings"]].head.write(b"[1,2,3]").decode() == (
        "POST /v1/embeddings HTTP/1.1\r\n"
        "host: 127.0.0.1:8000\r\n"
        "user-agent: penstock/0.1.0\r\n"
        "accept: application/json, text/event-stream\r\n"
        "accept-encoding: identity\r\n"
        "content-type: application/json\r\n"
        "authorization: Bearer sk-house-key-0123456789\r\n"
        "x-team: a\r\n"
        "content-length: 7\r\n\r\n"
    )
    assert (place.timeouts.first_byte_s, place.timeouts.idle_s, place.timeouts.total_s) == (3, 4, 5)
    assert place.connect_timeout_s == 6
    assert (place.upstream_name, far.upstream_name) == ("m", "M")
    assert (place.ways[CHAT].cap_field, far.ways[CHAT].cap_field) == (
        "max_tokens",
        "max_completion_tokens",
    )
    assert place.rates.input_nusd_per_ktok == 1_000_000
    assert b"authorization" not in far.ways[CHAT].head.write(b"")


def test_nothing_shows_a_providers_key() -> None:
    """Whoever logs a place or an offer logs no secret."""
    made = live()
    assert "sk-house-key" not in repr(offer(made).places)
    assert KEY not in repr(made.callers.find(KEY))


@pytest.mark.parametrize("shown", ["sk-house-key-0123456789", "token-of-now"])
def test_a_vendors_words_are_shown_without_what_we_sent_it(shown: str) -> None:
    """Its key, or the token of the moment, and headers that are long enough to be a secret."""
    said = PROVIDERS["house"] | {"headers": {"x-team": "a", "x-signed": "s" * 12}}
    if shown == "token-of-now":
        del said["api_key"]
        said["token"] = {"file": "/x"}
    place, _ = offer(live(providers={"house": said})).places
    if place.token is not None:
        place.token.value = shown.encode()
    words = f"{shown} in {'s' * 12} for team a"
    assert place.without_secrets(words.encode()) == b"*** in *** for team a"


@pytest.mark.parametrize(
    ("mine", "others", "same", "holds"),
    [(2, 1, True, True), (1, 2, False, False), (0, 2, True, False), (0, 2, False, True)],
)
def test_who_may_take_what_was_too_long(mine: int, others: int, same: bool, holds: bool) -> None:
    """A larger context; where nobody knows one, another model."""
    place, _ = offer(live()).places
    one = replace(place, context=mine)
    assert one.holds_more(replace(place, context=others, model="m" if same else "n")) is holds


def ways_of(**provider: str) -> Place:
    return offer(
        live({"m": {"deployments": [{"provider": "p"}]}}, providers={"p": provider})
    ).places[0]


def test_chat_can_stand_in_where_nobody_knows_what_a_server_has() -> None:
    """A server that only says that it is compatible may have no Responses; OpenAI's own has."""
    unknown = ways_of(protocol="openai", base_url="http://127.0.0.1:9/v1")
    asked = ROWS["openai.responses"]
    instead = unknown.ways[asked].instead
    assert unknown.ways[asked].endpoint is asked
    assert instead is not None
    assert instead.endpoint is CHAT
    assert instead.translation is not None
    known = ways_of(protocol="openai", base_url="https://api.openai.com/v1")
    assert known.ways[asked].instead is None
