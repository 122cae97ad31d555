"""
How providers are asked: for each protocol that they speak, the rows that a caller's row leads to.

    passing   a caller's row and a provider's of the same protocol: bytes pass
    target    the provider's row that a row of another protocol is translated to, by what is asked for

A provider's row is mostly the caller's own. Where a vendor serves a protocol at other paths or with other
members, it is a copy of that row with what differs; its look and its event are never used.
What else differs is a dialect's facts (`config.dialects`): a vendor that is compatible needs no line here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from config.vendors import credential_of
from proxy.wire import anthropic, bedrock_answers, translate
from proxy.wire.endpoints import (
    ANTHROPIC,
    BEDROCK,
    COHERE,
    ENDPOINTS,
    GEMINI,
    JINA,
    OLLAMA,
    OPENAI,
    Endpoint,
    Kind,
    Protocol,
)

__all__ = ["Spoken", "by_responses", "spoken_by"]

Pair = tuple[Endpoint, Endpoint]
_ROWS = {endpoint.route: endpoint for endpoint in ENDPOINTS}


@dataclass(frozen=True, slots=True, eq=False)
class Spoken:
    """
    What a provider can be asked.

    Rows stand in pairs: for a whole answer, and for a stream. `passing` is by the caller's row,
    `targets` by what is asked for.
    """

    protocol: Protocol
    passing: Mapping[Endpoint, Pair]
    targets: Mapping[Kind, Pair]


def _same(protocol: Protocol) -> dict[Endpoint, Pair]:
    """Give the rows of a protocol that providers are asked at as callers ask us."""
    return {row: (row, row) for row in ENDPOINTS if row.protocol is protocol and row.path}


def _one(route: str) -> Pair:
    return _ROWS[route], _ROWS[route]


_OPENAI = Spoken(
    OPENAI,
    _same(OPENAI) | _same(JINA),
    {
        "generate": _one("/v1/chat/completions"),
        "embed": _one("/v1/embeddings"),
        "rerank": _one("/v1/rerank"),
    },
)
_AZURE_PROTOCOL = replace(OPENAI, credential=credential_of("openai", "azure"))
_AZURE = Spoken(
    _AZURE_PROTOCOL,
    _same(OPENAI),
    {kind: pair for kind, pair in _OPENAI.targets.items() if kind != "rerank"},
)


# Of its older API, what is asked without a deployment has paths of its own, and is asked in the newer one.
_OF_NO_DEPLOYMENT = frozenset({"openai.realtime", "openai.files", "openai.batches"})


def _by_deployment(row: Endpoint) -> Endpoint:
    """Give the row of Azure's older API: a deployment stands in the path, and a version in the query."""
    path = row.path if row.word == "openai.responses" else f"/deployments/{{model}}{row.path}"
    return replace(row, path=f"/openai{path}?api-version={{version}}")


_AZURE_ROWS = {
    row: _by_deployment(row) for row in _AZURE.passing if row.word not in _OF_NO_DEPLOYMENT
}
_AZURE_VERSIONED = Spoken(
    replace(_AZURE_PROTOCOL, bases=("/openai",)),
    {row: (theirs, theirs) for row, theirs in _AZURE_ROWS.items()},
    {kind: (_AZURE_ROWS[one], _AZURE_ROWS[two]) for kind, (one, two) in _AZURE.targets.items()},
)
_ANTHROPIC = Spoken(
    ANTHROPIC,
    _same(ANTHROPIC),
    {"generate": _one("/v1/messages"), "count": _one("/v1/messages/count_tokens")},
)
_STREAM = _ROWS["/v1beta/models/{model}:streamGenerateContent?alt=sse"]
_ARRAY = _ROWS["/v1beta/models/{model}:streamGenerateContent"]
_GEMINI = Spoken(
    GEMINI,
    # A stream that is asked for as an array comes as events, whose data are put into one.
    _same(GEMINI) | {_ARRAY: (_STREAM, _STREAM)},
    {
        "generate": (_ROWS["/v1beta/models/{model}:generateContent"], _STREAM),
        "embed": _one("/v1beta/models/{model}:batchEmbedContents"),
        "count": _one("/v1beta/models/{model}:countTokens"),
    },
)
_OLLAMA = Spoken(
    OLLAMA, _same(OLLAMA), {"generate": _one("/api/chat"), "embed": _one("/api/embed")}
)
_COHERE = Spoken(COHERE, _same(COHERE), {"embed": _one("/v2/embed"), "rerank": _one("/v2/rerank")})


# Google's Vertex AI: a publisher's models below a project's location.
def _on_vertex(row: Endpoint) -> Endpoint:
    return replace(
        row, path=row.path.replace("/v1beta/models/{model}", "/publishers/google/models/{model}")
    )


_VERTEX_ROWS = {row: _on_vertex(row) for row in _same(GEMINI) if row.kind != "embed"}
_VERTEX_GEMINI = Spoken(
    GEMINI,
    {row: (theirs, theirs) for row, theirs in _VERTEX_ROWS.items()}
    | {_ARRAY: (_VERTEX_ROWS[_STREAM], _VERTEX_ROWS[_STREAM])},
    {
        kind: (_VERTEX_ROWS[one], _VERTEX_ROWS[two])
        for kind, (one, two) in _GEMINI.targets.items()
        # Its counts want other members.
        if kind == "generate"
    },
)
_RAW = replace(
    _ROWS["/v1/messages"],
    path="/publishers/anthropic/models/{model}:rawPredict",
    rewrite=anthropic.rewrite_for_vertex,
    translation=translate.MESSAGES_ON_VERTEX,
)
_RAW_STREAM = replace(_RAW, path="/publishers/anthropic/models/{model}:streamRawPredict")
_RAW_COUNT = replace(
    _ROWS["/v1/messages/count_tokens"],
    path="/publishers/anthropic/models/count-tokens:rawPredict",
    rewrite=anthropic.rewrite_count_for_vertex,
)
_VERTEX_ANTHROPIC = Spoken(
    replace(ANTHROPIC, credential=credential_of("anthropic", "vertex"), bases=(), plain="/@"),
    {
        row: (_RAW, _RAW_STREAM) if row.kind == "generate" else (_RAW_COUNT, _RAW_COUNT)
        for row in _ANTHROPIC.passing
    },
    {"generate": (_RAW, _RAW_STREAM)},
)
_CONVERSE = replace(
    _ROWS["/v1/messages"],
    word="bedrock.converse",
    protocol=BEDROCK,
    route="",
    path="/model/{model}/converse",
    meter=bedrock_answers.meter_answer,
    tokens_in=bedrock_answers.tokens_in,
    grammar=None,
    translation=translate.CONVERSE_UNFRAMED,
)
_BEDROCK = Spoken(
    BEDROCK,
    {},
    {
        "generate": (
            _CONVERSE,
            replace(
                _CONVERSE,
                word="bedrock.stream",
                path="/model/{model}/converse-stream",
                grammar=bedrock_answers.FRAMES,
            ),
        )
    },
)

_SPOKEN: Mapping[str, Spoken] = MappingProxyType(
    {
        spoken.protocol.word: spoken
        for spoken in (_OPENAI, _ANTHROPIC, _GEMINI, _OLLAMA, _BEDROCK, _COHERE)
    }
)
_ON_VERTEX: Mapping[str, Spoken] = MappingProxyType(
    {"gemini": _VERTEX_GEMINI, "anthropic": _VERTEX_ANTHROPIC}
)


def by_responses(spoken: Spoken) -> Spoken:
    """Return what can be asked of a server of OpenAI's family for a model that is known to its Responses only."""
    row = _ROWS["/v1/responses"]
    others = {asked: pair for asked, pair in spoken.passing.items() if asked.kind != "generate"}
    pair = spoken.passing[row]
    return Spoken(spoken.protocol, others | {row: pair}, {**spoken.targets, "generate": pair})


def spoken_by(protocol: str, dialect: str = "", *, versioned: bool = False) -> Spoken:
    """
    Return what a provider can be asked that speaks this protocol in this dialect, by the configuration's words.

    `versioned` says that a version of the vendor's API was named.
    """
    if dialect == "azure" and protocol == "openai":
        return _AZURE_VERSIONED if versioned else _AZURE
    if dialect == "vertex" and protocol in _ON_VERTEX:
        return _ON_VERTEX[protocol]
    return _SPOKEN[protocol]
