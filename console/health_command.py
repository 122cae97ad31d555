"""
`penstock health`: which deployments serve, which are left alone, and why.

Exit codes are `console.operating`'s, and 1 when a deployment is offline.
"""

import argparse
from collections.abc import Sequence
from typing import Any

from console.gateway import Gateway
from console.operating import add_common, operate, print_json, print_table
from console.parser import Parser

__all__ = ["run"]


def run(argv: Sequence[str]) -> int:
    """Run the command and return the exit code."""
    parser = Parser(
        prog="penstock health",
        description="Tells of the health of every deployment of a running gateway.",
    )
    add_common(parser)
    return operate("penstock health", parser.parse_args(argv), _health)


def _health(gateway: Gateway, options: argparse.Namespace) -> int:
    answer = gateway.ask("GET", "/v1/health")
    rows = answer["deployments"]
    if options.json:
        print_json(answer)
    else:
        heads = ["deployment", "state", "kinds", "latency", "probe", "vendor"]
        print_table(heads, [_row(each) for each in rows], left=3)
    return 1 if any(each["state"] == "offline" for each in rows) else 0


def _row(each: dict[str, Any]) -> list[str]:
    breakers = [f"{kind} {word}" for kind, word in each["breaker"].items() if word != "closed"]
    probe = each["probe"]
    vendor = [f"{row['amount']} {what} left" for what, row in each["left"].items()]
    if each["throttled_us"]:
        vendor.insert(0, f"wait {each['throttled_us'] / 1e6:.0f} s")
    return [
        each["id"],
        each["state"],
        ", ".join(breakers) or "all served",
        f"{each['latency_us'] / 1000:.0f} ms" if each["latency_us"] else "-",
        "-" if probe is None else f"{probe['why']} {probe['took_us'] / 1000:.0f} ms",
        ", ".join(vendor) or "-",
    ]
