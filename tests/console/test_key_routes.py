"""Laws of `/v1/keys`: a key is shown once and kept nowhere, and a revoked one is gone from what is live."""

import re
from typing import Any

import pytest

from config.loader import load_published
from config.secrets import hash_key
from console.key_routes import make_key
from governance.identity import Directory
from tests.console.conftest import ENVIRON, SECRETS

Api = Any  # the fixture of this folder's conftest
KEYS, HELPDESK = "/v1/keys", "/v1/keys/acme/support/helpdesk"
NEW = {"organization": "acme", "team": "support", "name": "new", "why": "a new desk"}


async def knows(api: Api, key: str) -> str | None:
    """Give whose key it is for an edge that runs what is live."""
    found = Directory(load_published(await api.document(), ENVIRON), SECRETS).find(key)
    return None if found is None else found.key


def test_keys_are_long_and_never_the_same() -> None:
    """`sk-pen-` and 40 letters and digits."""
    keys = {make_key() for _ in range(1000)}
    assert len(keys) == 1000
    assert all(re.fullmatch(r"sk-pen-[A-Za-z0-9]{40}", key) for key in keys)


async def test_a_key_is_made_shown_once_rotated_and_revoked(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    """At each step the live document knows the right key and no other; none is kept anywhere."""
    caplog.set_level(0)
    asked = {
        **NEW,
        "application": "desk",
        "biz_level": "premium",
        "models": ["auto"],
        "limits": {"rpm": 5},
        "budgets": [{"usd": 1, "per": "day", "mode": "strict"}],
        "expected": 1,
    }
    made = await api.done("POST", KEYS, asked, headers={"x-penstock-actor": "ann"})
    first = made["key"]
    assert (made["id"], made["version"], made["kind"], made["by"]) == (
        "acme/support/new",
        2,
        "key.create",
        "ann",
    )
    assert await knows(api, first) == "acme/support/new"
    shown = await api.done("GET", f"{KEYS}/acme/support/new")
    assert shown["settings"] == {
        "application": "desk",
        "biz_level": "premium",
        "models": ["auto"],
        "limits": {"rpm": 5},
        "budget": [{"usd": 1, "per": "day", "mode": "strict"}],
    }
    kept = SECRETS.keyed(hash_key(first))
    assert kept in await api.document()
    assert shown["fingerprint"] == kept[: len("hmac-sha256:01234567:") + 8] + "…"
    body = {"why": "it leaked", "expected": 2}
    rotated = await api.done("POST", f"{KEYS}/acme/support/new/rotate", body)
    second = rotated["key"]
    assert rotated["kind"] == "key.rotate"
    assert (await knows(api, first), await knows(api, second)) == (None, "acme/support/new")
    said = await api.done("DELETE", f"{KEYS}/acme/support/new?why=gone&expected=3")
    assert (said["kind"], said["why"], said["version"]) == ("key.revoke", "gone", 4)
    assert await knows(api, second) is None
    await api.refused(404, "not_found", "GET", f"{KEYS}/acme/support/new")
    for key in (first, second):
        assert api.said.count(key) == 1, "shown once"
        assert key not in caplog.text
        assert not any(key.encode() in value for value in (await api.everything()).values())


async def test_keys_are_listed_without_the_keys(api: Api) -> None:
    """All of them, or those of an organization or a team."""
    said = await api.done("GET", KEYS)
    (found,) = said["keys"]
    assert found["id"] == "acme/support/helpdesk"
    assert found["settings"]["limits"] == {"rpm": 60, "tpm": 6000, "concurrency": 4}
    assert len(found["fingerprint"]) == len("hmac-sha256:01234567:") + 9
    digest = hash_key("sk-caller-canary-0123456789")
    assert digest not in api.said
    assert SECRETS.keyed(digest) not in api.said
    # What the store holds is worth nothing without the secret
    everything = repr(await api.everything())
    assert digest.removeprefix("sha256:") not in everything
    assert SECRETS.keyed(digest) in everything
    assert (await api.done("GET", f"{KEYS}?organization=acme&team=support"))["keys"]
    assert (await api.done("GET", f"{KEYS}?organization=empty"))["keys"] == []
    await api.refused(400, "bad_request", "GET", f"{KEYS}?colour=red")


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"why": None}, 422, "invalid"),
        ({"why": ""}, 422, "invalid"),
        ({"why": "a\nb"}, 422, "invalid"),
        ({"why": "w" * 501}, 422, "invalid"),
        ({"key": "sk-my-own-key-0123456789"}, 422, "invalid"),
        ({"limits": {"rpm": -1}}, 422, "mistakes"),
        ({"limits": {"rpw": 1}}, 422, "mistakes"),
        ({"limits": {"rpm": "5/s"}}, 422, "mistakes"),
        ({"limits": 5}, 422, "invalid"),
        ({"budgets": [{"usd": 1}]}, 422, "mistakes"),
        ({"budgets": {"usd": 1, "per": "day"}}, 422, "invalid"),
        ({"models": ["nowhere"]}, 422, "mistakes"),
        ({"models": [1]}, 422, "invalid"),
        ({"application": "a\x07b"}, 422, "mistakes"),
        ({"application": "a" * 129}, 422, "mistakes"),
        ({"name": "n" * 129}, 422, "mistakes"),
        ({"name": "a\x00"}, 422, "mistakes"),
        ({"name": "a/b"}, 422, "invalid"),
        ({"name": ""}, 422, "invalid"),
        ({"team": "support/keys"}, 422, "invalid"),
        ({"team": "nowhere"}, 404, "not_found"),
        ({"organization": "nowhere"}, 404, "not_found"),
        ({"name": "helpdesk"}, 409, "taken"),
        ({"expected": 7}, 409, "stale_version"),
        ({"expected": 0}, 422, "invalid"),
        ({"expected": "1"}, 422, "invalid"),
        ({"wait_ms": 10**9}, 422, "invalid"),
    ],
)
async def test_a_bad_request_makes_no_key(
    api: Api, change: dict[str, Any], status: int, code: str
) -> None:
    """And changes nothing; the mistake has a path."""
    error = await api.refused(status, code, "POST", KEYS, {**NEW, **change})
    assert "sk-" not in str(error)
    assert error["message"]


@pytest.mark.parametrize("path", ["acme/support/nope", "acme/nope/x", "nope/x/y", "a%2Fb/c/d"])
async def test_a_key_that_is_not_there_is_not_found(api: Api, path: str) -> None:
    """Whatever is asked of it."""
    await api.refused(404, "not_found", "GET", f"{KEYS}/{path}")
    await api.refused(404, "not_found", "DELETE", f"{KEYS}/{path}?why=w")
    await api.refused(404, "not_found", "POST", f"{KEYS}/{path}/rotate", {"why": "w"})


async def test_revoking_says_why(api: Api) -> None:
    """As every change does."""
    await api.refused(422, "invalid", "DELETE", HELPDESK)
    await api.refused(422, "invalid", "DELETE", f"{HELPDESK}?why=a", {"why": "b"})
    await api.refused(422, "invalid", "DELETE", f"{HELPDESK}?why=a&expected=x")
    await api.done("DELETE", HELPDESK, {"why": "left"}, headers={"If-Match": '"1"'})
