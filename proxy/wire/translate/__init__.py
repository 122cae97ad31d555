"""
One protocol into another: requests, answers, streams and errors, without I/O.

Where caller and vendor speak the same protocol, bytes pass and nothing here is used. Where they
differ, everything goes through one typed core (`core`, `events`), and each protocol is a package that
reads and writes it. How an exchange uses it:

    caller, vendor = PROTOCOLS["anthropic.messages"], VENDORS["openai.chat"]
    conversation = caller.read_request(body)            # BadField, CannotExpress: the caller's 400
    conversation = addressed(conversation, model, stream=True)  # Gemini's body does not say them
    written = vendor.write_request(conversation, Target(model="gpt-5", dialect=OPENAI))
                                                        # CannotExpress: 400, or another deployment
    written.body, written.dropped                       # to send; the value of x-penstock-dropped

    reply = Reply(id=request_id, model=conversation.model, created_s=now, ...)

    # a whole answer
    answer = vendor.read_answer(body, written.renamed)  # BadAnswer: a 502, or another deployment
    if isinstance(answer, Failure): ...                 # an error that came with status 200
    caller.write_answer(answer, reply)                  # BadAnswer as well

    # a stream: for each read from the vendor one write to the caller, which may be empty
    reader, writer = vendor.reader(written.renamed), caller.writer(reply)
    events = reader.feed(data)                          # UsageSeen: what to meter
    writer.write(events)
    writer.write(reader.eof())                          # at the end; or eof(cause) when it was cut
    writer.write([Failed(failure)])                     # to break off for a reason of our own

    # a refusal
    failure = vendor.read_error(status, headers, body)  # headers by lower-case names
    caller.write_error(failure, request_id)             # status, headers, body

A reader that gives `Failed` before anything else but `Started` (or nothing at all) has committed
nothing: the attempt may be made elsewhere. Translations hold no state but that of their stream, and
what they hold of it is bounded.

`protocols` has the table of protocols; `embeddings` and `rerank` have tables of their own; `config.dialects` what the vendors of OpenAI's family do differently;
`words` what each protocol calls things, for errors and ``x-penstock-dropped``; `carried` how one
vendor's signed reasoning passes through another's protocol; `effort` how words for thinking and
numbers of tokens compare; `sigv4` how requests to Amazon are signed; `failures` how errors are sorted; `fields`, `frames`, `eventstream`, `reading` and `writing` the
bytes.
"""

from proxy.wire.look import BadField
from proxy.wire.translate.core import (
    Answer,
    BadAnswer,
    CannotExpress,
    Conversation,
    Failure,
    Reply,
    Target,
    Written,
    addressed,
    reply_to,
    thinking,
)
from proxy.wire.translate.counts import COUNTERS
from proxy.wire.translate.embeddings import EMBEDDERS, GEMINI_ONE, OLLAMA_ONE
from proxy.wire.translate.events import (
    Collector,
    Ended,
    Event,
    Failed,
    StreamReader,
    StreamWriter,
    UsageSeen,
    collected,
    play,
)
from proxy.wire.translate.failures import WrittenError
from proxy.wire.translate.passed import with_effort
from proxy.wire.translate.protocols import (
    CONVERSE_UNFRAMED,
    GEMINI_ARRAY,
    MESSAGES_ON_VERTEX,
    OLLAMA_GENERATE,
    OPENAI_COMPLETIONS,
    PROTOCOLS,
    VENDORS,
    Protocol,
    Vendor,
    of_count,
    of_one,
)
from proxy.wire.translate.rerank import RERANKERS

__all__ = [
    "CONVERSE_UNFRAMED",
    "COUNTERS",
    "EMBEDDERS",
    "GEMINI_ARRAY",
    "GEMINI_ONE",
    "MESSAGES_ON_VERTEX",
    "OLLAMA_GENERATE",
    "OLLAMA_ONE",
    "OPENAI_COMPLETIONS",
    "PROTOCOLS",
    "RERANKERS",
    "VENDORS",
    "Answer",
    "BadAnswer",
    "BadField",
    "CannotExpress",
    "Collector",
    "Conversation",
    "Ended",
    "Event",
    "Failed",
    "Failure",
    "Protocol",
    "Reply",
    "StreamReader",
    "StreamWriter",
    "Target",
    "UsageSeen",
    "Vendor",
    "Written",
    "WrittenError",
    "addressed",
    "collected",
    "of_count",
    "of_one",
    "play",
    "reply_to",
    "thinking",
    "with_effort",
]
