"""One URL, read once: every form says where to ask and as whom, and no text shows a password."""

import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import trustme

from store.target import Address, BadStoreUrl, Target, target

PLAIN = Target(
    kind="server",
    nodes=(Address("127.0.0.1", 6379),),
    service="",
    db=0,
    tls=False,
    ca_file=None,
    username=None,
    password=None,
    sentinel_login=(None, None),
)
SENTINELS = {
    "kind": "sentinel",
    "service": "main",
    "nodes": (Address("s1", 26379), Address("s2", 26000), Address("::1", 26379)),
}


def at(*nodes: tuple[str, int]) -> dict[str, Any]:
    """Say whom to ask."""
    return {"nodes": tuple(Address(*node) for node in nodes)}


@pytest.mark.parametrize(
    ("url", "changes"),
    [
        ("redis://127.0.0.1", {}),
        ("redis://", {}),
        ("redis://cache.example:7000/3", at(("cache.example", 7000)) | {"db": 3}),
        ("redis://h/2?db=5", at(("h", 6379)) | {"db": 5}),
        ("redis://[::1]:7000", at(("::1", 7000))),
        ("redis://:p%2F%20w@h", at(("h", 6379)) | {"password": "p/ w"}),
        ("redis://us%40er:pw@h", at(("h", 6379)) | {"username": "us@er", "password": "pw"}),
        ("rediss://h", at(("h", 6379)) | {"tls": True}),
        (
            "rediss://h/1?ssl_ca_certs=/a/b.pem",
            at(("h", 6379)) | {"db": 1, "tls": True, "ca_file": "/a/b.pem"},
        ),
        ("unix:///run/r.sock", at(("/run/r.sock", 0))),
        ("unix:///a%20b/r.sock?db=4", at(("/a b/r.sock", 0)) | {"db": 4}),
        ("unix://u:p@/run/r.sock", at(("/run/r.sock", 0)) | {"username": "u", "password": "p"}),
        ("redis+sentinel://s1,s2:26000,[::1]/main", SENTINELS),
        ("redis+sentinel://s1,s2:26000,[::1]/main/2", SENTINELS | {"db": 2}),
        ("redis+sentinel://s1,s2:26000,[::1]/main?db=3", SENTINELS | {"db": 3}),
        (
            "redis+sentinel://u:p%2C@s1,s2:26000,[::1]/main?sentinel_username=w&sentinel_password=q",
            SENTINELS | {"username": "u", "password": "p,", "sentinel_login": ("w", "q")},
        ),
        (
            "rediss+sentinel://s1,s2:26000,[::1]/main?ssl_ca_certs=/ca",
            SENTINELS | {"tls": True, "ca_file": "/ca"},
        ),
        ("redis+cluster://n1", at(("n1", 6379)) | {"kind": "cluster"}),
        (
            "redis+cluster://n1:7000,n2,n1:7000/0",
            at(("n1", 7000), ("n2", 6379)) | {"kind": "cluster"},
        ),
        (
            "rediss+cluster://:p@n1,n2",
            at(("n1", 6379), ("n2", 6379)) | {"kind": "cluster", "tls": True, "password": "p"},
        ),
    ],
)
def test_a_url_says_where_the_store_is(url: str, changes: dict[str, Any]) -> None:
    """Scheme, addresses, service, database, users and passwords, decoded."""
    found = target(url)
    wanted = {one.name: getattr(PLAIN, one.name) for one in fields(Target)} | changes
    assert {one.name: getattr(found, one.name) for one in fields(Target)} == wanted


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (
            "localhost:6379",
            r"redis\+sentinel:// or redis\+cluster:// .*, or unix://, found localhost",
        ),
        ("http://h", "expected redis://.*, found http://"),
        ("redis+clustr://h", "expected redis://"),
        ("", "found no scheme"),
        ("redis://[::1", "IPv6 address stands in brackets"),
        ("redis://[::1]7", "IPv6 address stands in brackets"),
        ("redis://::1", "must be numbers"),
        ("redis://h:port", "must be numbers"),
        ("redis://h:", "must be numbers"),
        ("redis://h:99999", "from 1 to 65535"),
        ("redis://h:0", "from 1 to 65535"),
        ("redis://h/zero", "database must be a number"),
        ("redis://h/-1", "database must be a number"),
        ("redis://h/1/2", "database must be a number"),
        ("redis://h1,h2", r"names one server; several are redis\+sentinel://"),
        ("unix://", "absolute path"),
        ("unix://run/r.sock", "absolute path"),
        ("redis://h?dbs=1", r"takes \?db= after"),
        ("redis://h#x", r"takes \?db= after"),
        ("redis://h?ssl_ca_certs=x", r"takes \?db= after"),
        ("rediss+sentinel://h/m?x=1", r"\?ssl_ca_certs= and \?sentinel_username="),
        ("redis+cluster://h?db=0", "takes nothing after"),
        ("redis+sentinel://s1,s2", "needs the service .*host3:26379/mymaster"),
        ("redis+sentinel://s1/m/x", "database must be a number"),
        ("redis+sentinel:///m", "needs hosts"),
        ("redis+sentinel://s1,,s2/m", "needs hosts"),
        ("redis+cluster://", "needs hosts"),
        ("redis+cluster://h/1", "one database"),
    ],
)
def test_what_cannot_be_read_is_refused_in_words(url: str, words: str) -> None:
    """The message names the setting, and says what was expected."""
    with pytest.raises(BadStoreUrl, match=words) as told:
        target(url)
    assert str(told.value) == f"store.redis: {told.value.words}"


@pytest.mark.parametrize(
    "url",
    [
        "ftp://user:canary@h",
        "redis://user:canary@h:canary",
        "redis://:cana/canary@h",
        "redis://:p?canary@h",
        "redis://:p#canary@h",
        "redis://canary:canary:canary@h:x",
        "redis+sentinel://s?sentinel_password=canary",
        "redis+cluster://:canary@h/1",
    ],
)
def test_no_refusal_repeats_what_may_be_a_password(url: str) -> None:
    """A password that was not encoded lands anywhere in a URL."""
    with pytest.raises(BadStoreUrl) as told:
        target(url)
    assert "canary" not in str(told.value)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("redis://user:canary@h:7000", "h:7000"),
        ("unix://:canary@/run/r.sock", "/run/r.sock"),
        ("redis+sentinel://:canary@s1,[::1]/m?sentinel_password=canary", "s1:26379,[::1]:26379/m"),
        ("redis+cluster://:canary@n1,n2:7000", "n1:6379,n2:7000"),
    ],
)
def test_the_text_of_a_target_is_its_addresses(url: str, text: str) -> None:
    """It goes into logs and errors, so that it shows no password."""
    where = target(url)
    assert str(where) == text
    assert "canary" not in f"{where} {where!r}"


@pytest.mark.parametrize(
    ("url", "commands"),
    [
        ("redis://h", [("PING",)]),
        ("redis://:p@h/2", [("AUTH", "p"), ("SELECT", "2"), ("PING",)]),
        ("redis+cluster://u:p@h", [("AUTH", "u", "p"), ("PING",)]),
    ],
)
def test_a_connection_begins_with_password_and_database(url: str, commands: list[Any]) -> None:
    """And ends its greeting with a PING, so that a server that is still loading is not taken for ready."""
    assert target(url).greeting() == commands


def test_sentinels_have_users_of_their_own() -> None:
    """Those of the servers are not shown to them."""
    assert target("redis+sentinel://u:p@s/m").sentinel_greeting() == []
    withal = target("redis+sentinel://u:p@s/m?sentinel_username=w&sentinel_password=q")
    assert withal.sentinel_greeting() == [("AUTH", "w", "q")]


def test_a_context_is_made_once_for_each_state_of_its_file(tmp_path: Path) -> None:
    """It takes tens of milliseconds; without TLS there is none."""
    assert target("redis://h").tls_context() is None
    system = target("rediss+sentinel://a,b/m").tls_context()
    assert system is not None
    assert target("rediss://h").tls_context() is system
    file = tmp_path / "ca.pem"
    where = target(f"rediss://h?ssl_ca_certs={file}")
    known = []
    for at in (1, 2):
        trustme.CA().cert_pem.write_to_path(str(file))
        os.utime(file, (at, at))
        made = where.tls_context()
        assert made is not None
        assert where.tls_context() is made
        (authority,) = made.get_ca_certs()
        known.append(authority["serialNumber"])
    assert known[0] != known[1]
    file.unlink()
    with pytest.raises(FileNotFoundError):
        where.tls_context()
