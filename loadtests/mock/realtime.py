"""
The mock's realtime sessions: a WebSocket by hand (RFC 6455), and the few events that a session is made of.

`Frames` reads a client's frames and writes a server's; `Talk` is one session: it answers each `response.create` with deltas and a
`response.done` that carries the usage, as the model's name says (`tokens`, `prompt`, `interval_ms`, `cached`, `audio_in`,
`audio_out`, `cut`: hang up after that many deltas of a response).

Protocol: OpenAI's API reference for realtime.
"""

import base64
import hashlib
import json
import struct
from collections.abc import Iterator
from typing import Any

from loadtests.mock import words
from loadtests.mock.behaviour import Behaviour

REALTIME = "/v1/realtime"
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TEXT, _BINARY, _CLOSE, _PING, _PONG = 1, 2, 8, 9, 10


def accept(key: bytes, protocol: str = "") -> bytes:
    """Write the head that accepts a handshake."""
    token = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
    chosen = f"sec-websocket-protocol: {protocol}\r\n".encode() if protocol else b""
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
        b"sec-websocket-accept: %b\r\n%b\r\n" % (token, chosen)
    )


def frame(payload: bytes, opcode: int = _TEXT) -> bytes:
    """Write one whole frame of a server's."""
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, size))
    elif size < 1 << 16:
        head = struct.pack("!BBH", 0x80 | opcode, 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 127, size)
    return head + payload


class Frames:
    """Reads the frames of a client, however they are cut. Raises `ValueError` for what no client may send."""

    def __init__(self) -> None:
        self._held = b""
        self._message = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield the opcode and the payload of each whole message."""
        self._held += data
        while (found := self._take()) is not None:
            final, opcode, payload = found
            if opcode >= _CLOSE:
                yield opcode, payload
                continue
            self._message += payload
            if final:
                whole, self._message = self._message, b""
                yield _TEXT, whole

    def _take(self) -> tuple[bool, int, bytes] | None:
        held = self._held
        if len(held) < 2:
            return None
        if not held[1] & 0x80:
            raise ValueError("a frame is not masked")
        size, at = held[1] & 0x7F, 2
        if size == 126:
            if len(held) < 4:
                return None
            (size,), at = struct.unpack_from("!H", held, 2), 4
        elif size == 127:
            if len(held) < 10:
                return None
            (size,), at = struct.unpack_from("!Q", held, 2), 10
        if len(held) < at + 4 + size:
            return None
        mask, payload = held[at : at + 4], held[at + 4 : at + 4 + size]
        self._held = held[at + 4 + size :]
        key = (mask * (size // 4 + 1))[:size]
        plain = (int.from_bytes(payload) ^ int.from_bytes(key)).to_bytes(size)
        return bool(held[0] & 0x80), held[0] & 0x0F, plain


class Talk:
    """One session: gives what is said to each event."""

    def __init__(self, behaviour: Behaviour, session_id: str) -> None:
        self.behaviour = behaviour
        self._id = session_id
        self._number = 0

    def greeting(self) -> dict[str, Any]:
        """Give the first event of a session."""
        session = {"id": f"sess_{self._id}", "object": "realtime.session", "type": "realtime"}
        return self._event("session.created", session=session | {"model": self.behaviour.name})

    def answer(self, event: Any) -> list[dict[str, Any]]:
        """Give the events that follow at once from one of the client's; of a response only the first."""
        kind = event.get("type") if isinstance(event, dict) else None
        if kind == "session.update":
            return [self._event("session.updated", session=event.get("session"))]
        if kind == "conversation.item.create":
            return [self._event("conversation.item.added", item=event.get("item"))]
        if kind == "input_audio_buffer.append":
            return []
        if kind == "input_audio_buffer.commit":
            return [self._event("input_audio_buffer.committed", item_id="item_1")]
        if kind == "response.create":
            return [self._event("response.created", response={"status": "in_progress"})]
        error = {"type": "invalid_request_error", "message": f"no such event: {kind}"}
        return [self._event("error", error=error)]

    def deltas(self) -> list[dict[str, Any]]:
        """Give what a response says, a token each."""
        sound = base64.b64encode(bytes(2400)).decode()
        spoken = self.behaviour.audio_out
        said = [
            self._event("response.output_text.delta", delta=words.token(place))
            for place in range(self.behaviour.tokens - spoken)
        ]
        said += [self._event("response.output_audio.delta", delta=sound)] * spoken
        return said

    def done(self) -> dict[str, Any]:
        """Give the end of a response, with what it used."""
        behaviour = self.behaviour
        prompt = behaviour.prompt or 0
        usage = {
            "total_tokens": prompt + behaviour.tokens,
            "input_tokens": prompt,
            "output_tokens": behaviour.tokens,
            "input_token_details": {
                "text_tokens": prompt - behaviour.audio_in,
                "audio_tokens": behaviour.audio_in,
                "cached_tokens": behaviour.cached,
            },
            "output_token_details": {
                "text_tokens": behaviour.tokens - behaviour.audio_out,
                "audio_tokens": behaviour.audio_out,
            },
        }
        response: dict[str, Any] = {"status": "completed", "output": []}
        if behaviour.usage != "off":
            response["usage"] = usage
        return self._event("response.done", response=response)

    def _event(self, kind: str, **members: Any) -> dict[str, Any]:
        self._number += 1
        return {"type": kind, "event_id": f"event_{self._number}"} | members


def written(event: dict[str, Any]) -> bytes:
    """Write an event as a frame."""
    return frame(json.dumps(event).encode())


def closing(code: int) -> bytes:
    """Write a close frame."""
    return frame(struct.pack("!H", code), _CLOSE)


def pong(payload: bytes) -> bytes:
    """Write the answer to a ping."""
    return frame(payload, _PONG)


def is_close(opcode: int) -> bool:
    """Whether a frame is the end."""
    return opcode == _CLOSE


def is_ping(opcode: int) -> bool:
    """Whether a frame wants to be answered."""
    return opcode == _PING
