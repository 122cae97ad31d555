"""
Another vendor's secrets, carried through a protocol that has one field for its own.

Vendors sign or encrypt their reasoning and want it back unchanged. The caller's protocol has a field
for that (Anthropic's ``signature``, OpenAI's ``encrypted_content``, Google's ``thoughtSignature``),
and clients return what stands in it without looking. So a foreign secret is wrapped there with the
name of its maker, and unwrapped when it comes back. Whoever made it gets it unchanged; for anyone
else it is not written at all, because a vendor answers 400 to a signature that is not its own.

It is text of letters, digits, ``-`` and ``_``, and as base64 of any kind it is valid, because Google's
clients decode that field.
"""

import base64
import binascii

import msgspec

from proxy.wire.translate.core import Maker, Reasoning

__all__ = ["unwrap", "wrap"]

# Base64 of a multiple of three bytes, so that what follows it is base64 too; nobody else begins so.
_MARK = base64.urlsafe_b64encode(b"penstock/reasoning/1\n").decode()


class _Sealed(msgspec.Struct, array_like=True, frozen=True):
    maker: str
    text: str = ""
    signature: str | None = None
    redacted: str | None = None


_DECODER = msgspec.json.Decoder(_Sealed)
_MAKERS: dict[str, Maker] = {"anthropic": "anthropic", "google": "google", "openai": "openai"}


def wrap(part: Reasoning, *, with_text: bool = False) -> str:
    """
    Write a signed or redacted `part` as one string.

    The text is left out unless `with_text`, because most protocols carry it beside.
    """
    sealed = _Sealed(part.maker, part.text if with_text else "", part.signature, part.redacted)
    return _MARK + base64.urlsafe_b64encode(_pad(msgspec.json.encode(sealed))).decode()


def unwrap(carried: str) -> Reasoning | None:
    """Read what `wrap` wrote; None for what a vendor wrote itself."""
    # Google's clients may write it back with the other alphabet of base64.
    carried = carried.replace("+", "-").replace("/", "_")
    if not carried.startswith(_MARK):
        return None
    try:
        sealed = _DECODER.decode(base64.urlsafe_b64decode(carried[len(_MARK) :]))
    except (binascii.Error, msgspec.MsgspecError, ValueError):
        return None
    return Reasoning(sealed.text, sealed.signature, sealed.redacted, _MAKERS.get(sealed.maker, ""))


def _pad(data: bytes) -> bytes:
    """Fill up with blanks, so that the base64 needs no padding."""
    return data + b" " * (-len(data) % 3)
