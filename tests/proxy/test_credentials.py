"""Heads that are made for each request: what is signed is the body that follows, at the time of the clock."""

import pytest

from config.providers import TokenSource
from proxy.credentials import NoToken, SignedHead, TokenHead
from proxy.tokens import Token
from proxy.wire.headers import RequestHead
from proxy.wire.translate.sigv4 import Credentials, signed_headers

PATH = "/model/a%3A0/converse"
KEY = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")


def signed(body: bytes, unix_s: int) -> str:
    """Write the lines that prove it."""
    lines = signed_headers(
        KEY,
        method="POST",
        host="h",
        path=PATH,
        body=body,
        region="eu-west-1",
        service="bedrock",
        unix_s=unix_s,
    )
    return "".join(f"{name}: {value}\r\n" for name, value in lines.items())


def test_each_head_is_signed_anew() -> None:
    """Over its own body, when it is written; what passes from the caller stands before it, unsigned."""
    now = [1_700_000_000.9]
    head = SignedHead(
        RequestHead(path=PATH, host="h", user_agent="u"),
        credentials=KEY,
        host="h",
        path=PATH,
        region="eu-west-1",
        clock=lambda: now[0],
    )
    first = head.write(b"{}", b"traceparent: x\r\n").decode()
    assert first.startswith(f"POST {PATH} HTTP/1.1\r\n")
    assert first.endswith(
        "content-length: 2\r\ntraceparent: x\r\n" + signed(b"{}", 1_700_000_000) + "\r\n"
    )
    assert signed(b"[]", 1_700_000_000) in head.write(b"[]").decode()
    now[0] += 1
    assert signed(b"{}", 1_700_000_001) in head.write(b"{}").decode()


def test_a_token_is_shown_as_it_is_now() -> None:
    """Before there is one, nobody is asked."""
    token = Token(TokenSource(metadata=True))
    head = TokenHead(RequestHead(path="/x", host="h", user_agent="u"), token)
    with pytest.raises(NoToken):
        head.write(b"{}")
    for value in (b"one", b"other"):
        token.value = value
        written = head.write(b"{}", b"traceparent: x\r\n")
        assert b"authorization: Bearer %b\r\ntraceparent: x\r\n\r\n" % value in written
