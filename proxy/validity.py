"""
Whether a whole answer has the form that was asked of it, in whichever protocols it was asked and answered.

Text that was to be JSON has to be JSON, by its schema if there is one. A call has to be of a tool that was offered, with
arguments by the tool's schema. It is looked at once, when a whole answer was sent on its way, and only where the request
speaks of tools or of a format and somebody learns from it; what cannot be read says nothing.
"""

from typing import TYPE_CHECKING, Any, Final

import orjson

from proxy.wire import translate
from proxy.wire.look import BadField
from proxy.wire.schemas import conforms
from proxy.wire.translate.core import Answer, Conversation, Text, ToolCall

if TYPE_CHECKING:
    from proxy.relay import Attempt

__all__ = ["is_malformed", "looks_malformed"]

MOST_BYTES: Final = 256 * 1024
"""Requests and answers that are longer are not looked at."""
# What stands in a request, of any protocol, that asks for a form.
_ASKS: Final = (
    *(b'"tools"', b'"functions"', b'"response_format"', b'"format"', b'"output_config"'),
    *(b'"responseSchema"', b'"response_schema"', b'"responseJsonSchema"'),
    *(b'"responseMimeType"', b'"response_mime_type"'),
)


def looks_malformed(attempt: "Attempt", body: bytes) -> bool:
    """Return whether an answer that came as a whole has another form than was asked for; `body` is as the vendor sent it."""
    exchange = attempt.exchange
    frame = exchange.seen.frame
    protocol = exchange.endpoint.translation
    if (
        not isinstance(protocol, translate.Protocol)
        or not body.startswith(b"{")
        or len(body) > MOST_BYTES
        or len(exchange.body) > MOST_BYTES
        or not any(mark in frame for mark in _ASKS)
    ):
        return False
    try:
        asked = exchange.conversation or protocol.read_request(exchange.body)
        answer = attempt.passage.read(attempt, body)
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
