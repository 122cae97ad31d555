"""
An installation: what is checked before anything starts, and which roles come of a configuration.

A refusal names the setting that has to change; nothing is started and nothing stays claimed.
"""

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from config.loader import Loaded, load_text
from proxy.installation import (
    CannotStart,
    Installation,
    edge_count,
    http_alive,
    http_ready,
    prepared,
    store_ready,
)
from store import places

YAML = """
store: {{redis: "{redis}"}}
edge: {{listen: "127.0.0.1:{port}", workers: 3, drain_timeout_s: 12, liveness_timeout_s: 7}}
admin: {{listen: "127.0.0.1:{admin}"}}
providers: {{house: {{protocol: openai, base_url: "http://127.0.0.1:9/v1"}}}}
models: {{small: {{price: {{input: 1, output: 2}}, deployments: [{{provider: house}}]}}}}
organizations: {{acme: {{teams: {{one: {{keys: {{k: {{key: a-key-of-sixteen-characters}}}}}}}}}}}}
"""


def loaded(port: int = 0, admin: int = 0, redis: str = "embedded") -> Loaded:
    return load_text(
        YAML.format(port=port, admin=admin, redis=redis), source="test.yaml", environ={}
    )


@pytest.fixture
def ours(tmp_path: Path) -> places.Places:
    return places.places({"PENSTOCK_VAR": str(tmp_path / "var")})


async def roles(ours: places.Places, **settings: object) -> Installation:
    async with prepared(ours, Path("/etc/penstock.yaml"), loaded(**settings)) as made:  # type: ignore[arg-type]
        return made


async def test_the_roles_are_store_control_and_edges_in_that_order(ours: places.Places) -> None:
    """Stages are what the supervisor starts and ends by."""
    made = await roles(ours)
    stages = [(role.name, role.stage) for role in made.roles()]
    assert stages == [("store", 0), ("control", 1), ("edge-0", 2), ("edge-1", 2), ("edge-2", 2)]


async def test_the_key_secret_goes_to_those_who_look_at_keys(
    ours: places.Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made at the first start, the same at the next; in the environment of control and edges, on no command line."""
    monkeypatch.delenv("PENSTOCK_KEY_SECRET")
    made = await roles(ours)
    secret = ours.key_secret.read_text().strip()
    told = {role.name: role.environment.get("PENSTOCK_KEY_SECRET") for role in made.roles()}
    assert told.pop("store") is None
    assert set(told.values()) == {secret}
    assert secret not in repr(made)
    assert all(secret not in word for role in made.roles() for word in role.command)
    assert (await roles(ours)).key_secret == secret
    ours.key_secret.chmod(0o644)
    with pytest.raises(CannotStart, match="chmod 600"):
        await roles(ours)


async def test_edges_may_take_the_configured_drain_and_the_store_outlives_all(
    ours: places.Places,
) -> None:
    """The bound that the operator set is the bound that holds, with a grace for the last settlements."""
    by_name = {role.name: role for role in (await roles(ours)).roles()}
    assert by_name["edge-0"].stop_within_s == 12 + 10
    assert by_name["store"].survives_hurry
    linger = by_name["store"].command[by_name["store"].command.index("--linger") + 1]
    assert float(linger) > by_name["edge-0"].stop_within_s


async def test_edges_and_control_are_asked_whether_they_live(ours: places.Places) -> None:
    """The store is not: a disk that holds it up would get it killed, and its data are everybody's."""
    by_name = {role.name: role for role in (await roles(ours)).roles()}
    assert by_name["edge-0"].answers_within_s == 7
    assert by_name["edge-0"].alive is not None
    assert by_name["control"].alive is not None
    assert by_name["store"].alive is None


async def test_who_is_silent_is_waited_for_and_who_cannot_be_asked_is_not(tmp_path: Path) -> None:
    """An answer may say how long a drain takes; a missing socket, a refusal and odd words say nothing."""
    socket_path = tmp_path / "s"
    said: bytes | None = b'{"status": "live", "drain_timeout_s": 12.5}'

    async def edge(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if said is None:
            await silence.wait()
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n%b" % (said or b""))
        writer.close()

    silence = asyncio.Event()
    alive = http_alive(socket_path)
    assert await alive() is None
    async with await asyncio.start_unix_server(edge, socket_path):
        assert await alive() == 12.5 + 10
        for odd in (b'{"status": "live"}', b"[]", b"?", b""):
            said = odd
            assert await alive() is None
        said = None
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await alive()
        silence.set()


async def test_a_redis_of_ones_own_means_no_store_role_and_no_password_on_a_command_line(
    ours: places.Places, redis_url: str
) -> None:
    """Everybody on a machine can read the command lines of everybody's processes."""
    made = await roles(ours, redis=redis_url)
    assert "store" not in [role.name for role in made.roles()]
    for role in made.roles():
        assert not any(redis_url in word for word in role.command)
        assert role.environment["REDIS_URL"] == redis_url
        assert role.environment["PENSTOCK_VAR"] == str(ours.var)


async def test_access_lines_reach_standard_output_unless_it_is_wanted_for_something_else(
    ours: places.Places,
) -> None:
    """`up` passes them on; the demo draws there."""
    made = await roles(ours)
    assert all(role.inherits_stdout for role in made.roles() if role.name.startswith("edge"))
    assert not any(role.inherits_stdout for role in made.roles(quiet=True))


@pytest.mark.parametrize("setting", ["edge.listen", "admin.listen"])
async def test_a_taken_port_names_its_setting_and_its_holder(
    ours: places.Places, setting: str
) -> None:
    """The two things an operator needs to know."""
    with socket.create_server(("127.0.0.1", 0)) as theirs:
        port = theirs.getsockname()[1]
        settings = {"port" if setting == "edge.listen" else "admin": port}
        with pytest.raises(CannotStart) as caught:
            await roles(ours, **settings)
    said = str(caught.value)
    assert f"port {port} is taken by" in said
    assert f"(pid {os.getpid()})" in said
    assert f"{setting} (127.0.0.1:{port}) is the setting to change" in said


async def test_a_second_installation_on_the_same_directory_is_refused(
    ours: places.Places,
) -> None:
    """Two stores on the same data, two drains into the same ledger: never."""
    async with prepared(ours, Path("a.yaml"), loaded()):
        with pytest.raises(CannotStart, match=f"already runs on .* .pid {os.getpid()}."):
            await roles(ours)
    await roles(ours)


async def test_a_place_that_cannot_be_written_is_said_before_anything_starts(
    tmp_path: Path,
) -> None:
    """Which one, why, and what moves it."""
    (tmp_path / "file").touch()
    elsewhere = places.places({"PENSTOCK_VAR": str(tmp_path / "file")})
    with pytest.raises(CannotStart) as caught:
        await roles(elsewhere)
    assert f"cannot write in {tmp_path / 'file'}: File exists" in str(caught.value)
    assert "PENSTOCK_VAR" in str(caught.value)


async def test_a_redis_that_is_not_there_is_said_before_anything_starts(
    ours: places.Places,
) -> None:
    """With the setting, and without the password."""
    with pytest.raises(CannotStart) as caught:
        await roles(ours, redis="redis://:hunter2hunter2@127.0.0.1:1/0")
    assert "does not answer" in str(caught.value)
    assert "store.redis" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("says", ["", "store: {admit_timeout_ms: 900}"])
async def test_where_the_file_says_nothing_the_variables_name_store_and_ledger(
    ours: places.Places, redis_url: str, monkeypatch: pytest.MonkeyPatch, says: str
) -> None:
    """As the commands read them, so that `ledger verify` looks where the gateway writes."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("LEDGER_URL", "sqlite:/srv/books.db")
    text = YAML.format(port=0, admin=0, redis="").replace('store: {redis: ""}', says)
    found = load_text(text, source="test.yaml", environ={})
    async with prepared(ours, Path("/etc/penstock.yaml"), found) as made:
        assert (made.store_url, made.ledger_url) == (redis_url, "sqlite:/srv/books.db")
        assert made.server is None
    assert (await roles(ours)).store_url == ours.store_url  # it says `embedded`
    monkeypatch.setenv("LEDGER_URL", "mysql:books")
    with pytest.raises(CannotStart, match="expected sqlite:PATH, found mysql:"):
        async with prepared(ours, Path("/etc/penstock.yaml"), found):
            pass


async def test_ports_are_chosen_before_roles_are_told(ours: places.Places) -> None:
    """Port 0 means one free port for all edges, not one each."""
    made = await roles(ours)
    listens = {
        role.command[role.command.index("--listen") + 1]
        for role in made.roles()
        if role.name.startswith("edge")
    }
    assert listens == {made.data.address}
    assert made.data.port > 0
    assert made.data_url == f"http://127.0.0.1:{made.data.port}"
    assert made.admin_url == f"http://127.0.0.1:{made.admin[1]}"


def test_auto_means_one_edge_per_core_and_a_number_means_itself() -> None:
    """At most eight by itself, as many as are asked for otherwise."""
    assert 1 <= edge_count("auto") <= 8
    assert edge_count(31) == 31


# Is it ready...


async def answering(folder: Path, answer: bytes) -> tuple[asyncio.Server, Path]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)
        writer.close()

    path = folder / "s.sock"
    return await asyncio.start_unix_server(serve, str(path)), path


@pytest.mark.parametrize(
    ("answer", "waiting"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", None),
        (
            b'HTTP/1.1 503 No\r\ncontent-length: 26\r\n\r\n{"status": "no config yet"}',
            'it answers 503: {"status": "no config yet"}',
        ),
        (b"", "it does not answer yet"),
        (b"garbage", "it does not answer yet"),
    ],
    ids=["ready", "not yet", "closed", "garbage"],
)
async def test_readiness_is_what_the_role_says_of_itself(
    tmp_path: Path, answer: bytes, waiting: str | None
) -> None:
    """What it waits for is passed on, so that a slow start explains itself."""
    server, path = await answering(tmp_path, answer)
    assert await http_ready(path)() == waiting
    server.close()
    await server.wait_closed()
    path.unlink(missing_ok=True)
    assert await http_ready(path)() == "it does not answer yet"


async def test_the_store_is_ready_when_it_answers_ping(
    make_redis: Callable[..., object], tmp_path: Path
) -> None:
    """A server that is still reading its file says LOADING, and that is shown."""
    server = make_redis()
    assert await store_ready(server.socket)() is None  # type: ignore[attr-defined]
    assert await store_ready(tmp_path / "none.sock")() == "it does not answer yet"
    loading, path = await answering(tmp_path, b"-LOADING reading the file\r\n")
    assert await store_ready(path)() == "-LOADING reading the file"
    loading.close()
