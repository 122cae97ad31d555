"""
OpenAI's Realtime: what the events of a session say of usage, and how a caller presents its key there.

A session is a sequence of *turns*: each ends with ``response.done``, which carries the usage of that response, text and audio
told apart. While a response is under way, its output is reckoned from the deltas: a token of text is some four bytes, one
of audio is 50 ms, which is 2,400 bytes of the usual PCM and 3,200 of base64.

Browsers cannot set headers on a WebSocket, so that a key may come as the subprotocol ``openai-insecure-api-key.KEY``
(OpenAI, Realtime with WebSockets). It is read here, answered with another one, and goes nowhere.

Protocol: OpenAI's API reference for realtime server events.
"""

import re
from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec import Struct

from proxy.wire.meter import MAX_TOKENS, Units, Usage, within

__all__ = ["TurnMeter", "error_event", "presented"]

KEY_PREFIX: Final = "openai-insecure-api-key."
BETA: Final = "openai-beta."
PROTOCOL: Final = "realtime"
# In base64: what the vendor speaks, and what it hears, in characters for a token.
SPOKEN_PER_TOKEN: Final = 3_200
HEARD_PER_TOKEN: Final = 6_400
# Where the type of an event is looked for before it is decoded.
HEAD: Final = 256

_SOUND = re.compile(r'"response\.(?:output_)?audio\.delta"')


class _Details(Struct, gc=False):
    audio_tokens: int | None = None
    cached_tokens: int | None = None
    image_tokens: int | None = None


class _Usage(Struct, gc=False):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_token_details: _Details | None = None
    output_token_details: _Details | None = None
    seconds: float | None = None


class _Response(Struct, gc=False):
    status: str | None = None
    usage: _Usage | None = None


class _Event(Struct, gc=False):
    type: str = ""
    response: _Response | None = None
    usage: _Usage | None = None
    delta: str | None = None


_EVENT = msgspec.json.Decoder(_Event)


class TurnMeter:
    """
    Meters one turn: what the vendor reports when it is done, else what went by.

    To whoever settles it looks as the meter of a stream: `usage` is None while a response is under way and nothing
    was reported. `active` says whether one is, `done` that it has ended, `failed` that it did so in an error.
    """

    __slots__ = ("_extra", "_sound", "_text", "active", "done", "failed", "heard", "reported")

    def __init__(self) -> None:
        self.active = False
        self.done = False
        self.failed = False
        # What the caller has sent for it, in tokens.
        self.heard = 0.0
        self.reported: Usage | None = None
        self._text = 0
        self._sound = 0
        # Of transcriptions of what the caller said, which are reported by themselves.
        self._extra: Usage | None = None

    def look(self, text: str) -> None:
        """Look at one event of the vendor's."""
        head = text[:HEAD]
        if _SOUND.search(head):
            self.active = True
            self._sound += len(text)
            return
        if '"response.' not in text and "transcription.completed" not in head:
            return
        try:
            event: _Event = _EVENT.decode(text)
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            return
        kind = event.type
        if kind == "response.done":
            self.done = True
            self.active = False
            response = event.response
            if response is not None:
                self.failed = response.status == "failed"
                self.reported = _settled(response.usage)
        elif kind.endswith("input_audio_transcription.completed"):
            self._extra = _sum(self._extra, _settled(event.usage))
        elif kind.startswith("response."):
            self.active = True
            if kind.endswith(".delta") and event.delta is not None:
                self._text += len(event.delta.encode("utf-8", "replace"))

    def sent(self, text: str) -> None:
        """Look at one event of the caller's: how much the vendor gets to hear or to read with it."""
        sound = '"input_audio_buffer.append"' in text[:HEAD]
        self.heard += len(text) / (HEARD_PER_TOKEN if sound else 4)

    @property
    def usage(self) -> Usage | None:
        """What is to be charged as reported; None where it has to be estimated."""
        if self.reported is None and (self.active or self.done):
            return None
        return _sum(self.reported, self._extra) or Usage()

    @property
    def output_tokens(self) -> int:
        """The output so far: as reported, else reckoned."""
        if self.reported is not None:
            return self.reported.output_tokens
        return -(-self._text // 4) + -(-self._sound // SPOKEN_PER_TOKEN)

    def progress(self) -> int:
        """Return the output so far, for a report while the session goes on."""
        return self.output_tokens


def presented(offered: Iterable[str]) -> tuple[str, list[str], str]:
    """
    Read the subprotocols that a caller offers: gives its key or nothing, those that may be chosen, and the beta that it asks for.

    Keys and organizations are no protocols, and are never chosen.
    """
    key = beta = ""
    others: list[str] = []
    for said in offered:
        name = said.strip()
        if name.startswith(KEY_PREFIX):
            key = key or name.removeprefix(KEY_PREFIX)
        elif name.startswith(BETA):
            # The header has it with an equals sign: `realtime=v1`.
            beta = beta or name.removeprefix(BETA).replace("-", "=", 1)
        elif name == PROTOCOL:
            others.append(name)
    return key, others, beta


def error_event(message: str, type_: str, code: str) -> str:
    """Write the event that tells why a session ends."""
    error = {"type": type_, "code": code, "message": message, "param": None, "event_id": None}
    return msgspec.json.encode({"type": "error", "event_id": "event_0", "error": error}).decode()


def _settled(found: _Usage | None) -> Usage | None:
    """Make the gateway's counts of a vendor's; None when they make no sense."""
    if found is None:
        return None
    if found.seconds is not None and 0 < found.seconds < MAX_TOKENS:
        return Usage(units=Units(audio_input_us=int(found.seconds * 1_000_000)))
    prompt, output = found.input_tokens or 0, found.output_tokens or 0
    if not (0 <= prompt <= MAX_TOKENS and 0 <= output <= MAX_TOKENS):
        return None
    usage = Usage(prompt, 0, 0, output)
    inputs, outputs = found.input_token_details, found.output_token_details
    if inputs is not None:
        usage.cached_tokens = within(inputs.cached_tokens or 0, prompt)
        usage.audio_input_tokens = within(inputs.audio_tokens or 0, prompt)
        usage.image_input_tokens = within(inputs.image_tokens or 0, prompt)
    if outputs is not None:
        usage.audio_output_tokens = within(outputs.audio_tokens or 0, output)
    return usage


def _sum(one: Usage | None, other: Usage | None) -> Usage | None:
    if one is None or other is None:
        return one or other
    both = Usage(
        *(
            getattr(one, name) + getattr(other, name)
            for name in Usage.__struct_fields__
            if name != "units"
        )
    )
    us = sum(use.units.audio_input_us for use in (one, other) if use.units is not None)
    both.units = Units(audio_input_us=us) if us else None
    return both
