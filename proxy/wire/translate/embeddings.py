"""
Embeddings, between OpenAI, Gemini, Ollama and Cohere.

Texts go in and vectors come out, in the same order. Vectors are 32-bit floats: in JSON as numbers, or as
base64 of their little-endian bytes, which is what OpenAI's client asks for unless it is told otherwise.
Inputs that are already tokens are a vendor's own, and so are images; they are refused.

Protocol: the vendors' API references (OpenAI /v1/embeddings; Gemini embedContent and
batchEmbedContents; Ollama /api/embed; Cohere /v2/embed) and their clients' types.
"""

import base64
import binascii
import sys
from array import array
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal

import msgspec
from msgspec import Struct

from proxy.wire.look import BadField
from proxy.wire.translate import chat, cohere, gemini, ollama
from proxy.wire.translate.core import BadAnswer, CannotExpress, Failure, Reply, Written
from proxy.wire.translate.failures import WrittenError
from proxy.wire.translate.fields import Fields, encode, parse_object
from proxy.wire.translate.gemini.parts import ProtoFields

__all__ = [
    "EMBEDDERS",
    "GEMINI_ONE",
    "OLLAMA_ONE",
    "Embedded",
    "Embedder",
    "Embedding",
    "decoded",
    "encoded",
]

MAX_TOKENS = 1 << 40

Task = Literal["query", "document", "similarity", "classification", "clustering"]


class Embedding(Struct, frozen=True, kw_only=True):
    """
    Texts to be embedded.

    `task` is what the vectors are for, `dimensions` how long they are to be. `as_base64` says how the
    caller wants them. `extra` holds what else it wrote, by path; `family` is whose words those are.
    """

    model: str
    texts: tuple[str, ...]
    task: Task | None = None
    dimensions: int | None = None
    as_base64: bool = False
    user: str | None = None
    title: str | None = None
    truncate: bool | None = None
    extra: Mapping[str, Any] = {}
    family: str = ""


class Embedded(Struct, frozen=True, kw_only=True):
    """The vectors of the texts, in their order; `tokens` is None where the vendor counted none."""

    vectors: "tuple[array[float], ...]"
    model: str = ""
    tokens: int | None = None
    dropped: tuple[str, ...] = ()


def encoded(vector: "array[float]") -> str:
    """Write a vector as base64 of little-endian 32-bit floats."""
    if sys.byteorder == "big":
        vector = vector[:]
        vector.byteswap()
    return base64.b64encode(vector.tobytes()).decode()


def decoded(text: str) -> "array[float]":
    """Read a vector from base64 of little-endian 32-bit floats; raises `BadAnswer`."""
    vector = array("f")
    try:
        vector.frombytes(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        raise BadAnswer("a vector is not base64 of 32-bit floats") from None
    if sys.byteorder == "big":
        vector.byteswap()
    return vector


def _vector(value: Any) -> "array[float]":
    if isinstance(value, str):
        return decoded(value)
    try:
        return array("f", value)
    except (TypeError, OverflowError):
        raise BadAnswer("a vector is not a list of numbers") from None


def _texts(top: Fields, name: str) -> tuple[str, ...]:
    given = top.any(name)
    if isinstance(given, str):
        given = [given]
    if given is None:
        raise top.missing(name)
    if not isinstance(given, list) or not given:
        raise BadField(top.at(name), f"{top.at(name)} must be a text or a list of texts.")
    if all(isinstance(text, str) for text in given):
        return tuple(given)
    if all(isinstance(item, int | list) for item in given):
        raise CannotExpress(top.at(name), "tokens are the vendor's own; send texts.")
    raise BadField(top.at(name), f"{top.at(name)} must be a text or a list of texts.")


def _dropped(asked: Embedding, family: str, **unsaid: object) -> tuple[str, ...]:
    """Name what is left out: what nobody knows, and of the rest what is set and has no word."""
    names = {} if asked.family == family else dict.fromkeys(asked.extra)
    names |= dict.fromkeys(name for name, value in unsaid.items() if value is not None)
    return tuple(names)


def _within(asked: Embedding, family: str) -> dict[str, Any]:
    return dict(asked.extra) if asked.family == family else {}


def _counted(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= MAX_TOKENS else None


def _answer(body: bytes) -> Fields:
    try:
        return parse_object(body)
    except BadField as fault:
        raise BadAnswer(str(fault)) from fault


def _vectors(values: Any) -> "tuple[array[float], ...]":
    if not isinstance(values, list) or not values:
        raise BadAnswer("it has no vectors")
    return tuple(_vector(value) for value in values)


# OpenAI...


def _read_openai(body: bytes) -> Embedding:
    top = parse_object(body)
    read = Embedding(
        model=top.need_text("model"),
        texts=_texts(top, "input"),
        dimensions=top.whole("dimensions", 1),
        as_base64=top.choice("encoding_format", "float", "base64") == "base64",
        user=top.text("user"),
        family="openai",
    )
    top.any("metadata")
    return msgspec.structs.replace(read, extra=top.rest())


def _write_openai(asked: Embedding, model: str) -> Written:
    body: dict[str, Any] = {"model": model, "input": list(asked.texts), "encoding_format": "base64"}
    if asked.dimensions is not None:
        body["dimensions"] = asked.dimensions
    if asked.user is not None:
        body["user"] = asked.user
    dropped = _dropped(asked, "openai", task=asked.task, title=asked.title, truncate=asked.truncate)
    return Written(encode(body | _within(asked, "openai")), dropped)


def _read_openai_answer(body: bytes) -> Embedded:
    top = _answer(body)
    data = top.any("data")
    if not isinstance(data, list) or not all(isinstance(one, dict) for one in data):
        raise BadAnswer("it has no data")
    ordered = sorted(enumerate(data), key=lambda one: one[1].get("index", one[0]))
    usage = top.any("usage")
    return Embedded(
        vectors=_vectors([one.get("embedding") for _, one in ordered]),
        model=top.text("model") or "",
        tokens=_counted(usage.get("prompt_tokens")) if isinstance(usage, dict) else None,
    )


def _write_openai_answer(answer: Embedded, asked: Embedding, reply: Reply) -> bytes:
    tokens = answer.tokens or 0
    return encode(
        {
            "object": "list",
            "data": [
                {
                    "object": "embedding",
                    "index": number,
                    "embedding": encoded(vector) if asked.as_base64 else vector.tolist(),
                }
                for number, vector in enumerate(answer.vectors)
            ],
            "model": answer.model or reply.model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )


# Gemini...

_GEMINI_TASKS: Mapping[str, Task] = MappingProxyType(
    {
        "RETRIEVAL_QUERY": "query",
        "QUESTION_ANSWERING": "query",
        "FACT_VERIFICATION": "query",
        "CODE_RETRIEVAL_QUERY": "query",
        "RETRIEVAL_DOCUMENT": "document",
        "SEMANTIC_SIMILARITY": "similarity",
        "CLASSIFICATION": "classification",
        "CLUSTERING": "clustering",
    }
)
_TASKS_OF_GEMINI: Mapping[Task, str] = MappingProxyType(
    {
        "query": "RETRIEVAL_QUERY",
        "document": "RETRIEVAL_DOCUMENT",
        "similarity": "SEMANTIC_SIMILARITY",
        "classification": "CLASSIFICATION",
        "clustering": "CLUSTERING",
    }
)


def _read_gemini(body: bytes) -> Embedding:
    """Read an embedContent or a batchEmbedContents body; the model stands in the URL."""
    top = ProtoFields(parse_object(body).taken())
    requests = list(top.each("requests")) if top.has("requests") else [top]
    texts: list[str] = []
    said: dict[str, Any] = {}
    for request in requests:
        content = request.need_fields("content")
        content.any("role")
        words = []
        for part in content.each("parts"):
            if not part.has("text"):
                raise CannotExpress(part.path, "only texts can be embedded by this model.")
            words.append(part.need_text("text"))
        texts.append("\n".join(words))
        request.any("model")
        task = request.text("taskType")
        before = said
        said = {
            "task": _GEMINI_TASKS.get(task or ""),
            "dimensions": request.whole("outputDimensionality", 1),
            "title": request.text("title"),
            "extra": {path.rpartition(".")[2]: value for path, value in request.rest().items()},
        }
        if before and said != before:
            raise CannotExpress(request.path, "all texts must be embedded in the same way.")
    if not texts:
        raise top.missing("requests")
    return Embedding(model="", texts=tuple(texts), family="gemini", **said)


def _write_gemini(asked: Embedding, model: str) -> Written:
    """Write a batchEmbedContents body."""
    common: dict[str, Any] = {"model": f"models/{model.removeprefix('models/')}"}
    if asked.task is not None:
        common["taskType"] = _TASKS_OF_GEMINI[asked.task]
    if asked.dimensions is not None:
        common["outputDimensionality"] = asked.dimensions
    if asked.title is not None:
        common["title"] = asked.title
    common |= _within(asked, "gemini")
    requests = [common | {"content": {"parts": [{"text": text}]}} for text in asked.texts]
    dropped = _dropped(asked, "gemini", user=asked.user, truncate=asked.truncate)
    return Written(encode({"requests": requests}), dropped)


def _read_gemini_answer(body: bytes) -> Embedded:
    top = _answer(body)
    one, many = top.any("embedding"), top.any("embeddings")
    found = many if isinstance(many, list) else [one]
    usage = top.any("usageMetadata")
    return Embedded(
        vectors=_vectors(
            [each.get("values") if isinstance(each, dict) else None for each in found]
        ),
        tokens=_counted(usage.get("promptTokenCount")) if isinstance(usage, dict) else None,
    )


def _write_gemini_answer(answer: Embedded, asked: Embedding, reply: Reply) -> bytes:
    made: dict[str, Any] = {
        "embeddings": [{"values": vector.tolist()} for vector in answer.vectors]
    }
    return encode(made | _gemini_usage(answer))


def _write_gemini_one(answer: Embedded, asked: Embedding, reply: Reply) -> bytes:
    made: dict[str, Any] = {"embedding": {"values": answer.vectors[0].tolist()}}
    return encode(made | _gemini_usage(answer))


def _gemini_usage(answer: Embedded) -> dict[str, Any]:
    if answer.tokens is None:
        return {}
    return {"usageMetadata": {"promptTokenCount": answer.tokens, "totalTokenCount": answer.tokens}}


# Ollama...


def _read_ollama(body: bytes) -> Embedding:
    top = parse_object(body)
    top.any("keep_alive")
    read = Embedding(
        model=top.need_text("model"),
        texts=_texts(top, "input"),
        dimensions=top.whole("dimensions", 1),
        truncate=top.boolean("truncate"),
        family="ollama",
    )
    return msgspec.structs.replace(read, extra=top.rest())


def _write_ollama(asked: Embedding, model: str) -> Written:
    body: dict[str, Any] = {"model": model, "input": list(asked.texts)}
    if asked.dimensions is not None:
        body["dimensions"] = asked.dimensions
    if asked.truncate is not None:
        body["truncate"] = asked.truncate
    dropped = _dropped(asked, "ollama", task=asked.task, title=asked.title, user=asked.user)
    return Written(encode(body | _within(asked, "ollama")), dropped)


def _read_ollama_answer(body: bytes) -> Embedded:
    top = _answer(body)
    return Embedded(
        vectors=_vectors(top.any("embeddings")),
        model=top.text("model") or "",
        tokens=_counted(top.any("prompt_eval_count")),
    )


def _write_ollama_answer(answer: Embedded, asked: Embedding, reply: Reply) -> bytes:
    made: dict[str, Any] = {
        "model": answer.model or reply.model,
        "embeddings": [vector.tolist() for vector in answer.vectors],
    }
    if answer.tokens is not None:
        made["prompt_eval_count"] = answer.tokens
    return encode(made)


def _read_ollama_one(body: bytes) -> Embedding:
    top = parse_object(body)
    top.any("keep_alive")
    read = Embedding(
        model=top.need_text("model"),
        texts=(top.need_text("prompt"),),
        dimensions=top.whole("dimensions", 1),
        family="ollama",
    )
    return msgspec.structs.replace(read, extra=top.rest())


def _write_ollama_one(answer: Embedded, asked: Embedding, reply: Reply) -> bytes:
    return encode({"embedding": answer.vectors[0].tolist()})


# Cohere...

_COHERE_TASKS: Mapping[str, Task] = MappingProxyType(
    {
        "search_query": "query",
        "search_document": "document",
        "classification": "classification",
        "clustering": "clustering",
    }
)
_TASKS_OF_COHERE: Mapping[Task, str] = MappingProxyType(
    {
        "query": "search_query",
        "document": "search_document",
        "similarity": "clustering",
        "classification": "classification",
        "clustering": "clustering",
    }
)


def _read_cohere(body: bytes) -> Embedding:
    top = parse_object(body)
    kinds = top.texts("embedding_types") or ("float",)
    if kinds not in {("float",), ("base64",)}:
        raise CannotExpress("embedding_types", "vectors are float or base64 here.")
    if top.has("images") or top.has("inputs"):
        raise CannotExpress("images", "only texts can be embedded by this model.")
    task = top.choice("input_type", *_COHERE_TASKS)
    cut = top.choice("truncate", "NONE", "START", "END")
    read = Embedding(
        model=top.need_text("model"),
        texts=_texts(top, "texts"),
        task=_COHERE_TASKS[task] if task is not None else None,
        dimensions=top.whole("output_dimension", 1),
        as_base64=kinds == ("base64",),
        truncate=None if cut is None else cut != "NONE",
        family="cohere",
    )
    return msgspec.structs.replace(read, extra=top.rest())


def _write_cohere(asked: Embedding, model: str) -> Written:
    body: dict[str, Any] = {
        "model": model,
        "texts": list(asked.texts),
        # Cohere demands to know; most of what is embedded is kept to be searched.
        "input_type": _TASKS_OF_COHERE[asked.task or "document"],
        "embedding_types": ["float"],
    }
    if asked.dimensions is not None:
        body["output_dimension"] = asked.dimensions
    if asked.truncate is not None:
        body["truncate"] = "END" if asked.truncate else "NONE"
    # Cohere has no word for how alike two texts are.
    task = asked.task if asked.task == "similarity" else None
    dropped = _dropped(asked, "cohere", task=task, title=asked.title, user=asked.user)
    return Written(encode(body | _within(asked, "cohere")), dropped)


def _read_cohere_answer(body: bytes) -> Embedded:
    top = _answer(body)
    found = top.any("embeddings")
    if isinstance(found, dict):
        found = found.get("float") or found.get("base64")
    meta = top.any("meta")
    units = meta.get("billed_units") if isinstance(meta, dict) else None
    return Embedded(
        vectors=_vectors(found),
        tokens=_counted(units.get("input_tokens")) if isinstance(units, dict) else None,
    )


def _write_cohere_answer(answer: Embedded, asked: Embedding, reply: Reply) -> bytes:
    vectors: dict[str, Any] = {"float": [vector.tolist() for vector in answer.vectors]}
    if asked.as_base64:
        vectors = {"base64": [encoded(vector) for vector in answer.vectors]}
    return encode(
        {
            "id": reply.id,
            "embeddings": vectors,
            "texts": list(asked.texts),
            "meta": {
                "api_version": {"version": "2"},
                "billed_units": {"input_tokens": answer.tokens or 0},
            },
            "response_type": "embeddings_by_type",
        }
    )


# All of them...


class Embedder(Struct, frozen=True, kw_only=True):
    """How one protocol asks for embeddings and answers with them. `write_request` takes the model."""

    name: str
    read_request: Callable[[bytes], Embedding]
    write_request: Callable[[Embedding, str], Written]
    read_answer: Callable[[bytes], Embedded]
    write_answer: Callable[[Embedded, Embedding, Reply], bytes]
    read_error: Callable[[int, Mapping[str, str], bytes], Failure]
    write_error: Callable[[Failure, str], WrittenError]


_GEMINI = Embedder(
    name="gemini.embeddings",
    read_request=_read_gemini,
    write_request=_write_gemini,
    read_answer=_read_gemini_answer,
    write_answer=_write_gemini_answer,
    read_error=gemini.read_error,
    write_error=gemini.write_error,
)
# The same for a caller of embedContent, which embeds one text.
GEMINI_ONE = msgspec.structs.replace(_GEMINI, write_answer=_write_gemini_one)

_OLLAMA = Embedder(
    name="ollama.embeddings",
    read_request=_read_ollama,
    write_request=_write_ollama,
    read_answer=_read_ollama_answer,
    write_answer=_write_ollama_answer,
    read_error=ollama.read_error,
    write_error=ollama.write_error,
)
# The same for a caller of the older /api/embeddings, which embeds one text.
OLLAMA_ONE = msgspec.structs.replace(
    _OLLAMA, read_request=_read_ollama_one, write_answer=_write_ollama_one
)

EMBEDDERS: Mapping[str, Embedder] = MappingProxyType(
    {
        embedder.name: embedder
        for embedder in (
            Embedder(
                name="openai.embeddings",
                read_request=_read_openai,
                write_request=_write_openai,
                read_answer=_read_openai_answer,
                write_answer=_write_openai_answer,
                read_error=chat.read_error,
                write_error=chat.write_error,
            ),
            _GEMINI,
            _OLLAMA,
            Embedder(
                name="cohere.embeddings",
                read_request=_read_cohere,
                write_request=_write_cohere,
                read_answer=_read_cohere_answer,
                write_answer=_write_cohere_answer,
                read_error=cohere.read_error,
                write_error=cohere.write_error,
            ),
        )
    }
)
