"""
Google's Gemini: generateContent and streamGenerateContent.

`requests`, `answers` and `streams` read and write each; `parts` is what they have in common.

Protocol: Google's API reference and the official client's types. The model and whether it is streamed
stand in the URL: `core.addressed` puts them into what was read of a body. Names of members are read in
both of their spellings (``maxOutputTokens``, ``max_output_tokens``), as Google does. A signature
stands on the part that it belongs to, which in the core is the part after it; other vendors' stand
wrapped on the thought itself (see `carried`).
"""

from proxy.wire.translate.gemini.answers import read_answer, read_error, write_answer, write_error
from proxy.wire.translate.gemini.requests import read_request, write_request
from proxy.wire.translate.gemini.streams import ArrayWriter, GeminiReader, GeminiWriter

__all__ = [
    "ArrayWriter",
    "GeminiReader",
    "GeminiWriter",
    "read_answer",
    "read_error",
    "read_request",
    "write_answer",
    "write_error",
    "write_request",
]
