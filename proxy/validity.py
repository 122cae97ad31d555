"""
Whether an answer has the form that was asked of it, in whichever protocols it was asked and answered.

Text that was to be JSON has to be JSON, by its schema if there is one. A call has to be of a tool that was offered, with
arguments by the tool's schema. It is looked at once, when an answer was sent on its way, and only where the request
speaks of tools or of a format and somebody learns from it; what cannot be read says nothing.

While a stream runs it is only kept, up to `MOST_BYTES`: nothing is done per read. When it has ended, the reader of the vendor's
protocol makes one answer of it, some 1.5 us per event.
"""

from typing import TYPE_CHECKING, Any, Final

import orjson

from proxy.wire import translate
from proxy.wire.look import BadField
from proxy.wire.schemas import conforms
from proxy.wire.translate.core import Answer, Conversation, Text, ToolCall

if TYPE_CHECKING:
    from proxy.exchange import Exchange
    from proxy.relay import Attempt

__all__ = ["MOST_BYTES", "asks_form", "is_malformed", "looks_malformed"]

MOST_BYTES: Final = 256 * 1024
"""Requests and answers that are longer are not looked at."""
# What stands in a request, of any protocol, that asks for a form; `"response` begins Gemini's names for it.
_ASKS: Final = (b'"tools"', b'format"', b'"functions"', b'"output_config"', b'"response')


def asks_form(exchange: "Exchange") -> bool:
    """Whether a request that can be read asks for tools or a format."""
    frame = exchange.seen.frame
    for mark in _ASKS:
        if mark in frame:
            return len(exchange.body) <= MOST_BYTES and isinstance(
                exchange.endpoint.translation, translate.Protocol
            )
    return False


def looks_malformed(attempt: "Attempt", body: bytes) -> bool:
    """
    Return whether an answer has another form than was asked for.

    `body` is as the vendor sent it: all of an answer that came as a whole, or of a stream the events as they were metered.
    """
    exchange = attempt.exchange
    streamed = attempt.meter is not None
    if (
        not (streamed or body.startswith(b"{"))
        or not 0 < len(body) <= MOST_BYTES
        or not asks_form(exchange)
    ):
        return False
    protocol: Any = exchange.endpoint.translation
    read = attempt.passage.read_stream if streamed else attempt.passage.read
    try:
        asked = exchange.conversation or protocol.read_request(exchange.body)
        answer = read(attempt, body)
    except (BadField, translate.CannotExpress, translate.BadAnswer):
        return False
    if not isinstance(asked, Conversation) or not isinstance(answer, Answer):
        return False
    return is_malformed(asked, answer)


def is_malformed(asked: Conversation, answer: Answer) -> bool:
    """Return whether an answer has another form than was asked for; what was cut short has none."""
    tools = {tool.name: tool for tool in asked.tools}
    for choice in answer.choices:
        if choice.stop == "length":
            continue
        calls = [part for part in choice.parts if isinstance(part, ToolCall)]
        for call in calls:
            tool = tools.get(call.name)
            if tools and tool is None:
                return True
            schema = None if tool is None else tool.schema
            if not call.custom and not _is_json(call.arguments or "{}", schema):
                return True
        text = "".join(part.text for part in choice.parts if isinstance(part, Text))
        wanted = asked.output
        if wanted is not None and text and not calls and not _is_json(text, wanted.schema):
            return True
    return False


def _is_json(text: str, schema: Any) -> bool:
    """Return whether a text is JSON, by a schema if there is one."""
    try:
        return conforms(orjson.loads(text), schema)
    except orjson.JSONDecodeError:
        return False
