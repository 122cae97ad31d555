"""
OpenAI's Responses, which others serve as Open Responses.

`requests`, `answers` and `streams` read and write each; `items` is what they have in common.

Protocol: OpenAI's API reference, the official client's types, and the Open Responses specification,
which wants every member of a response to be there. Nothing is kept: what asks for something that was
kept (a previous response, a conversation, an item by its id) is refused. Reasoning is an item whose
``encrypted_content`` its maker wants back; other vendors' proofs stand there wrapped (see `carried`).
"""

from proxy.wire.translate.chat.answers import read_error, write_error
from proxy.wire.translate.responses.answers import read_answer, write_answer
from proxy.wire.translate.responses.requests import read_request, write_request
from proxy.wire.translate.responses.streams import ResponsesReader, ResponsesWriter

__all__ = [
    "ResponsesReader",
    "ResponsesWriter",
    "read_answer",
    "read_error",
    "read_request",
    "write_answer",
    "write_error",
    "write_request",
]
