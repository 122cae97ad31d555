"""
OpenAI's legacy Completions, for callers only: a prompt becomes what a user says.

It makes sense where the prompt is one text that is to be answered. What needs the model itself to go on
writing (a suffix to meet, the prompt echoed, tokens for a prompt, the best of several) is refused. What
a model thinks, and tools it would call, have no place in the answer and are named as dropped.

Protocol: OpenAI's API reference.
"""

from typing import Any

import msgspec

from proxy.wire.look import BadField
from proxy.wire.translate.chat.answers import finish_of, usage_of, write_failure
from proxy.wire.translate.core import (
    Answer,
    CannotExpress,
    Conversation,
    Refusal,
    Reply,
    Sampling,
    Text,
    Turn,
)
from proxy.wire.translate.events import (
    Alive,
    Ended,
    Event,
    Failed,
    ReasoningDelta,
    RefusalDelta,
    Started,
    Stopped,
    TextDelta,
    ToolCallStarted,
    UsageSeen,
)
from proxy.wire.translate.fields import encode, parse_object
from proxy.wire.translate.writing import EventWriter

__all__ = ["CompletionsWriter", "read_request", "write_answer"]

FAMILY = "openai.completions"


def read_request(body: bytes) -> Conversation:
    """
    Read a completion's body.

    Raises `BadField` for what is no such request, and `CannotExpress` for what only a model that goes on
    writing can do.
    """
    top = parse_object(body)
    prompt = top.any("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if prompt is None:
        raise top.missing("prompt")
    if isinstance(prompt, list):
        raise CannotExpress("prompt", "send one text: neither several prompts nor tokens.")
    if not isinstance(prompt, str) or not prompt:
        raise BadField("prompt", "prompt must be a text.", "invalid_type")
    for name in ("suffix", "echo", "logprobs"):
        value = top.any(name)
        if value is not None and value is not False and value != "":
            raise CannotExpress(name, "this model answers a prompt, and does not go on writing it.")
    n = top.whole("n", 1) or 1
    best = top.whole("best_of", 1)
    if best is not None and best != n:
        raise CannotExpress("best_of", "ask for as many answers as you want to have.")
    options = top.fields("stream_options")
    read = Conversation(
        model=top.need_text("model"),
        turns=(Turn("user", (Text(prompt),)),),
        sampling=Sampling(
            temperature=top.number("temperature"),
            top_p=top.number("top_p"),
            frequency_penalty=top.number("frequency_penalty"),
            presence_penalty=top.number("presence_penalty"),
            seed=top.whole("seed"),
            logit_bias=top.object("logit_bias"),
        ),
        max_tokens=top.whole("max_tokens", 1),
        stop=top.texts("stop"),
        n=n,
        stream=top.boolean("stream") or False,
        include_usage=(options is not None and options.boolean("include_usage")) or False,
        user=top.text("user"),
        metadata=top.object("metadata"),
        family=FAMILY,
    )
    extra = top.rest()
    return msgspec.structs.replace(read, extra=extra) if extra else read


def write_answer(answer: Answer, reply: Reply) -> bytes:
    """Write a completion."""
    choices = []
    for number, choice in enumerate(answer.choices):
        texts = [part.text for part in choice.parts if isinstance(part, Text | Refusal)]
        choices.append(_choice(number, "".join(texts), finish_of(choice.stop, refused=False)))
    written = _head(reply, answer.model) | {"choices": choices}
    if answer.usage is not None:
        written["usage"] = usage_of(answer.usage)
    return encode(written)


def _head(reply: Reply, model: str) -> dict[str, Any]:
    return {
        "id": f"cmpl-{reply.id}",
        "object": "text_completion",
        "created": reply.created_s,
        "model": model or reply.model,
    }


def _choice(number: int, text: str, finish: str | None) -> dict[str, Any]:
    return {"text": text, "index": number, "logprobs": None, "finish_reason": finish}


class CompletionsWriter(EventWriter):
    """Writes a streamed completion. See `events.StreamWriter`."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply)
        self._begin = b""

    def tell(self, event: Event, out: list[bytes]) -> None:
        """Say one event."""
        match event:
            case TextDelta() | RefusalDelta():
                self._send(event.choice, event.text, None, out)
            case Started():
                head = _head(self._reply, event.model)
                self._begin = b"data: " + encode(head)[:-1] + b',"choices":['
            case ReasoningDelta():
                self.drop("reasoning")
            case ToolCallStarted():
                self.drop("tool_calls")
            case UsageSeen():
                self._usage = event.usage
            case Stopped():
                self._send(event.choice, "", finish_of(event.reason, refused=False), out)
            case Alive():
                out.append(b": alive\n\n")
            case Ended():
                self._over = True
                if self._usage is not None and self._reply.include_usage:
                    usage = encode(usage_of(self._usage))
                    out.append(self._begin + b'],"usage":' + usage + b"}\n\n")
                out.append(b"data: [DONE]\n\n")
            case Failed():
                self._over = True
                out.append(write_failure(event.failure, self._reply.id))
            case _:
                pass

    def _send(self, number: int, text: str, finish: str | None, out: list[bytes]) -> None:
        end = b'],"usage":null}\n\n' if self._reply.include_usage else b"]}\n\n"
        out.append(self._begin + encode(_choice(number, text, finish)) + end)
