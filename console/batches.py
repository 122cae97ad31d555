"""
Billing batches: what was charged in advance for one is replaced by what its output says, once.

A chore looks at every batch that is not billed: every half minute, or at once when its caller has seen that it ended.
A batch that has ended is billed by the lines of its output file, at the prices of now and the provider's percent of them.
The correction is a settlement in a book of its own (`boot_of("batch.<id>")`): it finds there what was charged, applies the
difference, and finds that it did so when it is sent again, whoever sends it.

A batch whose edge died before it had written down the vendor's word, or lost that word, is looked for in the vendor's list: what was
begun there for a file of the same owner, and is nobody's yet, is what was wanted.
Where nothing was begun, what was charged in advance is given back.

Failure stance: a provider that cannot be asked is asked again; a batch stays charged with its advance until its output is known.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from time import time_ns
from typing import Any
from urllib.parse import quote

import aiohttp
import msgpack
import msgspec
from redis.asyncio import Redis

from config.models import Config
from config.providers import Provider
from config.vendors import credential_of, dialect_of
from console.stores import all_ended
from console.trust import Trust
from governance import kept as shelf
from governance.batches import ENDED, Bill, LineUsage, read_bill, usage_of, write_bill
from governance.kept import Kept, Wanted
from governance.ledger import encode, entry_of
from ratelimit.asks import BATCHED, Settlement, boot_of
from ratelimit.commands import settle_command
from ratelimit.limits import Plan
from routing.eligibility import rates_of
from routing.rates import Rates, cost_nusd
from store import scripts
from store.cells import Cell, cell
from store.clock import EPOCH_US
from store.sql import LedgerUnreachable

__all__ = ["Biller"]

LOOK_EVERY_S = 30
POLL_EVERY_S = 2.0
ANSWER_WITHIN_S = 60.0
OUTPUT_WITHIN_S = 600.0
MOST_LINE = 64 << 20
# Older than this no vendor knows a batch any more: what was charged in advance stays.
PATIENCE_S = 60 * 86_400
# How much later than an edge's own deadline nothing more comes of a request; and how far a vendor's clock may be from ours.
MARGIN_S = 60
SKEW_S = 300
LISTED_AT_ONCE = 100
MOST_PAGES = 200

_log = logging.getLogger("penstock.batches")


class _Batch(msgspec.Struct):
    status: str = ""
    output_file_id: str | None = None


class _Begun(msgspec.Struct):
    id: str
    input_file_id: str = ""
    endpoint: str = ""
    created_at: int = 0


class _Page(msgspec.Struct):
    data: list[msgspec.Raw]
    has_more: bool = False


_BATCH = msgspec.json.Decoder(_Batch)
_BEGUN = msgspec.json.Decoder(_Begun)
_PAGE = msgspec.json.Decoder(_Page)
# What may be otherwise the next time.
_LATER = (aiohttp.ClientError, TimeoutError, OSError, msgspec.MsgspecError)
Entries = Callable[[str], Awaitable[list[dict[str, str | int]]]]


class Biller:
    """
    Bills batches: `store` knows whose they are, `cells` have what they were charged; `config` is what runs, `unix_s` the clock.

    `entries` gives what the ledger has of a request.
    """

    def __init__(
        self,
        store: Redis,
        cells: Mapping[Cell, Redis],
        config: Callable[[], Config | None],
        *,
        replica: str,
        entries: Entries,
        unix_s: Callable[[], int] = lambda: time_ns() // 10**9,
    ) -> None:
        self._store = store
        self._cells = cells
        self._config = config
        self._replica = replica
        self._entries = entries
        self._unix_s = unix_s
        self._trust = Trust()
        self.billed = 0

    async def run(self) -> None:
        """Look at what is due until cancelled."""
        while True:
            await self.poll()
            await asyncio.sleep(POLL_EVERY_S)

    async def poll(self) -> None:
        """Look once at every batch that is due."""
        config = self._config()
        if config is None:
            return
        now_s = self._unix_s()
        wanted = [one for one in await shelf.wanted(self._store) if _is_late(config, one, now_s)]
        due = [one async for one in shelf.due(self._store, now_s)]
        if not due and not wanted:
            return
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
            # One after the other at each provider: who is slow keeps nobody waiting but its own
            await all_ended(
                self._poll_at(
                    session,
                    config,
                    [late for late in wanted if late.provider == name],
                    [one for one in due if one.provider == name],
                )
                for name in {late.provider for late in wanted} | {one.provider for one in due}
            )

    async def _poll_at(
        self,
        session: aiohttp.ClientSession,
        config: Config,
        wanted: Sequence[Wanted],
        due: Sequence[Kept],
    ) -> None:
        """Look at what is due at one provider."""
        for late in wanted:
            try:
                await self._find_out(session, config, late)
            except (*_LATER, LedgerUnreachable) as error:
                _log.warning(
                    "what became of batch %s is not known yet: %s",
                    late.attempt_id,
                    type(error).__name__,
                )
        for one in due:
            await shelf.look_at(self._store, one.id, self._unix_s() + LOOK_EVERY_S)
            try:
                await self._look(session, config, one)
            except _LATER as error:
                _log.warning("batch %s is not billed yet: %s", one.id, type(error).__name__)

    async def _look(self, session: aiohttp.ClientSession, config: Config, one: Kept) -> None:
        bill = read_bill(one.bill)
        if self._unix_s() - (EPOCH_US + bill.at_us) // 1_000_000 > PATIENCE_S:
            _log.warning("batch %s never ended; it stays charged with its advance", one.id)
            await shelf.billed(self._store, one.id)
            return
        provider = config.providers.get(one.provider)
        if provider is None:
            _log.warning("batch %s waits for its provider, which is not configured", one.id)
            return
        document = await self._read(session, provider, f"/batches/{one.id}")
        batch: _Batch = _BATCH.decode(document)
        await shelf.renew(self._store, one.id, document)
        await shelf.outputs(self._store, one, document, self._unix_s())
        if batch.status not in ENDED:
            return
        rates = self._rates(config, bill)
        used, cost = LineUsage(), 0
        if batch.output_file_id:
            used, cost = await self._used(session, provider, batch.output_file_id, bill, rates)
        await self._settle(one.id, bill, rates, used, cost)
        await shelf.billed(self._store, one.id)
        self.billed += 1
        _log.info("billed batch %s: %d nano-USD, %d in advance", one.id, cost, bill.charged_nusd)

    # What an edge could not say...

    async def _find_out(self, session: aiohttp.ClientSession, config: Config, one: Wanted) -> None:
        """Find out what became of a batch that was wanted, and write it down."""
        provider = config.providers[one.provider]
        bill = read_bill(one.bill)
        charged = await self._charged(bill)
        if charged is None:
            # What was charged comes with the end of its lease; where it was never admitted there is nothing to give back.
            if self._unix_s() - one.at_s > PATIENCE_S:
                await shelf.settled(self._store, one.attempt_id)
            return
        bill = msgspec.structs.replace(bill, charged_nusd=charged)
        grave = msgpack.unpackb(one.grave, raw=True)
        grave[3] = charged
        one = msgspec.structs.replace(one, grave=msgpack.packb(grave, use_bin_type=False))
        orphans = await self._orphans(session, provider, one)
        settled_s = self._unix_s() - _deadline_s(provider)
        begun = next(
            (each for each in orphans if _BEGUN.decode(each).created_at <= settled_s), None
        )
        where = cell(bill.cell)
        store = self._cells[where]
        if begun is not None:
            id_ = _BEGUN.decode(begun).id
            made = Kept(id_, one.owner, one.provider, "batch", bytes(begun), bill=write_bill(bill))
            await shelf.bury(store, boot_of(f"batch.{id_}", where).graves, one)
            await shelf.owed_for(self._store, one, made, self._unix_s())
            _log.warning("batch %s had lost its owner, and is %s's again", id_, one.owner)
        elif not orphans:
            await shelf.bury(store, boot_of(f"batch.{one.attempt_id}", where).graves, one)
            await self._settle(one.attempt_id, bill, None, LineUsage(reported=True), 0)
            await shelf.settled(self._store, one.attempt_id)
            _log.warning("batch %s was never begun; its advance was given back", one.attempt_id)
        # Else there is one that an edge may still be about to write down.

    async def _charged(self, bill: Bill) -> int | None:
        """Return what the ledger says was charged in advance, None where it has no entry of it."""
        entries = await self._entries(bill.request_id)
        own = (bill.attempt_id, f"{bill.attempt_id}+settle")
        costs = [int(entry["cost_nusd"]) for entry in entries if entry["attempt_id"] in own]
        return sum(costs) if costs else None

    async def _orphans(
        self, session: aiohttp.ClientSession, provider: Provider, one: Wanted
    ) -> list[msgspec.Raw]:
        """Return the batches at a vendor that may be what was wanted, and that are nobody's."""
        found: list[msgspec.Raw] = []
        after = ""
        for _ in range(MOST_PAGES):
            page: _Page = _PAGE.decode(
                await self._read(session, provider, f"/batches?limit={LISTED_AT_ONCE}{after}")
            )
            last = None
            for document in page.data:
                last = _BEGUN.decode(document)
                if (
                    (last.input_file_id, last.endpoint) == (one.input_file_id, one.endpoint)
                    and last.created_at >= one.at_s - SKEW_S
                    and await shelf.find(self._store, last.id) is None
                ):
                    found.append(document)
            if last is None or not page.has_more or last.created_at < one.at_s - SKEW_S:
                break
            after = f"&after={quote(last.id)}"
        return found

    # What it costs...

    def _rates(self, config: Config, bill: Bill) -> Rates | None:
        placed = config.deployments.get(bill.deployment)
        if placed is None or placed.model != bill.model:
            return None
        return rates_of(config, placed, datetime.fromtimestamp(self._unix_s(), UTC))

    async def _used(
        self,
        session: aiohttp.ClientSession,
        provider: Provider,
        file_id: str,
        bill: Bill,
        rates: Rates | None,
    ) -> tuple[LineUsage, int]:
        """Sum an output file, line by line; a call that says nothing of usage costs its share of the advance."""
        total, thousandths, shares = LineUsage(reported=True), 0, 0
        path = f"/files/{file_id}/content"
        async with self._asking(session, provider, path, OUTPUT_WITHIN_S) as answer:
            async for line in _lines(answer.content):
                one = usage_of(line)
                if one is None or not one.served:
                    continue
                if not one.reported or rates is None:
                    shares += 1
                    total.reported = False
                else:
                    thousandths += cost_nusd(rates, one)
                for name in _SUMMED:
                    setattr(total, name, getattr(total, name) + getattr(one, name))
        cost = -(-thousandths * bill.percent // 100)
        return total, cost + -(-bill.charged_nusd * shares // max(bill.lines, 1))

    async def _settle(
        self, id_: str, bill: Bill, rates: Rates | None, used: LineUsage, cost: int
    ) -> None:
        """Replace the advance by the truth."""
        where = cell(bill.cell)
        entry = entry_of(
            **{name: getattr(bill, name) for name in _AS_BILLED},
            **{name: getattr(used, name) for name in _SUMMED},
            attempt_id=f"{bill.attempt_id}+batch",
            at_us=self._unix_s() * 1_000_000,
            cost_nusd=cost,
            price_version="" if rates is None else rates.version,
            outcome="ok",
            status=200,
            token_source="provider" if used.reported else "estimated",
            reason="batch",
            protocol="openai.batches",
            replica=self._replica,
        )
        settlement = Settlement(
            Plan.restored(bill.plan, bill.keys, bill.users, where),
            boot_of(f"batch.{id_}", where),
            entry.attempt_id,
            candidate=bill.candidate,
            input_tokens=used.input_tokens,
            output_tokens=used.output_tokens,
            cost_nusd=cost,
            health=0,
            ttft_us=0,
            cool_us=0,
            streamed=False,
            entry=encode(entry),
            user=bill.user,
            kind=BATCHED,
        )
        script = scripts.load("ratelimit", "settle")
        command: Any = settle_command(script.sha, settlement.boot, 1, [settlement])
        store: Any = self._cells[where]
        await store.execute_command("EVAL", script.text, *command[2:])

    async def _read(self, session: aiohttp.ClientSession, provider: Provider, path: str) -> bytes:
        async with self._asking(session, provider, path, ANSWER_WITHIN_S) as answer:
            return bytes(await answer.read())

    @contextlib.asynccontextmanager
    async def _asking(
        self, session: aiohttp.ClientSession, provider: Provider, path: str, within_s: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = dict(provider.headers)
        if provider.api_key is not None:
            shown = credential_of(provider.protocol, dialect_of(provider))
            headers.update([shown(provider.api_key.reveal())])
        async with session.get(
            provider.base_url.rstrip("/") + path,
            headers=headers,
            ssl=await self._trust.of(provider),
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=within_s),
        ) as answer:
            answer.raise_for_status()
            yield answer


def _deadline_s(provider: Provider) -> int:
    """Return after how many seconds an edge has written down what it will ever write of a request."""
    return int(provider.total_timeout_s) + MARGIN_S


def _is_late(config: Config, one: Wanted, now_s: int) -> bool:
    provider = config.providers.get(one.provider)
    return provider is not None and now_s - one.at_s > _deadline_s(provider)


_AS_BILLED = (
    *("request_id", "attempt", "organization", "team", "key", "user", "application"),
    *("business_line", "model_asked", "model", "deployment", "provider"),
)
_SUMMED = (
    *("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens"),
    *("audio_input_tokens", "audio_output_tokens"),
)


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Yield the lines of a file, which may be longer than what a reader takes at once."""
    held = bytearray()
    async for piece in content.iter_chunked(256 * 1024):
        *ends, begin = piece.split(b"\n")
        for end in ends:
            line = bytes(held) + end
            held.clear()
            if line.strip():
                yield line
        held += begin
        if len(held) > MOST_LINE:
            raise aiohttp.ClientPayloadError("a line is too long")
    if held.strip():
        yield bytes(held)
