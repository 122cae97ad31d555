"""
A look at a rerank request of Cohere's or of Jina's, and what their answers say of their usage.

Cohere bills search units: a query with up to 100 documents is one, and a document of more than 500 tokens counts
as several. Jina bills tokens: the query's with each document, and the documents'.
An answer is metered by whichever of them it reports.

Protocol: Cohere's API reference for /v2/rerank and its page on pricing; Jina's for /v1/rerank.
"""

import re
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from proxy.wire.cohere import Meta, counted
from proxy.wire.look import (
    TEMPLATE_BOUND,
    BadField,
    Look,
    carve,
    check_model,
    decode,
    inner,
    is_plain,
    named,
)
from proxy.wire.meter import Units, Usage
from proxy.wire.units import Sold

__all__ = ["look", "meter", "rewrite", "tokens_in"]

DOCUMENTS_OF_A_UNIT: Final = 100
TOKENS_OF_A_DOCUMENT: Final = 500


class _Asked(Struct, gc=False):
    model: str
    documents: Raw
    query: Any = None


class _Tokens(Struct, gc=False):
    total_tokens: float | None = None


class _Answer(Struct, gc=False):
    meta: Meta | None = None
    usage: _Tokens | None = None


_ASKED = msgspec.json.Decoder(_Asked)
_DOCUMENTS = msgspec.json.Decoder(list[Raw])
_ANSWER = msgspec.json.Decoder(_Answer)
_KEYS = re.compile(rb'"(?:model|documents)"')


def look(body: bytes) -> Look:
    """Look at a request. Raises `BadField`."""
    doc: _Asked = decode(_ASKED, body)
    frame, cuts = carve(body, (("documents", doc.documents),))
    plain = is_plain(frame, _KEYS, 2)
    check_model(doc.model)
    documents = inner(_DOCUMENTS, doc.documents, "documents", "an array of documents")
    if not documents:
        raise BadField("documents", "documents is empty; send at least one")
    sizes = [len(document) for document in documents]
    query = len(doc.query.encode()) if isinstance(doc.query, str) else len(frame)
    size = sum(sizes) + query * len(sizes)
    return Look(
        doc.model,
        False,
        False,
        None,
        1,
        None,
        (size + 3) // 4,
        size + TEMPLATE_BOUND * len(sizes),
        None,
        len(sizes),
        frame,
        cuts,
        plain,
        (),
        False,
        sold=Sold(
            # A token is one byte at least, and four of them likely.
            most=Units(search_units=_units(sizes, TOKENS_OF_A_DOCUMENT)),
            likely=Units(search_units=_units(sizes, 4 * TOKENS_OF_A_DOCUMENT)),
        ),
    )


def _units(sizes: list[int], bytes_of_one: int) -> int:
    """Count the search units of documents of these sizes, of which one is at most so long."""
    documents = sum(max(-(-size // bytes_of_one), 1) for size in sizes)
    return -(-documents // DOCUMENTS_OF_A_UNIT)


def rewrite(
    body: bytes,
    seen: Look,
    *,
    upstream_model: str,
    include_usage: bool,
    output_cap: int | None,
    cap_field: str | None,
) -> bytes:
    """Give the body that goes upstream, with another model's name."""
    return named(body, seen, upstream_model)


def meter(body: bytes) -> Usage | None:
    """Read what an answer was billed, of either vendor: search units, or tokens; None when it does not say."""
    try:
        answer = _ANSWER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    billed = None if answer.meta is None else answer.meta.billed_units
    tokens = None if answer.usage is None else answer.usage.total_tokens
    units = 0
    if billed is not None:
        units = counted(billed.search_units)
        tokens = tokens if tokens is not None else billed.input_tokens
    if not units and tokens is None:
        return None
    return Usage(input_tokens=counted(tokens), units=Units(search_units=units) if units else None)


def tokens_in(document: Any) -> int:
    """Say that an order is no output."""
    return 0
