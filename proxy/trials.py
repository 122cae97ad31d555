"""
Which part a call takes in what is tried out behind its name.

Only calls of names that an experiment touches come here (`Live.trials`); no other call pays for it.
What a call sticks to is read from its request: the key, the user that it names, or the session.
A session is `x-session-id`, or `metadata.session_id`, or `prompt_cache_key`; the first that is said counts.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from governance.identity import Caller

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy

SESSION_HEADER: Final = "x-session-id"
LONGEST_SESSION: Final = 256


class _Metadata(msgspec.Struct, gc=False):
    session_id: str | None = None


class _Body(msgspec.Struct, gc=False):
    metadata: msgspec.Raw = msgspec.Raw(b"")
    prompt_cache_key: msgspec.Raw = msgspec.Raw(b"")


_body = msgspec.json.Decoder(_Body).decode
_metadata = msgspec.json.Decoder(_Metadata).decode
_text = msgspec.json.Decoder(str).decode


def session_of(headers: "CIMultiDictProxy[str] | Mapping[str, str]", body: bytes) -> str:
    """Return the session that a request names, empty when it names none."""
    said = headers.get(SESSION_HEADER, "").strip()
    if said:
        return said[:LONGEST_SESSION]
    try:
        found = _body(body)
        if len(found.metadata):
            session = _metadata(found.metadata).session_id
            if session:
                return session[:LONGEST_SESSION]
        if len(found.prompt_cache_key):
            return _text(found.prompt_cache_key)[:LONGEST_SESSION]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # Whether the body is one at all is judged elsewhere; these members are the caller's own.
        pass
    return ""


def unit_of(sticky: str, caller: Caller, user: str, session: str, request_id: str) -> str:
    """Return what a call sticks to in an experiment."""
    if sticky == "request":
        return request_id
    if sticky == "session" and session:
        return f"{caller.key}\0{session}"
    if sticky == "user" and user:
        return f"{caller.organization}\0{user}"
    return caller.key
