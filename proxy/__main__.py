"""
`python -m proxy`: up, demo, edge and healthy.

`up` and `demo` run a whole installation under the supervisor; `edge` is one worker, alone or under it.
`healthy` asks the edges that run here, for a container's health check.
Exit codes: 0 ended as told, 1 something failed, 2 misuse or a configuration with mistakes, 130 interrupted during the start.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from config.loader import ConfigError, Loaded, load_file
from config.scalars import split_listen
from proxy.installation import CannotStart, Installation, http_ready, prepared
from proxy.options import EdgeOptions
from proxy.supervisor import StartFailed, Supervisor
from proxy.terminal import Terminal, standard_error
from store.embedded import StoreFailed
from store.parent import end_with_parent
from store.places import CHECKOUT, CONFIG_NAME, places
from store.target import BadStoreUrl, target


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb and return the exit code."""
    options = _read(arguments)
    if options.verb == "edge":
        return _edge(options)
    if options.verb == "healthy":
        return _healthy(options.run_dir or places(os.environ).run)
    screen = standard_error()
    try:
        if options.verb == "demo":
            # The demo needs more than the others; their start should not wait for it.
            from proxy.demo import demo  # noqa: PLC0415

            return asyncio.run(demo(options))
        return asyncio.run(_up(screen, options))
    except ConfigError as error:
        for problem in error.problems:
            screen.say(f"{screen.paint('configuration:', 'red')} {problem}")
        screen.say("Nothing was started.")
        return 2
    except (CannotStart, StartFailed, StoreFailed, OSError) as error:
        first, *more = str(error).splitlines() or ["?"]
        screen.say(f"{screen.paint('penstock:', 'red')} {first}")
        for line in more:
            screen.say(f"          {line}")
        return 1


def _read(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; what a verb does not know is told with that verb's usage. Exits with 2."""
    parser, verbs = _parser()
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        verbs.choices[options.verb].error(f"unrecognized arguments: {' '.join(unknown)}")
    return options


def _parser() -> (
    "tuple[argparse.ArgumentParser, argparse._SubParsersAction[argparse.ArgumentParser]]"
):
    parser = argparse.ArgumentParser(prog="penstock", allow_abbrev=False)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="up | demo | edge | healthy")

    up = verbs.add_parser(
        "up",
        allow_abbrev=False,
        help="start the gateway: store, control, edges",
        description="Starts the gateway and keeps it running until Ctrl-C or SIGTERM, which drain it.",
    )
    up.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help=f"the configuration (default: {CONFIG_NAME} here, then in the checkout)",
    )
    up.add_argument(
        "--workers", type=_count, metavar="N", help="edges to start, whatever edge.workers says"
    )

    demo = verbs.add_parser(
        "demo",
        allow_abbrev=False,
        help="start everything with a mock vendor and stream a governed completion",
        description="Starts everything with a mock vendor, streams a governed completion to the terminal, shows what it"
        " cost, which deployment served it and why, and stays up until Ctrl-C.",
    )
    demo.add_argument("--once", action="store_true", help="end after the first completion")
    demo.add_argument(
        "--port", type=_port, default=8080, metavar="PORT", help="data port (default: 8080)"
    )
    demo.add_argument(
        "--admin-port", type=_port, default=8081, metavar="PORT", help="admin port (default: 8081)"
    )
    demo.add_argument(
        "--workers", type=_count, default=1, metavar="N", help="edges to start (default: 1)"
    )

    edge = verbs.add_parser(
        "edge",
        allow_abbrev=False,
        help="run one edge worker alone",
        description="Runs one edge worker. What it serves comes from the live configuration in Redis.",
    )
    edge.add_argument(
        "--redis",
        metavar="URL",
        help="the store: redis://, redis+sentinel://, redis+cluster://, rediss for TLS, or unix:// (default: $REDIS_URL)",
    )
    edge.add_argument(
        "--listen",
        type=_address,
        required=True,
        metavar="HOST:PORT",
        help="the data port; workers share it",
    )
    edge.add_argument(
        "--run-dir", type=Path, required=True, metavar="DIR", help="where its own socket goes"
    )
    edge.add_argument(
        "--worker", type=_number, default=0, metavar="N", help="its number on this machine"
    )
    edge.add_argument(
        "--metrics",
        type=_address,
        metavar="HOST:PORT",
        help="serve its own metrics at /metrics there, where no control collects them",
    )

    healthy = verbs.add_parser(
        "healthy",
        allow_abbrev=False,
        help="ask whether an edge of this machine is ready",
        description="Exits with 0 when an edge that runs here is ready, with 1 when none is.",
    )
    healthy.add_argument(
        "--run-dir",
        type=Path,
        metavar="DIR",
        help="where the edges' sockets are (default: this installation's)",
    )
    return parser, verbs


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1024:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 1024")
    return int(text)


def _number(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 65535")
    return int(text)


def _address(text: str) -> str:
    try:
        split_listen(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
    return text


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port")
    return int(text)


# up...


async def _up(screen: Terminal, options: argparse.Namespace) -> int:
    file, loaded = _configuration(options.config)
    async with prepared(places(os.environ), file, loaded, workers=options.workers) as ours:
        supervisor = Supervisor(
            ours.roles(), ours.places.log, lambda line: screen.say(f"penstock: {line}")
        )

        async def body() -> int:
            for line in summary(ours, screen):
                screen.say(line)
            await supervisor.stopping.wait()
            return 0

        code = await supervisor.run(body)
    screen.say("penstock: ended")
    return code


def _configuration(asked: Path | None) -> tuple[Path, Loaded]:
    """Find and check the configuration. Raises `ConfigError`, or `CannotStart` when there is none."""
    if asked is None:
        here, ours = Path(CONFIG_NAME).absolute(), CHECKOUT / CONFIG_NAME
        found = next((path for path in (here, ours) if path.exists()), None)
        if found is None:
            raise CannotStart(
                f"there is no configuration: neither --config FILE nor {here}\n"
                "README.md shows a first one; `./penstock demo` needs none"
            )
        asked = found
    return asked.absolute(), load_file(asked, os.environ)


def summary(ours: Installation, screen: Terminal) -> list[str]:
    """Return what people want to know when everything is up."""
    edges = f"{ours.edges} edge{'s' if ours.edges > 1 else ''}"
    store = f"embedded {ours.server} in {ours.places.store}" if ours.server else "as configured"
    rows = [
        ("data", f"{screen.paint(ours.data_url, 'cyan')}  ({edges})"),
        ("admin", screen.paint(ours.admin_url, "cyan")),
        ("store", store),
        ("ledger", ours.ledger_url),
        ("config", str(ours.config_file)),
        ("logs", str(ours.places.log)),
    ]
    return [
        screen.paint("Penstock is up. Ctrl-C drains and ends it.", "bold"),
        *(f"  {name:<8}{value}" for name, value in rows),
    ]


# edge...


def _edge(options: argparse.Namespace) -> int:
    url = options.redis or os.environ.get("REDIS_URL")
    if not url:
        print("penstock edge: give --redis URL, or set REDIS_URL", file=sys.stderr)  # noqa: T201
        return 2
    try:
        target(url)
    except BadStoreUrl as error:
        print(f"penstock edge: {error}", file=sys.stderr)  # noqa: T201
        return 2
    alone = not end_with_parent(os.environ)
    from proxy.process import run_edge  # noqa: PLC0415  (the supervisor has no use for it)

    return run_edge(
        EdgeOptions(
            redis=url,
            listen=options.listen,
            run_dir=options.run_dir,
            worker=options.worker,
            metrics=options.metrics,
            alone=alone,
        )
    )


# healthy...


def _healthy(run_dir: Path) -> int:
    async def ask(sockets: list[Path]) -> dict[str, str | None]:
        return {path.name: await http_ready(path)() for path in sockets}

    waiting = asyncio.run(ask(sorted(run_dir.glob("edge-*.sock"))))
    if None in waiting.values():
        return 0
    for name, reason in waiting.items():
        print(f"{name}: {reason}", file=sys.stderr)  # noqa: T201
    if not waiting:
        print(f"no edge runs in {run_dir}", file=sys.stderr)  # noqa: T201
    return 1


if __name__ == "__main__":
    sys.exit(main())
