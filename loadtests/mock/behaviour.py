"""
How a call to the mock vendor goes, read from the model name it asks for.

`"sim;ttft_ms=50;interval_ms=20;tokens=32"` is the model `sim` with three options.
The name is the only thing that every gateway hands through unchanged, so that one running mock plays any number of vendors at once, and a test says in its own configuration what will happen.
An option that does not exist, or a value that makes no sense, is an error with words: a test with a typing mistake must not pass by accident.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Any


class BadOption(ValueError):
    """A model name carries an option that the mock does not know, or a value it cannot use."""


def _count(default: int | None, text: str) -> Any:
    return field(default=default, metadata={"help": text, "kind": "count"})


def _flag(text: str) -> Any:
    return field(default=False, metadata={"help": text, "kind": "flag"})


def _word(default: str | None, choices: tuple[str, ...], text: str) -> Any:
    return field(default=default, metadata={"help": text, "kind": "word", "choices": choices})


@dataclass(frozen=True, slots=True)
class Behaviour:
    """
    What a call does.

    Durations are milliseconds from the moment that the request is complete; counts are tokens or bytes as their text says.
    The `help` of each field is the option table of `loadtests/README.md`.
    """

    name: str = "sim"

    # When
    ttft_ms: int = _count(0, "delay before the first byte of the answer")
    jitter_ms: int = _count(0, "up to so much more before the first byte, drawn evenly and seeded")
    interval_ms: int = _count(0, "pause between streamed chunks; 0 sends them in one write")

    # How much
    tokens: int = _count(32, "tokens of visible answer; one streamed chunk each")
    prompt: int | None = _count(None, "prompt tokens reported; default: body bytes / 4, rounded up")
    pad: int = _count(0, "filler bytes added to each streamed chunk's text")
    dim: int = _count(1536, "numbers in an embedding, unless the request gives `dimensions`")

    # What the usage says
    usage: str = _word("on", ("on", "off", "always"), "`on`: in streams only when asked for")
    cached: int = _count(0, "cached prompt tokens, part of the prompt tokens")
    cache_write: int = _count(0, "prompt tokens written to the cache, part of the prompt tokens")
    cache_write_1h: int = _count(
        0, "of those, the ones that are to live for an hour (Anthropic, Bedrock)"
    )
    reasoning: int = _count(0, "hidden reasoning tokens, added to the completion tokens")
    audio_in: int = _count(0, "audio tokens within the prompt tokens")
    audio_out: int = _count(0, "audio tokens within the completion tokens")
    seconds: int = _count(
        0, "how long a recording is: a transcription reports it in place of tokens"
    )

    # What is said
    tools: bool = _flag("answer with a call of the tool `get_weather`")

    # How it is framed
    framing: str | None = _word(
        None, ("chunked", "length", "close"), "how the body's end is marked; default by kind"
    )
    done: str = _word(
        "on",
        ("on", "off"),
        "`off`: no `data: [DONE]` (or `message_stop`, `response.completed`, `messageStop`) at the end of a stream",
    )
    crlf: bool = _flag("events of a stream end in CR LF")
    split: int = _count(0, "write the answer in pieces of this many bytes")
    head_1xx: bool = _flag("a `103 Early Hints` goes before the answer")
    close: bool = _flag("the answer says `connection: close`, and the socket closes after it")
    drop_ms: int | None = _count(
        None, "close the idle socket so long after the answer, unannounced"
    )
    early: bool = _flag("answer as soon as the model name was read, before the body is complete")

    # How it fails
    status: int | None = _count(None, "answer with this error status")
    retry_after: int | None = _count(None, "seconds in the `retry-after` header of that error")
    hang: str | None = _word(
        None, ("head", "body", "mid"), "stop for ever: before the head, after it, or half-way"
    )
    cut: int | None = _count(None, "close the socket after this many bytes of body")
    reset: bool = _flag("RST instead of an answer, or instead of the close of `cut`")
    garbage: str | None = _word(
        None, ("head", "body", "chunk"), "no HTTP, no JSON, or half-way an impossible chunk size"
    )
    error: str | None = _word(
        None, ("first", "mid"), "an error event in the stream, at once or half-way"
    )
    times: int | None = _count(
        None, "only the first so many calls of this exact model name fail; then all is well"
    )

    @property
    def fails(self) -> bool:
        """Whether a call with these options is meant to go wrong."""
        return (
            self.status is not None
            or self.hang is not None
            or self.cut is not None
            or self.reset
            or self.garbage is not None
            or self.error is not None
        )

    def healed(self) -> "Behaviour":
        """Give the same behaviour without its failures: what follows the first `times` calls."""
        return dataclasses.replace(
            self,
            status=None,
            retry_after=None,
            hang=None,
            cut=None,
            reset=False,
            garbage=None,
            error=None,
            times=None,
        )


OPTIONS = tuple(row for row in dataclasses.fields(Behaviour) if row.name != "name")
_BY_NAME = {row.name: row for row in OPTIONS}
# Renders stay within memory whatever a typing mistake asks for.
_MOST = 10_000_000


def read_behaviour(model: str) -> Behaviour:
    """
    Read a model name with its options.

    Raises `BadOption` in words that a test author can act on.
    """
    name, *parts = model.split(";")
    values: dict[str, Any] = {"name": name}
    for part in parts:
        option, equals, value = part.partition("=")
        row = _BY_NAME.get(option)
        if row is None or not equals:
            raise BadOption(f"the mock has no option {part!r}; it knows {', '.join(_BY_NAME)}")
        values[option] = _read_value(option, value, row.metadata)
    behaviour = Behaviour(**values)
    if behaviour.status is not None and not 400 <= behaviour.status <= 599:
        raise BadOption(f"status={behaviour.status} is no error status")
    return behaviour


def _read_value(option: str, value: str, row: Any) -> Any:
    if row["kind"] == "word":
        if value not in row["choices"]:
            raise BadOption(f"{option}={value!r}: one of {', '.join(row['choices'])} was expected")
        return value
    if row["kind"] == "flag":
        if value not in {"0", "1"}:
            raise BadOption(f"{option}={value!r}: 0 or 1 was expected")
        return value == "1"
    if not (value.isascii() and value.isdigit()) or int(value) > _MOST:
        raise BadOption(f"{option}={value!r}: a whole number up to {_MOST} was expected")
    return int(value)
