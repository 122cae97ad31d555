"""
Running Locust: each run is a process of its own, so that gevent's patches stay in it.

The key goes by the environment, where other users of the machine do not see it.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from loadtests import document
from loadtests.bench.ground import free_port
from loadtests.engine import Health
from loadtests.metrics import Record
from loadtests.scenarios import class_of
from loadtests.summary import Span, span_of

ROOT = Path(__file__).parents[1]
LOCUSTFILE = Path(__file__).with_name("locustfile.py")
_END_S = 45.0


class RunFailed(RuntimeError):
    """A run left nothing that could be judged; the message says why."""


def folder_for(name: str, now: datetime) -> Path:
    """Give the folder of a run that begins now."""
    var = Path(os.environ.get("PENSTOCK_VAR") or ROOT / "var")
    return var / "load" / f"{now:%Y%m%d-%H%M%S}-{name}"


def make_folder(folder: Path) -> None:
    """Make the folder of a run; raises `RunFailed` where that cannot be, or where nothing can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as mistake:
        raise RunFailed(
            f"{folder}: {mistake.strerror or mistake}; name another with --out"
        ) from mistake


@dataclass(frozen=True, slots=True)
class Run:
    """What a run left in its folder."""

    folder: Path

    def document(self) -> dict[str, Any]:
        """Read the document; raises `NoRun`."""
        return document.read(self.folder)

    def records(self) -> list[Record]:
        """Read every call; raises `NoRun`."""
        return document.read_records(self.folder)


def samples_of(told: Mapping[str, Any]) -> list[Health]:
    """Give the generator's samples from the document of a run, in seconds of the wall clock again."""
    return [
        Health(**{**row, "process": process, "at_s": round(row["at_s"] + told["begin_s"], 3)})
        for process, rows in told["health"].items()
        for row in rows
    ]


@dataclass(slots=True)
class Gathered:
    """What several runs gave together, for one document of them all."""

    records: list[Record] = field(default_factory=list)
    samples: list[Health] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, run: Run) -> list[Record]:
        """Take in one run; gives its calls. Raises `NoRun`."""
        told, records = run.document(), run.records()
        self.records += records
        self.warnings += told["warnings"]
        self.samples += samples_of(told)
        if span := span_of(records):
            self.spans.append(span)
        return records


def command(
    scenarios: Sequence[str],
    options: Mapping[str, Any],
    folder: Path,
    *,
    web_port: int = 0,
    processes: int = 0,
) -> list[str]:
    """
    Give Locust's command line; `options` are ours by name (`options.PARTS`) and `host`, and hold no key.

    With a `web_port` its page is served there, and it ends when it is told to.
    """
    words = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--loglevel", "WARNING"]
    words += ["--out", str(folder)]
    words += ["--exit-code-on-error", "0"]
    words += ["--csv", str(folder / "locust"), "--json-file", str(folder / "locust")]
    if web_port:
        words += ["--web-host", "127.0.0.1", "--web-port", str(web_port), "--autostart"]
    else:
        words += ["--headless", "--only-summary"]
    if processes > 1:
        # Workers and master meet on a port that nobody outside reaches, and that no other run has.
        port = str(free_port())
        words += ["--processes", str(processes), "--master-bind-host", "127.0.0.1"]
        words += ["--master-bind-port", port, "--master-port", port]
    for name, value in options.items():
        if value not in {"", None}:
            words += [f"--{name}", str(value)]
    return [*words, *map(class_of, scenarios)]


def run(
    scenarios: Sequence[str],
    options: Mapping[str, Any],
    folder: Path,
    *,
    key: str = "",
    web_port: int = 0,
    processes: int = 0,
    quiet: bool = False,
) -> int:
    """
    Run Locust to its end; gives its exit code: 2 when it could not start.

    On Ctrl-C Locust is told once, ends the run and writes its report; that is waited for, and then `KeyboardInterrupt` raised.
    A second Ctrl-C ends it at once.
    """
    make_folder(folder)
    # What an earlier run left must not be taken for this one's.
    (folder / document.RUN).unlink(missing_ok=True)
    environ = {**os.environ, "LOAD_KEY": key, "PYTHONPATH": str(ROOT)}
    output = subprocess.DEVNULL if quiet else None
    process = subprocess.Popen(
        command(scenarios, options, folder, web_port=web_port, processes=processes),
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.PIPE if quiet else None,
        text=True,
        # Out of the terminal's reach: twice told, it would break off what it does on being told once.
        process_group=0,
    )
    try:
        _, said = process.communicate()
    except KeyboardInterrupt:
        _end(process, within_s=float(options.get("drain") or 0) + _END_S)
        raise
    except BaseException:
        _tell(process, signal.SIGKILL)
        raise
    if quiet and process.returncode != 0:
        print(said.strip(), file=sys.stderr)
    return process.returncode


def _end(process: subprocess.Popen[str], within_s: float) -> None:
    """See a run to its end that was interrupted: open calls get their time, and the report is written."""
    _tell(process, signal.SIGINT)
    try:
        process.communicate(timeout=within_s)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        _tell(process, signal.SIGKILL)
        process.wait()


def _tell(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Send a signal to Locust and to the processes that it made."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def measure(
    scenario: str,
    bases: Sequence[Mapping[str, str]],
    folder: Path,
    *,
    processes: int = 1,
    quiet: bool = True,
    **options: Any,
) -> Run:
    """
    Run one scenario against one or several bases in turn, and hand over what came of it.

    Raises `RunFailed` when it could not start or left nothing.
    """
    make_folder(folder)
    # The file of bases holds keys, so only its owner may read it, and it does not outlive the run.
    file = folder / "bases.json"
    file.touch(mode=0o600)
    file.write_bytes(msgspec.json.encode(list(bases)))
    try:
        code = run([scenario], {**options, "bases": file}, folder, quiet=quiet, processes=processes)
    finally:
        file.unlink(missing_ok=True)
    if code != 0:
        raise RunFailed(f"the run of {scenario} could not be made (Locust ended with {code})")
    return Run(folder)
