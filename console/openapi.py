"""
The OpenAPI 3.1 document of the admin port, made from the route table and the schemas.

Served at `GET /openapi.json`; `python -m console.openapi` writes it into `docs/`, and a test holds
the file to the table.

Source: https://spec.openapis.org/oas/v3.1.0
"""

import sys
from collections.abc import Iterable
from typing import Any

import orjson
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from config.changes import SCOPES
from config.models import Config
from console import shapes
from console.calls import ACTOR, Route
from store.places import CHECKOUT

__all__ = ["FILE", "document", "text"]

FILE = CHECKOUT / "docs" / "openapi.json"

_TO_SCHEMA = "#/components/schemas/{model}"
_SAYS = {
    400: "The call cannot be read",
    401: "The admin token is missing or wrong",
    404: "There is no such thing",
    409: "Another version is live, or something stands in the way; nothing was changed",
    413: "The body is too large",
    415: "The body is not declared as JSON",
    422: "Mistakes, all of them; nothing was changed",
    503: "The store or the ledger does not answer, or nothing is published yet",
}
_DESCRIBED = {
    "organization": "Name of the organization.",
    "team": "Name of the team.",
    "name": "Its name.",
    "id": "Id of the deployment.",
    "scope": f"{SCOPES}.",
    "version": "Number of the version.",
    "request_id": "The `x-request-id` of the answer.",
}
_IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "pattern": '^"[0-9]{1,16}"$'},
    "description": "The version that the change was made from, as the ETag of an answer says it.",
}
_ACTOR = {
    "name": ACTOR,
    "in": "header",
    "required": False,
    "schema": {"type": "string", "maxLength": 128},
    "description": "Who makes the change, for the history.",
}


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """Return the document for a table of routes."""
    table = list(routes)
    schemas: set[type[BaseModel]] = {route.gives for route in table}
    schemas |= {route.takes for route in table if route.takes is not None}
    schemas |= {shapes.Failure, Config}
    ordered = sorted(schemas, key=lambda each: each.__name__)
    _, described = models_json_schema(
        [(each, "validation") for each in ordered], by_alias=True, ref_template=_TO_SCHEMA
    )
    paths: dict[str, dict[str, Any]] = {}
    for route in table:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Penstock admin API",
            "version": "1",
            "description": "Health, metrics, books and the live configuration, on the admin port.",
        },
        "security": [{"adminToken": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"adminToken": {"type": "http", "scheme": "bearer"}},
            "schemas": _untitled(described["$defs"]),
        },
    }


def text(routes: Iterable[Route]) -> str:
    """Return the document as the text of `docs/openapi.json`."""
    return orjson.dumps(document(routes), option=orjson.OPT_INDENT_2).decode() + "\n"


def _operation(route: Route) -> dict[str, Any]:
    said: dict[str, Any] = {
        "operationId": _operation_id(route),
        "summary": route.says,
        "parameters": [*_parameters(route)],
        "responses": {
            str(route.status): {
                "description": "Done",
                "content": {route.media: {"schema": _answer(route)}},
            },
            **{
                str(status): {
                    "description": _SAYS[status],
                    "content": {"application/json": {"schema": _reference(shapes.Failure)}},
                }
                for status in _refusals(route)
            },
        },
    }
    if route.takes is not None:
        said["requestBody"] = {
            "required": route.method != "DELETE",
            "content": {"application/json": {"schema": _reference(route.takes)}},
        }
    if route.is_open:
        said["security"] = []
    return said


def _answer(route: Route) -> dict[str, Any]:
    return {"type": "string"} if route.media == "text/plain" else _reference(route.gives)


def _refusals(route: Route) -> list[int]:
    if route.is_open:
        return []
    found = {401, 503, *route.refuses}
    if route.query or route.takes:
        found.add(400)
    if route.takes:
        found |= {413, 415, 422}
    if route.changes:
        found.add(409)
    return sorted(found)


def _parameters(route: Route) -> Iterable[dict[str, Any]]:
    for name in route.names:
        yield {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string"},
            "description": _DESCRIBED[name],
        }
    query = dict(route.query)
    if route.changes and route.method == "DELETE":
        query |= {
            "why": "As in the body, for callers that cannot send one.",
            "expected": "As in the body.",
            "wait_ms": "As in the body.",
        }
    for name, says in query.items():
        yield {
            "name": name,
            "in": "query",
            "required": False,
            "schema": {"type": "string"},
            "description": says,
        }
    if route.changes:
        yield _IF_MATCH
        yield _ACTOR


def _operation_id(route: Route) -> str:
    words = [word for part in route.path.split("/") for word in part.strip("{}").split(".") if word]
    return "_".join([route.method.lower(), *(word for word in words if word != "v1")])


def _reference(shape: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _TO_SCHEMA.format(model=shape.__name__)}


def _untitled(schema: Any) -> Any:
    """Drop the titles that pydantic makes of names, and refer to sections of the configuration."""
    if isinstance(schema, dict):
        if shapes.SECTION in schema:
            rest = {name: inner for name, inner in schema.items() if name != shapes.SECTION}
            return {**_untitled(rest), "$ref": _TO_SCHEMA.format(model=schema[shapes.SECTION])}
        return {
            name: _untitled(inner)
            for name, inner in schema.items()
            if not (name == "title" and isinstance(inner, str))
        }
    if isinstance(schema, list):
        return [_untitled(each) for each in schema]
    return schema


def main() -> int:
    """Write the document into `docs/`."""
    # The table knows this module; whoever writes the file needs the table
    from console.admin import routes  # noqa: PLC0415

    FILE.write_text(text(routes()), encoding="utf-8")
    sys.stdout.write("wrote docs/openapi.json\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
