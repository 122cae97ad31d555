"""
`penstock models`: what there is to choose among, and other catalogues' models taken over.

`models` lists what a running gateway has configured; `models --all` what is listed out of the box, and needs no gateway.
`models import FILE` reads another catalogue's JSON and prints a snippet of configuration, or applies it.

Exit codes are `console.operating`'s; of `import` 1 also says that records with mistakes were left out.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from config.changes import Draft
from config.document import from_data
from console.gateway import Gateway, Misuse
from console.models_routes import BadWish, wanted
from console.operating import (
    add_change_options,
    add_common,
    change,
    operate,
    path_to,
    print_json,
    print_table,
)
from console.parser import Parser
from console.tables import count
from routing import imports
from routing.browse import all_listed, as_json, matching
from routing.listing import TASKS

__all__ = ["run"]

# By the names of the query.
_FILTERS = ("tag", "provider", "vendor", "max_price", "min_context", "task", "min_quality")
_MOST_SHOWN = 20


def run(argv: Sequence[str]) -> int:
    """Run the command and return the exit code."""
    if argv and argv[0] == "import":
        options = _import_parser().parse_args(argv[1:])
        options.typed = " ".join(["models", *argv])
        return _import(options)
    parser = _parser()
    options = parser.parse_args(argv)
    if not options.all:
        return operate("penstock models", options, _configured)
    said = {name: value for name in _FILTERS if (value := getattr(options, name)) is not None}
    try:
        looked_for = wanted(said)
    except BadWish as bad:
        parser.error(f"--{bad.name.replace('_', '-')}: {bad}")
    models = [as_json(each) for each in matching(all_listed(datetime.now(UTC)), looked_for)]
    _print({"models": models}, options)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="penstock models",
        description="Lists the models of a running gateway, or all that are listed out of the box.",
        epilog="`penstock models import FILE` takes over another catalogue's; it has a --help of its own.",
    )
    parser.add_argument(
        "--all", action="store_true", help="all that is listed out of the box; needs no gateway"
    )
    parser.add_argument("--tag", metavar="A,B", help="tags that it must have, e.g. coding,vision")
    parser.add_argument("--provider", metavar="A,B", help="providers, any of which serves it")
    parser.add_argument("--vendor", metavar="NAME", help="who made it, e.g. anthropic")
    parser.add_argument(
        "--max-price",
        metavar="USD",
        help="most USD per million tokens, three of input for one of output",
    )
    parser.add_argument("--min-context", metavar="TOKENS", help="least tokens of context")
    parser.add_argument("--task", metavar="TASK", help=f"the best at it first: {', '.join(TASKS)}")
    parser.add_argument(
        "--min-quality", metavar="Q", help="least quality at the task (or chat), 0 to 1"
    )
    add_common(parser)
    return parser


def _configured(gateway: Gateway, options: argparse.Namespace) -> int:
    said = [(name, value) for name in _FILTERS if (value := getattr(options, name)) is not None]
    _print(gateway.ask("GET", path_to("catalogue", query=said)), options)
    return 0


def _print(answer: dict[str, Any], options: argparse.Namespace) -> None:
    if options.json:
        print_json(answer)
        return
    if not answer["models"]:
        print("No model is like that.")
        return
    task = options.task or TASKS[0]
    rows = [
        [
            each["name"],
            ",".join(each["providers"]),
            ",".join(each["tags"]) or "-",
            "-" if each["context"] is None else count(each["context"]),
            *(
                ("-", "-")
                if each["price"] is None
                else (each["price"]["input_usd"], each["price"]["output_usd"])
            ),
            f"{each['quality'][task]['value']:.2f}" if task in each["quality"] else "-",
            each["quality"][task]["source"] if task in each["quality"] else "-",
        ]
        for each in answer["models"]
    ]
    heads = ["model", "provider", "tags", "context", "in USD/M", "out USD/M", task, "by"]
    print_table(heads, rows, left=3)


# Taking over another catalogue...


def _import_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="penstock models import",
        description="Reads another catalogue's JSON (LiteLLM's price map, OpenRouter's /models, api.json of"
        " models.dev) and prints its models as a snippet of configuration. What was not understood, and what is"
        " wrong, goes to standard error.",
    )
    parser.add_argument("file", metavar="FILE", help="the JSON, - for standard input")
    parser.add_argument(
        "--shape", choices=imports.SHAPES, default="", help="default: told by what it holds"
    )
    parser.add_argument(
        "--seller", metavar="NAME", help="only what this seller sells, as the catalogue calls it"
    )
    parser.add_argument(
        "--only", metavar="GLOB", action="append", help="only models of such a name, e.g. 'qwen*'"
    )
    parser.add_argument(
        "--provider",
        metavar="NAME",
        help="the provider of the configuration that serves them (default: the seller's name)",
    )
    parser.add_argument(
        "--apply",
        action="store_true",
        help="put them into the running configuration; models that it has already are left as they are",
    )
    add_common(parser)
    add_change_options(parser)
    return parser


def _import(options: argparse.Namespace) -> int:
    try:
        data = (
            sys.stdin.buffer.read(imports.LARGEST_BYTES + 1)
            if options.file == "-"
            else _bytes(options.file)
        )
        reading = imports.read(data, options.shape, options.only or ())
    except (OSError, imports.BadCatalogue) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        print(f"penstock models import: {options.file}: {why}", file=sys.stderr)
        return 2
    chosen: dict[str, dict[str, Any]] = {}
    twice = []
    for model in reading.models:
        if options.seller not in {None, model.seller}:
            continue
        if model.name in chosen:
            twice.append(model)
            continue
        chosen[model.name] = imports.section(model, options.provider or model.seller)
    code = 1 if reading.mistakes else 0
    if options.apply:
        _report(reading, twice, len(chosen), options.file)
        return max(code, operate("penstock models import", options, _applying(chosen)))
    if options.json:
        print_json(
            {
                "shape": reading.shape,
                "models": chosen,
                "unplaced": [
                    {"member": each.member, "count": each.count, "example": each.example}
                    for each in reading.unplaced
                ],
                "mistakes": [
                    {"path": each.path, "message": each.message} for each in reading.mistakes
                ],
                "sold_twice": [f"{each.seller}: {each.name}" for each in twice],
            }
        )
        return code
    sys.stdout.write(imports.snippet(chosen))
    _report(reading, twice, len(chosen), options.file)
    return code


def _bytes(path: str) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123 - may be a pipe
        return file.read(imports.LARGEST_BYTES + 1)


def _report(
    reading: imports.Reading, twice: Sequence[imports.Imported], chosen: int, source: str
) -> None:
    """Say what was taken, what was not understood, and what is wrong."""

    def say(words: str) -> None:
        print(words, file=sys.stderr)

    say(f"{source}: {reading.shape}, {len(reading.models)} models understood, {chosen} taken.")
    if twice:
        names = ", ".join(f"{each.name} ({each.seller})" for each in twice[:5])
        more = f" and {len(twice) - 5} more" if len(twice) > 5 else ""
        say(f"Sold by another seller too, and not taken: {names}{more}. --seller chooses.")
    if reading.unplaced:
        say("Not understood, and left out:")
        for each in reading.unplaced[:_MOST_SHOWN]:
            say(f"  {each.member} in {each.count}, e.g. {each.example}")
        if len(reading.unplaced) > _MOST_SHOWN:
            say(f"  and {len(reading.unplaced) - _MOST_SHOWN} more members (--json names all)")
    if reading.mistakes:
        say(f"Records with mistakes, left out ({len(reading.mistakes)}):")
        for mistake in reading.mistakes[:_MOST_SHOWN]:
            say(f"  {mistake}")
        if len(reading.mistakes) > _MOST_SHOWN:
            say(f"  and {len(reading.mistakes) - _MOST_SHOWN} more (--json names all)")


def _applying(sections: dict[str, dict[str, Any]]) -> Any:
    """Return what puts models into the running configuration: all that are new, in one version, or none."""

    def apply(gateway: Gateway, options: argparse.Namespace) -> int:
        # As it was exported: what is masked in it is kept by the gateway
        live = gateway.ask("GET", "/v1/config")
        if options.expected not in {None, live["version"]}:
            raise Misuse(
                f"version {live['version']} is live, not {options.expected}. Nothing was changed."
            )
        draft = Draft(live["document"], os.environ)
        known = set(draft.names(("models",)))
        kept = [name for name in sections if name in known]
        added = [name for name in sections if name not in known]
        number, code = live["version"], 0
        if added:
            for name in added:
                draft.set(("models", name), from_data(sections[name]))
            if options.expected is None:
                options.expected = number
            answer, code = change(
                gateway, options, "POST", "/v1/config/apply", document=draft.text()
            )
            number = answer["version"]
        if options.json:
            print_json({"version": number, "added": added, "kept": kept})
            return code
        for name in kept:
            print(f"  {name}: there already, left as it is")
        for name in added:
            print(f"  {name}: added")
        print(f"Version {number} is live with {len(added)} more models.")
        return code

    return apply
