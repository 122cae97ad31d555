"""
Files and batches: each team has its own at a vendor who knows one account, and a batch costs what its output says.

The vendor is the mock, whose batches go on by one state each time that they are looked at; the control's part bills them.
"""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any
from unittest.mock import Mock

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from console.batches import Biller
from governance import kept as shelf
from governance.kept import Kept, find, keep
from governance.ledger import Entry
from store.cells import FIRST
from tests.proxy.edge_rig import Edge, Rig, eventually
from tests.proxy.partners import PROMPT, Answer, Line, always, answer_head, at, once, request, whole
from tests.proxy.test_media import form

FILES, BATCHES = "/v1/files", "/v1/batches"
CHAT = "/v1/chat/completions"
BOUNDARY = "Content-Type: multipart/form-data; boundary=----boundary7f3"
SIM = "sim;tokens=5;prompt=40"
# Half of 40 tokens at 1000 and 5 at 2000 nano-USD.
CALL_NUSD = (40 * 1000 + 5 * 2000) // 2
OTHER_KEY = "sk-caller-other-5b1f0c7e9d3a2468"
# The control's clock goes before the edge's, so that whatever was created is due.
AHEAD_S = 3600


def calls(count: int = 3, model: str = "m", **body: Any) -> bytes:
    """Write the input of a batch."""
    message = {"role": "user", "content": PROMPT}
    line = {"model": model, "messages": [message], "max_tokens": 50} | body
    return b"".join(
        json.dumps(
            {
                "custom_id": f"c{number}",
                "method": "POST",
                "url": CHAT,
                "body": {name: value for name, value in line.items() if value is not None},
            }
        ).encode()
        + b"\n"
        for number in range(count)
    )


async def upload(rig: Rig, data: bytes, purpose: str = "batch", **said: Any) -> Answer:
    return await rig.ask(form(purpose=purpose, file=data), BOUNDARY, path=FILES, **said)


async def create(rig: Rig, file_id: str, endpoint: str = CHAT, **said: Any) -> Answer:
    body = {"input_file_id": file_id, "endpoint": endpoint, "completion_window": "24h"}
    return await rig.ask(json.dumps(body).encode(), path=BATCHES, **said)


async def get(rig: Rig, path: str, method: str = "GET", **said: Any) -> Answer:
    return await rig.ask(None, path=path, method=method, **said)


def biller(rig: Rig) -> Biller:
    async def entries(request_id: str) -> list[dict[str, str | int]]:
        return [one.as_dict() for one in await rig.entries() if one.request_id == request_id]

    return Biller(
        rig.redis,
        {FIRST: rig.redis},
        lambda: rig.edge.live.config,
        replica="test/control",
        entries=entries,
        unix_s=lambda: int(datetime.now(UTC).timestamp()) + AHEAD_S,
    )


async def batched(rig: Rig, count: int = 3, **body: Any) -> str:
    """Create a batch of so many calls; gives its id."""
    made = await upload(rig, calls(count, **body))
    assert made.status == 200, made.body
    batch = await create(rig, made.json["id"])
    assert batch.status == 200, batch.body
    return str(batch.json["id"])


async def spent(rig: Rig) -> int:
    return (await rig.scopes())["{c0}:s:team:acme/support"].budgets["month"].spent_nusd


def of_batches(entries: list[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry.protocol == "openai.batches"]


BUDGET = {"budget": {"usd": 1, "per": "month"}}
STRICT = {"budget": {"usd": 1, "per": "month", "mode": "strict"}}


async def test_whatever_form_a_target_has_it_is_found(edge: Edge) -> None:
    """The absolute form as well, and an id that is a word of the path."""
    rig = await edge(models={"m": [SIM]}, keeper="mock")
    file_id = (await upload(rig, calls(1))).json["id"]
    for host in ("", "http://penstock.test"):
        assert [one["id"] for one in (await get(rig, host + FILES)).json["data"]] == [file_id]
        assert (await get(rig, f"{host}{FILES}/{file_id}?x=1")).json["id"] == file_id
        for nobody in ("v1", "files", "id"):
            answer = await get(rig, f"{host}{FILES}/{nobody}")
            assert (answer.status, answer.error["code"]) == (404, "not_found")


@pytest.mark.parametrize("team", [BUDGET, STRICT], ids=["soft", "strict"])
async def test_a_batch_costs_what_its_output_says(edge: Edge, team: dict[str, Any]) -> None:
    """It is charged in advance, and the difference is settled once, however often anybody looks."""
    rig = await edge(models={"m": [SIM]}, keeper="mock", team=team)
    batch = await batched(rig)
    (advance,) = of_batches(await rig.entries())
    assert advance.cost_nusd > 3 * CALL_NUSD
    assert (advance.outcome, advance.input_tokens) == ("ok", 0)
    assert await spent(rig) == advance.cost_nusd
    bills = biller(rig)
    # The vendor goes on by one state each time that it is asked.
    for _ in range(2):
        await bills.poll()
        await rig.redis.zadd("{c0}:kb", {batch: 0})
    assert bills.billed == 1
    for _ in range(2):
        await rig.redis.zadd("{c0}:kb", {batch: 0})
        await bills.poll()
    assert (await get(rig, f"{BATCHES}/{batch}")).json["status"] == "completed"
    advance, truth = of_batches(await rig.entries())
    assert truth.attempt_id == f"{advance.attempt_id}+batch+settle"
    assert (truth.input_tokens, truth.output_tokens, truth.token_source) == (120, 15, "provider")
    assert advance.cost_nusd + truth.cost_nusd == 3 * CALL_NUSD
    assert await spent(rig) == 3 * CALL_NUSD
    assert rig.mock.books()["totals"]["completion_tokens"] == 15


async def test_two_controls_bill_a_batch_once(edge: Edge) -> None:
    """At the same time, and one that has forgotten that it did."""
    rig = await edge(models={"m": [SIM]}, keeper="mock", team=BUDGET)
    batch = await batched(rig)
    record = await find(rig.redis, batch)
    assert record is not None
    for _ in range(2):
        await get(rig, f"{BATCHES}/{batch}")
    await asyncio.gather(*(biller(rig).poll() for _ in range(3)))
    await rig.redis.hset(f"{{c0}}:k:{batch}", "bill", record.bill)
    await rig.redis.zadd("{c0}:kb", {batch: 0})
    await biller(rig).poll()
    assert len(of_batches(await rig.entries())) == 2
    assert await spent(rig) == 3 * CALL_NUSD


async def test_no_rate_of_tokens_is_asked_for_a_batch(edge: Edge) -> None:
    """Its hours of work would keep everybody else waiting."""
    rig = await edge(
        models={"m": ["sim;tokens=5;prompt=100000"]}, keeper="mock", key={"limits": {"tpm": 1000}}
    )
    batch = await batched(rig)
    for _ in range(2):
        await get(rig, f"{BATCHES}/{batch}")
    bills = biller(rig)
    await bills.poll()
    assert bills.billed == 1
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": 5}
    assert (await rig.ask(json.dumps(body).encode())).status == 200


async def test_what_fails_costs_nothing(edge: Edge) -> None:
    """A batch that is cancelled before its output, and calls that the vendor refused."""
    rig = await edge(models={"m": [SIM], "bad": ["sim;status=500"]}, keeper="mock", team=BUDGET)
    batch = await batched(rig)
    cancelled = await get(rig, f"{BATCHES}/{batch}/cancel", method="POST")
    assert (cancelled.status, cancelled.json["status"]) == (200, "cancelled")
    await biller(rig).poll()
    assert await spent(rig) == 0
    failed = await batched(rig, model="bad")
    for _ in range(2):
        await get(rig, f"{BATCHES}/{failed}")
    await biller(rig).poll()
    assert await spent(rig) == 0


async def test_a_call_that_says_nothing_costs_its_share_of_the_advance(edge: Edge) -> None:
    """And the entry says that it is estimated."""
    rig = await edge(models={"m": ["sim;usage=off"]}, keeper="mock", team=BUDGET)
    batch = await batched(rig)
    for _ in range(2):
        await get(rig, f"{BATCHES}/{batch}")
    await biller(rig).poll()
    advance, truth = of_batches(await rig.entries())
    assert truth.token_source == "estimated"
    assert 0 <= truth.cost_nusd <= 1
    assert await spent(rig) == advance.cost_nusd + truth.cost_nusd


async def test_a_strict_budget_holds_all_that_a_batch_may_cost(edge: Edge) -> None:
    """With caps it is known; without, a call may write as much as its model can."""
    rig = await edge(
        models={"m": {"deployments": [SIM], "max_output": 100_000}},
        keeper="mock",
        team={"budget": {"usd": 0.2, "per": "month", "mode": "strict"}},
    )
    open_ended = await upload(rig, calls(max_tokens=None))
    refused = await create(rig, open_ended.json["id"])
    assert (refused.status, refused.error["code"]) == (402, "budget_exhausted")
    await batched(rig)
    assert rig.mock.books()["totals"]["calls"] == 0


async def test_the_vendor_gets_its_own_name_for_the_model(edge: Edge) -> None:
    """In each line, and nothing else of a call changes."""
    rig = await edge(models={"m": [SIM]}, keeper="mock")
    said = [{"role": "user", "content": "x"}]
    made = await upload(rig, calls(2, messages=said, unheard_of=[1.50], user="\u00fc"))
    content = await get(rig, f"{FILES}/{made.json['id']}/content")
    lines = [json.loads(line) for line in content.body.splitlines()]
    assert [line["custom_id"] for line in lines] == ["c0", "c1"]
    assert lines[0]["body"]["model"] == SIM
    assert (lines[0]["body"]["unheard_of"], lines[0]["body"]["user"]) == ([1.5], "\u00fc")


async def test_a_team_sees_its_own(edge: Edge) -> None:
    """Lists and single ones; what is somebody else's does not exist."""
    others = {"teams": {"sales": {"keys": {"theirs": {"key": OTHER_KEY}}}}}
    rig = await edge(models={"m": [SIM]}, keeper="mock", organization=others)
    batch = await batched(rig)
    one = (await upload(rig, b"one", "assistants")).json["id"]
    theirs = (await upload(rig, b"theirs", "assistants", key=OTHER_KEY)).json["id"]
    mine = (await get(rig, FILES)).json
    assert mine["object"] == "list"
    assert {each["purpose"] for each in mine["data"]} == {"batch", "assistants"}
    assert theirs not in {each["id"] for each in mine["data"]}
    assert [each["id"] for each in (await get(rig, FILES, key=OTHER_KEY)).json["data"]] == [theirs]
    assert (await get(rig, BATCHES, key=OTHER_KEY)).json["data"] == []
    for path, method in (
        (f"{FILES}/{one}", "GET"),
        (f"{FILES}/{one}/content", "GET"),
        (f"{FILES}/{one}", "DELETE"),
        (f"{BATCHES}/{batch}", "GET"),
        (f"{BATCHES}/{batch}/cancel", "POST"),
        (f"{FILES}/file-nobody", "GET"),
        (f"{FILES}/{batch}", "GET"),
    ):
        missing = await get(rig, path, method=method, key=OTHER_KEY)
        assert (missing.status, missing.error["code"]) == (404, "not_found")
    assert (await create(rig, one, key=OTHER_KEY)).status == 404
    assert (await get(rig, f"{FILES}/{one}/content")).body == b"one"


async def test_the_output_of_a_batch_is_its_owners(edge: Edge) -> None:
    """As soon as anybody has seen that it is there."""
    rig = await edge(models={"m": [SIM]}, keeper="mock")
    batch = await batched(rig)
    for _ in range(2):
        seen = (await get(rig, f"{BATCHES}/{batch}")).json
    output = await get(rig, f"{FILES}/{seen['output_file_id']}/content")
    assert len(output.body.splitlines()) == 3
    ids = [each["id"] for each in (await get(rig, f"{FILES}?purpose=batch_output")).json["data"]]
    assert ids == [seen["output_file_id"]]
    await biller(rig).poll()


async def test_lists_have_pages(edge: Edge) -> None:
    """Newest first, or as they came; a page says whether there is another."""
    rig = await edge(models={"m": [SIM]}, keeper="mock")
    ids = [(await upload(rig, b"x", "assistants")).json["id"] for _ in range(3)]
    first = (await get(rig, f"{FILES}?limit=2&order=asc")).json
    assert ([one["id"] for one in first["data"]], first["has_more"]) == (ids[:2], True)
    rest = (await get(rig, f"{FILES}?limit=2&order=asc&after={first['last_id']}")).json
    assert ([one["id"] for one in rest["data"]], rest["has_more"]) == (ids[2:], False)
    assert [one["id"] for one in (await get(rig, FILES)).json["data"]] == ids[::-1]
    for bad in ("0", "x", "99999", "000000001" + "9" * 5000):
        refused = await get(rig, f"{FILES}?limit={bad}")
        assert (refused.status, refused.error["param"]) == (400, "limit")


async def test_a_page_is_full_of_what_is_asked_for(edge: Edge) -> None:
    """What is kept for another purpose takes nobody's place on it."""
    rig = await edge(models={"m": [SIM]}, keeper="mock")
    wanted = [(await upload(rig, calls(1))).json["id"] for _ in range(2)]
    for _ in range(2):
        await upload(rig, b"x", "assistants")
    page = (await get(rig, f"{FILES}?limit=1&purpose=batch")).json
    assert ([one["id"] for one in page["data"]], page["has_more"]) == ([wanted[1]], True)
    page = (await get(rig, f"{FILES}?limit=1&purpose=batch&after={wanted[1]}")).json
    assert ([one["id"] for one in page["data"]], page["has_more"]) == ([wanted[0]], False)


async def test_what_the_vendor_has_lost_can_be_deleted(edge: Edge) -> None:
    """Its owner is told that it is not there, and no list shows it for another year."""
    rig = await edge(models={"m": [SIM]}, scripted=["v"], keeper="v")
    rig.vendors["v"].habit = always(whole(b"{}", status=b"404 Not Found"))
    await keep(rig.redis, Kept("file-1", "acme/support", "v", "file", b'{"id":"file-1"}'), 0)
    for method, left in (("GET", 1), ("DELETE", 0)):
        assert (await get(rig, f"{FILES}/file-1", method=method)).status == 404
        assert len((await get(rig, FILES)).json["data"]) == left


async def test_what_is_deleted_is_gone(edge: Edge) -> None:
    """Here and there."""
    rig = await edge(models={"m": [SIM]}, keeper="mock")
    one = (await upload(rig, b"x", "assistants")).json["id"]
    gone = await get(rig, f"{FILES}/{one}", method="DELETE")
    assert gone.json == {"id": one, "object": "file", "deleted": True}
    assert (await get(rig, f"{FILES}/{one}")).status == 404
    assert (await get(rig, FILES)).json["data"] == []


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no line"),
        (b"{", "line 1"),
        (calls(1) + b"nothing\n", "line 2"),
        (calls(1) + calls(1, model="n"), "line 2 of the file: all lines"),
        (calls(1, stream=True), "streamed"),
        (calls(1, messages=None), "messages"),
        (calls(1, max_tokens=0), "max_tokens"),
        (calls(1).replace(b"chat/completions", b"images/edits"), "url must be one of"),
    ],
)
async def test_a_bad_input_is_refused_with_its_line(edge: Edge, data: bytes, words: str) -> None:
    """Before the vendor gets it."""
    rig = await edge(models={"m": [SIM], "n": [SIM]}, keeper="mock")
    refused = await upload(rig, data)
    assert (refused.status, refused.error["param"]) == (400, "file")
    assert words in refused.error["message"]
    assert rig.mock.requests() == []


async def test_other_mistakes_are_named(edge: Edge) -> None:
    """What a key may not use, what is no form, what does not fit, and where nobody keeps files."""
    rig = await edge(
        models={"m": [SIM], "n": [at("messages", "sim")]},
        keeper="mock",
        key={"models": ["m", "n"]},
    )
    for answer, status, code in (
        (await upload(rig, calls(1, model="x")), 404, "model_not_found"),
        (await upload(rig, calls(1, model="n")), 400, "none_eligible"),
        (await rig.ask(b"x", path=FILES), 400, "invalid_form"),
        (await rig.ask(form(file=b"x"), BOUNDARY, path=FILES), 400, "missing"),
        (await rig.ask(form(purpose="batch"), BOUNDARY, path=FILES), 400, "missing"),
        (await rig.ask(b"{", path=BATCHES), 400, "invalid_json"),
        (await rig.ask(b"{}", path=BATCHES), 400, "invalid_json"),
    ):
        assert (answer.status, answer.error["code"]) == (status, code)
    plain = (await upload(rig, b"x", "assistants")).json["id"]
    assert (await create(rig, plain)).error["param"] == "input_file_id"
    made = (await upload(rig, calls())).json["id"]
    assert (await create(rig, made, "/v1/embeddings")).error["param"] == "endpoint"
    assert (await get(rig, FILES, key="sk-nobody")).status == 401


async def test_without_a_keeper_there_are_no_files(edge: Edge) -> None:
    """And the caller is told what to set."""
    rig = await edge(models={"m": [SIM]})
    refused = await get(rig, FILES)
    assert (refused.status, refused.error["code"]) == (400, "files_not_configured")


async def test_a_vendor_that_fails_is_owed_nothing(edge: Edge) -> None:
    """An upload and a batch that it did not take."""
    rig = await edge(
        models={"m": [at("gone")]},
        providers={"gone": {"base_url": "http://127.0.0.1:9/v1", "files": True}},
        team=BUDGET,
    )
    refused = await upload(rig, calls())
    assert (refused.status, refused.error["code"]) == (502, "connect_failed")
    await keep(rig.redis, Kept("file-1", "acme/support", "gone", "file", b"{}"), 0)
    for path in (f"{FILES}/file-1", f"{FILES}/file-1/content"):
        unread = await get(rig, path)
        assert (unread.status, unread.error["code"]) == (502, "connect_failed")
    (entry,) = await rig.entries()
    assert (entry.outcome, entry.cost_nusd) == ("connect_failed", 0)
    assert await spent(rig) == 0


async def test_a_batch_is_its_owners_although_the_caller_has_left(edge: Edge) -> None:
    """What the vendor has begun is booked and written down, whoever waits for the answer."""
    rig = await edge(models={"m": [at("v")]}, scripted=["v"], keeper="v", team=BUDGET)
    vendor = rig.vendors["v"]

    async def upload_there() -> None:
        line = await vendor.line()
        await line.gets()
        await line.says(whole(b'{"id":"file-1","object":"file"}'), b"")
        line.closes()

    made, _ = await asyncio.gather(upload(rig, calls(2)), upload_there())
    assert made.json["id"] == "file-1"
    body = {"input_file_id": "file-1", "endpoint": CHAT, "completion_window": "24h"}
    caller = await rig.caller()
    await caller.send(request(json.dumps(body).encode(), path=BATCHES))
    line = await vendor.line()
    await line.gets()
    await caller.leave()
    (errand,) = rig.edge.exchanges
    await eventually(lambda: errand.client.transport is None)
    await line.says(whole(b'{"id":"batch_9","object":"batch","status":"validating"}'))
    line.closes()
    (advance,) = of_batches(await rig.entries())
    assert advance.cost_nusd > 0
    record = await find(rig.redis, "batch_9")
    assert record is not None
    assert (record.owner, bool(record.bill)) == ("acme/support", True)


async def test_a_batch_that_nobody_wrote_down_finds_its_owner(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker died between the vendor's word and the store's: the control finds it at the vendor, and bills it once."""
    rig = await edge(models={"m": [SIM]}, keeper="mock", team=BUDGET)
    lost = OSError("as if the worker had died")
    monkeypatch.setattr(shelf, "owed_for", Mock(side_effect=RedisConnectionError(lost)))
    made = await upload(rig, calls(3))
    failed = await create(rig, made.json["id"])
    assert failed.status == 503
    monkeypatch.undo()
    (advance,) = of_batches(await rig.entries())
    assert (await get(rig, BATCHES)).json["data"] == []
    bills = biller(rig)
    for _ in range(4):
        await bills.poll()
        for batch in await rig.redis.zrange("{c0}:kb", 0, -1):
            await rig.redis.zadd("{c0}:kb", {batch: 0})
    (found,) = (await get(rig, BATCHES)).json["data"]
    assert (found["status"], found["input_file_id"]) == ("completed", made.json["id"])
    assert await shelf.wanted(rig.redis) == []
    advance, truth = of_batches(await rig.entries())
    assert advance.cost_nusd + truth.cost_nusd == await spent(rig) == 3 * CALL_NUSD


async def test_a_batch_whose_word_was_lost_costs_nothing_if_it_was_not_begun(edge: Edge) -> None:
    """It is charged until the control has asked the vendor; what the vendor refuses is not even wanted."""
    rig = await edge(models={"m": [at("v")]}, scripted=["v"], keeper="v", team=BUDGET)
    said = [
        whole(b'{"id":"file-1","object":"file"}'),
        answer_head(b"content-length: 2", status=b"400 Bad Request") + b"{}",
        None,
        whole(b'{"object":"list","data":[],"has_more":false}'),
    ]

    async def vendor(line: Line) -> None:
        await line.gets()
        word = said.pop(0)
        if word is not None:
            await line.says(word)
        line.closes()

    rig.vendors["v"].habit = vendor
    assert (await upload(rig, calls(2))).json["id"] == "file-1"
    assert (await create(rig, "file-1")).status == 400
    assert (await shelf.wanted(rig.redis), await spent(rig)) == ([], 0)
    assert (await create(rig, "file-1")).status == 502
    _, advance = of_batches(await rig.entries())
    assert await spent(rig) == advance.cost_nusd > 0
    for _ in range(2):
        await biller(rig).poll()
    assert (await shelf.wanted(rig.redis), await spent(rig), said) == ([], 0, [])


@pytest.mark.parametrize("deleted", [True, False])
async def test_an_upload_whose_owner_cannot_be_written_down_is_taken_back(
    edge: Edge, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, *, deleted: bool
) -> None:
    """It would be nobody's at the vendor, and stay there; the caller is told to send it again, and where it stays the operator is told."""
    rig = await edge(models={"m": [at("v")]}, scripted=["v"], keeper="v")
    asked: list[str] = []
    said = [
        whole(b'{"id":"file-1","object":"file"}'),
        whole(b'{"id":"file-1"}', status=b"200 OK" if deleted else b"500 Internal Server Error"),
    ]

    async def vendor(line: Line) -> None:
        asked.append((await line.gets()).line)
        await line.says(said.pop(0))
        line.closes()

    rig.vendors["v"].habit = vendor
    with monkeypatch.context() as away:
        away.setattr(shelf, "keep", Mock(side_effect=RedisConnectionError("gone")))
        failed = await upload(rig, b"x", "assistants")
    assert (failed.status, failed.error["code"]) == (503, "store_unavailable")
    assert ("was deleted" in failed.error["message"]) is deleted
    assert asked == ["POST /v1/files HTTP/1.1", "DELETE /v1/files/file-1 HTTP/1.1"]
    assert ("file-1 at v is nobody's" in caplog.text) is not deleted
    assert await rig.outcomes() == ["ok"]
    assert (await get(rig, FILES)).json["data"] == []


async def test_content_that_is_cut_is_no_whole_file(edge: Edge) -> None:
    """Its framing breaks."""
    rig = await edge(models={"m": [SIM]}, scripted=["v"], keeper="v")
    await keep(rig.redis, Kept("file-1", "acme/support", "v", "file", b"{}"), 0)

    rig.vendors["v"].habit = once(answer_head(b"content-length: 100"), b"half of it")
    answer = await get(rig, f"{FILES}/file-1/content")
    assert (answer.status, answer.complete) == (200, False)


async def test_an_upload_is_a_request(edge: Edge) -> None:
    """It counts among those that are limited."""
    rig = await edge(models={"m": [SIM]}, keeper="mock", key={"limits": {"rpm": 1}})
    assert (await upload(rig, b"x", "assistants")).status == 200
    assert (await upload(rig, b"x", "assistants")).status == 429
    (entry,) = await rig.entries()
    assert (entry.protocol, entry.cost_nusd) == ("openai.files", 0)


async def test_the_access_line_says_how_it_ended(edge: Edge) -> None:
    """Also of what spends nothing."""
    rig = await edge(models={"m": [SIM]}, scripted=["v"], keeper="v")
    await keep(rig.redis, Kept("file-1", "acme/support", "v", "file", b'{"id":"file-1"}'), 0)
    head = answer_head(b"content-length: 9")
    for habit in (once(head, b"all of it"), once(head, b"half")):
        rig.vendors["v"].habit = habit
        await get(rig, f"{FILES}/file-1/content")
    await get(rig, FILES)
    await get(rig, f"{FILES}/file-2")
    await rig.stop()
    lines = [json.loads(line) for line in (rig.folder / "access.log").read_text().splitlines()]
    assert [(line["status"], line["outcome"]) for line in lines] == [
        (200, "ok"),
        (200, "upstream_lost"),
        (200, "ok"),
        (404, "not_found"),
    ]
