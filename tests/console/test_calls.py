"""Laws of reading a call: it is JSON, said once, by somebody, and understood whole or not at all."""

from typing import Any

import pytest

from config import live

Api = Any  # the fixture of this folder's conftest
QUOTA = "/v1/quotas/org:acme"
BODY = b'{"why": "w", "limits": {"rpm": 5}}'


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"null",
        b"5",
        b"[]",
        b'"why"',
        b'{"why": "w", "why": "x"}',
        b'{"why": "w", "limits": {"rpm": 1, "rpm": 2}}',
        b'{"why": "w", "limits": {"rpm": NaN}}',
        b'{"why": "w", "limits": {"rpm": Infinity}}',
        b'{"why": "w\xff"}',
        b'{"why": "w", "limits": {"rpm": "\\ud800"}}',
        b'{"why": "w", "limits": {"r\\udfffpm": 5}}',
        b'{"why": "w", "limits": ' + b"[" * 100_000,
        b'{"why": "w", "limits": {"rpm": ' + b"9" * 5000 + b"}}",
        b"why=w",
    ],
)
async def test_what_is_not_json_is_refused(api: Api, data: bytes) -> None:
    """400, without repeating what was sent."""
    error = await api.refused(400, "invalid_json", "PUT", QUOTA, data=data)
    assert len(error["message"]) < 300


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_a_change_is_declared_as_json(api: Api, kind: str) -> None:
    """What a web page may send to this machine unasked is not taken."""
    await api.refused(
        415,
        "unsupported_media_type",
        "PUT",
        QUOTA,
        data=BODY,
        headers={"Content-Type": kind},
    )


@pytest.mark.parametrize(
    ("said", "by"), [("ann@desk", "ann@desk"), ("", "admin"), (" x ", "x"), ("Ü", "Ü")]
)
async def test_who_changes_is_noted(api: Api, said: str, by: str) -> None:
    """As `x-penstock-actor` says; the token alone is `admin`."""
    found = await api.done("PUT", QUOTA, data=BODY, headers={"x-penstock-actor": said})
    assert found["by"] == by
    current = await live.current(api.redis)
    assert current is not None
    assert current.by == by


@pytest.mark.parametrize("said", ["a" * 129, "a\tb", "a\u200eb"])
async def test_a_strange_actor_is_refused(api: Api, said: str) -> None:
    """Control characters, and names without end."""
    await api.refused(422, "invalid", "PUT", QUOTA, data=BODY, headers={"x-penstock-actor": said})


@pytest.mark.parametrize(
    "match", ["1", "*", 'W/"1"', '"x"', '"1", "2"', '""', '"-1"', '"' + "9" * 40 + '"']
)
async def test_if_match_is_one_version(api: Api, match: str) -> None:
    """In quotes, as the ETag says it."""
    await api.refused(422, "invalid", "PUT", QUOTA, data=BODY, headers={"If-Match": match})


async def test_if_match_and_expected_agree(api: Api) -> None:
    """Two versions are none."""
    body = {"why": "w", "limits": {"rpm": 5}, "expected": 1}
    await api.refused(422, "invalid", "PUT", QUOTA, body, headers={"If-Match": '"2"'})
    await api.refused(409, "stale_version", "PUT", QUOTA, data=BODY, headers={"If-Match": '"2"'})
    await api.done("PUT", QUOTA, body, headers={"If-Match": '"1"'})


@pytest.mark.parametrize(
    "path", [f"{QUOTA}?why=x", f"{QUOTA}?x", "/v1/keys?team=a&team=b", "/v1/config?version=1"]
)
async def test_an_unknown_parameter_is_refused(api: Api, path: str) -> None:
    """A misspelt one would else be a question that nobody asked."""
    method = "PUT" if path.startswith(QUOTA) else "GET"
    data = BODY if method == "PUT" else None
    await api.refused(400, "bad_request", method, path, data=data)


async def test_every_mistake_of_a_body_is_said_with_its_place(api: Api) -> None:
    """At once, with what was meant."""
    error = await api.refused(422, "invalid", "PUT", QUOTA, {"limit": {}, "wait_ms": -1})
    assert {(each["path"], each["nearest"]) for each in error["problems"]} == {
        ("limit", "limits"),
        ("wait_ms", ""),
        ("why", ""),
    }
    assert all(each["message"] for each in error["problems"])


@pytest.mark.parametrize("path", [f"{QUOTA}%FF%FE", f"{QUOTA}?why=%C3", "/v1/usage?%ff=1"])
async def test_what_is_not_utf_8_is_refused(api: Api, path: str) -> None:
    """It would else be taken for another name, the same for all that is not."""
    method = "GET" if "usage" in path else "PUT"
    data = BODY if method == "PUT" else None
    error = await api.refused(400, "bad_request", method, path, data=data)
    assert "UTF-8" in error["message"]


async def test_what_was_meant_is_said_in_the_message(api: Api) -> None:
    """Who reads nothing else finds it there."""
    error = await api.refused(422, "invalid", "PUT", QUOTA, {"why": "w", "budget": []})
    assert error["message"] == "budget: unknown field; did you mean 'budgets'?"


@pytest.mark.parametrize(
    ("status", "code", "asked", "where"),
    [
        (404, "not_found", "GET /v1/nothing", "url"),
        (404, "not_found", "PUT /v1/a%00%1b", "url"),
        (405, "method_not_allowed", "POST /v1/quotas", "method"),
        (413, "too_large", f"PUT {QUOTA}", "body"),
    ],
)
async def test_what_no_route_takes_is_refused_in_the_same_form(
    api: Api, status: int, code: str, asked: str, where: str
) -> None:
    """With a place, and what to do about it."""
    data = b" " * (21 * 1024 * 1024) if status == 413 else None
    error = await api.refused(status, code, *asked.split(), data=data)
    (problem,) = error["problems"]
    assert (problem["path"], bool(problem["remedy"])) == (where, True)
    assert error["message"].isprintable()
