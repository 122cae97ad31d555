"""The routes of `/v1/config`: what is live, what was, what would change, and who runs it."""

import asyncio
import re
from functools import partial
from typing import Any, Literal

from aiohttp import web
from pydantic import Field

from config import live
from config.changes import taken_over
from config.differences import diff, exported
from config.loader import Loaded
from console.answers import Refused, json_answer
from console.calls import Call, Route
from console.desk import Desk, moment, note_of, refusals
from console.shapes import (
    Changed,
    DifferenceShape,
    NoteShape,
    Number,
    ProblemShape,
    Replacement,
    Shape,
)

__all__ = ["ROUTES", "Apply", "Rollback"]

SOURCE = "document"


# What goes in and out...


class Apply(Replacement):
    """A whole configuration."""

    document: str = Field(description="The configuration as YAML; `***` keeps what is live there.")


class Compare(Shape):
    """A configuration to compare with the live one."""

    document: str = Field(description="The configuration as YAML.")


class Rollback(Replacement):
    """A version to go back to."""

    version: Number = Field(description="The version whose document becomes live again.")


class History(Shape):
    """The versions that are kept, the live one first."""

    versions: list[NoteShape]


class VersionShape(NoteShape):
    """A version with its document; secrets that stand in it in clear are `***`."""

    document: str


class PastVersion(VersionShape):
    """A version, and what it changed; null where the one before is forgotten."""

    changes: list[DifferenceShape] | None


class Comparison(Shape):
    """What applying a document would change."""

    version: int = Field(description="The live version that was compared with.")
    changes: list[DifferenceShape]
    warnings: list[ProblemShape]


class ReplicaShape(Shape):
    """What a replica said last."""

    replica: str
    role: Literal["edge", "control"]
    live: bool | None = Field(description="Whether it beats; null for another control.")
    version: int | None = Field(description="The latest that it runs, or could not take.")
    error: str | None = Field(description="Why it could not take that version.")
    age_ms: int | None = Field(description="How long ago it said so.")
    current: bool = Field(description="Whether it runs the live version.")


class Status(Shape):
    """Which replica runs which version."""

    version: int
    at: str
    by: str
    everywhere: bool = Field(description="Whether all live replicas run the live version.")
    replicas: list[ReplicaShape]


async def _current(call: Call) -> web.Response:
    version = await Desk(call.door).current()
    return json_answer(200, await _whole(version), {"ETag": f'"{version.number}"'})


async def _versions(call: Call) -> web.Response:
    notes = await live.history(call.door.client)
    return json_answer(200, {"versions": [note_of(note) for note in notes]})


async def _version(call: Call) -> web.Response:
    number = _number(call.names["version"])
    version = await live.version(call.door.client, number)
    if version is None:
        raise _forgotten(number)
    before = await live.version(call.door.client, number - 1)
    changes = None
    if before is not None:
        changes = await asyncio.to_thread(diff, before.document, version.document)
    said = await _whole(version)
    said["changes"] = None if changes is None else [each.as_dict() for each in changes]
    return json_answer(200, said)


async def _diff(call: Call) -> web.Response:
    version = await Desk(call.door).current()
    asked: Compare = call.body

    def compared() -> tuple[Loaded, list[dict[str, Any]]]:
        loaded = taken_over(asked.document, version.document, call.door.environ, source=SOURCE)
        return loaded, [each.as_dict() for each in diff(version.document, loaded.document)]

    loaded, changes = await asyncio.to_thread(refusals, compared)
    said = {
        "version": version.number,
        "changes": changes,
        "warnings": [each.as_dict() for each in loaded.problems],
    }
    return json_answer(200, said, {"ETag": f'"{version.number}"'})


async def _apply(call: Call) -> web.Response:
    asked: Apply = call.body
    outcome = await Desk(call.door).make(
        call,
        "config.apply",
        lambda document: taken_over(asked.document, document, call.door.environ, source=SOURCE),
    )
    return json_answer(200, outcome.as_dict(), outcome.headers)


async def _rollback(call: Call) -> web.Response:
    asked: Rollback = call.body
    version = await live.version(call.door.client, asked.version)
    if version is None:
        raise _forgotten(asked.version)
    make = partial(
        taken_over, version.document, environ=call.door.environ, source=f"version {version.number}"
    )
    # What the version holds is taken as it is: nothing in it was masked
    outcome = await Desk(call.door).make(
        call, "config.rollback", lambda _: make(live=version.document)
    )
    return json_answer(200, outcome.as_dict(), outcome.headers)


async def _status(call: Call) -> web.Response:
    desk = Desk(call.door)
    version = await desk.current()
    replicas = await desk.replicas()
    alive = [each for each in replicas if each.live]
    return json_answer(
        200,
        {
            "version": version.number,
            "at": moment(version.at_us),
            "by": version.by,
            "everywhere": all(each.runs(version.number) for each in alive),
            "replicas": [each.as_dict(version.number) for each in replicas],
        },
    )


async def _whole(version: live.Version) -> dict[str, Any]:
    document = await asyncio.to_thread(exported, version.document)
    return {**note_of(version), "document": document}


def _number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,16}", text):
        raise Refused(404, "not_found", "a version is a number", path="version")
    return int(text)


def _forgotten(number: int) -> Refused:
    return Refused(
        404,
        "not_found",
        f"version {number} is not kept; the last {live.KEPT_VERSIONS} are (GET /v1/config/versions)",
        path="version",
    )


ROUTES = (
    Route("GET", "/v1/config", "The live configuration", _current, VersionShape),
    Route("GET", "/v1/config/versions", "The history", _versions, History),
    Route(
        "GET",
        "/v1/config/versions/{version}",
        "One version, and what it changed",
        _version,
        PastVersion,
        refuses=(404,),
    ),
    Route(
        "POST",
        "/v1/config/diff",
        "What applying a document would change",
        _diff,
        Comparison,
        takes=Compare,
        refuses=(422,),
    ),
    Route(
        "POST",
        "/v1/config/apply",
        "Make a document the live configuration",
        _apply,
        Changed,
        takes=Apply,
    ),
    Route(
        "POST",
        "/v1/config/rollback",
        "Make the document of an earlier version live again",
        _rollback,
        Changed,
        takes=Rollback,
        refuses=(404,),
    ),
    Route(
        "GET",
        "/v1/config/status",
        "Which replica runs which version",
        _status,
        Status,
    ),
)
