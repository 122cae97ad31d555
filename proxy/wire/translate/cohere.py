"""Errors of Cohere and of Jina, which are a sentence: ``message`` of one, ``detail`` of the other."""

from collections.abc import Mapping

from proxy.wire.look import BadField
from proxy.wire.translate import failures
from proxy.wire.translate.core import Failure
from proxy.wire.translate.failures import WrittenError, failure_of
from proxy.wire.translate.fields import encode, parse_object
from proxy.wire.translate.ollama.answers import message_of, status_of

__all__ = ["read_error", "write_detail", "write_error"]


def read_error(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """Read a refusal of either; whatever its body is, there is a failure. `headers` in lower case."""
    try:
        top = parse_object(body)
    except BadField:
        said = body[:200].decode("utf-8", "replace").strip()
        return failure_of(status, headers, said if said[:1] not in "<{[" else "")
    found = [top.any(name) for name in ("message", "detail", "error")]
    sentences = [one for one in found if isinstance(one, str)]
    return failure_of(status, headers, sentences[0] if sentences else "")


def write_error(failure: Failure, request_id: str) -> WrittenError:
    """Write an error as Cohere does."""
    body = encode({"id": request_id, "message": message_of(failure)})
    return WrittenError(status_of(failure), failures.retry_headers(failure), body)


def write_detail(failure: Failure, request_id: str) -> WrittenError:
    """Write an error as Jina does."""
    body = encode({"detail": message_of(failure)})
    return WrittenError(status_of(failure), failures.retry_headers(failure), body)
