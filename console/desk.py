"""
Where changes of the live configuration are made: the one way for every route of the admin API.

Read what is live, make the new document (`config.changes`), publish it by compare-and-set, write
the limits of its scopes into the store, and only then answer: the very next admission on any
replica obeys a limit that was answered for. Everything else reaches the replicas within 200 ms,
and who wants to be sure waits for their acknowledgements (`wait_ms`).

A change that does not say which version it was made from is made again on what is live when
somebody else was faster; one that does is refused with what changed meanwhile.

Failure stance: what cannot be published is not answered for. When the store goes away between
publishing and writing the limits, the answer says so, and every control makes up for it as it takes
the version.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.exceptions import RedisError

from config import live
from config.cells import Division, division_in, division_of, moved
from config.changes import Edit, NoSuchPlace, NotEmpty, Taken, checked
from config.differences import Difference, diff
from config.document import TooDeep
from config.loader import ConfigError, Loaded, Problem
from config.problems import spell
from console.answers import Refused
from console.calls import Call, Door
from console.stores import in_each, put_limits
from ratelimit.upkeep import living
from store import clock
from store.cells import Cell

__all__ = ["Desk", "Outcome", "Replica", "moment", "note_of", "refusals", "require_cells"]

TRIES = 20
ASK_EVERY_S = 0.02

Make = Callable[[str], Loaded]
Given = TypeVar("Given")


@dataclass(frozen=True, slots=True)
class Replica:
    """What a replica said last: the `version` it runs, or could not take for this `error`; `age_us` is how long ago that was."""

    name: str
    live: bool | None
    version: int | None
    error: str | None
    age_us: int | None

    @property
    def role(self) -> str:
        """Edge or control."""
        return "control" if self.name.endswith("/control") else "edge"

    def runs(self, number: int) -> bool:
        """Tell whether it runs this version or a later one."""
        return self.error is None and self.version is not None and self.version >= number

    def as_dict(self, number: int) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "replica": self.name,
            "role": self.role,
            "live": self.live,
            "version": self.version,
            "error": self.error,
            "age_ms": None if self.age_us is None else self.age_us // 1000,
            "current": self.runs(number),
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a change did: the version that is live after it, and how it differs from the one before."""

    version: live.Version
    published: bool
    changes: tuple[Difference, ...]
    warnings: tuple[Problem, ...]
    everywhere: bool | None
    waiting_for: tuple[str, ...]
    loaded: Loaded

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            **note_of(self.version),
            "published": self.published,
            "changes": [each.as_dict() for each in self.changes],
            "warnings": [each.as_dict() for each in self.warnings],
            "everywhere": self.everywhere,
            "waiting_for": list(self.waiting_for),
        }

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers that name the version."""
        return {"ETag": f'"{self.version.number}"'}


def moment(unix_us: int) -> str:
    """Return a moment as RFC 3339 in UTC, to the millisecond."""
    at = datetime.fromtimestamp(unix_us / 1_000_000, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def note_of(version: live.Version | live.Note) -> dict[str, Any]:
    """Return what the history says of a version."""
    return {
        "version": version.number,
        "by": version.by,
        "why": version.why,
        "kind": version.kind,
        "at": moment(version.at_us),
        "digest": version.digest,
    }


def refusals(make: Callable[[], Given]) -> Given:
    """Do something with a configuration; its errors are raised as Refused."""
    try:
        return make()
    except ConfigError as error:
        mistakes = [each for each in error.problems if each.severity == "error"]
        count = len(mistakes)
        said = f"{count} mistake{'' if count == 1 else 's'}: {mistakes[0]}"
        problems = [each.as_dict() for each in mistakes]
        raise Refused(422, "mistakes", said, problems=problems) from None
    except NoSuchPlace as error:
        raise Refused(
            404, "not_found", error.message, path=spell(error.path), remedy=error.remedy
        ) from None
    except Taken as error:
        raise Refused(
            409, "taken", error.message, path=spell(error.path), remedy=error.remedy
        ) from None
    except NotEmpty as error:
        raise Refused(409, "not_empty", str(error), path=spell(error.path)) from None
    except TooDeep as error:
        raise Refused(422, "invalid", str(error), path="body") from None


class Desk:
    """The desk of one admin port."""

    def __init__(self, door: Door) -> None:
        self._client = door.client
        self._stores = door.cells
        self._environ = door.environ
        self._replica = door.replica

    async def current(self) -> live.Version:
        """Return the live version; Refused as long as there is none."""
        found = await live.current(self._client)
        if found is None:
            raise Refused(503, "not_ready", "no configuration is published yet")
        return found

    async def edit(self, call: Call, kind: str, edit: Edit) -> Outcome:
        """Make a change by an edit of the live document."""
        return await self.make(call, kind, lambda document: checked(document, edit, self._environ))

    async def make(self, call: Call, kind: str, make: Make) -> Outcome:
        """
        Make a change: `make` gives the new configuration for the live document.

        Raises Refused, with everything that is wrong, and redis-py's errors when nothing was changed.
        """
        asked = call.change
        for _ in range(TRIES):
            before = await self.current()
            if asked.expected is not None and asked.expected != before.number:
                raise await self._stale(asked.expected, before)
            loaded, changes = await asyncio.to_thread(self._made, make, before)
            if not changes:
                return Outcome(before, False, (), loaded.problems, None, (), loaded)
            try:
                after = await live.publish(
                    self._client,
                    loaded.document,
                    by=call.by,
                    why=asked.why,
                    expected=before.number,
                    kind=kind,
                    key_id=loaded.key_id,
                )
            except live.VersionConflict:
                continue  # somebody was faster; look again
            await self._seed(after, loaded)
            everywhere, waiting_for = await self._wait(after.number, asked.wait_ms / 1000)
            return Outcome(after, True, changes, loaded.problems, everywhere, waiting_for, loaded)
        raise Refused(
            409,
            "contended",
            "others change the configuration all the time; try again",
            path="expected",
        )

    def _made(self, make: Make, before: live.Version) -> tuple[Loaded, tuple[Difference, ...]]:
        """Give a new configuration and how it differs; off the loop, for a document may be large."""

        def made() -> tuple[Loaded, tuple[Difference, ...]]:
            loaded = make(before.document)
            return loaded, tuple(diff(before.document, loaded.document))

        loaded, changes = refusals(made)
        cells = len(self._stores)
        said = division_in(before.document, self._environ).said if cells > 1 else {}
        require_cells(Division(cells, said), loaded)
        return loaded, changes

    async def _stale(self, expected: int, current: live.Version) -> Refused:
        """Say what changed since the version that a change was made from."""
        base = await live.version(self._client, expected)
        changes = None
        if base is not None and expected < current.number:
            found = await asyncio.to_thread(diff, base.document, current.document)
            changes = [each.as_dict() for each in found]
        return Refused(
            409,
            "stale_version",
            f"the live configuration is at version {current.number} (by {current.by}:"
            f" {current.why}), not {expected}: nothing was changed",
            path="expected",
            expected=expected,
            current=current.number,
            changes=changes,
        )

    async def _seed(self, version: live.Version, loaded: Loaded) -> None:
        try:
            await put_limits(self._stores, loaded.config, version.number)
        except (RedisError, OSError) as error:
            raise Refused(
                503,
                "published_not_seeded",
                f"version {version.number} was published, but the store went away before its limits"
                f" were written; they will be when it is back: {error}",
                version=version.number,
            ) from error

    # Who runs what...

    async def replicas(self) -> list[Replica]:
        """Return what every replica said last, and whether it lives."""
        said = await live.acknowledgements(self._client)
        now_us = await clock.now_us(self._client)

        async def beats(cell: Cell, store: Redis) -> list[str]:
            try:
                return await living(store, cell)
            except (RedisError, OSError):
                # Whoever lives beats in the other cells as well.
                return []

        beating = {
            member.rpartition(".")[0]
            for members in await in_each(self._stores, beats)
            for member in members
        }
        found = []
        for name in sorted({*said, *beating}):
            ack = said.get(name)
            is_control = name.endswith("/control")
            # A control does not beat; of the others it is not known
            alive = (True if name == self._replica else None) if is_control else name in beating
            found.append(
                Replica(
                    name,
                    alive,
                    None if ack is None else ack.number,
                    None if ack is None else ack.error,
                    None if ack is None else max(0, now_us - ack.at_us),
                )
            )
        return found

    async def _wait(self, number: int, within_s: float) -> tuple[bool | None, tuple[str, ...]]:
        """Wait until every live replica runs a version; tell whether they do, and which do not."""
        if within_s <= 0:
            return None, ()
        loop = asyncio.get_running_loop()
        until = loop.time() + within_s
        while True:
            try:
                behind = _behind(await self.replicas(), number)
            except (RedisError, OSError):
                return False, ()
            if not behind:
                return True, ()
            refused = all(each.error is not None and each.version == number for each in behind)
            if refused or loop.time() >= until:
                return False, tuple(each.name for each in behind)
            await asyncio.sleep(ASK_EVERY_S)


def _behind(replicas: Sequence[Replica], number: int) -> list[Replica]:
    return [each for each in replicas if each.live and not each.runs(number)]


def require_cells(before: Division, loaded: Loaded) -> None:
    """Refuse what would have tenants lie in other cells, under edges that run."""
    what = moved(before, division_of(loaded.config))
    if what:
        raise Refused(
            409,
            "cells_are_fixed",
            f"{what}: this changes only while no edge runs",
            path=what.partition(": ")[0],
        )
