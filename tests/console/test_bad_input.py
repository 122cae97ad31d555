"""
Bad input at every door of the operator: each route of the admin API and each verb of the command line.

The cases are generated from the tables that make the doors (`console.admin.routes`, the commands' parsers), so that a new route
or verb is tried as soon as it is there. Whatever is sent: a status that says whose fault it is, a path, a remedy, no secret, no 500,
and everything in the store as it was, byte for byte.
"""

import argparse
import importlib
import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel

from config.offers import Deployment, Model
from config.providers import Provider
from config.quotas import Budget, Limits
from config.routes import Route as RouteSection
from config.tenants import Key, Organization, Team
from config.trials import Experiment
from console.admin import routes
from console.calls import Route
from console.catalogue_routes import PatchDeployment
from console.cli import COMMANDS
from console.config_routes import Rollback
from console.key_routes import CreateKey
from ratelimit.limits import RATES
from tests.console.command_rig import typed

Api = Any  # the fixture of this folder's conftest
LONG = "n" * 300
ODD = ("a\x00b", "a\nb", "\x1b[2J", "\u2028", LONG)
WHOSE = {400, 404, 409, 413, 415, 422}

# A name that is there, for each part of a path.
THERE = {
    "name": {"providers": "alpha", "models": "demo", "routes": "auto", "organizations": "acme"},
    "organization": "acme",
    "team": "support",
    "scope": "org:acme",
    "id": "demo/beta",
    "version": "1",
    "request_id": "req_0",
}
# A body that would be taken, for each schema.
GOOD: dict[str, dict[str, Any]] = {
    "Apply": {"document": "organizations: {new: {}}\n"},
    "Compare": {"document": "organizations: {new: {}}\n"},
    "Rollback": {"version": 1},
    "PutProvider": {"provider": {"protocol": "openai", "base_url": "http://127.0.0.1:9"}},
    "PutModel": {"model": {"deployments": [{"provider": "alpha"}]}},
    "PutRoute": {"route": {"models": ["demo"]}},
    "PutExperiment": {
        "experiment": {"asked": "auto", "arms": {"old": {}, "new": {"model": "demo"}}}
    },
    "PutOrganization": {"organization": {"limits": {"rpm": 5}}},
    "PutTeam": {"team": {"limits": {"rpm": 5}}},
    "CreateKey": {"organization": "acme", "team": "support", "name": "new"},
    "PutQuota": {"limits": {"rpm": 5}},
    "PutRaise": {"per": "day", "usd": 9, "until": "2099-01-01"},
    "PatchDeployment": {"weight": 2},
    "Change": {},
    "Dead": {"replica": "host/0.ab12", "why": "because"},
    "Simulate": {"request": {"model": "auto"}},
}
# Which members of a body hold sections of the configuration, and which sections these are.
SECTIONS: dict[str, type[BaseModel]] = {
    "provider": Provider,
    "model": Model,
    "route": RouteSection,
    "experiment": Experiment,
    "organization": Organization,
    "team": Team,
    "limits": Limits,
}
CHANGING = [route for route in routes() if route.takes is not None]


def named(route: Route) -> str:
    return f"{route.method} {route.path}"


def path_of(route: Route, **instead: str) -> str:
    """Write a path whose parts are there, but for those that are said."""
    folder = route.path.split("/")[2] if route.path.count("/") > 1 else ""

    def part(found: re.Match[str]) -> str:
        name = found[1]
        there = THERE[name]
        text = there if isinstance(there, str) else there.get(folder, "helpdesk")
        text = instead.get(name, text)
        return "".join(f"%{byte:02X}" for byte in text.encode())

    return re.sub(r"\{([a-z_]+)\}", part, route.path)


def good_body(route: Route) -> dict[str, Any]:
    """Return a body that the route would take."""
    assert route.takes is not None
    said = {**GOOD[route.takes.__name__]}
    if route.changes:
        said |= {"why": "because", "expected": 1}
    return said


def worst_of(section: type[BaseModel]) -> Iterator[dict[str, Any]]:
    """Yield what is wrong in a section of the configuration: each field with what it cannot mean."""
    yield {"no_such_setting": 1}
    yield {"": 1}
    yield {"a\x00": 1}
    for name, field in section.model_fields.items():
        written = str(field.validation_alias or name)
        for value in bad_values(field.annotation):
            yield {written: value}


def bad_values(annotation: Any) -> list[Any]:
    """Return values that a field of this type refuses: other types, wrong units, negative and huge numbers, odd texts."""
    kinds = kinds_of(annotation)
    if bool in kinds:
        return ["perhaps", 2, [True]]
    if kinds & {int, float} or any("Decimal" in str(kind) for kind in kinds):
        return [-1, -0.5, "5/s", "10 USD", "1e400", 10**40, [1], {"a": 1}, True]
    if any(isinstance(kind, type) and issubclass(kind, BaseModel) for kind in kinds):
        return [5, "text", [[]], {"no_such_setting": 1}]
    if dict in kinds:
        return [5, "text", [1], {"a\x07b": 5}]
    if tuple in kinds or list in kinds:
        return [5, {"a": 1}, [{"no_such_setting": 1}], ["\x00"]]
    if Literal in kinds:
        return ["no such word", 5, ["x"]]
    return [["x"], {"a": 1}, "a\x00b", LONG * 20]


def kinds_of(annotation: Any) -> set[Any]:
    """Return the plain types that an annotation speaks of."""
    origin = get_origin(annotation)
    if annotation is None or annotation is type(None):
        return set()
    if origin is None:
        return {annotation}
    if origin in {dict, tuple, list, Literal}:
        return {origin}
    if "Annotated" in str(origin):
        return kinds_of(get_args(annotation)[0])
    return set().union(*(kinds_of(each) for each in get_args(annotation)))


def bad_bodies(route: Route) -> Iterator[dict[str, Any]]:
    """Yield bodies that the route must refuse."""
    good = good_body(route)
    assert route.takes is not None
    for odd in ({"no_such_member": 1}, {"a\x00": 1}):
        yield {**good, **odd}
    if route.changes:
        yield {name: value for name, value in good.items() if name != "why"}
        for why in ("", " ", "a\nb", "a\x00b", "w" * 501, 5, None):
            yield {**good, "why": why}
        for expected in (7, 0, -1, 1.5, "1", True, 10**20):
            yield {**good, "expected": expected}
        for wait in (-1, 0.5, "5s", 10**9):
            yield {**good, "wait_ms": wait}
    for name, field in route.takes.model_fields.items():
        if field.is_required():
            yield {each: value for each, value in good.items() if each != name}
        if name in SECTIONS and isinstance(good.get(name, {}), dict):
            for section in worst_of(SECTIONS[name]):
                yield {**good, name: section}
        elif name == "budgets":
            for section in worst_of(Budget):
                yield {**good, name: [{"usd": 5, "per": "month", **section}]}
        elif name == "document":
            for document in BAD_DOCUMENTS:
                yield {**good, name: document}
        elif name != "why" and kinds_of(field.annotation) == {str}:
            for text in ("a\x00b", "a\nb", LONG, 5, ["x"]):
                yield {**good, name: text}
    if route.takes is CreateKey:
        for each in ({"models": ["nowhere"]}, {"models": ["a\x00"]}, {"team": "nowhere"}):
            yield {**good, **each}
        for each in ({"name": "a/b"}, {"name": ""}, {"name": "helpdesk"}):
            yield {**good, **each}
    if route.takes is Rollback:
        for version in (2, 9, 0, -1, "1", 10**20):
            yield {**good, "version": version}
    if route.takes is PatchDeployment:
        for each in (
            {"weight": -1},
            {"weight": "2 kg"},
            {"drained": "perhaps"},
            {"weight": 10**40},
        ):
            yield {**good, **each}


BAD_DOCUMENTS = (
    *("a\x00b", "[", "- 1", "providers: 5", "no_such_section: {}", "a: &a [*a]"),
    "routes: {auto: {models: [nowhere]}}",
    "organizations: {a: {limits: {rpm: -1}}}",
    "organizations: {a: {limits: {rpm: 5/s}}}",
    "organizations: {a: {budget: {usd: -5, per: month}}}",
    "organizations: {a: {budget: {usd: 5, per: fortnight}}}",
    "organizations: {a: {}, a: {}}",
    f"organizations: {{{LONG}: {{}}}}",
    "organizations: {a: {teams: {t: {keys: {k: {key: short}}}}}}",
    "organizations: {a: {teams: {t: {keys: {k: {key: 'sha256:12'}}}}}}",
    "organizations: {a: {teams: {t: {keys: {k: {key: '${NOT_SET}'}}}}}}",
    "organizations: {a: {teams: {t: {keys: {k: {key: 'hmac-sha256:00000000:" + "0" * 64 + "'}}}}}}",
)


def complete(status: int, found: Any) -> None:
    """Require a refusal that says whose fault it is, where, and what to do."""
    error = found["error"]
    assert status in WHOSE, found
    assert error["message"]
    assert error["problems"], found
    for each in error["problems"]:
        assert each["path"] or each["line"], found
        assert each["message"], found
        assert each["remedy"] or each["nearest"] or each["expected"], found
        assert not re.search(r"[\x00-\x1f\x7f]", each["path"] + each["message"]), found


@pytest.mark.parametrize("route", CHANGING, ids=named)
async def test_every_bad_body_is_refused_with_a_path_and_a_remedy(api: Api, route: Route) -> None:
    """Unknown and missing members, other types, wrong units, odd texts, dangling names, other versions."""
    before = await api.everything()
    tried = 0
    for body in bad_bodies(route):
        status, found = await api.ask(route.method, path_of(route), body)
        tried += 1
        if status in {200, 201}:
            pytest.fail(f"{named(route)} took {json.dumps(body)[:300]}")
        complete(status, found)
    assert tried >= 2
    assert await api.everything() == before


@pytest.mark.parametrize("route", CHANGING, ids=named)
async def test_a_body_that_is_no_json_object_is_refused(api: Api, route: Route) -> None:
    """Nor one of another type, or with a member twice; nor is a version taken that another header denies."""
    before = await api.everything()
    path = path_of(route)
    for data in (b"{", b"5", b'"x"', b"[]", b"\xff\xfe", b'{"why": NaN}', b'{"why":"a","why":"b"}'):
        complete(*await api.ask(route.method, path, data=data))
    complete(*await api.ask(route.method, path, data=b"[" * 100_000))
    headers = {"Content-Type": "text/plain"}
    complete(*await api.ask(route.method, path, data=b"{}", headers=headers))
    if route.changes:
        for tag in ("7", '"x"', "*", '"1", "2"', '"7"'):
            body = good_body(route)
            complete(*await api.ask(route.method, path, body, headers={"If-Match": tag}))
        long_actor = {"x-penstock-actor": LONG}
        complete(*await api.ask(route.method, path, good_body(route), headers=long_actor))
    assert await api.everything() == before


NAMED = [route for route in routes() if route.names]


@pytest.mark.parametrize("route", NAMED, ids=named)
async def test_every_bad_name_in_a_path_is_refused(api: Api, route: Route) -> None:
    """Names that are not there, control characters, and names that no thing can have."""
    before = await api.everything()
    for name in route.names:
        for text in ("nowhere", "%", "a//b", *ODD):
            if route.method == "PUT" and name == "name" and text in {"nowhere", "a//b"}:
                continue  # PUT makes what is not there, and names of models may have slashes
            if route.method == "PUT" and name == "team" and text == "nowhere":
                continue
            path = path_of(route, **{name: text})
            body = good_body(route) if route.takes is not None else None
            status, found = await api.ask(route.method, path, body)
            if status in {200, 201}:
                pytest.fail(f"{named(route)} took {text!r}")
            complete(status, found)
    assert await api.everything() == before


@pytest.mark.parametrize("route", [each for each in routes() if not each.is_open], ids=named)
async def test_an_unknown_parameter_is_refused(api: Api, route: Route) -> None:
    """Rather than overlooked: what was meant by it did not happen."""
    before = await api.everything()
    body = good_body(route) if route.takes is not None else None
    for query in ("no_such_parameter=1", "a%00b=1", f"{LONG}=1"):
        complete(*await api.ask(route.method, f"{path_of(route)}?{query}", body))
    for name in route.query:
        for text in ("a%00b", LONG):
            status, found = await api.ask(route.method, f"{path_of(route)}?{name}={text}", body)
            if status != 200:
                complete(status, found)
        complete(*await api.ask(route.method, f"{path_of(route)}?{name}=1&{name}=2", body))
    assert await api.everything() == before


# The command line...


@cache
def verbs() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of every verb of every command that speaks to a running gateway, by its words."""
    found = {}
    for command in ("config", "key", "quota", "deployment", "route", "experiment"):
        parser: argparse.ArgumentParser = importlib.import_module(
            COMMANDS[command].module
        )._parser()
        (inner,) = [
            each for each in parser._actions if isinstance(each, argparse._SubParsersAction)
        ]
        found |= {f"{command} {verb}": one for verb, one in inner.choices.items()}
    return found


# What is typed that would be taken, for each verb that takes anything.
TYPED = {
    "config diff": ["FILE"],
    "config apply": ["FILE"],
    "config check": ["FILE"],
    "config export": ["1"],
    "config rollback": ["1"],
    "key create": ["acme/support/new"],
    "key list": ["acme"],
    "key show": ["acme/support/helpdesk"],
    "key rotate": ["acme/support/helpdesk"],
    "key revoke": ["acme/support/helpdesk"],
    "quota show": ["org:acme"],
    "quota set": ["org:acme", "rpm=5"],
    "quota raise": ["team:acme/support", "day", "9", "--until=2099-01-01"],
    "quota events": ["org:acme"],
    "quota silent": [],
    "quota free": ["host/0.ab12"],
    "deployment drain": ["demo/beta"],
    "deployment undrain": ["demo/beta"],
    "deployment weight": ["demo/beta", "2"],
    "config show": ["model", "demo"],
    "config put": ["route", "other", "SECTION"],
    "config remove": ["route", "auto"],
    "config history": [],
    "config schema": [],
    "config status": [],
    "deployment list": [],
    "experiment list": [],
    "experiment show": ["idle"],
    "experiment stop": ["idle"],
    "experiment resume": ["idle"],
    "route explain": ["req_1"],
    "route simulate": ["--model=auto"],
}
# What each place on a command line refuses.
BAD_PLACES: dict[str, tuple[str, ...]] = {
    "model": ("models", "team", "\x07"),
    "demo": ("nowhere", "\x07", LONG, "a//b"),
    "route": ("routes", "team", "organization", "\x07"),
    "idle": ("nowhere", "\x07", LONG, "a/b"),
    "req_1": ("req_1", "\x07", LONG),
    "--model=auto": ("--model=nowhere", "--model=\x07", "--last=0", "--json"),
    "other": ("demo", "\x07", LONG),
    "auto": ("nowhere", "\x07", LONG),
    "SECTION": ("no-such-file.yaml", ".", "BAD", "ODD"),
    "FILE": ("no-such-file.yaml", ".", "BAD"),
    "acme/support/new": ("new", "acme/support", "a/b/c/d", "acme/nowhere/x", "acme/support/a\x1bb"),
    "acme": ("a/b/c", "/", "acme/"),
    "acme/support/helpdesk": ("helpdesk", "acme/support/nope", "nope/x/y", "acme/support/\x07"),
    "org:acme": ("acme", "org:nope", "galaxy:x", "org:\x07", "org:" + LONG),
    "team:acme/support": ("acme/support", "team:acme/nope", "org:nope", "team:\x07"),
    "day": ("month", "days", "\x07"),
    "host/0.ab12": ("host/0.ab12", "\x07", LONG),
    "9": ("-9", "0", "3", "x", "1e30"),
    "--until=2099-01-01": ("--until=soon", "--until=2099-02-30", "--until=\x07"),
    "rpm=5": (
        "rpm",
        "rpm=-1",
        "rpm=5/s",
        "rpm=x",
        "rps_=5",
        "=5",
        "budget=5",
        "budget=-5/month",
        "budget=5/eon",
    ),
    "demo/beta": ("demo/gamma", "beta", "\x07", LONG),
    "1": ("9", "0", "-1", "x", "1.5", "1" * 30),
    "2": ("-1", "0", "x", "1.5", "9" * 30),
}
BAD_OPTIONS = {
    "--last": ("0", "5", "x", "99999"),
    "--model": ("nowhere", "\x07"),
    "--input": ("-1", "x", "1" * 30),
    "--output": ("-1", "1.5"),
    "--key": ("nobody", "acme/support/nope", "\x07"),
    "--level": ("gold", ""),
    "--task": ("", "\x07"),
    "--complexity": ("2", "-1", "x"),
    "--pressure": ("1.1", "x"),
    "--overlay": ("no-such-file.yaml", "."),
    "--policy": ("no-such-file.yaml", "."),
    "--expected": ("7", "0", "-1", "x"),
    "--wait": ("-1", "99", "5s"),
    "--why": ("", "a\nb", "w" * 501),
    "--rpm": ("-1", "0", "5/s", "x"),
    **{f"--{rate}": ("-1", "0", "x") for rate in RATES if rate != "rpm"},
    "--until": ("soon", "2099-13-01", ""),
    "--count": ("0", "-1", "1001", "x"),
    "--concurrency": ("-1", "x"),
    "--budget": ("5", "-5/month", "5/eon", "x/month", "5/month/firm"),
    "--models": ("nowhere", "\x07"),
    "--biz-level": ("gold", ""),
    "--prefer-cost": ("none",),
    "--pin": ("nowhere", "\x07"),
    "--routing": ("off", ""),
    "--capabilities": ("\x07",),
    "--regions": ("\x07",),
    "--max-price": ("-1", "x", "nan", ""),
    "--min-quality": ("1.5", "-0.1", "x"),
    "--deadline-ms": ("0", "-5", "1.5", "x"),
    "--application": ("a\x07b", "a" * 129),
    "--business-line": ("a\x07b",),
    "--user": ("a\x07b",),
    "--admin-url": ("nonsense", "ftp://x"),
    "--token-file": ("no-such-file",),
    "--config": ("no-such-file.yaml",),
}


def bad_lines(verb: str, parser: argparse.ArgumentParser) -> Iterator[list[str]]:
    """Yield command lines that the verb must refuse."""
    good = TYPED[verb]
    words = verb.split()
    yield [*words, *good, "--no-such-option"]
    yield [*words, *good, "one", "too", "many"] if verb != "quota set" else [*words, "org:acme"]
    if any(not action.option_strings and action.nargs != "?" for action in parser._actions):
        yield words
    for at, place in enumerate(good):
        for text in BAD_PLACES[place]:
            if not (verb == "config export" and text == "1"):
                yield [*words, *good[:at], text, *good[at + 1 :]]
    options = {option for action in parser._actions for option in action.option_strings}
    for option in sorted(options - {"-h", "--help", "--json"}):
        for text in BAD_OPTIONS[option]:
            yield [*words, *good, f"{option}={text}"]


@pytest.mark.parametrize("verb", sorted(TYPED))
async def test_every_bad_command_line_ends_with_2_and_changes_nothing(
    operator: Api, verb: str, tmp_path: Any
) -> None:
    """Whether it was the command or the gateway that found it; what is said says what is wrong."""
    (tmp_path / "good.yaml").write_text("organizations: {new: {}}\n")
    (tmp_path / "bad.yaml").write_text("organizations: {new: {limits: {rpm: -1}}}\n")
    (tmp_path / "section.yaml").write_text("models: [demo]\n")
    (tmp_path / "odd.yaml").write_text("models: [no\x00where]\n")
    names = {"FILE": "good", "BAD": "bad", "SECTION": "section", "ODD": "odd"}
    files = {word: str(tmp_path / f"{name}.yaml") for word, name in names.items()}
    before = await operator.everything()
    for line in bad_lines(verb, verbs()[verb]):
        ended = await typed([files.get(word, word) for word in line])
        assert ended.code == 2, (line, ended)
        assert ended.err.strip() or verb == "config check", line
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", ended.err + ended.out), (line, ended)
    assert await operator.everything() == before


def test_the_table_holds_every_verb() -> None:
    """A verb that is added is tried from then on."""
    assert set(TYPED) == set(verbs())
    assert {
        option
        for parser in verbs().values()
        for action in parser._actions
        for option in action.option_strings
    } - set(BAD_OPTIONS) == {"-h", "--help", "--json"}
    sections = {SECTIONS[name] for name in SECTIONS} | {Budget, Deployment, Key}
    assert len(sections) == 10
