"""
Callers: streams and whole answers at random moments, some of whom leave in the middle.

Each call has a mark of its own in its body (`user`), by which it is found again in the ledger and in the mock's books.
What became of it is written down from the caller's point of view, which knows nothing of the gateway's insides.
"""

import asyncio
import json
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import aiohttp

HUNG_S = 30.0
_LEFT_AT_ONCE = 0


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of call: what is asked for, how often, and what a whole answer holds; `leave_after` chunks the caller goes."""

    name: str
    model: str
    stream: bool
    tokens: int
    weight: float
    leave_after: int | None = None


@dataclass(slots=True)
class Call:
    """
    What became of a call.

    `ended`: `whole`, `refused` (an error status), `told` (an error event in the stream), `cut` (the connection broke in the answer),
    `lost` (it broke before one), `left` (the caller went), `short` (it seemed whole and was not), `hung`.
    `at_s` is when it began, by the load's own clock; `head_s` how long its status took.
    """

    mark: str
    kind: str
    key: str
    at_s: float
    status: int = 0
    code: str = ""
    head_s: float = 0.0
    took_s: float = 0.0
    tokens: int = 0
    ended: str = "lost"
    request_id: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


class Load:
    """
    Calls at random moments (a Poisson process of `rate` per second) until it is stopped.

    `mix` is drawn from by weight; `marks` begins every mark; `key` is the caller's.
    """

    def __init__(
        self,
        url: str,
        key: str,
        mix: Sequence[Kind],
        rate: float,
        rng: random.Random,
        *,
        marks: str,
        begun: float | None = None,
    ) -> None:
        self.calls: list[Call] = []
        self.begun = time.monotonic() if begun is None else begun
        self._url = f"{url}/v1/chat/completions"
        self._key = key
        self._mix = mix
        self._weights = [kind.weight for kind in mix]
        self._rate = rate
        self._rng = rng
        self._marks = marks
        self._stopped = asyncio.Event()

    def now(self) -> float:
        """Return the seconds since the load began."""
        return time.monotonic() - self.begun

    def stop(self) -> None:
        """Begin no more calls."""
        self._stopped.set()

    async def run(self) -> None:
        """Call until `stop`, then wait for what is open."""
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        timeout = aiohttp.ClientTimeout(total=HUNG_S)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            asyncio.TaskGroup() as tasks,
        ):
            due = time.monotonic()
            while not self._stopped.is_set():
                due += self._rng.expovariate(self._rate)
                pause = due - time.monotonic()
                if pause > 0:
                    try:
                        async with asyncio.timeout(pause):
                            await self._stopped.wait()
                    except TimeoutError:
                        pass
                (kind,) = self._rng.choices(self._mix, self._weights)
                mark = f"{self._marks}{len(self.calls)}"
                call = Call(mark, kind.name, self._key, round(self.now(), 3))
                self.calls.append(call)
                tasks.create_task(self._call(session, kind, call))

    async def _call(self, session: aiohttp.ClientSession, kind: Kind, call: Call) -> None:
        body: dict[str, Any] = {
            "model": kind.model,
            "user": call.mark,
            "messages": [{"role": "user", "content": "How does water come down from the lake?"}],
        }
        if kind.stream:
            body["stream"] = True
        begun = time.monotonic()
        try:
            async with session.post(
                self._url, json=body, headers={"authorization": f"Bearer {self._key}"}
            ) as answer:
                call.head_s = round(time.monotonic() - begun, 4)
                call.status = answer.status
                call.request_id = answer.headers.get("x-request-id", "")
                if answer.status != 200:
                    call.ended = "refused"
                    call.code = code_of(await answer.read())
                elif kind.stream:
                    await _read_stream(answer, kind, call)
                else:
                    told = json.loads(await answer.read())
                    call.tokens = told["usage"]["completion_tokens"]
                    call.ended = "whole" if call.tokens == kind.tokens else "short"
        except TimeoutError:
            call.ended = "hung"
        except (aiohttp.ClientError, OSError, ValueError, KeyError):
            call.ended = "cut" if call.status == 200 else "lost"
        finally:
            call.took_s = round(time.monotonic() - begun, 4)


async def _read_stream(answer: aiohttp.ClientResponse, kind: Kind, call: Call) -> None:
    call.ended = "cut"
    if kind.leave_after == _LEFT_AT_ONCE:
        call.ended = "left"
        return
    async for line in answer.content:
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            call.ended = "whole" if call.tokens == kind.tokens else "short"
            continue
        event = json.loads(data)
        if "error" in event:
            call.ended = "told"
            call.code = str(event["error"].get("code"))
            return
        choices = event.get("choices")
        if choices and choices[0]["delta"].get("content"):
            call.tokens += 1
            if call.tokens == kind.leave_after:
                call.ended = "left"
                return


def code_of(body: bytes) -> str:
    """Return the code of an error's body, empty when it has none."""
    try:
        return str(json.loads(body)["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return ""
