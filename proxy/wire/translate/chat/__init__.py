"""
OpenAI's Chat Completions, and the family of vendors that speak it.

`requests`, `answers` and `streams` read and write each; `parts` is what they have in common.

Protocol: OpenAI's API reference; the vendors' differences are in `config.dialects`. Reasoning has no field
at OpenAI. It is written as the family does: its text in ``reasoning_content``, and what its maker
wants back in ``reasoning_details`` (OpenRouter's entries ``reasoning.text`` with a ``signature`` and
``reasoning.encrypted``) or, for Google's signature of a call, in ``extra_content.google`` of that
call (Google's own). All of these are read, of requests and of answers.
"""

from proxy.wire.translate.chat.answers import read_answer, read_error, write_answer, write_error
from proxy.wire.translate.chat.requests import read_request, write_request
from proxy.wire.translate.chat.streams import ChatReader, ChatWriter

__all__ = [
    "ChatReader",
    "ChatWriter",
    "read_answer",
    "read_error",
    "read_request",
    "write_answer",
    "write_error",
    "write_request",
]
