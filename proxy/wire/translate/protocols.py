"""The protocols, each as one record of the same functions, by name."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NoReturn

import msgspec
from msgspec import Struct

from proxy.wire.translate import chat, completions, converse, gemini, messages, ollama, responses
from proxy.wire.translate.core import Failure, Reply, Target, Written
from proxy.wire.translate.counts import Counter
from proxy.wire.translate.embeddings import Embedder
from proxy.wire.translate.events import StreamReader, StreamWriter
from proxy.wire.translate.failures import WrittenError
from proxy.wire.translate.rerank import Reranker

__all__ = [
    "CONVERSE_UNFRAMED",
    "GEMINI_ARRAY",
    "MESSAGES_ON_VERTEX",
    "OLLAMA_GENERATE",
    "OPENAI_COMPLETIONS",
    "PROTOCOLS",
    "VENDORS",
    "Protocol",
    "Vendor",
    "of_count",
    "of_one",
]


class Vendor(Struct, frozen=True, kw_only=True):
    """
    How a vendor is spoken to in one protocol.

    What is asked is a `Conversation` and what is answered an `Answer` or a `Failure`; of embeddings and
    reranking it is their own (`of_one`). `stream_type` is the media type of a streamed answer.
    """

    name: str
    write_request: Callable[[Any, Target], Written]
    read_answer: Callable[[bytes, Mapping[str, str] | None], Any]
    reader: Callable[[Mapping[str, str] | None], StreamReader]
    read_error: Callable[[int, Mapping[str, str], bytes], Failure]
    stream_type: str = "text/event-stream"


class Protocol(Vendor, frozen=True, kw_only=True):
    """How callers are spoken to in one protocol, besides how vendors are."""

    read_request: Callable[[bytes], Any]
    write_answer: Callable[[Any, Reply], bytes]
    writer: Callable[[Reply], StreamWriter]
    write_error: Callable[[Failure, str], WrittenError]


_CHAT = Protocol(
    name="openai.chat",
    read_request=chat.read_request,
    write_request=chat.write_request,
    read_answer=chat.read_answer,
    write_answer=chat.write_answer,
    reader=chat.ChatReader,
    writer=chat.ChatWriter,
    read_error=chat.read_error,
    write_error=chat.write_error,
)
_MESSAGES = Protocol(
    name="anthropic.messages",
    read_request=messages.read_request,
    write_request=messages.write_request,
    read_answer=messages.read_answer,
    write_answer=messages.write_answer,
    reader=messages.MessagesReader,
    writer=messages.MessagesWriter,
    read_error=messages.read_error,
    write_error=messages.write_error,
)
_RESPONSES = Protocol(
    name="openai.responses",
    read_request=responses.read_request,
    write_request=responses.write_request,
    read_answer=responses.read_answer,
    write_answer=responses.write_answer,
    reader=responses.ResponsesReader,
    writer=responses.ResponsesWriter,
    read_error=responses.read_error,
    write_error=responses.write_error,
)
_GEMINI = Protocol(
    name="gemini.generate",
    read_request=gemini.read_request,
    write_request=gemini.write_request,
    read_answer=gemini.read_answer,
    write_answer=gemini.write_answer,
    reader=gemini.GeminiReader,
    writer=gemini.GeminiWriter,
    read_error=gemini.read_error,
    write_error=gemini.write_error,
)

_OLLAMA = Protocol(
    name="ollama.chat",
    read_request=ollama.read_request,
    write_request=ollama.write_request,
    read_answer=ollama.read_answer,
    write_answer=ollama.write_answer,
    reader=ollama.OllamaReader,
    writer=ollama.OllamaWriter,
    read_error=ollama.read_error,
    write_error=ollama.write_error,
    stream_type="application/x-ndjson",
)

# What callers may ask at /v1/completions: a conversation of one turn.
OPENAI_COMPLETIONS = msgspec.structs.replace(
    _CHAT,
    name="openai.completions",
    read_request=completions.read_request,
    write_answer=completions.write_answer,
    writer=completions.CompletionsWriter,
)
# What callers may ask at /api/generate: a conversation of one turn.
OLLAMA_GENERATE = msgspec.structs.replace(
    _OLLAMA,
    name="ollama.generate",
    read_request=ollama.read_generate,
    write_answer=ollama.write_generated,
    writer=ollama.GenerateWriter,
)
# The same where the caller did not ask for ``alt=sse``: a stream is one array, in pieces.
GEMINI_ARRAY = msgspec.structs.replace(
    _GEMINI, writer=gemini.ArrayWriter, stream_type="application/json"
)


def _write_for_vertex(conversation: Any, target: Target) -> Written:
    """Write Messages for Google's Vertex AI, where the model stands in the URL and the version in the body."""
    written = messages.write_request(conversation, target)
    members: dict[str, Any] = _MEMBERS.decode(written.body)
    del members["model"]
    body = msgspec.json.encode({"anthropic_version": "vertex-2023-10-16"} | members)
    return msgspec.structs.replace(written, body=body)


_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
MESSAGES_ON_VERTEX = msgspec.structs.replace(_MESSAGES, write_request=_write_for_vertex)

_CONVERSE = Vendor(
    name="bedrock.converse",
    write_request=converse.write_request,
    read_answer=converse.read_answer,
    reader=converse.ConverseReader,
    read_error=converse.read_error,
    stream_type="application/vnd.amazon.eventstream",
)

# The same where whoever reads the stream has cut its frames already.
CONVERSE_UNFRAMED = msgspec.structs.replace(
    _CONVERSE, reader=partial(converse.ConverseReader, framed=False)
)

PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {protocol.name: protocol for protocol in (_CHAT, _RESPONSES, _MESSAGES, _GEMINI, _OLLAMA)}
)

# All that vendors may speak: the same, and what no caller speaks.
VENDORS: Mapping[str, Vendor] = MappingProxyType({**PROTOCOLS, _CONVERSE.name: _CONVERSE})


def _never_streams(_: object = None) -> NoReturn:
    raise AssertionError("what is answered as a whole has no stream")


def of_one(spoken: Embedder | Reranker) -> Protocol:
    """Give the record of what is asked and answered as one document: embeddings, or an order."""
    record: Any = spoken

    def write_request(asked: Any, target: Target) -> Written:
        written: Written = record.write_request(asked, target.model)
        return written

    def read_answer(body: bytes, _: Mapping[str, str] | None = None) -> Any:
        return record.read_answer(body)

    def write_answer(answer: Any, reply: Reply) -> bytes:
        written: bytes = record.write_answer(answer, reply.asked, reply)
        return written

    return Protocol(
        name=spoken.name,
        read_request=spoken.read_request,
        write_request=write_request,
        read_answer=read_answer,
        write_answer=write_answer,
        reader=_never_streams,
        writer=_never_streams,
        read_error=spoken.read_error,
        write_error=spoken.write_error,
    )


def of_count(spoken: Counter) -> Protocol:
    """Give the record of a count, which is answered as one document."""
    return Protocol(
        name=spoken.name,
        read_request=spoken.read_request,
        write_request=spoken.write_request,
        read_answer=spoken.read_answer,
        write_answer=spoken.write_answer,
        reader=_never_streams,
        writer=_never_streams,
        read_error=spoken.read_error,
        write_error=spoken.write_error,
    )
