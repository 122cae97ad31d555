"""
What every protocol says, in words of none: requests, answers and what goes wrong.

A protocol's module reads its own bytes into these and writes these as its own bytes. So N protocols
need 2 N translations, and what two of them have in common is lost only where this page has no word
for it.

**Values.** Everything here is a frozen value. Tuples, not lists; media as the base64 text that came
(it is never decoded: both sides write base64); tool arguments as JSON text (OpenAI streams them so,
and everyone else's object is one `decode` away).

**Nothing is lost silently.** A member that a reader has no word for is kept in
`Conversation.extra` under its path. A writer then has three ways: write it (same family), raise
`CannotExpress` (the answer would be another one without it), or name it among what was dropped.

**Reasoning travels.** A vendor that signs its reasoning wants the signature back with the next
request, unchanged, at the same place. A signature is a part of its own (`Reasoning` with a
`signature`, perhaps without text), says whose it is (`maker`), and stands before the part it
belongs to. Protocols that have no field for another vendor's signature carry it wrapped, see
`carried`.
"""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct

from config.dialects import OPENAI, Dialect
from proxy.wire.meter import Usage

__all__ = [
    "Answer",
    "BadAnswer",
    "CannotExpress",
    "Choice",
    "Conversation",
    "Effort",
    "Failure",
    "FailureKind",
    "Maker",
    "Media",
    "OutputFormat",
    "Part",
    "Reasoning",
    "Refusal",
    "Reply",
    "Sampling",
    "StopReason",
    "Target",
    "Text",
    "Thinking",
    "Tool",
    "ToolCall",
    "ToolChoice",
    "ToolResult",
    "Turn",
    "Usage",
    "Written",
    "addressed",
    "reply_to",
]

Maker = Literal["anthropic", "google", "openai", ""]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class CannotExpress(ValueError):
    """
    The vendor's protocol has no way to say what the caller asked: answer 400, or try another model.

    `param` names the field as the caller wrote it, `why` says what to do instead.
    """

    def __init__(self, param: str, why: str) -> None:
        super().__init__(f"{param}: {why}")
        self.param = param
        self.why = why


class BadAnswer(ValueError):
    """A vendor's answer cannot be understood: 502 in the caller's protocol, or try elsewhere."""


class Text(Struct, frozen=True, gc=False):
    """
    What was written.

    `cache` marks the end of a prefix worth caching: its time to live, "" for the vendor's default,
    None for no mark.
    """

    text: str
    cache: str | None = None


class Media(Struct, frozen=True, gc=False):
    """
    An image, document, sound or film, by exactly one of `data` (base64), `url`, `file_id`, `text`.

    `media_type` is a MIME type, "" when nobody said. `detail` is OpenAI's word for an image's
    resolution. `name` and `context` are what is said about a document.
    """

    kind: Literal["image", "document", "audio", "video"]
    media_type: str = ""
    data: str | None = None
    url: str | None = None
    file_id: str | None = None
    text: str | None = None
    detail: str | None = None
    name: str | None = None
    context: str | None = None
    cache: str | None = None


class Reasoning(Struct, frozen=True, gc=False):
    """
    What the model thought, as far as it says so.

    `signature` proves the text to its `maker`; `redacted` is reasoning that only its maker can read, of
    which `text` is what is shown.
    """

    text: str = ""
    signature: str | None = None
    redacted: str | None = None
    maker: Maker = ""


class Refusal(Struct, frozen=True, gc=False):
    """What the model said instead of an answer."""

    text: str


class ToolCall(Struct, frozen=True, gc=False):
    """A call of a tool: `arguments` is a JSON object as text (of a custom tool: any text)."""

    id: str
    name: str
    arguments: str
    custom: bool = False
    cache: str | None = None


class ToolResult(Struct, frozen=True):
    """What a tool answered; `name` is the tool's where the protocol or the conversation says so."""

    id: str
    content: "tuple[Text | Media, ...]"
    name: str = ""
    failed: bool = False
    cache: str | None = None


Part = Text | Media | Reasoning | Refusal | ToolCall | ToolResult


class Turn(Struct, frozen=True):
    """
    One message of a conversation.

    A tool's results stand in a user turn. A system turn stands where instructions change in the
    middle; those at the beginning are in `Conversation.system`. `name` tells participants apart.
    """

    role: Literal["user", "assistant", "system"]
    parts: tuple[Part, ...]
    name: str | None = None


class Tool(Struct, frozen=True):
    """
    A tool the model may call.

    `schema` is a JSON schema of the arguments (None: no arguments), or a custom tool's grammar.
    `namespace` is the group in which the caller's protocol holds it, whose name its own begins with, as
    `namespaced` makes it.
    """

    name: str
    description: str | None = None
    schema: Mapping[str, Any] | None = None
    strict: bool | None = None
    custom: bool = False
    cache: str | None = None
    namespace: str = ""


def namespaced(namespace: str, name: str) -> str:
    """Give the name of a tool within a group, by which protocols without groups know it."""
    return f"{namespace}__{name}"


class ToolChoice(Struct, frozen=True):
    """
    Whether tools are called: `mode` over the tools in `names`, over all of them when it is empty.

    A single tool that must be called is ``required`` with its name.
    """

    mode: Literal["auto", "none", "required"]
    names: tuple[str, ...] = ()


class OutputFormat(Struct, frozen=True):
    """What the answer's text must be: JSON, or JSON by `schema`."""

    kind: Literal["json", "json_schema"]
    schema: Mapping[str, Any] | None = None
    name: str = ""
    description: str | None = None
    strict: bool | None = None


class Sampling(Struct, frozen=True):
    """How tokens are drawn; None where the caller left it to the vendor."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    logit_bias: Mapping[str, float] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None


class Thinking(Struct, frozen=True, gc=False):
    """
    How much the model is to think.

    `effort` in words, or `budget` in tokens; `off` when the caller wants none. `shown` says whether
    the caller wants to read it. All empty: think as you see fit.
    """

    effort: Effort | None = None
    budget: int | None = None
    off: bool = False
    shown: bool | None = None


class Conversation(Struct, frozen=True, kw_only=True):
    """
    A request, whatever protocol it came in.

    `extra` holds what the core has no word for, by the path the caller wrote it at; `family` is the
    protocol it came from, to which alone `extra` may be written again. `user` is whom the caller
    serves. `max_tokens` bounds the output of each of `n` answers.
    """

    model: str
    turns: tuple[Turn, ...]
    system: tuple[Text, ...] = ()
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    output: OutputFormat | None = None
    sampling: Sampling = Sampling()
    thinking: Thinking | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    n: int = 1
    stream: bool = False
    include_usage: bool = False
    user: str | None = None
    service_tier: str | None = None
    verbosity: str | None = None
    metadata: Mapping[str, Any] | None = None
    extra: Mapping[str, Any] = {}
    family: str = ""


def addressed(asked: Any, model: str, *, stream: bool) -> Any:
    """Put into a request what its URL says, of protocols whose bodies do not."""
    if isinstance(asked, Conversation):
        return msgspec.structs.replace(asked, model=model, stream=stream)
    return msgspec.structs.replace(asked, model=model)


def thinking(conversation: Conversation, effort: str) -> Conversation:
    """Say how much is to be thought, where the request does not say it itself; nobody asked to read it."""
    if conversation.thinking is not None:
        return conversation
    asked = Thinking(effort=effort, shown=False)  # type: ignore[arg-type]  # one of the configuration's
    return msgspec.structs.replace(conversation, thinking=asked)


class Target(Struct, frozen=True, kw_only=True):
    """
    The facts of a deployment that a request is written for.

    `model` is the vendor's name of it. `max_output` is the most tokens it can write (the catalogue's
    fact): a protocol that demands a cap gets it when the caller set none. `output_cap` is what
    admission reserved and goes before the caller's own cap. `dialect` matters in the OpenAI family.
    """

    model: str
    max_output: int | None = None
    output_cap: int | None = None
    dialect: Dialect = OPENAI


class Written(Struct, frozen=True):
    """
    A request in the vendor's protocol.

    `dropped` names what the vendor's protocol has no word for and what could be left out, as the
    caller wrote it, in order, each once: the value of ``x-penstock-dropped``. `renamed` maps the
    names of tools that the vendor's protocol does not allow, as written, to the caller's: the
    readers of the answer take it.
    """

    body: bytes
    dropped: tuple[str, ...] = ()
    renamed: Mapping[str, str] = {}


StopReason = Literal[
    "end", "stop_sequence", "length", "context", "tool_calls", "refusal", "filtered", "paused"
]


class Choice(Struct, frozen=True):
    """
    One of the answers: its parts in order, and why it ended.

    `detail` is the sequence that stopped it, or the vendor's explanation of a refusal.
    """

    parts: tuple[Text | Reasoning | Refusal | ToolCall, ...]
    stop: StopReason = "end"
    detail: str | None = None


class Answer(Struct, frozen=True):
    """
    A whole answer.

    `id` and `model` are the vendor's, "" where it gave none; `usage` is None where it reported none.
    `dropped` names what the core has no word for (citations, log probabilities).
    """

    choices: tuple[Choice, ...]
    id: str = ""
    model: str = ""
    usage: Usage | None = None
    dropped: tuple[str, ...] = ()


class Reply(Struct, frozen=True, kw_only=True):
    """
    What a writer must know of the request that it answers.

    `id` is the exchange's, from which the answer's and its parts' ids are made; `model` is the name
    to give when the vendor gives none; `created_s` is the Unix time in seconds. `conversation` is the
    request, for protocols that repeat it in the answer (Responses); `asked` is it where it is none.
    """

    id: str
    model: str
    created_s: int
    include_usage: bool = True
    conversation: Conversation | None = None
    asked: Any = None


def reply_to(asked: Any, *, id_: str, created_s: int) -> Reply:
    """Give what a writer of the answer must know of a request."""
    if isinstance(asked, Conversation):
        return Reply(
            id=id_,
            model=asked.model,
            created_s=created_s,
            include_usage=asked.include_usage,
            conversation=asked,
        )
    return Reply(id=id_, model=asked.model, created_s=created_s, asked=asked)


FailureKind = Literal[
    "bad_request",
    "context_length",
    "filtered",
    "unauthorized",
    "billing",
    "forbidden",
    "not_found",
    "conflict",
    "too_large",
    "rate_limited",
    "overloaded",
    "unavailable",
    "timeout",
    "lost",
    "internal",
]


class Failure(Struct, frozen=True, kw_only=True):
    """
    What went wrong, whatever protocol told it.

    `status` is the HTTP status to answer with. `code` is the vendor's or the gateway's public word,
    `param` the field at fault. `retry_after_us` is None where nobody said when to come again.
    """

    kind: FailureKind
    message: str
    status: int
    code: str | None = None
    param: str | None = None
    retry_after_us: int | None = None
