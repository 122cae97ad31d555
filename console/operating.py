"""
What the commands that operate a running gateway share: options, exit codes, and how things are printed.

Exit codes: 0 done, 1 no right, or not everywhere yet, 2 misuse, mistakes, what is not there or there
already, or another version (nothing was changed), 3 the gateway, or its store, is out of reach.
Results go to standard output, all else to standard error; `--json` prints what the API answered.
"""

import argparse
import getpass
import json
import os
import re
import socket
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from console.gateway import Gateway, Misuse, No, Unreachable, add_options, gateway
from console.tables import style, table

__all__ = [
    "add_change_options",
    "add_common",
    "budget_of",
    "change",
    "limit_of",
    "limits_in",
    "operate",
    "path_to",
    "print_changes",
    "print_differences",
    "print_json",
    "print_table",
    "reason",
    "seconds",
    "spelled",
    "tell_change",
    "version",
]

WAIT_S = 5.0
LONGEST_WAIT_S = 30.0
LONGEST_WHY = 500
# What can happen behind a change as well as before it.
_UNSURE = frozenset({"store_unavailable", "internal"})


def add_common(parser: argparse.ArgumentParser) -> None:
    """Let a command say where the gateway is, and print JSON."""
    parser.add_argument("--json", action="store_true", help="print what the API answers, as JSON")
    add_options(parser)


def add_change_options(parser: argparse.ArgumentParser) -> None:
    """Let a command say why, from which version, and how long to wait for the replicas."""
    parser.add_argument(
        "--why", metavar="WORDS", help="a line for the history (default: what was typed)"
    )
    parser.add_argument(
        "--expected",
        type=version,
        metavar="N",
        help="refuse if another version is live than this one",
    )
    parser.add_argument(
        "--wait",
        type=seconds,
        default=WAIT_S,
        metavar="SECONDS",
        help=f"how long to wait until every live replica runs it (default: {WAIT_S:g})",
    )


def version(text: str) -> int:
    """Read the number of a version."""
    if not re.fullmatch(r"[0-9]{1,15}", text) or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not the number of a version")
    return int(text)


def seconds(text: str) -> float:
    """Read a wait."""
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]+)?", text) or float(text) > LONGEST_WAIT_S:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to {LONGEST_WAIT_S:g}")
    return float(text)


def operate(
    prog: str,
    options: argparse.Namespace,
    do: Callable[[Gateway, argparse.Namespace], int],
    *,
    source: str = "",
) -> int:
    """Do something with the gateway and return the exit code; `source` names the file that was sent."""
    try:
        return do(gateway(options, os.environ, Path.cwd(), by=_who()), options)
    except Misuse as error:
        _complain(prog, str(error))
        return 2
    except Unreachable as error:
        _complain(prog, str(error))
        return 3
    except No as no:
        return _refused(prog, no, options, source)


def _refused(prog: str, no: No, options: argparse.Namespace, source: str) -> int:
    """Print a refusal and return the exit code."""
    if options.json:
        print_json({"error": no.error})
    problems = no.error.get("problems") or []
    for problem in problems:
        print(_problem(problem, prog, source), file=sys.stderr)
    if not problems:
        _complain(prog, str(no))
    if no.error.get("changes"):
        print(f"Since version {no.error['expected']} these changed:", file=sys.stderr)
        for each in no.error["changes"]:
            print(f"  {_difference(each)}", file=sys.stderr)
    if no.status == 401:
        print("Set PENSTOCK_ADMIN_TOKEN, or name a --token-file.", file=sys.stderr)
    code = no.error.get("code")
    if "why" in options and code != "published_not_seeded":
        said = "Nothing was changed."
        if code in _UNSURE:
            said = "It may have been changed all the same: ./penstock config history tells."
        print(said, file=sys.stderr)
    if no.status == 503:
        return 3
    return 2 if no.status in {400, 404, 409, 413, 415, 422} else 1


def change(
    asked: Gateway, options: argparse.Namespace, method: str, path: str, **said: Any
) -> tuple[Any, int]:
    """Make a change; return what was answered, and the exit code that it deserves."""
    body = {**said, "why": reason(options), "wait_ms": round(options.wait * 1000)}
    if options.expected is not None:
        body["expected"] = options.expected
    answer = asked.ask(method, path, body, wait_s=options.wait)
    return answer, 1 if answer["everywhere"] is False else 0


def reason(options: argparse.Namespace) -> str:
    """Return the line for the history: what is said, or what was typed."""
    why = options.why
    if why is None:
        # What is wrong with what was typed is told by its own field.
        return "".join(sign if sign.isprintable() else "?" for sign in options.typed)[:LONGEST_WHY]
    if not why.strip() or not why.isprintable() or len(why) > LONGEST_WHY:
        raise Misuse(f"--why takes one line of at most {LONGEST_WHY} printable characters")
    return str(why)


def _who() -> str:
    """Return who operates, for the history."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = "somebody"
    said = f"{user}@{socket.gethostname()}"
    return "".join(each for each in said if each.isprintable())[:128]


def path_to(*parts: str, query: Iterable[tuple[str, str]] = ()) -> str:
    """Return a path of the API; each part is one, whatever it holds: what is no text there, the gateway says so."""
    path = "/v1/" + "/".join(quote(part, safe=":", errors="surrogateescape") for part in parts)
    said = urlencode(list(query), errors="surrogateescape")
    return f"{path}?{said}" if said else path


# Printing...


def _complain(prog: str, words: str) -> None:
    first, *more = words.splitlines() or ["?"]
    print(f"{prog}: {first}", file=sys.stderr)
    for line in more:
        print(line, file=sys.stderr)


def _problem(problem: dict[str, Any], prog: str, source: str) -> str:
    """Return a mistake in one line: what stands in a file is called by the file, what was typed by the command."""
    from config.problems import Problem  # noqa: PLC0415 - only who made mistakes pays for it

    said = problem.get("source", "")
    named = {"document": source or said, "request": prog}.get(said, said)
    return str(Problem(**{**problem, "source": named}))


def print_json(answer: Any) -> None:
    """Print what the API answered."""
    print(json.dumps(answer, indent=2, ensure_ascii=False))


def print_changes(answer: Any, *, quiet: bool = False) -> None:
    """Print what a change did; to standard error where `quiet`."""
    out = sys.stderr if quiet else sys.stdout
    for each in answer["changes"]:
        print(f"  {_difference(each)}", file=out)
    if not answer["published"]:
        print(f"Nothing to change: version {answer['version']} is as it should be.", file=out)
        return
    where = {True: "; every replica runs it", False: "", None: ""}[answer["everywhere"]]
    print(f"Version {answer['version']} is live{where}.", file=out)
    if answer["waiting_for"]:
        late = ", ".join(answer["waiting_for"])
        print(
            f"Not yet by {late}; `./penstock config status` tells more.",
            file=sys.stderr,
        )


def tell_change(answer: Any, code: int, options: argparse.Namespace) -> int:
    """Print what a change did, as JSON where that was asked for; return the exit code."""
    if options.json:
        print_json(answer)
    else:
        print_changes(answer)
    return code


def print_differences(changes: Sequence[dict[str, Any]]) -> None:
    """Print changes, one per line."""
    for each in changes:
        print(_difference(each))


def _difference(each: dict[str, Any]) -> str:
    return f"{each['path']}: {_value(each['before'])} -> {_value(each['after'])}"


def _value(value: Any) -> str:
    return "nothing" if value is None else spelled(value)


def spelled(value: Any) -> str:
    """Return a value in one line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def limits_in(settings: Mapping[str, Any]) -> str:
    """Return the limits of a section in one line: `rpm 600, concurrency 50, burst.rpm 20`."""
    limits = settings.get("limits") or {}
    bursts = {f"burst.{name}": value for name, value in (limits.get("burst") or {}).items()}
    said = {**{name: value for name, value in limits.items() if name != "burst"}, **bursts}
    return ", ".join(f"{name} {spelled(value)}" for name, value in said.items())


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, left: int) -> None:
    """Print a table with a bold head."""
    head, *lines = table(heads, rows, left=left)
    print(style(head, "bold", sys.stdout, os.environ))
    for line in lines:
        print(line)


# Reading what was typed...


def limit_of(name: str, text: str) -> int | None:
    """Read a limit: a whole number, or `none`. Raises `Misuse`."""
    if text == "none":
        return None
    if not re.fullmatch(r"-?[0-9](_?[0-9]){0,30}", text):
        raise Misuse(f"{name}={text}: expected a whole number such as 600, or none")
    return int(text)


_BUDGET = "USD/PERIOD/MODE, as in 300/month/strict"


def budget_of(text: str) -> dict[str, Any]:
    """Read a budget, `USD/PERIOD`, `USD/PERIOD/MODE`, perhaps with `@TIME_ZONE`. Raises `Misuse`."""
    plain, _, zone = text.partition("@")
    amount, *more = plain.split("/")
    if not 1 <= len(more) <= 2:
        raise Misuse(f"budget={text}: expected {_BUDGET}")
    said: dict[str, Any] = {"usd": money_of(f"budget={text}", amount, _BUDGET), "per": more[0]}
    if len(more) == 2:
        said["mode"] = more[1]
    return {**said, "time_zone": zone} if zone else said


def money_of(what: str, text: str, expected: str = "an amount, as in 300") -> int | float:
    """Read an amount of USD; `what` names it in the error. Raises `Misuse`."""
    try:
        usd = Decimal(text)
    except InvalidOperation:
        usd = Decimal("nan")
    if not usd.is_finite():
        raise Misuse(f"{what}: expected {expected}")
    number: int | float = (
        int(usd) if usd == usd.to_integral_value() and abs(usd) < 10**15 else float(usd)
    )
    if Decimal(repr(number)) != usd:
        raise Misuse(f"{what}: more digits than money has")
    return number
