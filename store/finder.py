"""
Where the primary is, when a URL names Sentinels or a cluster instead of one server.

**Sentinels** are all asked at once, and the answer with the highest configuration epoch counts: one that was cut off
from the others still names the primary of before (https://redis.io/docs/latest/develop/reference/sentinel-clients/).
Whoever connects to what they name asks it on that very connection whether it is a primary (`ROLE`): Sentinels break the
connections of a server that they demote, so that one which was found to be a primary's stays one.

**A cluster's** nodes are asked who owns the slot of our keys, and whoever most of them name is asked for a key of it:
the answer shows whether that node serves the slot, or who does (`MOVED`).
All keys of a cell share one slot, so that there is one node to find, and everything that one server can do (scripts
over many keys, transactions, pub/sub) can be done there.

Nothing is kept open between two questions, and nothing is taken for true because it was so before.

Failure stance: while nobody is surely the primary, nobody is named, and whoever asks tries again.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Any

import hiredis
from redis.crc import key_slot

from store.target import Address, Target
from store.wire import Wire

__all__ = ["ELSEWHERE", "Finder", "NoPrimary"]

ELSEWHERE = {
    "server": (),
    "sentinel": ("READONLY", "MASTERDOWN"),
    "cluster": ("MOVED", "READONLY", "CLUSTERDOWN", "MASTERDOWN"),
}
"""The errors by which a server says that another one is the primary now; nothing was carried out."""

ANSWER_WITHIN_S = 1.0
"""How long one server may take to say what it knows."""

_ASKED_AT_ONCE = 5
"""How many nodes of a cluster are asked: each knows all of it."""

_NODES_REMEMBERED = 100
_FAILURES = (OSError, TimeoutError, hiredis.HiredisError)
# What comes of an answer that has not the shape it should have.
_NONSENSE = (ValueError, TypeError, LookupError, AttributeError)


class NoPrimary(ConnectionError):
    """Nobody is the primary just now, or nobody who knows can be reached."""


class Finder:
    """
    Finds the primary of one target; holds no connection.

    `latest` is the one that was found last, None when nobody was; `asked_at` is when, in seconds of the running loop's clock.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.elsewhere: tuple[str, ...] = ELSEWHERE[target.kind]
        self.latest: Address | None = None
        self.asked_at = 0.0
        self._known = dict.fromkeys(target.nodes)
        self._lock = asyncio.Lock()
        self._rounds = 0

    def must_ask_role(self) -> bool:
        """Tell whether a fresh connection has to make sure that it is a primary's; a cluster's nodes say so by themselves."""
        return self.target.kind == "sentinel"

    def may_be_deceived(self) -> bool:
        """Tell whether a former primary may go on answering as if nothing had happened, so that one has to ask others."""
        return self.target.kind == "sentinel"

    async def primary(self) -> Address:
        """
        Return who is the primary now; callers that ask at once share one search.

        Raises `NoPrimary`.
        """
        if self.target.kind == "server":
            return self.target.nodes[0]
        asked_in = self._rounds
        async with self._lock:
            if asked_in == self._rounds or self.latest is None:
                self.latest = None
                search = self._by_sentinels if self.target.kind == "sentinel" else self._by_slot
                try:
                    self.latest = await search()
                finally:
                    self._rounds += 1
                    self.asked_at = asyncio.get_running_loop().time()
            return self.latest

    # Sentinels...

    async def _by_sentinels(self) -> Address:
        answers = await self._ask_all(list(self._known), self._sentinel_says)
        named: tuple[int, Address] | None = max(
            (one for one in answers if isinstance(one, tuple)), default=None
        )
        if named is None:
            raise NoPrimary(
                f"no Sentinel knows where {self.target.service} is: {_reasons(answers)}"
            )
        return named[1]

    async def _sentinel_says(self, sentinel: Address) -> tuple[int, Address]:
        service = self.target.service
        # The first knows the epoch; its address is the former primary's until all replicas have followed the next.
        state, (host, port) = await self._ask(
            sentinel,
            self.target.sentinel_greeting(),
            ("SENTINEL", "MASTER", service),
            ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service),
        )
        said = dict(zip(state[::2], state[1::2], strict=True))
        return int(said[b"config-epoch"]), Address(host.decode(), int(port))

    # A cluster...

    async def _by_slot(self) -> Address:
        asked = list(islice(self._known, _ASKED_AT_ONCE))
        answers = await self._ask_all(asked, self._node_says)
        votes: Counter[Address] = Counter()
        nodes: dict[Address, None] = {}
        for answer in answers:
            if isinstance(answer, tuple):
                owner, all_of_it = answer
                votes[owner] += 1
                nodes.update(dict.fromkeys(all_of_it))
        self._remember(nodes)
        refusals = [one for one in answers if isinstance(one, Exception)]
        owners = [owner for owner, _ in votes.most_common()]
        for owner in owners:
            answer = await self._serves(owner)
            code, _, words = str(answer).partition(" ")
            # A slot on its way to another node is still served by the one that it leaves.
            if isinstance(answer, int) or code in {"ASK", "TRYAGAIN"}:
                return owner
            refusals.append(answer)
            there = _moved_to(words, owner) if code == "MOVED" else None
            if there is not None and there not in owners:
                # The loop goes on to it.
                owners.append(there)
        raise NoPrimary(
            f"no node serves slot {key_slot(self.target.tag.encode())}: {_reasons(refusals)}"
        )

    async def _node_says(self, node: Address) -> tuple[Address, list[Address]]:
        slot = key_slot(self.target.tag.encode())
        owner, nodes = None, []
        (rows,) = await self._ask(node, self.target.greeting(), ("CLUSTER", "SLOTS"))
        for first, last, primary, *replicas in rows:
            # A node that does not know its own name means the one by which it was asked.
            places = [
                Address((host or node.host.encode()).decode(), port)
                for host, port, *_ in (primary, *replicas)
            ]
            nodes += places
            if first <= slot <= last:
                owner = places[0]
        if owner is None:
            raise NoPrimary(f"{node} knows no owner of slot {slot}")
        return owner, nodes

    async def _serves(self, node: Address) -> Any:
        """Return what a node says to a question after a key of ours, or what went wrong."""
        try:
            return (await self._ask(node, self.target.greeting(), ("EXISTS", self.target.tag)))[0]
        except _FAILURES as error:
            return error

    def _remember(self, nodes: dict[Address, None]) -> None:
        """Ask others next time, and forget who has left: some of them will be there when those of now are not."""
        asked = list(islice(self._known, _ASKED_AT_ONCE))
        others = islice(self._known, _ASKED_AT_ONCE, None)
        gone = self._known.keys() - nodes.keys() - set(self.target.nodes) if nodes else set()
        first = (one for one in (*others, *nodes) if one not in asked)
        kept = (one for one in (*first, *asked) if one not in gone)
        self._known = dict.fromkeys(islice(dict.fromkeys(kept), _NODES_REMEMBERED))

    # Asking...

    async def _ask(
        self, address: Address, greeting: list[tuple[str, ...]], *questions: tuple[str, ...]
    ) -> list[Any]:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            wire = await Wire.open(self.target, address, greeting)
            try:
                return [await wire.ask(*question) for question in questions]
            finally:
                wire.abort()

    async def _ask_all(
        self, addresses: list[Address], ask: Callable[[Address], Awaitable[Any]]
    ) -> list[Any]:
        """Ask everybody at once; what went wrong stands where the answer would."""

        async def one(address: Address) -> Any:
            try:
                return await ask(address)
            except (*_FAILURES, *_NONSENSE) as error:
                return NoPrimary(f"{address}: {str(error) or type(error).__name__}")

        return await asyncio.gather(*map(one, addresses))


def _moved_to(words: str, asked: Address) -> Address | None:
    """
    Read what follows MOVED, a slot and an address; None when it cannot be read.

    A node that does not know its own name means the one by which it was asked.
    """
    host, _, port = words.rpartition(" ")[2].rpartition(":")
    return Address(host or asked.host, int(port)) if port.isdecimal() else None


def _reasons(answers: list[Any]) -> str:
    return "; ".join(
        str(one) or type(one).__name__ for one in answers if isinstance(one, Exception)
    )
