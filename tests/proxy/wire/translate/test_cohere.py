"""The laws of Cohere's and Jina's errors."""

import pytest

from proxy.wire.translate.cohere import read_error, write_detail, write_error
from proxy.wire.translate.core import Failure


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"message":"invalid api token"}', "invalid api token"),
        (b'{"detail":"no such model"}', "no such model"),
        (b'{"detail":[{"loc":[]}]}', "The provider gave no reason."),
        (b"Bad Gateway", "Bad Gateway"),
        (b"<html>", "The provider gave no reason."),
    ],
)
def test_a_refusal_is_read(body: bytes, message: str) -> None:
    """A sentence, under one name or the other; whatever it is, it is a failure."""
    assert read_error(401, {}, body).message == message
    assert read_error(401, {}, body).kind == "unauthorized"


def test_an_error_is_a_sentence() -> None:
    """Which names the field."""
    failure = Failure(kind="bad_request", message="no", status=400, param="top_n")
    assert write_error(failure, "r").body == b'{"id":"r","message":"top_n: no"}'
    assert write_detail(failure, "r").body == b'{"detail":"top_n: no"}'
    assert write_detail(failure, "r").status == 400
