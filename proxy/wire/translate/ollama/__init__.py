"""
Ollama's /api/chat and /api/generate.

`requests`, `answers` and `streams` read and write each. Callers may use both; vendors are spoken to by
/api/chat.

Protocol: Ollama's API reference and the official client's types. Streams are lines of JSON, and are
the default. There is no field for a proof of reasoning: it is named as dropped.
"""

from proxy.wire.translate.ollama.answers import (
    read_answer,
    read_error,
    write_answer,
    write_error,
    write_generated,
)
from proxy.wire.translate.ollama.requests import read_generate, read_request, write_request
from proxy.wire.translate.ollama.streams import GenerateWriter, OllamaReader, OllamaWriter

__all__ = [
    "GenerateWriter",
    "OllamaReader",
    "OllamaWriter",
    "read_answer",
    "read_error",
    "read_generate",
    "read_request",
    "write_answer",
    "write_error",
    "write_generated",
    "write_request",
]
