"""
What a call costs that passes in its own protocol, beside nginx: `penstock bench protocols`.

The rows of `penstock bench` that are ratios of CPU, for each protocol that callers and vendors share: a whole answer, and a stream whose 32 chunks come at once.
Both proxies get the same answers from the same mock vendor; the gateway governs each call and meters it by what the vendor reports, nginx does neither.
The runs of a row take turns, so that a slow minute of the machine hits both; the figure is the median of the ratios.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from loadtests.bench import gateway, nginx, report, tools, usage, wrk
from loadtests.bench.ending import exit_code_of
from loadtests.bench.figures import ROWS, Figure, Row
from loadtests.bench.ground import Ground
from loadtests.bench.measure import Contestant
from loadtests.document import write_json

CONFIG = Path(__file__).with_name("protocols.yaml")
CONNECTIONS = 64
# What a vendor's model is called there, and does: Gemini's streams end their lines with CR LF.
_SIM = "sim;tokens=32"
_GEMINIS_SIM = f"{_SIM};crlf=1"
_SAY = "Tell me, in a few plain sentences, how the gate above the turbine is kept."
_TURN = {"role": "user", "content": _SAY}
_GEMINI = {"contents": [{"role": "user", "parts": [{"text": _SAY}]}]}
_MARKS = {row.name: row for row in ROWS}


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """What a caller posts, and where; `{}` in a path is the model's name, which else is in the body."""

    protocol: str
    path: str
    document: dict[str, Any]
    streams: bool = False

    @property
    def row(self) -> Row:
        """Its row, with the marks of the main bench."""
        marks = _MARKS["burst" if self.streams else "nonstream"]
        answer = "32 chunks at once" if self.streams else "whole"
        return Row(
            f"{self.protocol}-{marks.name}",
            self.protocol,
            f"{self.protocol}, {answer}",
            *(marks.unit, marks.target, marks.stretch),
            ratio=True,
        )

    def post(self, contestant: Contestant) -> tuple[str, bytes]:
        """Give path and body for a contestant: one that maps names is told the gateway's."""
        sim = _GEMINIS_SIM if self.protocol == "gemini" else _SIM
        model = f"bench-{self.protocol}" if contestant.own_names else sim
        document = self.document if "{}" in self.path else {"model": model} | self.document
        return self.path.format(model), msgspec.json.encode(document)


_STREAM = {"stream": True}
_MESSAGES = {"messages": [_TURN], "max_tokens": 200}
CALLS = (
    Call("chat", "/v1/chat/completions", {"messages": [_TURN]}),
    Call("chat", "/v1/chat/completions", {"messages": [_TURN]} | _STREAM, streams=True),
    Call("responses", "/v1/responses", {"input": _SAY}),
    Call("responses", "/v1/responses", {"input": _SAY} | _STREAM, streams=True),
    Call("messages", "/v1/messages", _MESSAGES),
    Call("messages", "/v1/messages", _MESSAGES | _STREAM, streams=True),
    Call("gemini", "/v1beta/models/{}:generateContent", _GEMINI),
    Call("gemini", "/v1beta/models/{}:streamGenerateContent?alt=sse", _GEMINI, streams=True),
    Call("ollama", "/api/chat", {"messages": [_TURN], "stream": False}),
    Call("ollama", "/api/chat", {"messages": [_TURN]}, streams=True),
    # As OpenAI's own clients ask for them.
    Call("embeddings", "/v1/embeddings", {"input": _SAY, "encoding_format": "base64"}),
)
PROTOCOLS = tuple(dict.fromkeys(call.protocol for call in CALLS))


class Runs:
    """The runs before one nginx and one gateway; `figures` fill as they are taken."""

    def __init__(
        self,
        ground: Ground,
        program: str,
        contestants: Sequence[Contestant],
        calls: Sequence[Call],
        seconds: int,
    ) -> None:
        self.figures = {call: Figure(call.row) for call in calls}
        self._ground = ground
        self._program = program
        self._contestants = contestants
        self._seconds = seconds

    def cpu_us(self, call: Call, contestant: Contestant) -> float:
        """Measure a proxy's CPU per call; raises `BenchFailed` when a call fails."""
        path, body = call.post(contestant)
        file = self._ground.path / f"{call.row.name}-{contestant.name}.json"
        file.write_bytes(body)
        assert contestant.pid is not None
        arguments = wrk.command(
            *(self._program, contestant.url + path, file, contestant.key),
            connections=CONNECTIONS,
            seconds=self._seconds,
        )
        self._ground.settle()
        before = usage.precise_cpu_s(contestant.pid)
        counted = wrk.run(arguments)
        self._ground.settle()
        return (usage.precise_cpu_s(contestant.pid) - before) / counted.requests * 1e6

    def measure(self, runs: int) -> Iterator[str]:
        """Take all measurements; gives a line for each."""
        native, ours = self._contestants
        for _ in range(runs):
            for call, figure in self.figures.items():
                figure.nginx.append(self.cpu_us(call, native))
                figure.penstock.append(self.cpu_us(call, ours))
                yield (
                    f"  {call.row.name:<20} nginx {figure.nginx[-1]:>4.0f} µs"
                    f"  penstock {figure.penstock[-1]:>4.0f} µs  {figure.ratios()[-1]:.2f} x"
                )


def _protocols(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in PROTOCOLS:
            raise argparse.ArgumentTypeError(f"no {name!r}; one of {', '.join(PROTOCOLS)}")
    return names


def main(arguments: Sequence[str]) -> int:
    """Measure; gives 0, 1 when the bench failed, 2 when a program is missing. A missed target is no failure."""
    parser = argparse.ArgumentParser(
        prog="penstock bench protocols",
        description="What a call costs that passes in its own protocol, beside nginx.",
        allow_abbrev=False,
    )
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="runs per row (3)")
    parser.add_argument("--seconds", type=int, default=2, metavar="S", help="of a run (2)")
    parser.add_argument("--only", type=_protocols, default=PROTOCOLS, metavar="PROTOCOL,…")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write raw results and machine")
    given = parser.parse_args(arguments)
    calls = [call for call in CALLS if call.protocol in given.only]
    return exit_code_of(lambda programs: _bench(programs, calls, given))


def _bench(programs: tools.Tools, calls: Sequence[Call], given: argparse.Namespace) -> None:
    with Ground() as ground:
        figures, about = _measure(ground, programs, calls, given)
    print(f"\n{report.table(figures)}\n")
    if given.json is not None:
        method = {"seconds": given.seconds, "runs": given.runs, "connections": CONNECTIONS}
        write_json(given.json, report.document(figures, (), method, about))
        print(f"wrote {given.json}")


def _measure(
    ground: Ground, programs: tools.Tools, calls: Sequence[Call], given: argparse.Namespace
) -> tuple[list[Figure], dict[str, Any]]:
    print("starting mock vendor, nginx, store, control and edge", flush=True)
    command = [sys.executable, "-m", "loadtests.mock", "--listen", "127.0.0.1:0", "--fast"]
    mock_url = ground.start("mock", command).wait_for_line(r"^listening on (\S+)$")[1]
    url, worker = nginx.start(ground, programs.nginx, mock_url.removeprefix("http://"))
    ours = gateway.start(ground, mock_url, config=CONFIG)
    for pid in (worker, ours.edge.pid):
        ground.measure(pid)
    native = Contestant("nginx", url, pid=worker)
    penstock = Contestant("penstock", ours.url, ours.key, ours.edge.pid, own_names=True)
    gateway.prove_governed(ours, CALLS[0].post(penstock)[1])
    runs = Runs(ground, programs.wrk, (native, penstock), calls, given.seconds)
    for line in runs.measure(given.runs):
        print(line, flush=True)
    return list(runs.figures.values()), report.machine(programs, ours.store_version)
