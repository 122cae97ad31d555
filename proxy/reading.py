"""
What every route reads of a request: its path, who is calling, and the body.

Errors are raised as callers get them, in words that repeat nothing of what was sent.
"""

from aiohttp.web_protocol import RequestPayloadError

from governance.identity import Caller, Directory
from proxy.errors import BadRequest, Unauthorized
from proxy.server import Request, read_body
from proxy.wire.endpoints import Protocol

__all__ = ["body_of", "caller_of", "path_of"]


def path_of(request: Request) -> str:
    """Return the path of what is asked for; also of the absolute form, which servers have to take (RFC 9112, 3.2.2)."""
    message = request.message
    path = message.path.partition("?")[0]
    return path if path[:1] == "/" or path == "*" else message.url.raw_path


async def body_of(request: Request, most: int, deadline_s: float, setting: str = "") -> bytes:
    """
    Return the body of a request; `setting` names what bounds it to `most` bytes.

    Raises `BadRequest`, and `ConnectionError` when the caller leaves.
    """
    try:
        body = await read_body(request, most, deadline_s)
    except TimeoutError:
        raise BadRequest(
            "The body of the request did not arrive in time.", code="body_timeout", status=408
        ) from None
    except RequestPayloadError:
        raise BadRequest(
            "The body of the request is framed or compressed wrongly.", code="bad_body"
        ) from None
    if body is None:
        raise BadRequest(
            f"The body is larger than {most} bytes{setting}.", code="body_too_large", status=413
        )
    return body


def caller_of(request: Request, protocol: Protocol, known: Directory, key: str = "") -> Caller:
    """
    Return who is calling, by the key in the first of the headers that the protocol looks at; or by `key`, found elsewhere.

    Raises `Unauthorized`, and `BadRequest` for more than one header of a kind.
    """
    headers = request.message.headers
    if not key:
        for name in protocol.credentials:
            value = headers.get(name)
            if value is None:
                continue
            if len(headers.getall(name)) > 1:
                raise BadRequest(
                    f"The header {name} stands twice; send it once.", code="duplicate_header"
                )
            if name == "Authorization":
                scheme, _, value = value.partition(" ")
                if scheme.lower() != "bearer":
                    raise Unauthorized(
                        "Send the key as 'Authorization: Bearer KEY'.", code="invalid_api_key"
                    )
            key = value.strip()
            break
        else:
            if protocol.key_in_query:
                key = request.message.url.query.get("key", "")
            if not key:
                raise Unauthorized(
                    "No API key. Send it as 'Authorization: Bearer KEY', 'x-api-key' or 'api-key'.",
                    code="missing_api_key",
                )
    caller = known.find(key)
    if caller is None:
        raise Unauthorized(
            "The API key is not known. Send it as 'Authorization: Bearer KEY', 'x-api-key' or 'api-key'.",
            code="invalid_api_key",
        )
    return caller
