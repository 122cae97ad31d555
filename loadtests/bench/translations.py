"""
What a translated stream costs, pair by pair: `penstock bench translations`.

The figure of a pair is the CPU of the edge per stream, over that of the same vendor's stream passed through to a caller who speaks its protocol.
No stream of Bedrock's passes through, since no caller speaks its protocol: beside it stands the same answer passed through in the caller's own protocol.
Each pair runs right after its passed-through stream, so that a slow minute of the machine hits both; the figure is the median of the ratios.
Where all 32 chunks come at once (`burst`), what is left is the translation, with nothing to wait for and little else to pay; `paced` streams have 100 chunks, 20 ms apart.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from loadtests import tables
from loadtests.bench import gateway, report, tools, usage, wrk
from loadtests.bench.ending import exit_code_of
from loadtests.bench.figures import plain, spread
from loadtests.bench.ground import Ground, fetch
from loadtests.bench.wrk import BenchFailed
from loadtests.document import write_json

CONFIG = Path(__file__).with_name("translations.yaml")
TARGET = 3.0
# Connections at a time, the spread of their beginnings in milliseconds, and how many tokens a stream has.
SHAPES = {"burst": (32, 0, 32), "paced": (200, 2000, 100)}
_SAY = "Tell me, in a few plain sentences, how the gate above the turbine is kept."
_TURN = {"role": "user", "content": _SAY}
_GEMINI = {"contents": [{"role": "user", "parts": [{"text": _SAY}]}]}
# What each caller posts, and where; `{}` is the model's name.
CALLERS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"messages": [_TURN], "stream": True}),
    "responses": ("/v1/responses", {"input": _SAY, "stream": True}),
    "messages": ("/v1/messages", {"messages": [_TURN], "max_tokens": 200, "stream": True}),
    "gemini": ("/v1beta/models/{}:streamGenerateContent?alt=sse", _GEMINI),
    "ollama": ("/api/chat", {"messages": [_TURN]}),
}
VENDORS = ("chat", "responses", "messages", "gemini", "ollama", "bedrock")
# Whose streams no caller reads as they are.
UNSPOKEN = {"bedrock"}
# OpenAI's vendors pass a second protocol.
PASSED = {("responses", "chat")}
PAIRS = tuple(
    (caller, vendor)
    for caller in CALLERS
    for vendor in VENDORS
    if caller != vendor and (caller, vendor) not in PASSED
)


@dataclass(slots=True)
class Pair:
    """The runs of one pair, in microseconds of CPU per stream; run i of one belongs to run i of the other."""

    caller: str
    vendor: str
    passed: list[float] = field(default_factory=list)
    translated: list[float] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Its name: `chat→messages`."""
        return f"{self.caller}→{self.vendor}"

    @property
    def beside(self) -> tuple[str, str]:
        """Caller and vendor of the stream that passes through: the vendor's own, else the caller's."""
        own = self.caller if self.vendor in UNSPOKEN else self.vendor
        return own, own

    def ratios(self) -> list[float]:
        """Give the ratio of each pair of runs."""
        return [ours / own for own, ours in zip(self.passed, self.translated, strict=True)]

    def verdict(self) -> str:
        """Say whether the target is reached."""
        return "target" if median(self.ratios()) <= TARGET else "missed"


def table(pairs: Sequence[Pair]) -> str:
    """Render the pairs; the range of the runs stands in brackets."""
    head = ("pair", "beside", "passed through", "translated", "ratio", "target", "verdict")
    rows = [head]
    for pair in pairs:
        between = spread(pair.ratios())
        rows.append(
            (
                pair.name,
                "→".join(pair.beside),
                f"{plain(median(pair.passed))} µs",
                f"{plain(median(pair.translated))} µs",
                f"{plain(median(pair.ratios()))} x" + (f" ({between})" if between else ""),
                f"≤ {plain(TARGET)} x",
                pair.verdict(),
            )
        )
    return tables.lined_up(rows, {0, 1, len(head) - 1})


def post_of(caller: str, vendor: str, shape: str) -> tuple[str, bytes]:
    """Give path and body of a caller's request for a vendor's stream of a shape."""
    path, document = CALLERS[caller]
    model = f"{shape}-{vendor}"
    if "{}" not in path:
        document = {"model": model} | document
    return path.format(model), msgspec.json.encode(document)


class Runs:
    """The runs over one gateway."""

    def __init__(
        self,
        ground: Ground,
        program: str,
        ours: gateway.Gateway,
        mock_url: str,
        given: argparse.Namespace,
    ) -> None:
        self._ground = ground
        self._program = program
        self._ours = ours
        self._mock_url = mock_url
        self._shape: str = given.shape
        self._seconds: int = given.seconds

    def cpu_us(self, caller: str, vendor: str) -> float:
        """
        Measure the edge's CPU per stream; raises `BenchFailed` when a call fails.

        Streams are counted by the tokens that the mock sent, since a run's end cuts the last ones short.
        """
        path, body = post_of(caller, vendor, self._shape)
        connections, spread_ms, tokens = SHAPES[self._shape]
        file = self._ground.path / f"{caller}-{vendor}.json"
        file.write_bytes(body)
        arguments = wrk.command(
            *(self._program, self._ours.url + path, file, self._ours.key),
            connections=connections,
            seconds=self._seconds,
            spread_ms=spread_ms,
        )
        self._ground.settle()
        before, sent = usage.precise_cpu_s(self._ours.edge.pid), self._sent()
        wrk.run(arguments)
        self._ground.settle()
        streams = (self._sent() - sent) / tokens
        return (usage.precise_cpu_s(self._ours.edge.pid) - before) / streams * 1e6

    def _sent(self) -> int:
        _, books = fetch(f"{self._mock_url}/__mock/books")
        totals = msgspec.convert(books, dict[str, Any])["totals"]
        return int(totals["completion_tokens"])

    def measure(self, pairs: Sequence[Pair], runs: int) -> Iterator[str]:
        """Take all measurements; gives a line for each."""
        for _ in range(runs):
            for pair in pairs:
                pair.passed.append(self.cpu_us(*pair.beside))
                pair.translated.append(self.cpu_us(pair.caller, pair.vendor))
                yield (
                    f"  {pair.name:<20} {pair.translated[-1]:>7,.0f} µs  {pair.ratios()[-1]:.2f} x"
                )


def _pairs(text: str) -> tuple[str, ...]:
    known = {Pair(*pair).name.replace("→", "-"): Pair(*pair).name for pair in PAIRS}
    names = tuple(name.strip().replace("→", "-") for name in text.split(","))
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"no pair {name!r}; one of {', '.join(known)}")
    return tuple(known[name] for name in names)


def main(arguments: Sequence[str]) -> int:
    """Measure; gives 0, 1 when the bench failed, 2 when a program is missing. A missed target is no failure."""
    parser = argparse.ArgumentParser(
        prog="penstock bench translations",
        description="What a translated stream costs, beside the same stream passed through.",
        allow_abbrev=False,
    )
    parser.add_argument("--runs", type=int, default=2, metavar="N", help="runs per pair (2)")
    parser.add_argument("--seconds", type=int, default=2, metavar="S", help="of a run (2)")
    parser.add_argument("--shape", choices=SHAPES, default="burst", help="of streams (burst)")
    parser.add_argument("--only", type=_pairs, metavar="PAIR,…", help="such as chat-messages")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write raw results and machine")
    given = parser.parse_args(arguments)
    pairs = [Pair(*pair) for pair in PAIRS]
    if given.only:
        pairs = [pair for pair in pairs if pair.name in given.only]
    return exit_code_of(lambda programs: _bench(programs, pairs, given))


def _bench(programs: tools.Tools, pairs: Sequence[Pair], given: argparse.Namespace) -> None:
    with Ground() as ground:
        about = _measure(ground, programs, pairs, given)
    print(f"\n{table(pairs)}\n")
    if given.json is not None:
        rows = [
            {
                "pair": one.name,
                "beside": "→".join(one.beside),
                "passed_us": one.passed,
                "translated_us": one.translated,
            }
            for one in pairs
        ]
        method = {"shape": given.shape, "seconds": given.seconds, "runs": given.runs}
        told = {"machine": about, "method": method, "target": TARGET, "rows": rows}
        write_json(given.json, told)
        print(f"wrote {given.json}")


def _measure(
    ground: Ground, programs: tools.Tools, pairs: Sequence[Pair], given: argparse.Namespace
) -> dict[str, Any]:
    print("starting mock vendor, store, control and edge", flush=True)
    command = [sys.executable, "-m", "loadtests.mock", "--listen", "127.0.0.1:0", "--fast"]
    mock_url = ground.start("mock", command).wait_for_line(r"^listening on (\S+)$")[1]
    ours = gateway.start(ground, mock_url, config=CONFIG)
    ground.measure(ours.edge.pid)
    headers = {"authorization": f"Bearer {ours.key}", "content-type": "application/json"}
    for vendor in VENDORS:
        document = {"model": f"burst-{vendor}", "messages": [_TURN]}
        told, _ = fetch(f"{ours.url}/v1/chat/completions", msgspec.json.encode(document), headers)
        if told.get("x-penstock-deployment") != f"burst-{vendor}/{vendor}":
            raise BenchFailed(f"burst-{vendor} was answered by {told.get('x-penstock-deployment')}")
    for line in Runs(ground, programs.wrk, ours, mock_url, given).measure(pairs, given.runs):
        print(line, flush=True)
    return report.machine(programs, ours.store_version)
