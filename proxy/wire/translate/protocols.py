"""The protocols, each as one record of the same functions, by name."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from msgspec import Struct

from proxy.wire.translate import chat, messages
from proxy.wire.translate.core import Answer, Conversation, Failure, Reply, Target, Written
from proxy.wire.translate.events import StreamReader, StreamWriter
from proxy.wire.translate.failures import WrittenError

__all__ = ["PROTOCOLS", "Protocol"]


class Protocol(Struct, frozen=True, kw_only=True):
    """
    How one protocol is read and written.

    The callers' side is `read_request`, `write_answer`, `writer` and `write_error`; the vendors' is
    `write_request`, `read_answer`, `reader` and `read_error`. `stream_type` is the media type of a
    streamed answer.
    """

    name: str
    read_request: Callable[[bytes], Conversation]
    write_request: Callable[[Conversation, Target], Written]
    read_answer: Callable[[bytes, Mapping[str, str] | None], Answer | Failure]
    write_answer: Callable[[Answer, Reply], bytes]
    reader: Callable[[Mapping[str, str] | None], StreamReader]
    writer: Callable[[Reply], StreamWriter]
    read_error: Callable[[int, Mapping[str, str], bytes], Failure]
    write_error: Callable[[Failure, str], WrittenError]
    stream_type: str = "text/event-stream"


PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        protocol.name: protocol
        for protocol in (
            Protocol(
                name="openai.chat",
                read_request=chat.read_request,
                write_request=chat.write_request,
                read_answer=chat.read_answer,
                write_answer=chat.write_answer,
                reader=chat.ChatReader,
                writer=chat.ChatWriter,
                read_error=chat.read_error,
                write_error=chat.write_error,
            ),
            Protocol(
                name="anthropic.messages",
                read_request=messages.read_request,
                write_request=messages.write_request,
                read_answer=messages.read_answer,
                write_answer=messages.write_answer,
                reader=messages.MessagesReader,
                writer=messages.MessagesWriter,
                read_error=messages.read_error,
                write_error=messages.write_error,
            ),
        )
    }
)
