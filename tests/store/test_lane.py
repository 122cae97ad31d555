"""
The lane: answers in order, refusals as values, and a connection that comes back by itself.

Against real servers where the real thing can be had, against scripted ones where a server has to misbehave.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

import hiredis
import pytest
import redis.asyncio
import trustme

from store import lane as module
from store import topology
from store.lane import Lane, LaneLost
from store.target import Address, Target
from store.wire import Wire
from tests.conftest import RedisServer
from tests.store.peers import FakeRedis, Pipe, Scripted, gathered_errors, resp

PONG = b"+PONG\r\n"
Make = Callable[..., Awaitable[Any]]


class Counted(Lane):
    """A lane that counts its connections."""

    def __init__(self, where: str | Target) -> None:
        self.connections = 0
        target = topology.target(where) if isinstance(where, str) else where
        super().__init__(target, on_connect=self._count)

    def _count(self) -> None:
        self.connections += 1

    async def connected_again(self, times: int = 1) -> None:
        """Wait for a connection beyond the first."""
        async with asyncio.timeout(5):
            while self.connections <= times or not self.connected:  # noqa: ASYNC110 - a peer's pace
                await asyncio.sleep(0.005)


@pytest.fixture
async def lane() -> AsyncIterator[Callable[..., Awaitable[Lane]]]:
    """Make lanes, started unless told otherwise, closed in the end."""
    made: list[Counted] = []

    async def make(where: str | Target, *, start: bool = True) -> Counted:
        one = Counted(where)
        made.append(one)
        if start:
            await one.start(timeout_s=2.0)
        return one

    yield make
    for one in made:
        await one.close()


@pytest.fixture
async def fake() -> AsyncIterator[Make]:
    """Make scripted servers."""
    made: list[FakeRedis] = []

    async def make(answer: Any) -> FakeRedis:
        one = FakeRedis(answer)
        await one.start()
        made.append(one)
        return one

    yield make
    for one in made:
        await one.close()


class Calls:
    """Calls made on a lane, and what became of them in the order in which it became known."""

    def __init__(self, lane: Counted) -> None:
        self.lane = lane
        self.answers: list[Any] = []
        self._due = 0
        self._done = asyncio.Event()

    def call(self, *command: Any) -> None:
        self.lane.call(self._answered, *command)
        self._due += 1

    def _answered(self, answer: Any) -> None:
        self.answers.append(answer)
        self._done.set()

    async def all(self) -> list[Any]:
        """Wait until each call has had its answer."""
        async with asyncio.timeout(5):
            while len(self.answers) < self._due:
                self._done.clear()
                await self._done.wait()
        return self.answers


async def test_answers_come_in_the_order_of_the_calls(lane: Make, redis_url: str) -> None:
    """However many are under way at once, and however large they are."""
    calls = Calls(await lane(redis_url))
    words = [b"%d" % n * (n % 7 * 1000 + 1) for n in range(500)]
    for word in words:
        calls.call("ECHO", word)
    assert await calls.all() == words


async def test_words_may_be_bytes_text_and_integers(lane: Make, redis_url: str) -> None:
    """And answers are bytes, integers, lists and None, as the server means them."""
    calls = Calls(await lane(redis_url))
    calls.call("EVAL", "return {ARGV[1], ARGV[2], 7, {false, 'x'}}", 0, "ü\r\n", b"\xff\x00")
    assert await calls.all() == [["ü\r\n".encode(), b"\xff\x00", 7, [None, b"x"]]]


async def test_a_refusal_is_an_answer(lane: Make, redis_url: str) -> None:
    """The server's error is handed over as a value, and the lane goes on."""
    calls = Calls(await lane(redis_url))
    calls.call("EVALSHA", "0" * 40, 0)
    calls.call("PING")
    refused, pong = await calls.all()
    assert isinstance(refused, hiredis.ReplyError)
    assert str(refused).startswith("NOSCRIPT")
    assert pong == b"PONG"


async def test_a_call_without_a_connection_is_refused_at_once(lane: Make, redis_url: str) -> None:
    """The caller is told before anything is sent."""
    with pytest.raises(LaneLost):
        (await lane(redis_url, start=False)).call(print, "PING")
    closed = await lane(redis_url)
    await closed.close()
    with pytest.raises(LaneLost):
        closed.call(print, "PING")


async def test_a_word_that_cannot_be_sent_disturbs_nobody(lane: Make, redis_url: str) -> None:
    """The mistake is its caller's alone; the answers after it still go to whom they belong."""
    calls = Calls(await lane(redis_url))
    calls.call("ECHO", "one")
    with pytest.raises((TypeError, UnicodeEncodeError)):
        calls.lane.call(print, "ECHO", "\ud800")
    calls.call("ECHO", "two")
    assert await calls.all() == [b"one", b"two"]


@pytest.mark.parametrize("after", [0, 1, 7, 30])
async def test_a_cut_fails_what_is_under_way_and_the_lane_comes_back(
    lane: Make, pipe: Pipe, after: int
) -> None:
    """Whole answers count, the rest is `LaneLost`, in order; then there is a new connection."""
    calls = Calls(await lane(pipe.url))
    pipe.cut_down_after = after
    for n in range(9):
        calls.call("ECHO", f"{n:03}")
    answers = await calls.all()
    whole = after // len(b"$3\r\n000\r\n")
    assert answers[:whole] == [b"%03d" % n for n in range(whole)]
    assert [type(answer) for answer in answers[whole:]] == [LaneLost] * (9 - whole)
    await calls.lane.connected_again()
    calls.call("PING")
    assert (await calls.all())[-1] == b"PONG"
    assert pipe.connections == 2


async def test_a_server_that_restarts_is_found_again(make_redis: Any, lane: Make) -> None:
    """While it is away calls are refused at once; whoever wants to know is told of each connection."""
    server: RedisServer = make_redis()
    ours = await lane(server.url)
    server.kill()
    async with asyncio.timeout(5):
        while ours.connected:  # noqa: ASYNC110 - nobody announces a loss
            await asyncio.sleep(0.005)
    with pytest.raises(LaneLost):
        ours.call(print, "PING")
    server.start()
    await ours.connected_again()
    assert ours.connections == 2
    calls = Calls(ours)
    calls.call("PING")
    assert await calls.all() == [b"PONG"]


async def test_a_connection_can_be_dropped(lane: Make, pipe: Pipe) -> None:
    """What does not answer is abandoned: the calls under way fail, a new connection is made."""
    calls = Calls(await lane(pipe.url))
    pipe.hold()
    calls.call("PING")
    calls.lane.drop()
    [lost] = await calls.all()
    assert isinstance(lost, LaneLost)
    pipe.release()
    await calls.lane.connected_again()
    calls.lane.drop()
    calls.lane.drop()


async def with_password(make_redis: Any, password: str) -> RedisServer:
    server: RedisServer = make_redis()
    async with redis.asyncio.Redis.from_url(server.url) as client:
        await client.config_set("requirepass", password)
    return server


async def test_password_and_database_come_first(make_redis: Any, lane: Make) -> None:
    """AUTH and SELECT are done before the first call, on every connection."""
    server = await with_password(make_redis, "pa/ss wörd")
    password = "pa%2Fss%20w%C3%B6rd"
    ours = await lane(f"unix://:{password}@{server.socket}?db=3")
    calls = Calls(ours)
    calls.call("SET", "here", "3")
    await calls.all()
    ours.drop()
    await ours.connected_again()
    calls.call("CLIENT", "LIST")
    answers = await calls.all()
    assert b" db=3 " in answers[-1]


async def test_a_wrong_password_is_said_without_the_password(make_redis: Any, lane: Make) -> None:
    """The first connection fails loudly, and names the address alone."""
    server = await with_password(make_redis, "right")
    with pytest.raises(LaneLost, match="WRONGPASS") as told:
        await lane(f"unix://:secret-canary@{server.socket}")
    assert "canary" not in str(told.value)
    with pytest.raises(LaneLost, match="NOAUTH"):
        await lane(server.url)


async def test_nobody_there_is_said(lane: Make, tmp_path: Any) -> None:
    """The first try is not repeated in silence."""
    with pytest.raises(LaneLost, match="cannot reach the store"):
        await lane(f"unix://{tmp_path}/nobody")


async def test_a_server_that_does_not_greet_is_given_up_in_time(fake: Make) -> None:
    """A socket that accepts and says nothing is no connection."""

    async def silence(_: Any) -> bytes:
        await asyncio.sleep(60)
        return PONG

    server = await fake(silence)
    ours = Lane(topology.target(server.url))
    with pytest.raises(LaneLost):
        await ours.start(timeout_s=0.05)
    assert not ours.connected


async def test_a_server_that_hangs_up_at_once_does_not_end_the_keeper(
    fake: Make, lane: Make
) -> None:
    """Whatever happens while it reconnects, it goes on trying."""
    greetings = iter([PONG, b"", b"", b"-LOADING the dataset\r\n", b"?", PONG])
    server = await fake(lambda _: next(greetings))
    ours = await lane(server.url)
    server.cut()
    await ours.connected_again()
    assert server.connections == 6


async def test_a_fault_of_ours_does_not_end_the_keeper(
    fake: Make, lane: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker without its lane would answer nobody until somebody starts it anew."""
    server = await fake(lambda _: PONG)
    ours = await lane(server.url)
    whole, faults = Wire.open, iter([RuntimeError("a fault of ours")])

    async def once_failing(*args: Any, **options: Any) -> Wire:
        for fault in faults:
            raise fault
        return await whole(*args, **options)

    monkeypatch.setattr(Wire, "open", once_failing)
    server.cut()
    await ours.connected_again()
    assert "chore lane failed" in caplog.text


@pytest.mark.parametrize(
    "nonsense", [b"?\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$-7\r\n", b"+a\r\n+b\r\n"]
)
async def test_nonsense_breaks_the_connection(fake: Make, lane: Make, nonsense: bytes) -> None:
    """Out of step with the server no later answer could be trusted: the others are lost, not mistaken."""
    server = await fake(lambda command: PONG if command == [b"PING"] else nonsense)
    calls = Calls(await lane(server.url))
    calls.call("ECHO", "a")
    if nonsense.startswith(b"+a"):
        assert await calls.all() == [b"a"]
    else:
        calls.call("PING")
        assert [type(answer) for answer in await calls.all()] == [LaneLost, LaneLost]
    await calls.lane.connected_again()
    assert server.connections == 2


async def test_a_callback_that_fails_is_reported_and_not_taken_for_nonsense(
    lane: Make, redis_url: str
) -> None:
    """Our own fault is not hidden; the lane recovers as from any loss."""
    ours = await lane(redis_url)

    def stumble(_: Any) -> None:
        raise IndexError("our own fault")

    with gathered_errors(asyncio.get_running_loop()) as told:
        ours.call(stumble, "PING")
        await ours.connected_again()
    assert [type(one["exception"]) for one in told] == [IndexError]


async def test_close_fails_what_is_under_way_and_stops_reconnecting(lane: Make, pipe: Pipe) -> None:
    """Once closed it stays closed, however often it is told."""
    calls = Calls(await lane(pipe.url))
    pipe.hold()
    calls.call("PING")
    await calls.lane.close()
    await calls.lane.close()
    [lost] = await calls.all()
    assert isinstance(lost, LaneLost)
    assert not calls.lane.connected
    assert pipe.connections == 1


async def test_what_waits_to_be_sent_can_be_seen(lane: Make, fake: Make) -> None:
    """A server that does not read lets bytes pile up here, and their number is told."""
    stuck = asyncio.Event()

    async def answer(command: list[bytes]) -> bytes:
        if command[0] == b"ECHO":
            await stuck.wait()
        return PONG

    server = await fake(answer)
    calls = Calls(await lane(server.url))
    assert calls.lane.buffered == 0
    for _ in range(200):
        calls.call("ECHO", b"x" * 100_000)
    assert calls.lane.buffered > 1_000_000
    stuck.set()
    await calls.all()
    assert calls.lane.buffered == 0


# TLS...


def context_of(authority: trustme.CA) -> ssl.SSLContext:
    """Return what a server of `localhost` shows."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    return context


@pytest.fixture
async def secure(redis_server: RedisServer) -> AsyncIterator[tuple[int, trustme.CA]]:
    """Give the port of a server behind TLS for `localhost`, and its authority."""
    authority = trustme.CA()
    context = context_of(authority)
    one = Pipe(redis_server.socket)
    port = await one.start_port(context)
    yield port, authority
    await one.close()


async def test_rediss_is_tls_with_a_private_authority(
    lane: Make, secure: tuple[int, trustme.CA], tmp_path: Any
) -> None:
    """Certificate and host name are verified, against the file that the URL names."""
    port, authority = secure
    trusted = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(trusted))
    calls = Calls(await lane(f"rediss://localhost:{port}?ssl_ca_certs={trusted}"))
    calls.call("ECHO", b"x" * 200_000)
    assert await calls.all() == [b"x" * 200_000]
    with pytest.raises(LaneLost, match=r"(?i)certificate"):
        await lane(f"rediss://127.0.0.1:{port}?ssl_ca_certs={trusted}")
    with pytest.raises(LaneLost, match=r"(?i)certificate"):
        await lane(f"rediss://localhost:{port}")


@pytest.mark.parametrize(
    "form", ["rediss+sentinel://localhost:{}/main", "rediss+cluster://localhost:{}"]
)
async def test_tls_holds_for_those_who_are_asked_and_for_the_primary(
    lane: Make, secure: tuple[int, trustme.CA], tmp_path: Any, form: str
) -> None:
    """For the lane and for redis-py alike; nobody is asked who cannot show a certificate."""
    port, authority = secure
    trusted = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(trusted))
    guide = Scripted()
    guide.knows(Address("localhost", port))
    guide.answers["CLUSTER"] = [[0, 16383, ["localhost", port, "id"]]]
    url = form.format(await guide.start_port(context_of(authority)))
    try:
        ours = await lane(f"{url}?ssl_ca_certs={trusted}")
        assert await ours.ask("ECHO", "x") == b"x"
        client = topology.client(f"{url}?ssl_ca_certs={trusted}")
        assert await client.echo("x") == b"x"
        await client.aclose()
        asked = len(guide.asked)
        with pytest.raises(LaneLost, match=r"(?i)certificate"):
            await lane(url)
        assert len(guide.asked) == asked
    finally:
        await guide.close()


# In company...


class Company:
    """Two servers that answer with their names, and a Sentinel or a node that names the primary of them."""

    def __init__(self, fake: Make, kind: str) -> None:
        self._fake = fake
        self._kind = kind
        self.refusal = ""
        self.refused = 0

    async def start(self) -> None:
        """Start all three; the first server is the primary."""
        self.servers = [await self._fake(partial(self._answer, name)) for name in ("one", "two")]
        self.guide = Scripted()
        await self.guide.start()
        self.name_primary(0)

    def name_primary(self, number: int) -> None:
        """Let the guide name another one."""
        place = str(self.servers[number].path)
        self.guide.knows(Address(place, 0))
        self.guide.answers["CLUSTER"] = [[0, 16383, [place, 0, "id"]]]

    @property
    def target(self) -> Target:
        """Where the guide is to be asked."""
        url = "redis+sentinel://x/main" if self._kind == "sentinel" else "redis+cluster://x"
        return replace(topology.target(url), nodes=(self.guide.at,))

    def _answer(self, name: str, command: list[bytes]) -> bytes:
        if command[0] == b"ROLE":
            return resp(["master", 0, []])
        if command[0] == b"EXISTS":
            return resp(0)
        if command[0] == b"ASK" and name == "one" and self.refusal:
            self.refused += 1
            return resp(Exception(self.refusal))
        return resp(name)


@pytest.fixture
async def company(fake: Make) -> AsyncIterator[Callable[[str], Awaitable[Company]]]:
    """Make companies."""
    made: list[Company] = []

    async def make(kind: str) -> Company:
        made.append(Company(fake, kind))
        await made[-1].start()
        return made[-1]

    yield make
    for one in made:
        await one.guide.close()


@pytest.mark.parametrize(
    ("kind", "refusal"),
    [
        ("sentinel", "READONLY You can't write against a read only replica."),
        ("cluster", "MOVED 10282 h:1"),
        ("cluster", "CLUSTERDOWN The cluster is down"),
    ],
)
async def test_a_server_that_is_no_primary_any_more_is_left_for_the_next(
    lane: Make, company: Make, caplog: pytest.LogCaptureFixture, kind: str, refusal: str
) -> None:
    """Its refusal is nobody's answer: the call was lost, as with a connection, and the next one goes to the next server."""
    servers = await company(kind)
    calls = Calls(await lane(servers.target))
    calls.call("ASK")
    assert await calls.all() == [b"one"]
    servers.refusal = refusal
    servers.name_primary(1)
    calls.call("ASK")
    assert type((await calls.all())[-1]) is LaneLost
    await calls.lane.connected_again()
    calls.call("ASK")
    assert (await calls.all())[-1] == b"two"
    one, two = (server.path for server in servers.servers)
    assert [line.getMessage() for line in caplog.records if line.name == "penstock.store"] == [
        f"the store is at {two} now, and was at {one}"
    ]


async def test_a_primary_that_is_cut_off_from_its_sentinels_is_left(
    lane: Make, company: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers as if it were the one; they know better, and when they know nothing it stays."""
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.02)
    servers = await company("sentinel")
    ours = await lane(servers.target)
    asked = servers.guide.was_asked(b"SENTINEL")
    servers.guide.answers["SENTINEL"] = Exception("ERR No such master with that name")
    async with asyncio.timeout(5):
        while servers.guide.was_asked(b"SENTINEL") < asked + 3:  # noqa: ASYNC110 - its own pace
            await asyncio.sleep(0.005)
    assert (ours.connected, ours.connections) == (True, 1)
    servers.name_primary(1)
    await ours.connected_again()
    assert await ours.ask("ASK") == b"two"


async def test_a_lane_that_is_turned_away_at_once_does_not_spin(lane: Make, company: Make) -> None:
    """The nodes have not settled yet who owns the slot: it tries again and again, with pauses."""
    servers = await company("cluster")
    servers.refusal = "MOVED 10282 h:1"
    ours = await lane(servers.target)
    lost = 0
    async with asyncio.timeout(5):
        begun = asyncio.get_running_loop().time()
        while servers.refused < 6:
            try:
                await ours.ask("ASK")
            except LaneLost:
                lost += 1
                await asyncio.sleep(0.005)
    # 20, 40, 80, 160 and 200 ms lie between six of them.
    assert asyncio.get_running_loop().time() - begun > 0.4
    assert lost >= 6


async def test_a_command_beside_the_hot_path_has_its_answer_returned(
    lane: Make, redis_url: str
) -> None:
    """Or its refusal raised; without a connection it is refused like a call."""
    ours = await lane(redis_url)
    assert await ours.ask("ECHO", "x") == b"x"
    with pytest.raises(hiredis.ReplyError):
        await ours.ask("NOSUCHCOMMAND")
    await ours.close()
    with pytest.raises(LaneLost):
        await ours.ask("PING")
