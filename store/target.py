"""
What a store's URL says: where to ask, and as whom.

| form | the store is |
|---|---|
| `redis://[user:password@]host[:port][/db]` | one server |
| `unix:///path[?db=0]` | one server on this machine |
| `redis+sentinel://[user:password@]host[:port],.../SERVICE[/db]` | the primary that Sentinels name; the hosts are theirs |
| `redis+cluster://[user:password@]host[:port],...` | the node that owns our slot; the hosts are some of the cluster's |

`rediss` for `redis` is TLS everywhere, with `?ssl_ca_certs=FILE` for an authority of one's own.
User and password are those of the servers; Sentinels that want some get them by `?sentinel_username=` and `?sentinel_password=`.

Failure stance: a URL that cannot be read is refused in words that repeat nothing of it but its scheme.
"""

import ssl
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from store.cells import FIRST, Cell

__all__ = ["FORMS", "Address", "BadStoreUrl", "Kind", "Target", "target"]

Kind = Literal["server", "sentinel", "cluster"]

FORMS = "redis://, redis+sentinel:// or redis+cluster:// (rediss for TLS), or unix://"
SERVER_PORT = 6379
SENTINEL_PORT = 26379

_KINDS: dict[str, Kind] = {
    "redis": "server",
    "rediss": "server",
    "unix": "server",
    "redis+sentinel": "sentinel",
    "rediss+sentinel": "sentinel",
    "redis+cluster": "cluster",
    "rediss+cluster": "cluster",
}


class BadStoreUrl(ValueError):
    """The URL of the store cannot be read; `words` says what was expected."""

    def __init__(self, words: str) -> None:
        self.words = words
        super().__init__(f"store.redis: {words}")


class Address(NamedTuple):
    """Where one server listens; port 0 says that `host` is the path of a unix socket."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return it as people write it."""
        if not self.port:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


Login = tuple[str | None, str | None]


@dataclass(frozen=True, slots=True)
class Target:
    """
    A store's URL, read; its text never shows a password.

    `nodes` are whom to ask first: the server itself, the Sentinels, or nodes of the cluster.
    `service` is the name by which the Sentinels know the primary; `tag` is that of the keys whose slot is looked for in a cluster.
    """

    kind: Kind
    nodes: tuple[Address, ...]
    service: str
    db: int
    tls: bool
    ca_file: str | None
    username: str | None
    password: str | None = field(repr=False)
    sentinel_login: Login = field(repr=False)
    tag: str = FIRST.tag

    def __str__(self) -> str:
        """Return the addresses alone, and whom they are asked for."""
        nodes = ",".join(map(str, self.nodes))
        return f"{nodes}/{self.service}" if self.service else nodes

    def greeting(self) -> list[tuple[str, ...]]:
        """Return the commands with which a fresh connection to a server begins."""
        commands = _login(self.username, self.password)
        if self.db:
            commands.append(("SELECT", str(self.db)))
        commands.append(("PING",))
        return commands

    def sentinel_greeting(self) -> list[tuple[str, ...]]:
        """Return the commands with which a fresh connection to a Sentinel begins."""
        return _login(*self.sentinel_login)

    def tls_context(self) -> ssl.SSLContext | None:
        """Return what a connection verifies its peer by, None without TLS. Raises OSError for an unusable file."""
        if not self.tls:
            return None
        changed_ns = 0 if self.ca_file is None else Path(self.ca_file).stat().st_mtime_ns
        return _context(self.ca_file, changed_ns)


@lru_cache(maxsize=4)
def _context(ca_file: str | None, _changed_ns: int) -> ssl.SSLContext:
    """Make a context: it takes tens of milliseconds, and Sentinels are asked every two seconds, on the loop of an edge."""
    return ssl.create_default_context(cafile=ca_file)


def _login(username: str | None, password: str | None) -> list[tuple[str, ...]]:
    if password is None:
        return []
    return [("AUTH", username, password) if username else ("AUTH", password)]


def target(url: str, cell: Cell = FIRST) -> Target:
    """Read the URL of a store in which a cell is wanted. Raises `BadStoreUrl`."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise BadStoreUrl(f"expected {FORMS}; an IPv6 address stands in brackets") from None
    kind = _KINDS.get(parts.scheme)
    if kind is None:
        raise BadStoreUrl(f"expected {FORMS}, found {parts.scheme or 'no scheme'}://")
    tls = parts.scheme.startswith("rediss")
    said = _query(parts, kind, tls=tls)
    login, _, hosts = parts.netloc.rpartition("@")
    username, _, password = (unquote(part) or None for part in login.partition(":"))
    service, db = _path(parts, kind)
    return Target(
        kind=kind,
        nodes=_nodes(parts, kind, hosts),
        service=service,
        db=_database(said.get("db", db), kind),
        tls=tls,
        ca_file=said.get("ssl_ca_certs"),
        username=username,
        password=password,
        sentinel_login=(said.get("sentinel_username"), said.get("sentinel_password")),
        tag=cell.tag,
    )


def _query(parts: SplitResult, kind: Kind, *, tls: bool) -> dict[str, str]:
    """Return what the query says, by name."""
    known = ["db"] if kind != "cluster" else []
    if tls:
        known.append("ssl_ca_certs")
    if kind == "sentinel":
        known += ["sentinel_username", "sentinel_password"]
    said = parse_qs(parts.query, keep_blank_values=True)
    if parts.fragment or said.keys() - known:
        expected = " and ".join(f"?{name}=" for name in known) or "nothing"
        raise BadStoreUrl(
            f"{parts.scheme}:// takes {expected} after the address;"
            " write # ? / and @ of a password as %23 %3F %2F and %40"
        )
    return {name: values[0] for name, values in said.items() if values[0]}


def _path(parts: SplitResult, kind: Kind) -> tuple[str, str]:
    """Return the service and the database that the path names, empty where it names none."""
    if parts.scheme == "unix":
        return "", ""
    path = parts.path.strip("/")
    if kind != "sentinel":
        return "", path
    service, _, db = path.partition("/")
    if not service:
        raise BadStoreUrl(
            f"{parts.scheme}:// needs the service that the Sentinels watch,"
            f" as in {parts.scheme}://host1:26379,host2:26379,host3:26379/mymaster"
        )
    return unquote(service), db


def _database(text: str, kind: Kind) -> int:
    if text and not (text.isascii() and text.isdecimal()):
        raise BadStoreUrl("the database must be a number from 0")
    db = int(text or 0)
    if db and kind == "cluster":
        raise BadStoreUrl("a cluster has one database, 0; leave it out")
    return db


def _nodes(parts: SplitResult, kind: Kind, hosts: str) -> tuple[Address, ...]:
    if parts.scheme == "unix":
        if hosts or not parts.path:
            raise BadStoreUrl("unix:// needs an absolute path, as in unix:///run/redis.sock")
        return (Address(unquote(parts.path), 0),)
    written = hosts.split(",")
    if kind == "server" and len(written) > 1:
        raise BadStoreUrl(
            f"{parts.scheme}:// names one server; several are"
            " redis+sentinel://host1,host2,host3/SERVICE or redis+cluster://host1,host2"
        )
    port = SENTINEL_PORT if kind == "sentinel" else SERVER_PORT
    nodes = dict.fromkeys(_address(one, port) for one in written)
    if kind != "server" and "" in written:
        raise BadStoreUrl(f"{parts.scheme}:// needs hosts, as in host1:{port},host2:{port}")
    return tuple(nodes)


def _address(written: str, default_port: int) -> Address:
    """Read `host`, `host:port` or `[v6]:port`."""
    if written.startswith("["):
        host, closed, rest = written[1:].partition("]")
        colon, port = rest[:1], rest[1:]
        whole = bool(host and closed and colon in {"", ":"})
    else:
        host, colon, port = written.partition(":")
        whole = True
    if not whole or (colon and not port.isdecimal()):
        raise BadStoreUrl("ports must be numbers, and an IPv6 address stands in brackets")
    number = int(port) if colon else default_port
    if not 0 < number < 65536:
        raise BadStoreUrl("ports must be numbers from 1 to 65535")
    return Address(unquote(host) or "127.0.0.1", number)
