"""
Reranking, between Cohere and Jina.

A query and documents go in; the documents' numbers come out, the most relevant first, each with a score
from 0 to 1. Cohere bills search units, Jina tokens; each is kept as the vendor counted it.

Protocol: Cohere /v2/rerank (and /v1, whose documents may be objects) with its client's types; Jina
/v1/rerank.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import Struct

from proxy.wire.look import BadField
from proxy.wire.translate import cohere
from proxy.wire.translate.core import BadAnswer, CannotExpress, Failure, Reply, Written
from proxy.wire.translate.failures import WrittenError
from proxy.wire.translate.fields import Fields, encode, parse_object

__all__ = ["RERANKERS", "Rank", "Ranked", "Reranker", "Reranking"]

MAX_UNITS = 1 << 40


class Reranking(Struct, frozen=True, kw_only=True):
    """
    Documents to be ordered by how well they answer a query.

    `top_n` bounds how many are answered with; `with_documents` says whether their texts are repeated.
    """

    model: str
    query: str
    documents: tuple[str, ...]
    top_n: int | None = None
    with_documents: bool = False
    max_tokens_per_doc: int | None = None
    extra: Mapping[str, Any] = {}
    family: str = ""


class Rank(Struct, frozen=True, gc=False):
    """How relevant the document number `index` is."""

    index: int
    score: float


class Ranked(Struct, frozen=True, kw_only=True):
    """The order of the documents, and what it cost: search units or tokens, None where not counted."""

    ranks: tuple[Rank, ...]
    model: str = ""
    search_units: int | None = None
    tokens: int | None = None
    dropped: tuple[str, ...] = ()


def _read(body: bytes, family: str, *, with_documents: bool) -> Reranking:
    top = parse_object(body)
    query = top.any("query")
    if isinstance(query, dict):
        query = query.get("text")
    if not isinstance(query, str):
        raise top.missing("query") if query is None else top.wrong("query", str)
    documents = tuple(_read_documents(top))
    said = top.boolean("return_documents")
    read = Reranking(
        model=top.need_text("model"),
        query=query,
        documents=documents,
        top_n=top.whole("top_n", 1),
        with_documents=with_documents if said is None else said,
        max_tokens_per_doc=top.whole("max_tokens_per_doc", 1),
        family=family,
    )
    return msgspec.structs.replace(read, extra=top.rest())


def _read_documents(top: Fields) -> list[str]:
    given = top.list("documents")
    if not given:
        raise top.missing("documents")
    found = []
    for number, document in enumerate(given):
        text = document.get("text") if isinstance(document, dict) else document
        if isinstance(document, dict) and text is None:
            raise CannotExpress(f"documents[{number}]", "only texts can be ranked by this model.")
        if not isinstance(text, str):
            path = f"documents[{number}]"
            raise BadField(path, f"{path} must be a text.", "invalid_type")
        found.append(text)
    return found


def _read_cohere(body: bytes) -> Reranking:
    return _read(body, "cohere", with_documents=False)


def _read_jina(body: bytes) -> Reranking:
    return _read(body, "jina", with_documents=True)


def _write(asked: Reranking, model: str, family: str) -> tuple[dict[str, Any], dict[str, None]]:
    body: dict[str, Any] = {
        "model": model,
        "query": asked.query,
        "documents": list(asked.documents),
    }
    if asked.top_n is not None:
        body["top_n"] = asked.top_n
    if asked.family == family:
        return body | dict(asked.extra), {}
    return body, dict.fromkeys(asked.extra)


def _write_cohere(asked: Reranking, model: str) -> Written:
    # Texts are repeated by whoever writes the answer: it has them.
    body, dropped = _write(asked, model, "cohere")
    if asked.max_tokens_per_doc is not None:
        body["max_tokens_per_doc"] = asked.max_tokens_per_doc
    return Written(encode(body), tuple(dropped))


def _write_jina(asked: Reranking, model: str) -> Written:
    body, dropped = _write(asked, model, "jina")
    body["return_documents"] = False
    if asked.max_tokens_per_doc is not None:
        dropped["max_tokens_per_doc"] = None
    return Written(encode(body), tuple(dropped))


def _read_answer(body: bytes) -> Ranked:
    """Read an answer of either; raises `BadAnswer`."""
    try:
        top = parse_object(body)
        ranks = []
        if not top.has("results"):
            raise top.missing("results")
        for result in top.each("results"):
            index, score = result.whole("index", 0), result.number("relevance_score")
            if index is None or score is None:
                raise result.missing("index")
            ranks.append(Rank(index, score))
        meta = top.object("meta") or {}
        units = meta.get("billed_units")
        usage = top.object("usage") or {}
    except BadField as fault:
        raise BadAnswer(str(fault)) from fault
    return Ranked(
        ranks=tuple(ranks),
        model=top.text("model") or "",
        search_units=_counted(units.get("search_units")) if isinstance(units, dict) else None,
        tokens=_counted(usage.get("total_tokens")),
    )


def _counted(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= MAX_UNITS else None


def _results(answer: Ranked, asked: Reranking) -> list[dict[str, Any]]:
    """Write the order; raises `BadAnswer` when a number is of no document."""
    results: list[dict[str, Any]] = []
    for rank in answer.ranks:
        if rank.index >= len(asked.documents):
            raise BadAnswer(f"there is no document {rank.index}")
        result: dict[str, Any] = {"index": rank.index, "relevance_score": rank.score}
        if asked.with_documents:
            result["document"] = {"text": asked.documents[rank.index]}
        results.append(result)
    return results


def _write_cohere_answer(answer: Ranked, asked: Reranking, reply: Reply) -> bytes:
    units: dict[str, int] = {}
    if answer.search_units is not None:
        units["search_units"] = answer.search_units
    if answer.tokens is not None:
        units["input_tokens"] = answer.tokens
    return encode(
        {
            "id": reply.id,
            "results": _results(answer, asked),
            "meta": {"api_version": {"version": "2"}, "billed_units": units},
        }
    )


def _write_jina_answer(answer: Ranked, asked: Reranking, reply: Reply) -> bytes:
    made = {
        "id": reply.id,
        "model": answer.model or reply.model,
        "object": "list",
        "usage": {"total_tokens": answer.tokens or 0},
        "results": _results(answer, asked),
    }
    if answer.search_units is not None:
        # Cohere's older clients ask at the same path, and read it there.
        made["meta"] = {"billed_units": {"search_units": answer.search_units}}
    return encode(made)


class Reranker(Struct, frozen=True, kw_only=True):
    """How one protocol asks for an order and answers with it. `write_request` takes the model."""

    name: str
    read_request: Callable[[bytes], Reranking]
    write_request: Callable[[Reranking, str], Written]
    read_answer: Callable[[bytes], Ranked]
    write_answer: Callable[[Ranked, Reranking, Reply], bytes]
    read_error: Callable[[int, Mapping[str, str], bytes], Failure]
    write_error: Callable[[Failure, str], WrittenError]


RERANKERS: Mapping[str, Reranker] = MappingProxyType(
    {
        "cohere.rerank": Reranker(
            name="cohere.rerank",
            read_request=_read_cohere,
            write_request=_write_cohere,
            read_answer=_read_answer,
            write_answer=_write_cohere_answer,
            read_error=cohere.read_error,
            write_error=cohere.write_error,
        ),
        "jina.rerank": Reranker(
            name="jina.rerank",
            read_request=_read_jina,
            write_request=_write_jina,
            read_answer=_read_answer,
            write_answer=_write_jina_answer,
            read_error=cohere.read_error,
            write_error=cohere.write_detail,
        ),
    }
)
