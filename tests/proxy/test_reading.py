"""Who is calling, as every route reads it; how bodies come is held in test_bad_input.py."""

from typing import Any, cast

import pytest
from aiohttp.http import HttpVersion11, RawRequestMessage
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from governance.identity import Caller, Directory
from proxy.errors import BadRequest, Unauthorized
from proxy.reading import caller_of
from proxy.server import Request
from proxy.wire.endpoints import ANTHROPIC, GEMINI, OPENAI, Protocol

BEARER = ("Authorization", "Bearer bearer")
X_API_KEY = ("x-api-key", "x-key")
GOOGLES = ("x-goog-api-key", "goog")


class Known:
    """A directory in which everybody's name is the key, but for who is unknown."""

    def find(self, token: str) -> Any:
        return None if token == "unknown" else token


def asked(*headers: tuple[str, str], path: str = "/") -> Request:
    """Make a request of a head."""
    fields = CIMultiDictProxy(CIMultiDict(headers))
    message = RawRequestMessage(
        "POST", path, HttpVersion11, fields, (), False, None, False, False, URL(path)
    )
    client = cast("Any", type("Client", (), {"transport": None}))
    return Request(message, cast("Any", None), client)


def caller(request: Request, protocol: Protocol = OPENAI, key: str = "") -> Caller | str:
    return caller_of(request, protocol, cast("Directory", Known()), key)


@pytest.mark.parametrize(
    ("protocol", "first"), [(OPENAI, "bearer"), (ANTHROPIC, "x-key"), (GEMINI, "goog")]
)
def test_each_protocol_has_its_own_first_header(protocol: Protocol, first: str) -> None:
    """Where several are sent, the one that the vendor itself would take."""
    assert caller(asked(BEARER, X_API_KEY, GOOGLES), protocol) == first
    for header, key in ((BEARER, "bearer"), (X_API_KEY, "x-key"), (GOOGLES, "goog")):
        assert caller(asked(header), protocol) == key


def test_a_scheme_has_any_case_and_a_key_no_blanks_around_it() -> None:
    """RFC 9110, 11.1: the scheme is case-insensitive."""
    assert caller(asked(("authorization", "bEaReR   spaced  "))) == "spaced"


def test_a_key_in_the_url_is_for_those_whose_clients_send_it_there() -> None:
    """URLs are logged on the way: no other protocol looks there."""
    request = asked(path="/v1beta/models?alt=sse&key=queried")
    assert caller(request, GEMINI) == "queried"
    with pytest.raises(Unauthorized) as nothing:
        caller(request)
    assert nothing.value.code == "missing_api_key"
    assert caller(asked(GOOGLES, path="/?key=queried"), GEMINI) == "goog"


def test_a_key_found_elsewhere_goes_first() -> None:
    """As in the subprotocols that browsers have to use."""
    assert caller(asked(BEARER), key="spoken") == "spoken"


@pytest.mark.parametrize(
    ("headers", "error", "code"),
    [
        ([], Unauthorized, "missing_api_key"),
        ([("Authorization", "Basic bearer")], Unauthorized, "invalid_api_key"),
        ([("Authorization", "unknown")], Unauthorized, "invalid_api_key"),
        ([("Authorization", "Bearer unknown")], Unauthorized, "invalid_api_key"),
        ([X_API_KEY, X_API_KEY], BadRequest, "duplicate_header"),
        ([BEARER, BEARER], BadRequest, "duplicate_header"),
    ],
)
def test_what_is_no_key_is_refused_without_a_word_about_it(
    headers: list[tuple[str, str]], error: type[BadRequest | Unauthorized], code: str
) -> None:
    """The words name the header and the remedy, never what was sent."""
    with pytest.raises(error) as refused:
        caller(asked(*headers))
    assert refused.value.code == code
    assert not any(
        value.split()[-1] in refused.value.message for _, value in headers if value != "unknown"
    )
