"""The laws of AWS's signatures, held to the published test suite of Signature Version 4."""

import pytest

from proxy.wire.translate.sigv4 import Credentials, signed_headers

# The keys, the time and the names of AWS's suite, and of its example of a derived key.
EXAMPLE = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
THEN = 1_440_938_160  # 2015-08-30T12:36:00Z


@pytest.mark.parametrize(
    ("method", "query", "headers", "signature"),
    [
        ("GET", "", {}, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("POST", "", {}, "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        (
            "GET",
            "Param2=value2&Param1=value1",
            {},
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            "GET",
            "",
            {"My-Header1": " value1", "My-Header2": ' "a   b   c" '},
            "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
        ),
    ],
    ids=[
        "get-vanilla",
        "post-vanilla",
        "get-vanilla-query-order-key-case",
        "get-header-value-trim",
    ],
)
def test_amazons_vectors(method: str, query: str, headers: dict[str, str], signature: str) -> None:
    """Byte for byte the signatures that AWS published."""
    added = signed_headers(
        EXAMPLE,
        method=method,
        host="example.amazonaws.com",
        path="/",
        query=query,
        headers=headers,
        body=b"",
        region="us-east-1",
        service="service",
        unix_s=THEN,
    )
    names = ";".join(sorted([*map(str.lower, headers), "host", "x-amz-date"]))
    assert added["x-amz-date"] == "20150830T123600Z"
    assert added["authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        f"SignedHeaders={names}, Signature={signature}"
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
