"""
Where a command finds the store and the ledger.

In this order: what the command line says (`--redis`, `--ledger`, `--config FILE`), the environment
(REDIS_URL, LEDGER_URL), `penstock.yaml` here or in the checkout, and what `./penstock up` and `demo`
use without any of them: the embedded store's socket and `var/ledger.db`.

Of a configuration only `store` is read, so that looking at the books needs none of its secrets.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

from console.settings import Settings, Unreadable, usual_file
from store.places import CONFIG_NAME, places
from store.sql import ledger_path

__all__ = [
    "Nowhere",
    "add_ledger_option",
    "add_redis_option",
    "add_where_option",
    "ledger_file",
    "redis_url",
]


class Nowhere(Exception):
    """It cannot be told where the store or the ledger is; the message says why."""


def add_where_option(parser: argparse.ArgumentParser) -> None:
    """Let a command look at a part of the ledger."""
    parser.add_argument(
        "--where",
        type=_equation,
        action="append",
        default=[],
        metavar="DIMENSION=VALUE",
        help="only what is so, as in team=acme/support; may be said several times",
    )


def _equation(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r}: expected DIMENSION=VALUE")
    return name, value


def add_ledger_option(parser: argparse.ArgumentParser) -> None:
    """Let a command say where the ledger is."""
    parser.add_argument(
        "--ledger", metavar="URL", help="sqlite:PATH (default: $LEDGER_URL, then the configuration)"
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help=f"configuration (default: {CONFIG_NAME})"
    )


def add_redis_option(parser: argparse.ArgumentParser) -> None:
    """Let a command say where the store is."""
    parser.add_argument(
        "--redis",
        metavar="URL",
        help="redis://, redis+sentinel://, redis+cluster://, rediss for TLS, or unix:// (default: $REDIS_URL, then the configuration)",
    )


def ledger_file(
    said: str | None, config: Path | None, environ: Mapping[str, str], here: Path
) -> Path:
    """Return the ledger's file. Raises `Nowhere`, and `store.sql.BadLedgerUrl`."""
    url = said or _setting("ledger", "LEDGER_URL", config, environ, here) or "sqlite:var/ledger.db"
    if said:  # what is typed is relative to where it is typed
        return here / ledger_path(said)
    return ledger_path(places(environ).ledger_url(url))


def redis_url(said: str | None, config: Path | None, environ: Mapping[str, str], here: Path) -> str:
    """Return the store's URL. Raises `Nowhere`."""
    url = said or _setting("redis", "REDIS_URL", config, environ, here)
    return places(environ).store_url if url in {None, "", "embedded"} else str(url)


def _setting(
    name: str, variable: str, config: Path | None, environ: Mapping[str, str], here: Path
) -> str | None:
    """Return a setting of `store`, None when nobody says it."""
    if config is None:
        if environ.get(variable):
            return environ[variable]
        config = usual_file(here)
        if config is None:
            return None
    try:
        settings = Settings(config, environ)
    except Unreadable as error:
        raise Nowhere(str(error)) from error
    why = settings.why_unset("store", name)
    if why is not None:
        raise Nowhere(f"{config}: store.{name}: {why}")
    return settings.get("store", name)
