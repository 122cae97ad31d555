"""
The table of what is spoken: one row for each protocol, and one for each endpoint at which a protocol can spend.

An exchange is given the row of the endpoint that its caller asked, and the row of the endpoint that its provider is asked; it never asks which protocol that is.
A row holds functions that are given bytes and return bytes: nothing here does I/O, and nothing is made per request.

    Protocol   what all endpoints of a protocol have in common: how a key is presented, how an error is said
    Endpoint   what is known of a request there, what changes on its way, how its answer is metered
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from typing import Protocol as Shape

from config.vendors import credential_of
from proxy.wire import (
    anthropic,
    anthropic_answers,
    audio,
    cohere,
    gemini,
    gemini_answers,
    images,
    moderations,
    ollama,
    ollama_answers,
    openai,
    openai_answers,
    rerank,
    responses,
    responses_answers,
    translate,
)
from proxy.wire.envelopes import (
    anthropic_error,
    anthropic_event,
    anthropic_lines,
    array_event,
    cohere_error,
    gemini_error,
    gemini_event,
    jina_error,
    ollama_error,
    ollama_event,
    openai_error,
    openai_event,
    openai_lines,
    responses_event,
)
from proxy.wire.forms import Spliced
from proxy.wire.look import Look, rename
from proxy.wire.meter import Grammar, Usage

__all__ = [
    "ANTHROPIC",
    "BATCHES",
    "BEDROCK",
    "COHERE",
    "ENDPOINTS",
    "FILES",
    "GEMINI",
    "JINA",
    "OLLAMA",
    "OPENAI",
    "PROTOCOLS",
    "REALTIME",
    "VERBS",
    "Endpoint",
    "Kind",
    "Protocol",
]

Kind = Literal["generate", "embed", "rerank", "count", "media"]


_Look = Callable[[bytes], Look]
_Meter = Callable[[bytes], Usage | None]


class _Error(Shape):
    def __call__(
        self,
        status: int,
        message: str,
        type_: str,
        code: str | None = None,
        *,
        param: str | None = None,
        request_id: str = "",
    ) -> bytes: ...


class _Rewrite(Shape):
    def __call__(
        self,
        body: bytes,
        seen: Look,
        *,
        upstream_model: str,
        include_usage: bool,
        output_cap: int | None,
        cap_field: str | None,
    ) -> bytes | Spliced: ...


@dataclass(frozen=True, slots=True, eq=False)
class Protocol:
    """
    How a protocol is spoken, whatever is asked.

    `word` is the configuration's and the ledger's. `credentials` are the headers in which callers may
    present their key, the one that counts first; `credential` makes the header that presents ours to a
    provider. `error` and `lines` are of `envelopes`. `passed` are the caller's headers that go
    upstream besides the common ones, `defaults` what is sent where the caller says nothing. `bases` are
    what a provider's base URL may end with although the paths below begin so. `key_in_query` says
    whether callers may present their key as ``?key=``. `accept` is what is asked for, `plain` are
    the characters of a model's name that stand in a path as they are.
    """

    word: str
    credentials: tuple[str, ...]
    credential: Callable[[str], tuple[str, str]]
    error: _Error
    lines: Callable[[Sequence[int], str, Callable[[], int]], bytes]
    passed: tuple[str, ...] = ()
    defaults: tuple[tuple[str, str], ...] = ()
    bases: tuple[str, ...] = ()
    key_in_query: bool = False
    accept: str = "application/json, text/event-stream"
    plain: str = "/"


@dataclass(frozen=True, slots=True, eq=False)
class Endpoint:
    """
    One thing that can be asked for, and spent on.

    `word` is the ledger's; `route` is the path on the data port, `path` the one below a provider's base
    URL, empty for what callers may ask and providers are not asked; `{model}` in either is the model's
    name. `look` says what is in a body, or raises `look.BadField`; `rewrite` changes what must change on
    its way; `meter` reads the usage of a whole answer (None: it reports none), `tokens_in` estimates the
    output of a decoded one, `grammar` is how its streams are metered (None: it never streams).
    `event` writes the error that ends a cut one, see `envelopes`. `kind` says what is asked for, in
    whichever protocol; `cap_field` is where an output cap is written, None where providers differ. `translation` is the protocol's record in `translate`, None for what is
    never translated. `optional` says that a server may speak the protocol and not have this.
    `look_form` looks in place of `look` where a body may be a form, and is told its content-type. An `opaque`
    answer need not be JSON, one that `flows` is passed on as it comes. `sells` are the rates (`routing.rates`) by which
    it may be sold beside tokens. `estimate` answers where no provider of the model's can, or raises `look.BadField`. `method` is GET for a WebSocket.
    """

    word: str
    protocol: Protocol
    route: str
    path: str
    look: _Look
    rewrite: _Rewrite
    meter: _Meter
    tokens_in: Callable[[Any], int]
    grammar: Grammar | None
    event: Callable[[str, str, str], bytes]
    kind: Kind = "generate"
    cap_field: str | None = None
    translation: translate.Vendor | None = None
    optional: bool = False
    look_form: Callable[[bytes, str], Look] | None = None
    opaque: bool = False
    flows: bool = False
    sells: tuple[str, ...] = ()
    estimate: Callable[[bytes], bytes] | None = None
    method: str = "POST"
    generates: bool = field(init=False)
    """Whether there is output to reserve."""

    def __post_init__(self) -> None:
        """Say once what every call asks."""
        object.__setattr__(self, "generates", self.kind == "generate")


def _in_beta(endpoint: Endpoint) -> Endpoint:
    """Give the row of the same endpoint under the query that Anthropic's beta clients send."""
    return replace(endpoint, route=f"{endpoint.route}?beta=true", path=f"{endpoint.path}?beta=true")


OPENAI = Protocol(
    word="openai",
    credentials=("Authorization", "x-api-key", "api-key", "x-goog-api-key"),
    credential=credential_of("openai"),
    error=openai_error,
    lines=openai_lines,
    passed=("openai-beta",),
)

ANTHROPIC = Protocol(
    word="anthropic",
    # The vendor's own order where both are sent; newer clients send an API key as a bearer, too.
    credentials=("x-api-key", "Authorization", "api-key", "x-goog-api-key"),
    credential=credential_of("anthropic"),
    error=anthropic_error,
    lines=anthropic_lines,
    passed=("anthropic-version", "anthropic-beta"),
    # A version is the caller's to choose; without one the vendor would refuse the call.
    defaults=(("anthropic-version", "2023-06-01"),),
    bases=("/v1",),
)

GEMINI = Protocol(
    word="gemini",
    credentials=("x-goog-api-key", "Authorization", "x-api-key", "api-key"),
    credential=credential_of("gemini"),
    error=gemini_error,
    lines=openai_lines,
    bases=("/v1beta", "/v1"),
    key_in_query=True,
)

OLLAMA = Protocol(
    word="ollama",
    credentials=("Authorization", "x-api-key", "api-key", "x-goog-api-key"),
    credential=credential_of("ollama"),
    error=ollama_error,
    lines=openai_lines,
    bases=("/api", "/v1"),
    accept="application/json, application/x-ndjson",
)

BEDROCK = Protocol(
    word="bedrock",
    # No caller speaks it.
    credentials=(),
    credential=credential_of("bedrock"),
    error=openai_error,
    lines=openai_lines,
    accept="application/json, application/vnd.amazon.eventstream",
    # An ARN has slashes and colons, and is one segment.
    plain="",
)

COHERE = Protocol(
    word="cohere",
    credentials=("Authorization", "x-api-key", "api-key", "x-goog-api-key"),
    credential=credential_of("cohere"),
    error=cohere_error,
    lines=openai_lines,
    bases=("/v2", "/v1"),
)

# What servers of rerankers speak (Jina's, vLLM's, others'); as providers they speak OpenAI's besides.
JINA = Protocol(
    word="jina",
    credentials=("Authorization", "x-api-key", "api-key", "x-goog-api-key"),
    credential=credential_of("jina"),
    error=jina_error,
    lines=openai_lines,
)

PROTOCOLS = (OPENAI, ANTHROPIC, GEMINI, OLLAMA, BEDROCK, COHERE, JINA)

_MESSAGES = Endpoint(
    word="anthropic.messages",
    protocol=ANTHROPIC,
    route="/v1/messages",
    path="/v1/messages",
    look=anthropic.look_messages,
    rewrite=anthropic.rewrite,
    meter=anthropic_answers.meter_message,
    tokens_in=anthropic_answers.tokens_in,
    grammar=anthropic_answers.EVENTS,
    event=anthropic_event,
    cap_field="max_tokens",
    translation=translate.PROTOCOLS["anthropic.messages"],
)
_COUNT_TOKENS = Endpoint(
    word="anthropic.count_tokens",
    protocol=ANTHROPIC,
    route="/v1/messages/count_tokens",
    path="/v1/messages/count_tokens",
    look=anthropic.look_count,
    rewrite=anthropic.rewrite,
    meter=anthropic_answers.meter_count,
    tokens_in=anthropic_answers.tokens_in,
    grammar=None,
    event=anthropic_event,
    kind="count",
    cap_field="max_tokens",
    translation=translate.of_count(translate.COUNTERS["anthropic.count_tokens"]),
    optional=True,
    estimate=anthropic.estimated_count,
)
_GEMINI_VERBS: tuple[tuple[str, str, _Look, _Meter, Grammar | None, Kind], ...] = (
    (
        "generateContent",
        "gemini.generate",
        gemini.look_whole,
        gemini_answers.meter_answer,
        None,
        "generate",
    ),
    (
        "streamGenerateContent?alt=sse",
        "gemini.stream",
        gemini.look_stream,
        gemini_answers.meter_answer,
        gemini_answers.CHUNKS,
        "generate",
    ),
    (
        "countTokens",
        "gemini.count_tokens",
        gemini.look_count,
        gemini_answers.meter_count,
        None,
        "count",
    ),
)
_GEMINI = {
    verb: Endpoint(
        word=word,
        protocol=GEMINI,
        route=f"/v1beta/models/{{model}}:{verb}",
        path=f"/v1beta/models/{{model}}:{verb}",
        look=look,
        rewrite=gemini.rewrite,
        meter=meter,
        tokens_in=gemini_answers.tokens_in,
        grammar=grammar,
        event=gemini_event,
        kind=kind,
        cap_field="generationConfig.maxOutputTokens",
        translation=translate.PROTOCOLS["gemini.generate"]
        if kind == "generate"
        else translate.of_count(translate.COUNTERS["gemini.count_tokens"]),
        optional=kind == "count",
        estimate=gemini.estimated_count if kind == "count" else None,
    )
    for verb, word, look, meter, grammar, kind in _GEMINI_VERBS
}
_GEMINI_EMBED = {
    verb: Endpoint(
        word=f"gemini.{word}",
        protocol=GEMINI,
        route=f"/v1beta/models/{{model}}:{verb}",
        path=f"/v1beta/models/{{model}}:{verb}",
        look=gemini.look_embed,
        rewrite=gemini.rewrite_embed,
        meter=gemini_answers.meter_answer,
        tokens_in=gemini_answers.tokens_in,
        grammar=None,
        event=gemini_event,
        kind="embed",
        translation=translate.of_one(spoken),
        optional=True,
    )
    for verb, word, spoken in (
        ("embedContent", "embed", translate.GEMINI_ONE),
        ("batchEmbedContents", "embeddings", translate.EMBEDDERS["gemini.embeddings"]),
    )
}
# A stream without ``alt=sse`` is one array in pieces; providers are asked for events all the same.
_ARRAY = replace(
    _GEMINI["streamGenerateContent?alt=sse"],
    word="gemini.array",
    route="/v1beta/models/{model}:streamGenerateContent",
    path="",
    event=array_event,
    translation=translate.GEMINI_ARRAY,
)
_OLLAMA_CHAT = Endpoint(
    word="ollama.chat",
    protocol=OLLAMA,
    route="/api/chat",
    path="/api/chat",
    look=ollama.look_chat,
    rewrite=ollama.rewrite,
    meter=ollama_answers.meter_answer,
    tokens_in=ollama_answers.tokens_in,
    grammar=ollama_answers.LINES,
    event=ollama_event,
    translation=translate.PROTOCOLS["ollama.chat"],
)

_OLLAMA_EMBED = replace(
    _OLLAMA_CHAT,
    word="ollama.embeddings",
    route="/api/embed",
    path="/api/embed",
    look=ollama.look_embed,
    grammar=None,
    kind="embed",
    translation=translate.of_one(translate.EMBEDDERS["ollama.embeddings"]),
)
_COHERE_EMBED = Endpoint(
    word="cohere.embeddings",
    protocol=COHERE,
    route="/v2/embed",
    path="/v2/embed",
    look=cohere.look_embed,
    rewrite=rerank.rewrite,
    meter=cohere.meter_embed,
    tokens_in=cohere.tokens_in,
    grammar=None,
    event=openai_event,
    kind="embed",
    translation=translate.of_one(translate.EMBEDDERS["cohere.embeddings"]),
    optional=True,
)
_COHERE_RERANK = Endpoint(
    word="cohere.rerank",
    protocol=COHERE,
    route="/v2/rerank",
    path="/v2/rerank",
    look=rerank.look,
    rewrite=rerank.rewrite,
    meter=rerank.meter,
    tokens_in=rerank.tokens_in,
    grammar=None,
    event=openai_event,
    kind="rerank",
    translation=translate.of_one(translate.RERANKERS["cohere.rerank"]),
    optional=True,
    sells=("search_unit_nusd",),
)

_IMAGES = Endpoint(
    word="openai.images",
    protocol=OPENAI,
    route="/v1/images/generations",
    path="/images/generations",
    look=images.look,
    rewrite=images.rewrite,
    meter=images.meter,
    tokens_in=images.tokens_in,
    grammar=images.EVENTS,
    event=openai_event,
    kind="media",
    optional=True,
    sells=("images",),
)
_TRANSCRIPTIONS = Endpoint(
    word="openai.transcriptions",
    protocol=OPENAI,
    route="/v1/audio/transcriptions",
    path="/audio/transcriptions",
    look=audio.look_speech,
    rewrite=audio.rewrite,
    meter=audio.meter,
    tokens_in=audio.tokens_in,
    grammar=audio.EVENTS,
    event=openai_event,
    kind="media",
    optional=True,
    look_form=audio.look_transcription,
    opaque=True,
    sells=("second_nusd",),
)

# A WebSocket: what its frames say is looked at in `realtime`, and none of the functions of a body is used.
REALTIME = replace(
    _IMAGES,
    word="openai.realtime",
    route="/v1/realtime",
    path="/realtime",
    method="GET",
    grammar=None,
    sells=(),
)
# What is kept at a provider: `proxy.files` speaks of it, and admits what is new.
FILES = replace(REALTIME, word="openai.files", route="/v1/files", path="/files", method="POST")
BATCHES = replace(FILES, word="openai.batches", route="/v1/batches", path="/batches")

ENDPOINTS = (
    REALTIME,
    FILES,
    BATCHES,
    Endpoint(
        word="openai.chat",
        protocol=OPENAI,
        route="/v1/chat/completions",
        path="/chat/completions",
        look=openai.look_chat,
        rewrite=openai.rewrite,
        meter=openai_answers.meter_json,
        tokens_in=openai_answers.tokens_in,
        grammar=openai_answers.CHUNKS,
        event=openai_event,
        translation=translate.PROTOCOLS["openai.chat"],
    ),
    Endpoint(
        word="openai.completions",
        protocol=OPENAI,
        route="/v1/completions",
        path="/completions",
        look=openai.look_completions,
        rewrite=openai.rewrite,
        meter=openai_answers.meter_json,
        tokens_in=openai_answers.tokens_in,
        grammar=openai_answers.CHUNKS,
        event=openai_event,
        cap_field="max_tokens",
        translation=translate.OPENAI_COMPLETIONS,
        optional=True,
    ),
    Endpoint(
        word="openai.embeddings",
        protocol=OPENAI,
        route="/v1/embeddings",
        path="/embeddings",
        look=openai.look_embeddings,
        rewrite=openai.rewrite,
        meter=openai_answers.meter_json,
        tokens_in=openai_answers.tokens_in,
        grammar=None,
        event=openai_event,
        kind="embed",
        cap_field="max_tokens",
        translation=translate.of_one(translate.EMBEDDERS["openai.embeddings"]),
        optional=True,
    ),
    Endpoint(
        word="openai.responses",
        protocol=OPENAI,
        route="/v1/responses",
        path="/responses",
        look=responses.look_response,
        rewrite=responses.rewrite,
        meter=responses_answers.meter_response,
        tokens_in=responses_answers.tokens_in,
        grammar=responses_answers.EVENTS,
        event=responses_event,
        cap_field="max_output_tokens",
        translation=translate.PROTOCOLS["openai.responses"],
        optional=True,
    ),
    Endpoint(
        word="openai.moderations",
        protocol=OPENAI,
        route="/v1/moderations",
        path="/moderations",
        look=moderations.look,
        rewrite=rename,
        meter=openai_answers.meter_json,
        tokens_in=moderations.tokens_in,
        grammar=None,
        event=openai_event,
        kind="media",
        optional=True,
    ),
    _IMAGES,
    replace(
        _IMAGES,
        word="openai.image_edits",
        route="/v1/images/edits",
        path="/images/edits",
        look_form=images.look_form,
    ),
    replace(
        _IMAGES,
        word="openai.image_variations",
        route="/v1/images/variations",
        path="/images/variations",
        look_form=images.look_variation,
        grammar=None,
    ),
    Endpoint(
        word="openai.speech",
        protocol=OPENAI,
        route="/v1/audio/speech",
        path="/audio/speech",
        look=audio.look_speech,
        rewrite=rename,
        meter=audio.meter,
        tokens_in=audio.tokens_in,
        grammar=audio.EVENTS,
        event=openai_event,
        kind="media",
        optional=True,
        opaque=True,
        flows=True,
        sells=("character_nusd", "second_output_nusd"),
    ),
    _TRANSCRIPTIONS,
    replace(
        _TRANSCRIPTIONS,
        word="openai.translations",
        route="/v1/audio/translations",
        path="/audio/translations",
        grammar=None,
    ),
    _MESSAGES,
    _in_beta(_MESSAGES),
    _COUNT_TOKENS,
    _in_beta(_COUNT_TOKENS),
    *_GEMINI.values(),
    _ARRAY,
    _OLLAMA_CHAT,
    replace(
        _OLLAMA_CHAT,
        word="ollama.generate",
        route="/api/generate",
        path="/api/generate",
        look=ollama.look_generate,
        translation=translate.OLLAMA_GENERATE,
    ),
    *_GEMINI_EMBED.values(),
    _OLLAMA_EMBED,
    replace(
        _OLLAMA_EMBED,
        word="ollama.embedding",
        route="/api/embeddings",
        path="/api/embeddings",
        translation=translate.of_one(translate.OLLAMA_ONE),
    ),
    _COHERE_EMBED,
    _COHERE_RERANK,
    replace(
        _COHERE_RERANK,
        word="jina.rerank",
        protocol=JINA,
        route="/v1/rerank",
        # Below a base URL as OpenAI's have it, which ends with /v1.
        path="/rerank",
        translation=translate.of_one(translate.RERANKERS["jina.rerank"]),
    ),
)

# By the verb behind the colon; `{model}` is the URL's, and may hold slashes.
VERBS = {
    endpoint.route.rpartition(":")[2]: endpoint
    for endpoint in (*_GEMINI.values(), *_GEMINI_EMBED.values(), _ARRAY)
}
