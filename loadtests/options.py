"""The options of a run: one table for Locust's command line, for `./penstock load` and for the docs, and the plan that they make."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from loadtests.client import BadUrl, Base
from loadtests.engine import CLOSED, Plan
from loadtests.metrics import BadObjective, read_objectives
from loadtests.scenarios import DEFAULT_TENANTS, BadTenants, Tenant, read_tenants

ARRIVALS = ("poisson", "constant", CLOSED)


class OptionsWrong(ValueError):
    """The options contradict one another or cannot be used; one mistake a line."""


@dataclass(frozen=True, slots=True)
class Part:
    """One option; `variable` is the environment variable that stands in for it."""

    name: str
    default: Any
    help: str
    type: Callable[[str], Any] = str
    variable: str = ""
    secret: bool = False


PARTS = (
    Part("key", "", "the caller's key (or LOAD_KEY)", variable="LOAD_KEY", secret=True),
    Part("model", "", "model to ask for (default: the first of GET /v1/models)"),
    Part("embedding-model", "", "model for embeddings (default: --model)"),
    Part("load", "", "20, ramp:1-50, steps:10,20,40 or burst:10-100/20s/2s, in calls per second"),
    Part("duration", "30s", "how long that takes: 30s, 10m, 2h"),
    Part("arrivals", "poisson", "poisson or constant (open loop), or closed: --load is users"),
    Part(
        "each", 0.0, "calls per second of one Locust user in an open loop (0: chosen)", type=float
    ),
    Part("slo", "ttft:1000 itl:100", "objectives for goodput, in ms: ttft, ttfo, e2e, itl, tpot"),
    Part("tenants", "", "YAML file: a list of name, level, key, weight"),
    Part("bases", "", "YAML file: a list of name, url, key, model to be asked in turn"),
    Part("seed", 1, "chance begins here: the same seed asks the same questions", type=int),
    Part("timeout", 60.0, "seconds for a whole call", type=float),
    Part("drain", 10.0, "seconds for open calls to end after the last arrival", type=float),
    Part("most-open", 10_000, "calls open at a time in one process", type=int),
    Part("out", "", "directory for run.json, records.jsonl.gz and report.html"),
    Part("title", "", "what the report is called"),
)


def read_bases(document: Any) -> tuple[Base, ...]:
    """
    Check a list of bases as it came from YAML.

    Raises `OptionsWrong` with every mistake in it.
    """
    if not isinstance(document, list) or not document:
        raise OptionsWrong("a list of bases was expected, each with name and url")
    mistakes, bases = [], []
    known = {"name", "url", "key", "model", "embedding_model"}
    for at, row in enumerate(document, 1):
        if not isinstance(row, dict):
            mistakes.append(f"base {at} is no mapping")
            continue
        mistakes += [f"base {at}: unknown setting {name!r}" for name in sorted(set(row) - known)]
        wrong = [name for name in known & set(row) if not isinstance(row[name], str)]
        mistakes += [f"base {at}: {name} is no text" for name in sorted(wrong)]
        missing = [name for name in ("name", "url") if not row.get(name)]
        mistakes += [f"base {at}: {name} is missing" for name in missing]
        if missing or wrong:
            continue
        try:
            bases.append(Base(**{name: row[name] for name in known & set(row)}))
        except BadUrl as mistake:
            mistakes.append(f"base {at} ({row['name']}): {mistake}")
    names = [base.name for base in bases]
    mistakes += [f"two bases are called {name!r}" for name in set(names) if names.count(name) > 1]
    if mistakes:
        raise OptionsWrong("\n".join(mistakes))
    return tuple(bases)


def parse_plan(options: Mapping[str, Any], host: str | None) -> Plan:
    """
    Make the plan of a run from options by their names with underscores.

    Raises `OptionsWrong` with every mistake in it.
    """
    mistakes: list[str] = []
    bases: tuple[Base, ...] = ()
    try:
        if options["bases"]:
            bases = read_bases(msgspec.json.decode(options["bases"]))
        elif host:
            bases = (
                Base("target", host, options["key"], options["model"], options["embedding_model"]),
            )
        else:
            mistakes.append("no target: give --host URL")
    except msgspec.DecodeError as mistake:
        mistakes.append(f"--bases: {mistake}")
    except (BadUrl, OptionsWrong) as mistake:
        mistakes += str(mistake).splitlines()
    tenants: tuple[Tenant, ...] = DEFAULT_TENANTS
    try:
        if options["tenants"]:
            tenants = read_tenants(msgspec.json.decode(options["tenants"]))
    except (msgspec.DecodeError, BadTenants) as mistake:
        mistakes += [f"--tenants: {line}" for line in str(mistake).splitlines()]
    objectives: dict[str, float] = {}
    try:
        objectives = read_objectives(options["slo"])
    except BadObjective as mistake:
        mistakes.append(f"--slo: {mistake}")
    if options["arrivals"] not in ARRIVALS:
        mistakes.append(f"--arrivals {options['arrivals']!r}: one of {', '.join(ARRIVALS)}")
    mistakes += [
        f"--{name.replace('_', '-')} {options[name]}: a number above 0 was expected"
        for name in ("timeout", "most_open")
        if not options[name] > 0
    ]
    if mistakes:
        raise OptionsWrong("\n".join(mistakes))
    return Plan(
        bases=bases,
        tenants=tenants,
        arrivals=options["arrivals"],
        each=options["each"] or 1.0,
        seed=options["seed"],
        objectives=objectives,
        timeout_s=options["timeout"],
        most_open=options["most_open"],
    )
