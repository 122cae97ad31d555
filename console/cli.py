"""
The operator's command line: one word chooses a command, and only that command is imported.

Exit codes that all commands share: 0 it is so, 1 it is not so, 2 misuse or a configuration with
mistakes, 3 the gateway, the store or the ledger is out of reach, 130 interrupted.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import MappingProxyType
from typing import NamedTuple

__all__ = ["COMMANDS", "main"]


class Command(NamedTuple):
    """A command: the module whose `run(argv)` does it and returns the exit code, and its line of help."""

    module: str
    help: str


COMMANDS: Mapping[str, Command] = MappingProxyType(
    {
        "config": Command(
            "console.config_command", "check, compare, apply, go back; who runs what"
        ),
        "key": Command("console.key_command", "make, list, rotate and revoke callers' keys"),
        "quota": Command("console.quota_command", "limits and budgets, and what they hold now"),
        "models": Command(
            "console.models_command", "list models by tag, price, quality; import catalogues"
        ),
        "providers": Command("console.providers_command", "list providers"),
        "health": Command("console.health_command", "which deployments serve, and which do not"),
        "deployment": Command("console.deployment_command", "list, drain and weigh deployments"),
        "route": Command("console.route_command", "explain a call; simulate another policy"),
        "experiment": Command(
            "console.experiment_command", "list, show, stop and resume experiments"
        ),
        "usage": Command("console.usage_command", "sum tokens and cost, by model, team, key, …"),
        "ledger": Command(
            "console.ledger_command", "prove the books; show one exchange; export all"
        ),
        "serve": Command("console.serve", "run the control role (the supervisor does)"),
    }
)


def main(argv: Sequence[str]) -> int:
    """Run a command and return the exit code."""
    try:
        code = _run(argv)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read us has seen enough (`| head`); Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _run(argv: Sequence[str]) -> int:
    """Choose the command by the first word, and run it with the others."""
    if not argv or argv[0] in {"-h", "--help", "help"}:
        print(_help(), file=sys.stdout if argv else sys.stderr)
        return 0 if argv else 2
    command = COMMANDS.get(argv[0])
    if command is None:
        print(f"penstock: there is no command {argv[0]!r}\n\n{_help()}", file=sys.stderr)
        return 2
    code: int = import_module(command.module).run(list(argv[1:]))
    return code


def _help() -> str:
    """Return the list of commands."""
    lines = "\n".join(f"  {name:<10} {command.help}" for name, command in COMMANDS.items())
    return f"usage: penstock COMMAND …\n\n{lines}\n\nEach command takes --help."
