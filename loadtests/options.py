"""The options of a run: one table for Locust's command line, for `./penstock load` and for the docs, and the plan that they make."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import yaml

from loadtests.client import BadUrl, Base
from loadtests.engine import CLOSED, Plan
from loadtests.metrics import BadObjective, read_objectives
from loadtests.scenarios import DEFAULT_TENANTS, BadTenants, Tenant, read_tenants
from loadtests.shapes import BadShape, Shape, read_duration_s, read_shape

ARRIVALS = ("poisson", "constant", CLOSED)
# Into so many parts the rate of a shape is cut, one for each Locust user: more than one machine has cores, and divisible by many numbers.
SOURCES = 48
# Numbers and their bounds, both included.
_BOUNDS = {
    "each": (0.0, 10_000.0),
    "timeout": (0.001, 86_400.0),
    "drain": (0.0, 3_600.0),
    "most_open": (1, 1_000_000),
}


class OptionsWrong(ValueError):
    """The options contradict one another or cannot be used; one mistake a line."""


@dataclass(frozen=True, slots=True)
class Part:
    """
    One option.

    `variable` is the environment variable that stands in for it, `group` the heading it stands under in the help; without one it is for
    Locust's own command line only.
    """

    name: str
    default: Any
    help: str
    type: Callable[[str], Any] = str
    metavar: str = ""
    group: str = ""
    variable: str = ""
    secret: bool = False

    def preset(self) -> Any:
        """Give what it is unless the command line says otherwise."""
        return os.environ.get(self.variable, self.default) if self.variable else self.default


TARGET, LOAD, JUDGED, KEPT = "the target", "the load", "what is judged", "what is kept"
PARTS = (
    Part(
        *("key", "", "the caller's key (or LOAD_KEY, where `ps` does not show it)"),
        group=TARGET,
        variable="LOAD_KEY",
        secret=True,
    ),
    Part(
        *("model", "", "model to ask for (the first of GET /v1/models)"),
        metavar="NAME",
        group=TARGET,
    ),
    Part(
        *("embedding-model", "", "model for embeddings (that of --model)"),
        metavar="NAME",
        group=TARGET,
    ),
    Part(
        *("ca", "", "PEM file with the only authorities to trust for https (the system's)"),
        metavar="FILE",
        group=TARGET,
    ),
    Part(
        *("tenants", "", "YAML file: a list of name, level, weight, key"),
        metavar="FILE",
        group=TARGET,
    ),
    Part("bases", "", "YAML file: a list of name, url, key, model to be asked in turn"),
    Part(
        *("load", "", "calls per second: 20, ramp:1-50, steps:10,20,40 or burst:10-100/20s/2s"),
        group=LOAD,
    ),
    Part("duration", "30s", "how long that takes: 30s, 10m, 2h", group=LOAD),
    Part(
        *("arrivals", "poisson", "poisson or constant (open loop), or closed: --load is callers"),
        group=LOAD,
    ),
    Part("each", 1.0, "calls per second of one Locust user where -u says the load", type=float),
    Part("seed", 1, "one seed asks the same questions in the same order", type=int, group=LOAD),
    Part("timeout", 60.0, "for a whole call, in seconds", type=float, metavar="S", group=LOAD),
    Part(
        *("drain", 10.0, "for open calls to end after the last arrival, in seconds"),
        type=float,
        metavar="S",
        group=LOAD,
    ),
    Part(
        *("most-open", 10_000, "calls open at a time in one process; more are left out, and told"),
        type=int,
        metavar="N",
        group=LOAD,
    ),
    Part(
        *("slo", "ttft:1000 itl:100", "objectives of goodput, in ms: ttft, ttfo, e2e, itl, tpot"),
        group=JUDGED,
    ),
    Part(
        *("out", "", "folder of the run; an earlier run in it is replaced (one under var/load)"),
        metavar="DIR",
        group=KEPT,
    ),
    Part("title", "", "what the report is called", group=KEPT),
)


def read_bases(document: Any) -> tuple[Base, ...]:
    """
    Check a list of bases as it came from YAML.

    Raises `OptionsWrong` with every mistake in it.
    """
    if not isinstance(document, list) or not document:
        raise OptionsWrong("a list of bases was expected, each with name and url")
    mistakes, bases = [], []
    known = {"name", "url", "key", "model", "embedding_model", "ca"}
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


def read_file(name: str, text: str) -> str:
    """
    Give what the YAML file of an option says, as JSON: a worker elsewhere does not have the file, so it travels like this.

    What is such JSON already stays as it is; raises `OptionsWrong`.
    """
    if not text or text.startswith(("[", "{")):
        return text
    try:
        content = yaml.safe_load(Path(text).read_text(encoding="utf-8"))
        return msgspec.json.encode(content).decode()
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError) as mistake:
        raise OptionsWrong(f"--{name} {text}: {mistake}") from mistake


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
            names = ("key", "model", "embedding_model", "ca")
            bases = (Base("target", host, **{name: options[name] for name in names}),)
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
    shape: Shape | None = None
    try:
        if options["load"]:
            shape = read_shape(options["load"], read_duration_s(options["duration"]))
    except BadShape as mistake:
        mistakes.append(f"--load {options['load']} --duration {options['duration']}: {mistake}")
    mistakes += [
        f"--{name.replace('_', '-')} {options[name]}: a number from {low:g} to {high:g} was expected"
        for name, (low, high) in _BOUNDS.items()
        if not low <= options[name] <= high
    ]
    if mistakes:
        raise OptionsWrong("\n".join(mistakes))
    return Plan(
        bases=bases,
        tenants=tenants,
        arrivals=options["arrivals"],
        shape=shape,
        sources=SOURCES,
        workers=options.get("workers") or 1,
        each=options["each"] or 1.0,
        seed=options["seed"],
        objectives=objectives,
        timeout_s=options["timeout"],
        most_open=options["most_open"],
    )
