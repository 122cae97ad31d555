"""The laws of AWS's signatures, held to the published test suite of Signature Version 4."""

from typing import Any

import pytest

from proxy.wire.translate.sigv4 import Credentials, signed_headers

# The keys, the time and the names of AWS's suite, and of its example of a derived key.
EXAMPLE = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
THEN = 1_440_938_160  # 2015-08-30T12:36:00Z


SESSION = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267"
UNRESERVED = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
FORM = {
    "Content-Type": "application/x-www-form-urlencoded",
    "Content-Length": "13",
    "x-amz-content-sha256": "9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e",
}
# What AWS publishes: aws-c-auth, tests/aws-signing-test-suite/v4, the signed headers of each case that concerns POST
# requests with a body, a path with what must be encoded, a query, headers and a session. A path and a query are as sent.
SUITE: dict[str, dict[str, Any]] = {
    "get-vanilla": {
        "signature": "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    },
    "get-vanilla-with-session-token": {
        "token": SESSION,
        "signature": "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8",
    },
    "get-unreserved": {
        "path": f"/{UNRESERVED}",
        "signature": "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
    },
    "get-utf8": {
        "path": "/\u1234",
        "signature": "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85",
    },
    "get-space-unnormalized": {
        "path": "/example space/",
        "signature": "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741",
    },
    "get-slashes-unnormalized": {
        "path": "//example//",
        "signature": "87cca117541a147f6df867677d98a7d80dff226d2bfca9e4ffa899665623c7e5",
    },
    "get-vanilla-query-order-key-case": {
        "query": "Param2=value2&Param1=value1",
        "signature": "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    },
    "get-vanilla-query-order-encoded": {
        "query": "Param-3=Value3&Param=Value2&%E1%88%B4=Value1",
        "signature": "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac",
    },
    "get-vanilla-query-unreserved": {
        "query": f"{UNRESERVED}={UNRESERVED}",
        "signature": "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
    },
    "get-header-value-trim": {
        "headers": {"My-Header1": " value1", "My-Header2": ' "a   b   c" '},
        "signature": "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
    },
    "post-vanilla": {
        "method": "POST",
        "signature": "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
    },
    "post-vanilla-query": {
        "method": "POST",
        "query": "Param1=value1",
        "signature": "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11",
    },
    "post-header-key-sort": {
        "method": "POST",
        "headers": {"My-Header1": "value1"},
        "signature": "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
    },
    "post-x-www-form-urlencoded": {
        "method": "POST",
        "headers": FORM,
        "body": b"Param1=value1",
        "signature": "d3875051da38690788ef43de4db0d8f280229d82040bfac253562e56c3f20e0b",
    },
    "post-x-www-form-urlencoded-parameters": {
        "method": "POST",
        "headers": FORM | {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"},
        "body": b"Param1=value1",
        "signature": "328d1b9eaadca9f5818ef05e8392801e091653bafec24fcab71e7344e7f51422",
    },
}


@pytest.mark.parametrize("case", SUITE.values(), ids=SUITE)
def test_amazons_vectors(case: dict[str, Any]) -> None:
    """Byte for byte the signatures that AWS published."""
    headers = case.get("headers", {})
    added = signed_headers(
        Credentials(EXAMPLE.key_id, EXAMPLE.secret, case.get("token")),
        method=case.get("method", "GET"),
        host="example.amazonaws.com",
        path=case.get("path", "/"),
        query=case.get("query", ""),
        headers=headers,
        body=case.get("body", b""),
        region="us-east-1",
        service="service",
        unix_s=THEN,
    )
    session = ["x-amz-security-token"] if "token" in case else []
    names = ";".join(sorted([*map(str.lower, headers), "host", "x-amz-date", *session]))
    assert added["x-amz-date"] == "20150830T123600Z"
    assert added["authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        f"SignedHeaders={names}, Signature={case['signature']}"
    )


def sign(**members: object) -> dict[str, str]:
    asked = {
        "method": "POST",
        "host": "bedrock-runtime.us-east-1.amazonaws.com",
        "path": "/model/anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse",
        "body": b"{}",
        "region": "us-east-1",
        "service": "bedrock",
        "unix_s": THEN,
    }
    return signed_headers(members.pop("credentials", EXAMPLE), **(asked | members))  # type: ignore[arg-type]  # as above


def test_a_session_is_signed_with_its_token() -> None:
    """Temporary keys are none without it."""
    added = sign(credentials=Credentials("id", "secret", "token"))
    assert added["x-amz-security-token"] == "token"
    assert "SignedHeaders=host;x-amz-date;x-amz-security-token," in added["authorization"]


def test_everything_that_is_sent_matters() -> None:
    """Another body, path, time or region is another signature; and the same is the same."""
    signatures = {
        sign(**other)["authorization"].rpartition("=")[2]
        for other in (
            {},
            {},
            {"body": b"{ }"},
            {"path": "/model/other/converse"},
            {"unix_s": THEN + 1},
            {"region": "eu-west-1"},
            {"credentials": Credentials("AKIDEXAMPLE", "other")},
        )
    }
    assert len(signatures) == 6


def test_a_secret_is_never_shown() -> None:
    """Not in a log, not in a traceback."""
    assert "secret" not in repr(Credentials("id", "the-secret", "the-token"))
    assert "token" not in repr(Credentials("id", "the-secret", "the-token"))
