"""
`penstock config`: `check` lists all that is wrong with a file, `schema` tells editors what it takes.

Exit codes: 0 it can be applied (warnings do not change that), 2 it has mistakes. Nothing is applied.
"""

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from config.loader import Problem, check_file
from config.schema import schema_text
from store.places import CHECKOUT

__all__ = ["run"]

CONFIG_NAME = "penstock.yaml"


def run(argv: Sequence[str]) -> int:
    """Run the command and return the exit code."""
    options = _parser().parse_args(argv)
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
    parser = argparse.ArgumentParser(prog="penstock config", allow_abbrev=False)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="check | schema")
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
    return parser


def _default(here: Path) -> str:
    """Return the file that `up` would take: the one here, or else the checkout's."""
    return CONFIG_NAME if (here / CONFIG_NAME).exists() else str(CHECKOUT / CONFIG_NAME)


def _print(problems: Sequence[Problem], source: str, *, is_valid: bool) -> None:
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
