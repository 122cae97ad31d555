"""
Files and batches: what callers keep at one provider, passed through, and governed as if each had an account there.

    who       the key; what its team keeps is its own, and nothing else exists for it (`governance.kept`)
    where     the provider that the configuration names for it, or the only one that keeps files
    upload    admitted as a request; the input of a batch is looked at call by call, and gets the deployment's name of the model
    batch     admitted with all that it may cost, which is charged in advance; the control settles the difference when its output is known
    the rest  reads, lists, deletions and cancellations spend nothing: whose it is is asked, and nothing is admitted

Lists are those of the store, because the vendor's hold what others keep.
How the provider is asked stands in `proxy.keeper`; none of this is the hot path.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any, Final

import aiohttp
import msgpack
import msgspec
from redis.exceptions import RedisError

from governance import kept as shelf
from governance.batches import ENDED, Bill, write_bill
from governance.kept import Kept, Wanted
from proxy.attempts import Attempts, Ended
from proxy.declared import level_of
from proxy.documents import PIECE_BYTES
from proxy.errors import BadRequest, GatewayError, NotFound, StoreGone
from proxy.exchange import Exchange
from proxy.keeper import ID, Keeper, Step, read_object, unreached
from proxy.reading import caller_of, path_of
from proxy.refusals import refused_error
from proxy.wire import batches, forms
from proxy.wire.endpoints import ENDPOINTS
from proxy.wire.look import BadField, Look, uncapped
from proxy.wire.meter import Units
from proxy.wire.units import Sold
from ratelimit.asks import Grant, boot_of
from routing.rates import bound

log = logging.getLogger("penstock.edge")

MOST_LISTED: Final = 10_000
MOST_OF_A_PAGE: Final = 100
# What a batch may ask, and how each is looked at.
ROWS: Final = {
    row.route: row
    for row in ENDPOINTS
    if row.word in {"openai.chat", "openai.completions", "openai.embeddings", "openai.responses"}
}
LOOKS: Final = {route: row.look for route, row in ROWS.items()}
_PATH = re.compile(r"/v1/(files|batches)(?:/([^/]+)(?:/(content|cancel))?)?")


class _NewBatch(msgspec.Struct):
    input_file_id: str
    endpoint: str


_NEW_BATCH = msgspec.json.Decoder(_NewBatch)
_FACTS = msgspec.json.Decoder(batches.Input)


class Errand(Exchange):
    """One request about files or batches."""

    __slots__ = ("_caller", "_fee", "_keeper", "_live")

    async def run(self) -> None:
        """Tell the story up to the end of the answer. Raises `GatewayError` before the first byte."""
        self._live = live = self.edge.live
        self._caller = caller = caller_of(self.request, self.endpoint.protocol, live.callers)
        name = live.keeper_of(caller)
        if not name:
            raise BadRequest(
                "No provider keeps files for this key (set `files` on it, or on one provider).",
                code="files_not_configured",
            )
        self._keeper = Keeper(self.edge, live, name)
        message = self.request.message
        found = _PATH.fullmatch(path_of(self.request))
        assert found is not None
        kind, id_, verb = found.groups()
        try:
            if id_ is None:
                await {
                    ("POST", "files"): self._upload,
                    ("POST", "batches"): self._create,
                    ("GET", "files"): self._list_files,
                    ("GET", "batches"): self._list_batches,
                }[message.method, kind]()
                return
            record = await self._own(id_, "file" if kind == "files" else "batch")
            if verb == "content":
                await self._content(record)
            else:
                await self._pass(record, kind, message.method, verb)
        except asyncio.CancelledError:
            self._let_go("client_left")
            raise
        except RedisError as error:
            raise StoreGone(
                f"What is kept here cannot be read right now: {type(error).__name__}.",
                retry_after_us=1_000_000,
            ) from None
        finally:
            self._let_go("internal")

    def _let_go(self, outcome: str) -> None:
        """Settle what was admitted, if nothing else has."""
        step = self.current
        if isinstance(step, Step) and step.ended is None:
            step.conclude(Ended(outcome))

    # What is new...

    async def _upload(self) -> None:
        body = await self._read()
        self.read_at = monotonic()
        content_type = self.request.message.headers.get("Content-Type", "")
        facts: batches.Input | None = None
        try:
            form = forms.scan(body, content_type)
            purpose = form.texts(["purpose"]).get("purpose", "")
            files = [part for part in form.parts if part.is_file and part.name == "file"]
            if len(files) != 1:
                raise BadField("file", "send one file of the form, under the name file", "missing")
            if not purpose:
                raise BadField("purpose", "purpose is missing; add it", "missing")
            data = memoryview(body)[files[0].start : files[0].end]
            if purpose == "batch":
                # Fifty thousand calls take a while, and nobody else is to wait for them.
                facts = await asyncio.to_thread(batches.look, data, LOOKS)
        except BadField as error:
            raise self._unreadable(error) from None
        step = await self._admitted(self._any_model() if facts is None else facts.model)
        pieces = [body]
        if facts is not None:
            name = step.place.upstream_name
            lines = await asyncio.to_thread(batches.renamed, data, LOOKS, _named(facts.url, name))
            pieces = [body[: files[0].start], lines, body[files[0].end :]]
        learned = b"" if facts is None else msgspec.json.encode(facts)
        whole = b"".join(pieces)
        await _to_the_end(self._new_file(step, whole, content_type, learned))

    async def _new_file(self, step: Step, body: bytes, content_type: str, facts: bytes) -> None:
        status, answer = await self._keeper.ask("POST", "/files", step, body, content_type)
        made = Kept(
            read_object(answer).id, self._caller.tenant, self._keeper.name, "file", answer, facts
        )
        step.conclude(Ended("ok", status, committed=True))
        try:
            await shelf.keep(self.edge.store, made, self._now_s())
        except RedisError as error:
            raise await self._taken_back(made, error) from None
        self._answer(status, answer)

    async def _taken_back(self, made: Kept, error: RedisError) -> StoreGone:
        """Delete at the vendor what would be nobody's there; return what its caller is told."""
        try:
            await self._keeper.ask("DELETE", f"/files/{made.id}")
            became = "was deleted at the provider"
        except GatewayError as refused:
            became = "stays at the provider, where it is nobody's"
            log.warning(
                "the file %s at %s is nobody's: its owner cannot be written down (%s), nor can it be deleted (%s)",
                *(made.id, made.provider, type(error).__name__, refused.code),
            )
        return StoreGone(
            f"Whose the file is cannot be written down right now ({type(error).__name__}): it {became}."
            " Send it again.",
            retry_after_us=1_000_000,
        )

    async def _create(self) -> None:
        body = await self._read()
        self.read_at = monotonic()
        try:
            asked: _NewBatch = _NEW_BATCH.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadRequest(
                f"The body cannot be used: {error}.", code="invalid_json", param=None
            ) from None
        record = await self._own(asked.input_file_id, "file")
        if not record.facts:
            raise BadRequest(
                "The file is no input of a batch; upload it with purpose 'batch'.",
                code="invalid_value",
                param="input_file_id",
            )
        facts: batches.Input = _FACTS.decode(record.facts)
        if asked.endpoint != facts.url:
            raise BadRequest(
                f"The calls of the file are for {facts.url}.",
                code="invalid_value",
                param="endpoint",
            )
        step = await self._admitted(facts.model, lambda at: self._advance(facts, at))
        step.charged_nusd = self._advance(facts, step.grant.candidate)
        await _to_the_end(self._new_batch(step, body, asked, facts.lines))

    async def _new_batch(self, step: Step, body: bytes, asked: _NewBatch, lines: int) -> None:
        store, tenant = self.edge.store, self._caller.tenant
        plan = self.offer.plan
        bill = write_bill(self._bill(step, lines))
        wanted = Wanted(
            attempt_id=step.attempt_id,
            owner=tenant,
            provider=self._keeper.name,
            input_file_id=asked.input_file_id,
            endpoint=asked.endpoint,
            at_s=self._now_s(),
            bill=bill,
            grave=await self._grave(step),
        )
        # Written down before the vendor knows of it: should this worker die meanwhile, the control asks what became of it.
        await shelf.want(store, wanted)
        try:
            status, answer = await self._keeper.ask(
                "POST", "/batches", step, body, "application/json"
            )
        except GatewayError:
            if not step.unsure:
                await shelf.settled(store, step.attempt_id)
            raise
        made = Kept(read_object(answer).id, tenant, self._keeper.name, "batch", answer, bill=bill)
        try:
            # First what the settlement finds, then the word that there is something to settle.
            graves = boot_of(f"batch.{made.id}", plan.cell).graves
            await shelf.bury(self.edge.store_of(plan.cell), graves, wanted)
            await shelf.owed_for(store, wanted, made, self._now_s())
        finally:
            # It runs there, whatever became of the word on it.
            step.conclude(Ended("ok", status, committed=True), step.charged_nusd)
        self._answer(status, answer)

    def _bill(self, step: Step, lines: int) -> Bill:
        caller, plan, grant = self._caller, self.offer.plan, step.grant
        return Bill(
            attempt_id=step.attempt_id,
            request_id=self.request_id,
            attempt=step.number,
            organization=caller.organization,
            team=caller.team,
            key=caller.key,
            user=self.user,
            application=caller.application,
            business_line=caller.business_line,
            model_asked=self.offer.asked,
            model=step.place.model,
            deployment=step.place.id,
            provider=self._keeper.name,
            charged_nusd=step.charged_nusd,
            lines=lines,
            percent=self._keeper.batch_percent,
            plan=plan.packed,
            keys=plan.keys,
            users=plan.users,
            cell=plan.cell.number,
            candidate=grant.candidate,
            at_us=grant.at_us,
        )

    async def _grave(self, step: Step) -> bytes:
        """Return what the settlement of a batch finds there: what was charged in advance, and where."""
        grant = step.grant
        held = await self._held(step)
        told = (0, 0, 0, step.charged_nusd, held, grant.candidate + 1, grant.at_us, self.user)
        return bytes(msgpack.packb(told, use_bin_type=False))

    def _advance(self, facts: batches.Input, candidate: int) -> int:
        """
        Return what a batch is charged in advance, in nano-USD.

        Under a strict budget the most that its calls may cost; else what is expected of them, or soft budgets would seem spent.
        """
        place = self.offer.places[candidate]
        most = self.offer.plan.candidates[candidate].most
        read, written = facts.input_bound, facts.output + facts.uncapped * most
        if not self.offer.strict:
            assumed = min(self.edge.assumed_output_tokens, most)
            read, written = facts.input_estimate, facts.output + facts.uncapped * assumed
        dearest_input, dearest_output = bound(place.rates, facts.longest)
        nusd = -(-(read * dearest_input + written * dearest_output) // 1000)
        nusd += facts.lines * place.rates.request_nusd
        return -(-nusd * self._keeper.batch_percent // 100)

    async def _held(self, step: Step) -> Any:
        """Return what each budget holds for the step, as its lease says; None where the store was away."""
        lease: Any = await self.edge.store_of(self.offer.plan.cell).hget(
            step.grant.boot.leases, step.attempt_id
        )
        if lease is None:
            return None
        unpacker = msgpack.Unpacker(raw=True)
        unpacker.feed(lease)
        return next(unpacker)[3]

    # What is kept already...

    async def _own(self, id_: str, kind: str) -> Kept:
        """Return what is known of an id. Raises `NotFound` for what is nobody's, or somebody else's."""
        record = await shelf.find(self.edge.store, id_) if ID.fullmatch(id_) else None
        if (
            record is None
            or record.owner != self._caller.tenant
            or record.kind != kind
            or record.provider not in self._live.config.providers
        ):
            raise NotFound(f"There is no such {kind} here.", code="not_found", param="id")
        self._keeper = Keeper(self.edge, self._live, record.provider)
        return record

    async def _pass(self, record: Kept, kind: str, method: str, verb: str | None) -> None:
        """Ask the vendor about one thing that is kept."""
        path = f"/{kind}/{record.id}" + (f"/{verb}" if verb else "")
        store, now_s = self.edge.store, self._now_s()
        try:
            status, answer = await self._keeper.ask(method, path)
        except BadRequest as refused:
            if method == "DELETE" and refused.http_status == 404:
                # It is gone there: no list of ours is to show it for another year.
                await shelf.forget(store, record)
            raise
        if method == "DELETE":
            await shelf.forget(store, record)
        else:
            await shelf.renew(store, record.id, answer)
        if record.kind == "batch":
            await shelf.outputs(store, record, answer, now_s)
            if record.bill and read_object(answer).status in ENDED:
                # Its output is there: the control bills it now, not when its turn comes.
                await shelf.look_at(store, record.id, 0)
        self._answer(status, answer)

    async def _content(self, record: Kept) -> None:
        """Pass a file's content as it comes; a slow caller stops the vendor."""
        path = f"/files/{record.id}/content"
        try:
            async with self._keeper.asking("GET", path) as answer:
                if answer.status != 200:
                    raise await self._keeper.refusal(answer)
                type_ = answer.headers.get("content-type", "application/octet-stream")
                self.status = 200
                self.begin_chunks(self._head(200, type_), b"", last=False)
                async for piece in answer.content.iter_chunked(PIECE_BYTES):
                    self.chunk(piece)
                    await self.client.drained()
                self.end_chunks(b"")
                self.refusal = "ok"
        except (aiohttp.ClientError, OSError) as error:  # OSError: TimeoutError too
            if not self.status:
                raise unreached(error) from None
            # Its framing must not look complete.
            self.close = True
            self.refusal = "upstream_lost"
            if self.client.transport is not None:
                self.client.transport.abort()

    async def _list_files(self) -> None:
        await self._list("file", MOST_LISTED, MOST_LISTED)

    async def _list_batches(self) -> None:
        await self._list("batch", 20, MOST_OF_A_PAGE)

    async def _list(self, kind: str, usual: int, most: int) -> None:
        query = self.request.message.url.query
        said = query.get("limit", str(usual))
        if not re.fullmatch(r"[0-9]{1,9}", said) or not 1 <= int(said) <= most:
            raise BadRequest(
                f"limit must be from 1 to {most}.", code="invalid_value", param="limit"
            )
        purpose = query.get("purpose")

        def fits(one: Kept) -> bool:
            return bool(msgspec.json.decode(one.document).get("purpose") == purpose)

        found, more = await shelf.listed(
            self.edge.store,
            self._caller.tenant,
            kind,
            after=query.get("after", ""),
            limit=int(said),
            newest_first=query.get("order", "desc") != "asc",
            fits=None if purpose is None else fits,
        )
        data = [msgspec.json.decode(one.document) for one in found]
        page = {
            "object": "list",
            "data": data,
            "first_id": data[0]["id"] if data else None,
            "last_id": data[-1]["id"] if data else None,
            "has_more": more,
        }
        self._answer(200, msgspec.json.encode(page))

    # Admission...

    async def _admitted(self, model: str, fee: Callable[[int], int] | None = None) -> Step:
        """Admit one request at the provider's deployment of a model. Raises `GatewayError`."""
        caller = self._caller
        self.level = level_of(caller, self.request.message.headers, None)
        self.user = caller.user
        self.seen = _look(model)
        self.offer = offer = self._live.offer(
            caller, model, self.endpoint, stream=False, input_bound=0, alone=True
        )
        self.attempts = attempts = Attempts(len(offer.places), 1)
        ours = [at for at, place in enumerate(offer.places) if place.provider == self._keeper.name]
        if not ours:
            raise BadRequest(
                f"The provider that keeps files for this key does not serve '{offer.asked}'.",
                code="none_eligible",
                param="model",
            )
        # The first: what is uploaded and what asks for it must mean the same name.
        for at in range(len(offer.places)):
            if at != ours[0]:
                attempts.leave_out(at)
        self._fee = fee
        answer = await self.admit()
        if not isinstance(answer, Grant):
            raise refused_error(offer, answer)
        attempts.begin(answer.candidate)
        place, way = offer.places[answer.candidate], offer.ways[answer.candidate]
        self.current = step = Step(self, answer, place, way, "keeper")
        step.charged_nusd, step.unsure = 0, False
        step.sent_at = monotonic()
        step.added_us = int((step.sent_at - self.read_at) * 1_000_000)
        return step

    def _fees(self, sold: Sold) -> tuple[int, ...]:
        """Return what is charged in advance at each place."""
        fee = self._fee
        return () if fee is None else tuple(map(fee, range(len(self.offer.places))))

    def _any_model(self) -> str:
        """Return a model of the provider's that the key may ask for: what counts the request of an upload that is for none."""
        for placed in self._live.config.deployments.values():
            of_keeper = placed.deployment.provider == self._keeper.name
            if of_keeper and self._caller.may_ask_for(placed.model):
                return placed.model
        raise BadRequest(
            "This key may ask for no model of the provider that keeps files for it.",
            code="none_eligible",
        )

    def _now_s(self) -> int:
        return int(self.edge.unix_time())

    # Answering...

    def _head(self, status: int, content_type: str) -> bytes:
        server = self.edge.server
        safe = (
            content_type if content_type.isprintable() and content_type.isascii() else "text/plain"
        )
        return b"%bx-request-id: %b\r\ncontent-type: %b\r\n%b" % (
            server.status_line(status),
            self.request_id.encode(),
            safe.encode(),
            b"connection: close\r\n" if self.close else b"",
        )

    def _answer(self, status: int, body: bytes) -> None:
        self.status, self.refusal = status, "ok"
        headers = b"x-request-id: %b\r\n" % self.request_id.encode()
        self.write(self.edge.server.answer(status, body, headers, close=self.close))


def _look(model: str) -> Look:
    """Return what is known of something that reads and writes no tokens."""
    return uncapped(model, sold=Sold(most=Units(), likely=Units()))


def _named(url: str, upstream_name: str) -> Callable[[bytes, Look], bytes]:
    """Return what gives a call another model's name."""
    row = ROWS[url]

    def rename(body: bytes, seen: Look) -> bytes:
        return bytes(
            row.rewrite(
                body,
                seen,
                upstream_model=upstream_name,
                include_usage=False,
                output_cap=None,
                cap_field=None,
            )
        )

    return rename


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Do what must not stop half-way when the caller leaves: the vendor would have something that is nobody's."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise
