"""Who is calling: keys are found by their hash alone, and know what stands over them."""

import dataclasses
import json
from hashlib import sha256
from typing import Any

import pytest

from config.keys import BadKeySecret, KeySecrets
from config.loader import load_text
from config.wishes import NO_WISHES, Wishes
from governance.identity import Caller, Directory

KEY = "sk-helpdesk-0123456789"
OTHER = "sk-batch-9876543210-x"
SECRETS = KeySecrets(["a-secret-of-the-tests-0123456789-0", "a-former-one-of-the-tests-0123456789"])


def directory(**said: Any) -> Directory:
    """Read a directory of two keys; `helpdesk`, `batch`, `team` and `organization` are sections."""
    keys = {
        "helpdesk": {"key": KEY} | said.get("helpdesk", {}),
        "batch": {"key": OTHER} | said.get("batch", {}),
    }
    text = json.dumps(
        {
            "providers": {"p": {"protocol": "openai", "base_url": "http://127.0.0.1:1/v1"}},
            "models": {"m": {"deployments": [{"provider": "p"}]}},
            "routes": {"auto": {"models": ["m"]}},
            "organizations": {
                "acme": said.get("organization", {})
                | {"teams": {"support": said.get("team", {}) | {"keys": keys}}}
            },
        }
    )
    return Directory(
        load_text(text, source="test", environ={}).config, said.get("secrets", SECRETS)
    )


def helpdesk(**said: Any) -> Caller:
    """Find the caller of `KEY`."""
    found = directory(**said).find(KEY)
    assert found is not None
    return found


def test_a_key_is_found_with_all_that_the_ledger_says() -> None:
    """Organization, team, key, application, business line and user."""
    caller = helpdesk(
        helpdesk={
            "application": "desk",
            "business_line": "service",
            "user": "robot",
            "biz_level": "premium",
            "prefer_cost": "low",
        }
    )
    assert dataclasses.asdict(caller) == {
        "key": "acme/support/helpdesk",
        "organization": "acme",
        "team": "support",
        "application": "desk",
        "business_line": "service",
        "user": "robot",
        "biz_level": "premium",
        "wishes": dataclasses.asdict(Wishes(prefer="low")),
        "models": frozenset(),
        "scopes": ("key:acme/support/helpdesk", "team:acme/support", "org:acme"),
        "users": (),
        "strict": False,
        "weight": 1,
        "files": "",
    }
    assert caller.tenant == "acme/support"


def nested(key: dict[str, Any], **sections: Any) -> Caller:
    """Find a caller whose team hangs on `acme/emea`; `acme` and `emea` are more of their sections."""
    emea = {"teams": {"support": {"keys": {"helpdesk": {"key": KEY} | key}}}}
    acme = {"organizations": {"emea": emea | sections.get("emea", {})}} | sections.get("acme", {})
    text = json.dumps({"organizations": {"acme": acme}})
    found = Directory(load_text(text, source="test", environ={}).config, SECRETS).find(KEY)
    assert found is not None
    return found


def test_what_a_key_leaves_open_its_team_and_organizations_say() -> None:
    """The innermost word holds; of ceilings the lowest does, and regions can only be narrowed."""
    caller = nested(
        {"prefer_cost": "high", "max_price": 9},
        acme={
            "biz_level": "premium",
            "max_price": 2.5,
            "regions": ["eu", "ch"],
            "capabilities": ["chat"],
        },
        emea={"biz_level": "economy", "prefer_cost": "low", "regions": ["eu"], "routing": "steady"},
    )
    assert caller.biz_level == "economy"
    assert caller.wishes == Wishes(
        prefer="high",
        max_price_nusd=2_500_000_000,
        regions=(frozenset({"eu", "ch"}), frozenset({"eu"})),
        capabilities=frozenset({"chat"}),
        routing="steady",
    )
    assert helpdesk().biz_level == "normal"
    assert helpdesk().wishes == NO_WISHES


def test_every_organization_above_limits_a_caller() -> None:
    """Innermost first, and with its applications, business lines and users wherever they are limited."""
    assert nested({}).scopes == (
        "key:acme/emea/support/helpdesk",
        "team:acme/emea/support",
        "org:acme/emea",
        "org:acme",
    )
    limited = {"limits": {"rpm": 5}}
    caller = nested(
        {"application": "desk", "business_line": "service"},
        acme={
            "applications": {"desk": limited, "other": limited},
            "business_lines": {"default": limited},
            "users": {"ann": limited},
        },
        emea={"applications": {"default": limited}},
    )
    assert (caller.organization, caller.team) == ("acme/emea", "support")
    assert caller.scopes == (
        "key:acme/emea/support/helpdesk",
        "application:acme/emea#desk",
        "application:acme#desk",
        "team:acme/emea/support",
        "business_line:acme#service",
        "org:acme/emea",
        "org:acme",
    )
    assert caller.users == ("acme",)


def test_who_names_no_application_is_limited_by_none() -> None:
    """The default is for applications that have a name."""
    limited = {"limits": {"rpm": 5}}
    sections = {"applications": {"default": limited}, "business_lines": {"default": limited}}
    assert len(nested({}, acme=sections).scopes) == 4


@pytest.mark.parametrize(
    ("acme", "strict"),
    [
        ({"users": {"ann": {"budget": {"usd": 1, "per": "day", "mode": "strict"}}}}, True),
        ({"applications": {"desk": {"budget": {"usd": 1, "per": "day", "mode": "strict"}}}}, True),
        ({"applications": {"else": {"budget": {"usd": 1, "per": "day", "mode": "strict"}}}}, False),
        ({"users": {"ann": {"budget": {"usd": 1, "per": "day"}}}}, False),
    ],
)
def test_a_strict_budget_of_a_user_or_an_application_counts(
    acme: dict[str, Any], strict: bool
) -> None:
    """Of a user because any request may name him."""
    assert nested({"application": "desk"}, acme=acme).strict == strict


def test_each_key_is_its_own_caller() -> None:
    """Two keys of a team share the outer scopes and nothing else."""
    found = directory()
    assert len(found) == 2
    one, two = found.find(KEY), found.find(OTHER)
    assert one is not None
    assert two is not None
    assert (one.key, two.key) == ("acme/support/helpdesk", "acme/support/batch")
    assert one.scopes[1:] == two.scopes[1:]


@pytest.mark.parametrize(
    "token",
    ["", " ", KEY[:-1], KEY + "x", KEY.upper(), f" {KEY}", "ключ", "\udcff\udcfe", "x" * 100_000],
)
def test_nobody_else_is_found(token: str) -> None:
    """Only the whole key, byte for byte; bytes that are no UTF-8 are no reason to fail."""
    assert directory().find(token) is None


def test_who_calls_again_is_the_same_caller() -> None:
    """What is remembered of a first call is who it was, and nobody else comes in by it."""
    known = directory()
    first = known.find(KEY)
    assert first is not None
    assert known.find(KEY) is first
    assert known.find(KEY + "x") is None


def test_the_hash_is_no_key() -> None:
    """Whoever reads the published configuration has the hash, and cannot call with it."""
    digest = sha256(KEY.encode()).hexdigest()
    found = directory(helpdesk={"key": f"sha256:{digest}"})
    assert found.find(digest) is None
    assert found.find(f"sha256:{digest}") is None
    assert found.find(KEY) is not None


def test_hashes_of_every_secret_that_is_here_are_known() -> None:
    """While a secret is being replaced, keys of both times call; a hash of another one is no mere 401."""
    now, before = SECRETS, KeySecrets(["a-former-one-of-the-tests-0123456789"])
    digest = f"sha256:{sha256(KEY.encode()).hexdigest()}"
    for kept in (digest, now.keyed(digest), before.keyed(digest)):
        found = directory(helpdesk={"key": kept})
        assert len(found) == 2
        (caller, other) = found.find(KEY), found.find(OTHER)
        assert caller is not None
        assert other is not None
        assert (caller.key, other.key) == ("acme/support/helpdesk", "acme/support/batch")
        assert found.find(kept) is None
    with pytest.raises(BadKeySecret, match=now.id):
        directory(helpdesk={"key": now.keyed(digest)}, secrets=before)


def test_keys_are_not_kept() -> None:
    """What lies in memory is a hash."""
    assert KEY not in repr(vars(directory()))
    assert KEY.encode() not in repr(vars(directory())).encode()


def test_models_are_limited_to_those_named() -> None:
    """An empty list means all of them."""
    assert helpdesk().may_ask_for("m")
    assert helpdesk().may_ask_for("anything")
    limited = helpdesk(helpdesk={"models": ["auto"]})
    assert limited.may_ask_for("auto")
    assert not limited.may_ask_for("m")


STRICT = {"usd": 1, "per": "day", "mode": "strict"}
SOFT = {"usd": 1, "per": "day"}


@pytest.mark.parametrize(
    ("said", "strict"),
    [
        ({}, False),
        ({"helpdesk": {"budget": SOFT}}, False),
        ({"helpdesk": {"budget": STRICT}}, True),
        ({"helpdesk": {"budget": [SOFT | {"per": "week"}, STRICT]}}, True),
        ({"team": {"budget": STRICT}}, True),
        ({"organization": {"budget": STRICT}}, True),
        ({"batch": {"budget": STRICT}}, False),
    ],
)
def test_a_strict_budget_anywhere_above_makes_a_caller_strict(
    said: dict[str, Any], strict: bool
) -> None:
    """On the key itself, its team or its organization; a sister's budget is none of its business."""
    assert helpdesk(**said).strict is strict
