"""
`penstock config`: a file checked here, and the configuration of a running gateway seen and changed.

`check` lists all that is wrong with a file, `schema` tells editors what it takes; both need no gateway.
`diff`, `apply`, `export`, `history`, `rollback` and `status` speak to the admin API.

Exit codes of `check`: 0 it can be applied (warnings do not change that), 2 it has mistakes.
Those of the others are `console.operating`'s.
"""

import argparse
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console.gateway import Gateway, Misuse
from console.operating import (
    add_change_options,
    add_common,
    change,
    operate,
    path_to,
    print_differences,
    print_json,
    print_table,
    tell_change,
    version,
)
from console.parser import Parser, unreadable
from store.places import CHECKOUT, CONFIG_NAME

if TYPE_CHECKING:
    from config.loader import Problem
    from config.node import Node
    from config.problems import Path as ConfigPath

__all__ = ["run", "section_in", "text_of"]

KINDS = ("provider", "model", "route", "experiment", "organization", "team")
_WITHIN = {"team": ("organizations", "", "teams", "")}
_FROM = re.compile(r"# version: ([1-9][0-9]{0,14})")


def run(argv: Sequence[str]) -> int:
    """Run the command and return the exit code."""
    options = _parser().parse_args(argv)
    options.typed = " ".join(["config", *argv])
    if options.verb in _LIVE:
        source = getattr(options, "file", None) or ""
        return operate("penstock config", options, _LIVE[options.verb], source=source)
    # Only now: what speaks to a gateway needs neither
    from config.loader import check_file  # noqa: PLC0415
    from config.schema import schema_text  # noqa: PLC0415

    if options.verb == "schema":
        sys.stdout.write(schema_text())
        return 0
    source = options.file or _default(Path.cwd())
    problems = check_file(source, os.environ)
    is_valid = all(problem.severity != "error" for problem in problems)
    if options.json:
        print(json.dumps({"valid": is_valid, "problems": [each.as_dict() for each in problems]}))
    else:
        _print(problems, source, is_valid=is_valid)
    return 0 if is_valid else 2


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="penstock config",
        description="The configuration: a file that is checked, and the versions of what runs.",
    )
    verbs = parser.add_subparsers(
        dest="verb", required=True, metavar=" | ".join(("check", "schema", *_LIVE))
    )
    check = verbs.add_parser(
        "check",
        help="list everything that is wrong with a configuration",
        description="Reads the file as `up` would, with the variables of this environment, and changes"
        " nothing. Exit code 0: it can be applied; 2: it has mistakes, and every one is printed with"
        " its line.",
    )
    check.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        help=f"what to check (default: {CONFIG_NAME} here, or else in the checkout)",
    )
    check.add_argument("--json", action="store_true", help="print the problems as JSON")
    verbs.add_parser(
        "schema",
        help="print the JSON schema of the configuration",
        description="Prints the JSON schema that editors check a configuration against while you type.",
    )
    diff = verbs.add_parser(
        "diff",
        help="what applying a file would change",
        description="Compares a file with what runs, and changes nothing. Variables are resolved"
        " where the gateway runs.",
    )
    apply = verbs.add_parser(
        "apply",
        help="make a file the live configuration",
        description="Makes a file the live configuration, as a new version. Variables are resolved"
        " where the gateway runs; *** keeps what is live there. A file that begins with '# version: N',"
        " as `export` writes it, is refused when another version is live.",
    )
    for one in (diff, apply):
        one.add_argument("file", metavar="FILE", help="the configuration; - reads standard input")
    export = verbs.add_parser(
        "export",
        help="print what runs",
        description="Prints the live configuration, or an earlier version, as YAML: callers' keys"
        " as hashes, secrets that were written in clear as ***.",
    )
    export.add_argument("number", metavar="N", nargs="?", type=version, help="a version")
    history = verbs.add_parser(
        "history",
        help="who changed what, when and why",
        description="Lists the versions that are kept, the latest first.",
    )
    rollback = verbs.add_parser(
        "rollback",
        help="make an earlier version live again",
        description="Makes the document of an earlier version live again, as a new version. A key"
        " that was revoked since is known again: look at the changes that are printed.",
    )
    rollback.add_argument("number", metavar="N", type=version, help="the version to go back to")
    status = verbs.add_parser(
        "status",
        help="which replica runs which version",
        description="Exit code 0: every live replica runs the current version; 1: one does not.",
    )
    show = verbs.add_parser(
        "show",
        help="one provider, model, route, experiment, organization or team, or all of a kind",
        description="Prints what is configured as JSON; secrets that were written in clear are ***.",
    )
    put = verbs.add_parser(
        "put",
        help="make one of them what a file says",
        description="Makes it what the file says (YAML or JSON, without its name), be it there or not."
        " An organization keeps its teams and a team its keys unless the file says others; *** keeps"
        " what is live there.",
        epilog="example: ./penstock config put model qwen-32b qwen.yaml --why 'a second deployment'",
    )
    remove = verbs.add_parser(
        "remove",
        help="take one of them away",
        description="Takes a provider, model, route, experiment, organization or team away. What others"
        " refer to stays, and so does an organization with teams or a team with keys.",
    )
    for one in (show, put, remove):
        one.add_argument("kind", metavar="KIND", choices=KINDS, help=", ".join(KINDS))
    show.add_argument("name", metavar="NAME", nargs="?", help="which one (default: all)")
    for one in (put, remove):
        one.add_argument("name", metavar="NAME", help="a team's is ORG/TEAM")
    put.add_argument("file", metavar="FILE", help="what it is to be; - reads standard input")
    for one in (diff, apply, export, history, rollback, status, show, put, remove):
        add_common(one)
    for one in (apply, rollback, put, remove):
        add_change_options(one)
    return parser


def _default(here: Path) -> str:
    """Return the file that `up` would take: the one here, or else the checkout's."""
    return CONFIG_NAME if (here / CONFIG_NAME).exists() else str(CHECKOUT / CONFIG_NAME)


def _print(problems: "Sequence[Problem]", source: str, *, is_valid: bool) -> None:
    """Print problems one per line to standard error, and the verdict to standard output."""
    for problem in problems:
        print(problem, file=sys.stderr)
    counts = Counter(problem.severity for problem in problems)
    said = [
        f"{count} {word if count == 1 else word + 's'}"
        for word, count in (("mistake", counts["error"]), ("warning", counts["warning"]))
        if count
    ]
    verdict = "can be applied" if is_valid else "is not applied"
    print(f"{source} {verdict}" + (f": {', '.join(said)}" if said else ""))


# With a running gateway...


def _diff(gateway: Gateway, options: argparse.Namespace) -> int:
    answer = gateway.ask("POST", "/v1/config/diff", {"document": text_of(options.file)})
    if options.json:
        print_json(answer)
        return 0
    print_differences(answer["changes"])
    if not answer["changes"]:
        print(f"No change: version {answer['version']} says the same.")
    return 0


def _apply(gateway: Gateway, options: argparse.Namespace) -> int:
    text = text_of(options.file)
    _since_now(gateway, options, text)
    answer, code = change(gateway, options, "POST", "/v1/config/apply", document=text)
    return tell_change(answer, code, options)


def _rollback(gateway: Gateway, options: argparse.Namespace) -> int:
    _since_now(gateway, options)
    answer, code = change(gateway, options, "POST", "/v1/config/rollback", version=options.number)
    return tell_change(answer, code, options)


def _since_now(gateway: Gateway, options: argparse.Namespace, text: str = "") -> None:
    """Start from what the operator says, or the exported file, or else from what is live now."""
    if options.expected is None:
        options.expected = _exported_from(text)
    if options.expected is None:
        options.expected = gateway.ask("GET", "/v1/config")["version"]


def _exported_from(text: str) -> int | None:
    """Return the version that a file was exported from, as the comment at its head says it."""
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            break
        found = _FROM.fullmatch(line)
        if found:
            return int(found[1])
    return None


def _export(gateway: Gateway, options: argparse.Namespace) -> int:
    where = "/v1/config"
    if options.number is not None:
        where = path_to("config", "versions", str(options.number))
    answer = gateway.ask("GET", where)
    if options.json:
        print_json(answer)
    else:
        # So that applying it later is refused if somebody was faster
        head = f"# version: {answer['version']}\n" if options.number is None else ""
        sys.stdout.write(head + answer["document"])
    return 0


def _history(gateway: Gateway, options: argparse.Namespace) -> int:
    answer = gateway.ask("GET", "/v1/config/versions")
    if options.json:
        print_json(answer)
        return 0
    rows = [
        [each["at"], each["by"], each["kind"], each["why"], str(each["version"])]
        for each in answer["versions"]
    ]
    print_table(["version", "at", "by", "what", "why"], [[r[-1], *r[:-1]] for r in rows], left=5)
    return 0


def _status(gateway: Gateway, options: argparse.Namespace) -> int:
    answer = gateway.ask("GET", "/v1/config/status")
    if options.json:
        print_json(answer)
    else:
        live = {True: "yes", False: "no", None: "?"}
        rows = [
            [
                each["replica"],
                each["role"],
                live[each["live"]],
                str(each["version"] or "-"),
                "-" if each["age_ms"] is None else f"{each['age_ms'] / 1000:.0f} s ago",
                each["error"] or "",
            ]
            for each in answer["replicas"]
        ]
        print(f"Version {answer['version']}, by {answer['by']} at {answer['at']}")
        print_table(["replica", "role", "live", "version", "said", "error"], rows, left=6)
    return 0 if answer["everywhere"] else 1


# Sections by name...


def _show(gateway: Gateway, options: argparse.Namespace) -> int:
    if options.name is None:
        if options.kind == "team":
            raise Misuse("teams are shown with their organization, or one by one: ORG/TEAM")
        answer = gateway.ask("GET", path_to(f"{options.kind}s"))
        found = answer["sections"]
    else:
        answer = gateway.ask("GET", _place(options))
        found = answer["section"]
    print_json(answer if options.json else found)
    return 0


def _put(gateway: Gateway, options: argparse.Namespace) -> int:
    where = _place(options)
    section = section_in(options.file, _WITHIN.get(options.kind, (f"{options.kind}s", "")))
    _since_now(gateway, options)
    answer, code = change(gateway, options, "PUT", where, **{options.kind: section})
    return tell_change(answer, code, options)


def _remove(gateway: Gateway, options: argparse.Namespace) -> int:
    answer, code = change(gateway, options, "DELETE", _place(options))
    return tell_change(answer, code, options)


def _place(options: argparse.Namespace) -> str:
    """Return the path of what a command line means."""
    names = options.name.rsplit("/", 1) if options.kind == "team" else [options.name]
    if not all(names) or len(names) != (2 if options.kind == "team" else 1):
        raise Misuse(f"{options.name!r}: expected ORG/TEAM")
    return path_to(f"{options.kind}s", *names)


def section_in(file: str, path: "ConfigPath" = ()) -> Any:
    """Read the section at a path, whatever it is called, from YAML or JSON; its references stay references."""
    from config import document  # noqa: PLC0415 - to read YAML takes longer than all the rest

    root, flaws = document.compose(text_of(file))
    if root is None or flaws:
        first = flaws[0]
        raise Misuse(f"{file}: line {first.line}: {first.message}; {first.remedy}")
    return _as_json(root, path)


def _as_json(node: "Node", path: "ConfigPath") -> Any:
    """Return a tree as JSON has it: what is written without quotes is what its field makes of it."""
    from config.differences import typed  # noqa: PLC0415
    from config.scalars import Plain  # noqa: PLC0415

    if node.kind == "mapping":
        return {name: _as_json(each.node, (*path, name)) for name, each in node.entries.items()}
    if node.kind == "list":
        return [_as_json(each, (*path, at)) for at, each in enumerate(node.items)]
    if node.is_nothing:
        return None
    return typed(Plain(node.raw), path) if node.plain else node.raw


def text_of(file: str) -> str:
    """Read a file, or standard input for `-`. Raises `Misuse`."""
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return data.decode("utf-8")
    except (OSError, ValueError) as error:
        raise Misuse(unreadable(file, error)) from error


_LIVE = {
    "diff": _diff,
    "apply": _apply,
    "export": _export,
    "history": _history,
    "rollback": _rollback,
    "status": _status,
    "show": _show,
    "put": _put,
    "remove": _remove,
}
