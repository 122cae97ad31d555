"""
Anthropic's Messages.

`requests`, `answers` and `streams` read and write each; `blocks` is what they have in common.

Protocol: Anthropic's API reference and the official client's types; requests are written for version
2023-06-01 (`VERSION`), which every model serves. Another vendor's signed reasoning stands in a
``thinking`` block's signature or a ``redacted_thinking`` block's data, wrapped (see `carried`).
"""

from proxy.wire.translate.messages.answers import (
    read_answer,
    read_error,
    write_answer,
    write_error,
)
from proxy.wire.translate.messages.requests import VERSION, read_request, write_request
from proxy.wire.translate.messages.streams import MessagesReader, MessagesWriter

__all__ = [
    "VERSION",
    "MessagesReader",
    "MessagesWriter",
    "read_answer",
    "read_error",
    "read_request",
    "write_answer",
    "write_error",
    "write_request",
]
