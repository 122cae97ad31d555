"""
The demo: everything on this machine, with a mock vendor, and one governed completion to watch.

It is a real installation with a real configuration (`deploy/demo.yaml`) in a directory of its own (`var/demo`), begun anew each time so that it goes the same way each time.
What is shown is what any caller and any operator can see: the answer's headers, the admin port's exchange and metrics, and the scopes in the store.
"""

import argparse
import asyncio
import contextlib
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from config.loader import load_file
from proxy.installation import STORE_STAGE, Installation, http_ready, prepared
from proxy.ports import hold
from proxy.supervisor import Role, Supervisor
from proxy.terminal import Terminal, standard_output
from ratelimit.upkeep import read_scope
from routing.decision import read
from store import topology
from store.places import CHECKOUT, Places, places

CONFIG_FILE = CHECKOUT / "deploy" / "demo.yaml"
KEY = "penstock-demo-key"
MODEL = "auto"
QUESTION = "How does a penstock work?"
SCOPES = ("key:acme/support/helpdesk", "team:acme/support", "org:acme")

_ENTRY_WITHIN_S = 3.0
_WIDTH = 88


@dataclass(frozen=True, slots=True)
class Answer:
    """A streamed completion as its caller saw it; durations in seconds."""

    status: int
    headers: Mapping[str, str]
    chunks: int
    first_token_s: float
    complete: bool


async def demo(options: argparse.Namespace) -> int:
    """
    Run the demo and return the exit code: 0 when the completion came through and was accounted for.

    Raises what the start of an installation raises.
    """
    screen = standard_output()
    vendor = hold("127.0.0.1", 0)
    variables = {
        "PENSTOCK_DEMO_PORT": str(options.port),
        "PENSTOCK_DEMO_ADMIN_PORT": str(options.admin_port),
        "PENSTOCK_DEMO_VENDOR": f"http://{vendor.address}/v1",
    }
    loaded = load_file(CONFIG_FILE, {**os.environ, **variables})
    here = places({"PENSTOCK_VAR": str(places(os.environ).var / "demo")})
    async with prepared(
        here,
        CONFIG_FILE,
        loaded,
        workers=options.workers,
        variables=variables,
        remedies={
            "edge.listen": "use another: --port N",
            "admin.listen": "use another: --admin-port N",
        },
    ) as ours:
        vendor.release()
        _begin_anew(here)
        roles = [_vendor_role(ours, vendor.address), *ours.roles(quiet=True)]
        supervisor = Supervisor(roles, here.log, lambda line: screen.say(f"penstock: {line}"))
        show = Show(ours, screen)
        screen.say(
            screen.paint("Penstock demo", "bold")
            + ": a mock vendor, a caller with limits and a strict budget."
        )
        screen.say(screen.paint("Everything runs on this machine; nothing leaves it.", "dim"))
        screen.status("starting the store, the control, the edges and the vendor …", "dim")

        async def body() -> int:
            code = await show.once()
            if options.once or code:
                return code
            show.invite()
            await show.stay(supervisor.stopping)
            return 0

        code = await supervisor.run(body, when_stopped=130 if options.once else 0)
        screen.say(screen.paint("Everything that was started has ended.", "dim"))
        return code


def _begin_anew(here: Places) -> None:
    """Throw away what the last demo left; the lock says that no other one runs here."""
    for leftover in (here.store, here.journal):
        shutil.rmtree(leftover, ignore_errors=True)
    for file in here.var.glob("ledger.db*"):
        file.unlink()
    here.make()


def _vendor_role(ours: Installation, address: str) -> Role:
    host, _, port = address.rpartition(":")
    return Role(
        "vendor",
        # The mock is no part of the product and knows nothing of parents.
        (sys.executable, "-m", "store.parent", "loadtests.mock", "--listen", address),
        STORE_STAGE,
        ready=http_ready((host, int(port)), "/__mock/books"),
        stop_within_s=2.0,
        environment=ours.environment(),
    )


class Show:
    """What the demo does and prints, once everything is up."""

    def __init__(self, ours: Installation, screen: Terminal) -> None:
        self._ours = ours
        self._screen = screen

    # One completion...

    async def once(self) -> int:
        """Stream one completion and explain it; return the exit code."""
        screen = self._screen
        paint = screen.paint
        screen.say()
        screen.say(
            f"  data   {paint(self._ours.data_url, 'cyan')}    admin  {paint(self._ours.admin_url, 'cyan')}"
        )
        screen.say()
        screen.say(
            f"{paint('POST /v1/chat/completions', 'bold')}  model={MODEL}  as acme/support/helpdesk"
        )
        screen.say(paint(f"> {QUESTION}", "dim"))
        screen.say()
        async with aiohttp.ClientSession() as session:
            answer = await self._stream(session)
            screen.say()
            if answer.status != 200:
                return 1
            request_id = answer.headers.get("x-request-id", "")
            entries = await self._entries(session, request_id)
        if not entries:
            screen.say(paint(f"The ledger has no entry of {request_id}.", "red"))
            return 1
        for line in explain(entries, answer, screen):
            screen.say(line)
        for line in await self._left(answer):
            screen.say(line)
        screen.say()
        done = answer.complete and entries[-1]["outcome"] == "ok"
        if not done:
            screen.say(paint("The answer did not come to its end.", "red"))
        return 0 if done else 1

    async def _stream(self, session: aiohttp.ClientSession) -> Answer:
        """Ask, and print the tokens as they arrive."""
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        first_token_s, chunks, complete = 0.0, 0, False
        text = Column(self._screen)
        async with session.post(
            f"{self._ours.data_url}/v1/chat/completions",
            headers={"authorization": f"Bearer {KEY}"},
            json={
                "model": MODEL,
                "stream": True,
                "messages": [{"role": "user", "content": QUESTION}],
            },
        ) as response:
            if response.status != 200:
                said = (await response.text())[:1000]
                self._screen.say(self._screen.paint(f"{response.status}: {said}", "red"))
            else:
                async for event in events(response.content):
                    if event == "[DONE]":
                        complete = True
                        continue
                    piece = content_of(json.loads(event))
                    if piece:
                        chunks += 1
                        first_token_s = first_token_s or loop.time() - asked_at
                        text.write(piece)
                text.end()
            return Answer(response.status, response.headers, chunks, first_token_s, complete)

    async def _entries(
        self, session: aiohttp.ClientSession, request_id: str
    ) -> list[dict[str, Any]]:
        """Ask the admin port for the exchange until it is settled, which is a moment after the last byte."""
        url = f"{self._ours.admin_url}/v1/exchanges/{request_id}"
        entries: list[dict[str, Any]] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ENTRY_WITHIN_S):
                while not any(entry["outcome"] == "ok" for entry in entries):
                    async with session.get(url) as response:
                        if response.status == 200:
                            entries = (await response.json())["entries"]
                    await asyncio.sleep(0.05)
        return entries

    async def _left(self, answer: Answer) -> list[str]:
        """Say what the caller may still do: rates from the answer's headers, money from the store."""
        lines = []
        rates = []
        for kind in ("requests", "tokens"):
            limit = answer.headers.get(f"x-ratelimit-limit-{kind}")
            left = answer.headers.get(f"x-ratelimit-remaining-{kind}")
            if limit and left:
                rates.append(f"{int(left):,} of {int(limit):,} {kind}")
        if rates:
            lines.append(row("left this minute", ", ".join(rates)))
        client = topology.client(self._ours.store_url, connections=1)
        try:
            for scope in SCOPES:
                state = await read_scope(client, scope)
                for period, budget in state.budgets.items() if state is not None else ():
                    left_nusd = budget.amount_nusd - budget.spent_nusd - budget.held_nusd
                    mode = "strict" if budget.strict else "soft"
                    lines.append(
                        row(
                            f"left this {period}",
                            f"{usd(left_nusd)} of {usd(budget.amount_nusd, 2)} ({mode} budget of {scope})",
                        )
                    )
        finally:
            await client.aclose()
        return lines

    # And then...

    def invite(self) -> None:
        """Print what people can type to go on by themselves."""
        screen, url = self._screen, self._ours.data_url
        var = self._ours.places.var
        screen.say(
            screen.paint("Try it yourself", "bold") + ", with curl or with the openai package"
        )
        for line in [*curl(url), "", *snippet(url)]:
            screen.say(f"  {line}" if line else "")
        screen.say()
        screen.say(screen.paint("What it cost so far, and the proof of the books", "bold"))
        screen.say(f"  PENSTOCK_VAR={quoted(var)} ./penstock usage --by deployment")
        screen.say(f"  PENSTOCK_VAR={quoted(var)} ./penstock ledger verify")
        screen.say(f"  {self._ours.admin_url}/    in a browser")
        screen.say(f"  curl -s {self._ours.admin_url}/metrics")
        screen.say()
        screen.say(screen.paint("Ctrl-C drains and ends it.", "dim"))

    async def stay(self, stopping: asyncio.Event) -> None:
        """Stay up until told to end; on a terminal, with one line that counts."""
        async with aiohttp.ClientSession() as session:
            while not stopping.is_set():
                if self._screen.is_live:
                    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                        self._screen.status(await self._progress(session), "dim")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), 0.5)

    async def _progress(self, session: aiohttp.ClientSession) -> str:
        timeout = aiohttp.ClientTimeout(total=2)
        async with session.get(f"{self._ours.admin_url}/metrics", timeout=timeout) as response:
            page = await response.text()
        requests = total(page, "penstock_requests_total")
        tokens = total(page, "penstock_tokens_total", 'kind="input"') + total(
            page, "penstock_tokens_total", 'kind="output"'
        )
        cost = total(page, "penstock_cost_nusd_total")
        open_now = total(page, "penstock_in_flight")
        calls = f"{requests:,.0f} request{'' if requests == 1 else 's'}"
        return f"{calls} · {tokens:,.0f} tokens · {usd(int(cost))} · {open_now:,.0f} in flight"


# What is said of a completion...


def explain(entries: list[dict[str, Any]], answer: Answer, screen: Terminal) -> list[str]:
    """Return the lines that say what a completion cost, who served it and why, and what we added."""
    paint = screen.paint
    lines = []
    for entry in entries:
        good = entry["outcome"] == "ok"
        what = "ok" if good else f"{entry['status'] or 'no answer'} {entry['outcome']}"
        after = f"after {entry['duration_us'] / 1000:,.0f} ms"
        lines.append(
            f"  attempt {entry['attempt']}         {entry['deployment']:<16}"
            f"{paint(f'{what:<24}', 'green' if good else 'yellow')}{paint(after, 'dim')}"
        )
    last = entries[-1]
    cost_nusd = sum(entry["cost_nusd"] for entry in entries)
    tokens = f"{last['input_tokens']:,} tokens in, {last['output_tokens']:,} out"
    counted = {"provider": "as the vendor counts", "estimated": "counted by us"}
    lines += [
        "",
        row(
            "it cost",
            f"{paint(usd(cost_nusd), 'bold')}   {tokens}, {counted.get(last['token_source'], 'unknown')}",
        ),
        row(
            "served by",
            f"{paint(last['deployment'], 'bold')} of provider {last['provider']}, model {last['model']}",
        ),
        *among(last),
        row("because", because(entries)),
        row(
            "first token",
            f"{paint(f'{answer.first_token_s * 1000:,.0f} ms', 'bold')} as the caller saw it, of which the vendor took"
            f" {last['ttft_us'] / 1000:,.0f} ms",
        ),
        row("gateway added", added(entries, screen)),
    ]
    return lines


def among(entry: dict[str, Any]) -> list[str]:
    """Say among which models it was chosen, and what was expected of each; nothing where nothing was scored."""
    decision = read(entry.get("decision", ""))
    if decision is None or not any(one.cost_nusd for one in decision.models):
        return []
    said = [
        f"{one.model}, {usd(one.cost_nusd)} at quality {one.quality / 1000:.2f} expected"
        for one in decision.models
    ]
    said.append(f"as the cheapest whose quality is within {decision.delta / 1000:.3f} of the best")
    return [row("" if at else "chosen among", each) for at, each in enumerate(said)]


REASONS = {
    "score": "it is the cheapest that is good enough for a call of this level",
    "next_best": "the first choice could not take the call",
    "explored": "little is known of it, and a small share of calls tries such models",
    "only": "it was the only candidate",
    "order": "it stands first and nobody is known to be faster",
    "load": "it is expected to answer soonest, by latency and what it has in flight",
    "least_bad": "all were failing, and it was the least bad",
    "probe": "it had failed for a while, and this call tried whether it is back",
    "affinity": "it has most likely seen the beginning of this prompt before",
    "hedge": "the first attempt was late, and this one was quicker",
    "degraded": "none of the route's own models could take the call",
}


def because(entries: list[dict[str, Any]]) -> str:
    """Say in words why the last attempt went where it went."""
    reason = str(entries[-1]["reason"])
    if reason.startswith("retry:"):
        before = (
            entries[-2] if len(entries) > 1 else {"deployment": "the first choice", "status": 0}
        )
        said = f" answered {before['status']}" if before["status"] else f" failed ({reason[6:]})"
        return f"{before['deployment']}{said} before its first byte, so the call moved on"
    return REASONS.get(reason, reason)


def added(entries: list[dict[str, Any]], screen: Terminal) -> str:
    """Say what the gateway itself added; what a failed attempt took is not it."""
    said = (
        screen.paint(f"{entries[0]['added_us'] / 1000:,.2f} ms", "bold")
        + " before the request went out"
    )
    lost_us = entries[-1]["added_us"] - entries[0]["added_us"]
    if len(entries) > 1:
        said += f"; what failed took {lost_us / 1000:,.0f} ms"
    return said


def row(name: str, value: str) -> str:
    """Return a line of the explanation."""
    return f"  {name:<18}{value}"


def usd(nusd: int, digits: int = 6) -> str:
    """Write nano-USD as dollars."""
    return f"${nusd / 1e9:,.{digits}f}"


def curl(url: str) -> list[str]:
    """Return a command that asks for a stream."""
    body = json.dumps(
        {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
    )
    return [
        f"curl -N {url}/v1/chat/completions \\",
        f"  -H 'authorization: Bearer {KEY}' -H 'content-type: application/json' \\",
        f"  -d '{body}'",
    ]


def snippet(url: str) -> list[str]:
    """Return a program that does the same with the openai SDK."""
    return [
        "from openai import OpenAI",
        f'client = OpenAI(base_url="{url}/v1", api_key="{KEY}")',
        'messages = [{"role": "user", "content": "Hello"}]',
        f'for chunk in client.chat.completions.create(model="{MODEL}", messages=messages, stream=True):',
        '    print(chunk.choices[0].delta.content or "", end="", flush=True)',
    ]


# Reading...


async def events(body: aiohttp.StreamReader) -> AsyncIterator[str]:
    """Yield the data of each server-sent event as it arrives (one `data:` line each, as OpenAI writes them)."""
    async for line in body:
        if line.startswith(b"data:"):
            yield line[5:].strip().decode()


def content_of(chunk: Mapping[str, Any]) -> str:
    """Return the text that a chunk adds, empty if it adds none."""
    choices = chunk.get("choices") or [{}]
    return str(choices[0].get("delta", {}).get("content") or "")


def total(page: str, name: str, label: str = "") -> float:
    """Sum a metric of a Prometheus page over its label sets, or over those that hold a label."""
    found = re.findall(rf"^{name}(\{{[^}}]*\}})? (\S+)", page, re.MULTILINE)
    return sum(float(value) for labels, value in found if label in labels)


class Column:
    """Text that arrives word by word, set into a column."""

    def __init__(self, screen: Terminal) -> None:
        self._screen = screen
        self._width = min(screen.width, _WIDTH) - 2
        self._at = 0

    def write(self, piece: str) -> None:
        """Print a piece at once, on a new line if it does not fit."""
        for word in re.findall(r"\n|\s*[^\s]+|[^\S\n]+", piece):
            self._put(word)

    def _put(self, word: str) -> None:
        if word == "\n" or (self._at and self._at + len(word) > self._width):
            self._screen.write("\n")
            self._at = 0
            word = word.strip()
        if word:
            self._screen.write(f"{'' if self._at else '  '}{word}")
            self._at += len(word)

    def end(self) -> None:
        """End the last line."""
        if self._at:
            self._screen.write("\n")
            self._at = 0


def quoted(path: Path) -> str:
    """Return a path as a shell takes it, from the directory where people stand if it lies there."""
    with contextlib.suppress(ValueError):
        path = path.relative_to(Path.cwd())
    return shlex.quote(str(path))
