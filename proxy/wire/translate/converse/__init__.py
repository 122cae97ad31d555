"""
Amazon Bedrock's Converse and ConverseStream, which vendors' models are asked by.

`requests` writes, `answers` and `streams` read; no caller speaks it. The model stands in the URL
(``/model/{id}/converse``, ``/model/{id}/converse-stream``, with the id percent-encoded), a request is
signed (`sigv4`) or carries a bearer key, and a stream is binary (`eventstream`).

Protocol: Amazon's API reference and the service model of its official client. What it asks of a
conversation (who begins, where results stand) is what Anthropic's Messages ask, so the turns are written
by them and then put into Amazon's words.
"""

from proxy.wire.translate.converse.answers import read_answer, read_error
from proxy.wire.translate.converse.requests import write_request
from proxy.wire.translate.converse.streams import ConverseReader

__all__ = ["ConverseReader", "read_answer", "read_error", "write_request"]
