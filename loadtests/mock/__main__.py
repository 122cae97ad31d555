"""`python -m loadtests.mock`: the mock vendor as a process."""

import argparse
import asyncio
import ssl
import sys

import uvloop

from loadtests.mock.server import run


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host.strip("[]") or "127.0.0.1", int(port)


def main(arguments: list[str] | None = None) -> int:
    """Serve until a signal; gives the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.mock",
        description="A vendor of completions that does as the model name says; see loadtests/README.md.",
    )
    parser.add_argument("--listen", type=_address, metavar="HOST:PORT", help="port 0 takes any")
    parser.add_argument("--unix", metavar="PATH", help="listen on a Unix socket, too or instead")
    parser.add_argument("--tls-cert", metavar="FILE", help="serve HTTPS with this chain (PEM)")
    parser.add_argument("--tls-key", metavar="FILE", help="its key, when not in the same file")
    parser.add_argument("--fast", action="store_true", help="do not look at headers (benchmarks)")
    parser.add_argument(
        "--books",
        action=argparse.BooleanOptionalAction,
        help="keep the list of served calls; default: unless --fast",
    )
    given = parser.parse_args(arguments)
    listen = given.listen
    if listen is None and given.unix is None:
        listen = ("127.0.0.1", 9001)
    tls = None
    if given.tls_cert is not None:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(given.tls_cert, given.tls_key)
    detailed = given.books if given.books is not None else not given.fast
    try:
        uvloop.run(run(listen, given.unix, tls, fast=given.fast, detailed=detailed))
    except OSError as mistake:
        print(f"the mock vendor cannot start: {mistake}", file=sys.stderr)
        return 1
    except asyncio.CancelledError:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
