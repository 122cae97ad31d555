"""
An exchange told in order: `>>` is what happens, `<<` is what we must do (mitmproxy's idea).

    await (
        tell(rig)
        >> caller_sends(request(chat()))
        << vendor_gets(model="upstream-m")
        >> vendor_says(whole(ANSWER))
        << caller_gets(200, body=ANSWER)
    )
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any, Self

from tests.patience import within
from tests.proxy.edge_rig import Rig
from tests.proxy.partners import PATIENCE_S, Answer, Asked, Caller, Line, Vendor

Step = Callable[["Stage"], Awaitable[None]]


@dataclass
class Stage:
    """Where a story plays: one caller, and the line of the vendor who is being asked."""

    rig: Rig
    vendor: Vendor
    caller: Caller
    line: Line | None = None
    asked: Asked | None = None
    answer: Answer | None = None
    # Of a streamed body: what has come and was not looked at yet.
    unread: bytes = b""


class Story:
    """A sequence of steps: `>>` what happens, `<<` what we must do. Await it to play it."""

    def __init__(self, rig: Rig, vendor: Vendor) -> None:
        self._rig = rig
        self._vendor = vendor
        self._steps: list[tuple[str, Step]] = []

    def __rshift__(self, step: Step) -> Self:
        self._steps.append((f">> {step.__qualname__.partition('.')[0]}", step))
        return self

    def __lshift__(self, step: Step) -> Self:
        self._steps.append((f"<< {step.__qualname__.partition('.')[0]}", step))
        return self

    def __await__(self) -> Generator[Any, None, Stage]:
        return self._play().__await__()

    async def _play(self) -> Stage:
        stage = Stage(self._rig, self._vendor, await self._rig.caller())
        for number, (name, step) in enumerate(self._steps, 1):
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await step(stage)
            except BaseException as error:
                error.add_note(f"in step {number} of the story: {name}")
                raise
        return stage


def caller_sends(*pieces: bytes) -> Step:
    """Let the caller send bytes."""

    async def step(stage: Stage) -> None:
        await stage.caller.send(*pieces)

    return step


def caller_leaves() -> Step:
    """Let the caller hang up."""

    async def step(stage: Stage) -> None:
        await stage.caller.leave()

    return step


def vendor_gets(**members: Any) -> Step:
    """See that the vendor is asked (on a new line, unless it has one), with these members in the body."""

    async def step(stage: Stage) -> None:
        if stage.line is None:
            stage.line = await stage.vendor.line()
        stage.asked = await stage.line.gets()
        for name, value in members.items():
            assert stage.asked.json.get(name) == value, stage.asked.body

    return step


def vendor_gets_bytes(body: bytes) -> Step:
    """See that the vendor is asked with this very body."""

    async def step(stage: Stage) -> None:
        await vendor_gets()(stage)
        assert stage.asked is not None
        assert stage.asked.body == body

    return step


def vendor_says(*pieces: bytes) -> Step:
    """Let the vendor send bytes."""

    async def step(stage: Stage) -> None:
        assert stage.line is not None
        await stage.line.says(*pieces)

    return step


def vendor_closes() -> Step:
    """Let the vendor close its line in good order."""

    async def step(stage: Stage) -> None:
        assert stage.line is not None
        stage.line.closes()
        stage.line = None

    return step


def vendor_resets() -> Step:
    """Let the vendor reset its line."""

    async def step(stage: Stage) -> None:
        assert stage.line is not None
        stage.line.resets()
        stage.line = None

    return step


def vendor_is_left(within_s: float = 0.1) -> Step:
    """See that the gateway hangs up on the vendor in time."""

    async def step(stage: Stage) -> None:
        assert stage.line is not None
        async with within(within_s):
            await stage.line.left()
        stage.line = None

    return step


def caller_gets_head(status: int = 200, **headers: str) -> Step:
    """See that the caller gets the head of an answer."""

    async def step(stage: Stage) -> None:
        stage.answer = await stage.caller.head()
        assert stage.answer.status == status
        for name, value in headers.items():
            assert stage.answer.header(name.replace("_", "-")) == value

    return step


def caller_gets_chunk(data: bytes) -> Step:
    """See that the caller gets these very bytes in one chunk."""

    async def step(stage: Stage) -> None:
        assert stage.unread == b""
        assert await stage.caller.chunk() == data

    return step


def caller_gets_events(data: bytes) -> Step:
    """See that the caller gets these very bytes next, in as many chunks as they take."""

    async def step(stage: Stage) -> None:
        while len(stage.unread) < len(data):
            chunk = await stage.caller.chunk()
            assert chunk.endswith(b"\n\n")
            stage.unread += chunk
        assert stage.unread.startswith(data)
        stage.unread = stage.unread[len(data) :]

    return step


def caller_gets_error_event(code: str) -> Step:
    """See that the stream ends in a typed error, and in good framing."""

    async def step(stage: Stage) -> None:
        while data := await stage.caller.chunk():
            stage.unread += data
        error = json.loads(stage.unread.removeprefix(b"data: "))["error"]
        assert (error["type"], error["code"]) == ("upstream_error", code)

    return step


def caller_gets(status: int, code: str | None = None, body: bytes | None = None) -> Step:
    """See that the caller gets a whole answer."""

    async def step(stage: Stage) -> None:
        stage.answer = await stage.caller.answer()
        assert stage.answer.complete
        assert stage.answer.status == status, stage.answer.body
        if code is not None:
            assert stage.answer.error["code"] == code
        if body is not None:
            assert stage.answer.body == body

    return step


def caller_is_left() -> Step:
    """See that the gateway closes the caller's connection, and says nothing more."""

    async def step(stage: Stage) -> None:
        await stage.caller.closed()

    return step


def booked(*expected: dict[str, Any]) -> Step:
    """See that the ledger holds these attempts and no other, with these fields."""

    async def step(stage: Stage) -> None:
        entries = [entry.as_dict() for entry in await stage.rig.entries()]
        found = [
            {name: entry[name] for name in wanted}
            for entry, wanted in zip(entries, expected, strict=True)
        ]
        assert found == list(expected)

    return step


def tell(rig: Rig, vendor: str = "v") -> Story:
    """Begin a story with this scripted vendor."""
    return Story(rig, rig.vendors[vendor])
