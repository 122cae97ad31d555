"""
`penstock route`: `explain` tells why a call went where it went, `simulate` where calls would go under another policy.

The running gateway is asked; exit codes are `console.operating`'s.
"""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from typing import Any

from console.config_command import section_in, text_of
from console.gateway import Gateway, Misuse
from console.operating import add_common, operate, path_to, print_json, print_table
from console.parser import Parser
from console.tables import style

__all__ = ["run"]

MOST_ROWS = 20


def run(argv: Sequence[str]) -> int:
    """Run the command and return the exit code."""
    options = _parser().parse_args(argv)
    return operate("penstock route", options, _VERBS[options.verb])


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="penstock route",
        description="Tells how calls are led, and why.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="explain | simulate")
    explain = verbs.add_parser(
        "explain",
        help="every candidate of a call, its scores, and why it lost",
        description="Reads a call's decisions from the ledger: every attempt in order, and of each"
        " every candidate with its scores and the reason it lost.",
    )
    explain.add_argument("request_id", metavar="REQUEST_ID", help="as x-request-id says")
    simulate = verbs.add_parser(
        "simulate",
        help="what would be chosen, for a described call or the last ones, under a changed policy",
        description="Runs the scorer of the hot path on live facts: for a call that is described"
        " (--model and more), for one of the ledger (REQUEST_ID), or for its last ones (--last)."
        " Nothing is changed.",
    )
    simulate.add_argument(
        "request_id", metavar="REQUEST_ID", nargs="?", help="replay this call of the ledger"
    )
    simulate.add_argument("--last", type=_count, metavar="N", help="replay the last N calls")
    simulate.add_argument("--model", metavar="NAME", help="what is asked for: a model or a route")
    simulate.add_argument("--input", type=_count, metavar="TOKENS", help="(default: 1000)")
    simulate.add_argument(
        "--output", type=_count, metavar="TOKENS", help="(default: what each model would give)"
    )
    simulate.add_argument("--key", metavar="ORG/TEAM/NAME", help="whose defaults and models hold")
    simulate.add_argument("--level", choices=("premium", "normal", "economy"))
    simulate.add_argument("--prefer-cost", choices=("low", "high"))
    simulate.add_argument("--capabilities", metavar="A,B", help="tags that the model must have")
    simulate.add_argument("--max-price", type=_number, metavar="USD", help="per million tokens")
    simulate.add_argument("--min-quality", type=_part, metavar="0..1")
    simulate.add_argument("--pin", type=_word, metavar="NAME", help="a model or a deployment")
    simulate.add_argument(
        "--task", type=_word, metavar="WORD", help="what it is about (default: chat)"
    )
    simulate.add_argument("--complexity", type=_part, metavar="0..1", help="(default: 0.5)")
    simulate.add_argument("--pressure", type=_part, metavar="0..1", help="on the budgets")
    policy = simulate.add_mutually_exclusive_group()
    policy.add_argument("--policy", metavar="FILE", help="a configuration instead of the live one")
    policy.add_argument(
        "--overlay", metavar="FILE", help="YAML or JSON with what differs from it; null takes away"
    )
    for one in (explain, simulate):
        add_common(one)
    return parser


# explain...


def _explain(gateway: Gateway, options: argparse.Namespace) -> int:
    answer = gateway.ask("GET", path_to("routing", "explain", options.request_id))
    if options.json:
        print_json(answer)
        return 0
    count = len(answer["attempts"])
    print(
        f"{answer['request_id']} asked for {answer['asked']}: {count} attempt{'s' * (count != 1)},"
        f" {answer['cost_usd']} USD"
    )
    for attempt in answer["attempts"]:
        print()
        _print_attempt(attempt)
    return 0


def _print_attempt(attempt: dict[str, Any]) -> None:
    """Print one attempt with its candidates."""
    ended = f"{attempt['outcome']}" + (f" ({attempt['status']})" if attempt["status"] else "")
    print(
        style(f"attempt {attempt['attempt']}", "bold", sys.stdout, os.environ)
        + f": {attempt['deployment']}, {attempt['reason']}; {ended},"
        f" {attempt['cost_usd']} USD, first byte after {attempt['ttft_us'] / 1000:.1f} ms"
    )
    if attempt["experiment"]:
        print(f"led by the experiment {attempt['experiment']}")
    made_from = {name: value for name, value in attempt["made_from"].items() if value}
    words = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in made_from.items())
    print(f"policy {attempt['policy']}" + (f": {words}" if words else ""))
    if attempt["problem"]:
        print(f"the record of the decision cannot be read: {attempt['problem']}")
    rows = [
        [
            each["deployment"],
            each["model"] or "-",
            each["fate"],
            each["why"],
            "-" if each["tier"] is None else str(each["tier"]),
            "-" if each["quality"] is None else f"{each['quality']:.3f}",
            "-" if each["cost_nusd"] is None else f"{each['cost_nusd'] / 1e9:.6f}",
            f"{each['latency_us'] / 1000:.0f}" if each["latency_us"] else "-",
        ]
        for each in attempt["candidates"]
    ]
    heads = ["candidate", "model", "fate", "why", "tier", "quality", "cost USD", "latency ms"]
    print_table(heads, rows, left=4)


# simulate...


def _simulate(gateway: Gateway, options: argparse.Namespace) -> int:
    if [options.request_id, options.last, options.model].count(None) != 2:
        raise Misuse("say one of REQUEST_ID, --model (and more of a call), and --last N")
    said: dict[str, Any] = {}
    if options.policy is not None:
        said["document"] = text_of(options.policy)
    elif options.overlay is not None:
        said["overlay"] = _mapping(options.overlay)
    if options.request_id is not None:
        said["request_id"] = options.request_id
    elif options.last is not None:
        said["last"] = options.last
    else:
        said["request"] = _described(options)
    answer = gateway.ask("POST", "/v1/routing/simulate", said)
    if options.json:
        print_json(answer)
    elif answer["sums"] is None:
        _print_one(answer["would"])
    else:
        _print_all(answer)
    return 0


def _described(options: argparse.Namespace) -> dict[str, Any]:
    """Return the call that was typed."""
    named = {
        "model": options.model,
        "input_tokens": options.input,
        "output_tokens": options.output,
        "key": options.key,
        "level": options.level,
        "prefer_cost": options.prefer_cost,
        "max_price": options.max_price,
        "min_quality": options.min_quality,
        "pin": options.pin,
        "task": options.task,
        "complexity": options.complexity,
        "budget_pressure": options.pressure,
    }
    if options.capabilities is not None:
        tags = [each.strip() for each in options.capabilities.split(",")]
        if not all(each and each.isprintable() for each in tags):
            raise Misuse(
                f"--capabilities={options.capabilities!a}: expected tags, as in chat,coding"
            )
        named["capabilities"] = tags
    return {name: value for name, value in named.items() if value is not None}


def _print_one(would: dict[str, Any]) -> None:
    """Print what would be chosen for one call."""
    if would["refused"]:
        print(f"Nothing would be chosen: {would['refused']}")
    else:
        print(
            f"{would['deployment']} of {would['model']} by the policy {would['policy']}:"
            f" {_usd(would['cost_nusd'])} USD, quality {_quality(would['quality'])}"
            f" (delta {would['delta']:.3f}, board {would['board']})"
        )
    rows = [
        [
            each["model"],
            each["lost"] or "first",
            f"{each['quality']:.3f}",
            _usd(each["cost_nusd"]),
            f"{each['latency_us'] / 1000:.0f}" if each["latency_us"] else "-",
        ]
        for each in would["candidates"]
    ]
    if rows:
        print_table(["model", "lost by", "quality", "cost USD", "latency ms"], rows, left=2)


def _print_all(answer: dict[str, Any]) -> None:
    """Print what would change of the last calls, and the sums."""
    sums = answer["sums"]
    rows = [
        [
            each["was"]["request_id"],
            each["was"]["deployment"],
            each["would"]["deployment"] or f"refused: {each['would']['refused']}",
            _usd(each["was"]["cost_nusd"]),
            _usd(each["would"]["cost_nusd"]),
            _quality(each["was"]["quality"]),
            _quality(each["would"]["quality"]),
        ]
        for each in answer["calls"][:MOST_ROWS]
    ]
    if rows:
        heads = ["call", "was", "would be", "was USD", "would USD", "was quality", "would"]
        print_table(heads, rows, left=3)
    print(
        f"Of {sums['calls']} calls {sums['changed']} would go elsewhere and {sums['refused']} would"
        f" be refused.\nThe {sums['compared']} that can be compared cost"
        f" {_usd(sums['was_cost_nusd'])} USD and would have cost {_usd(sums['would_cost_nusd'])} USD,"
        f" at an expected quality of {_quality(sums['was_quality'])} and"
        f" {_quality(sums['would_quality'])}."
    )


def _usd(nusd: int | None) -> str:
    return "-" if nusd is None else f"{nusd / 1e9:.6f}"


def _quality(quality: float | None) -> str:
    return "-" if quality is None else f"{quality:.3f}"


# Reading what was typed...


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,8}", text):
        raise argparse.ArgumentTypeError(f"{text!a} is not a whole number")
    return int(text)


def _word(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text!a} is no name")
    return text


def _number(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,9})?", text):
        raise argparse.ArgumentTypeError(f"{text!a} is not an amount")
    return float(text)


def _part(text: str) -> float:
    number = _number(text)
    if number > 1:
        raise argparse.ArgumentTypeError(f"{text!a} is not a number from 0 to 1")
    return number


def _mapping(file: str) -> dict[str, Any]:
    """Read an overlay; references are left to the gateway."""
    found = section_in(file)
    if not isinstance(found, dict):
        raise Misuse(f"{file}: expected a mapping")
    return found


_VERBS = {"explain": _explain, "simulate": _simulate}
