"""
What a run leaves behind: `run.json` (the document), `records.jsonl.gz` (every call), `report.html` (the page).

A page is one file that needs no network: template, style and script are files of their own in `page/`, put together here with the document.
"""

import gzip
import html
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from loadtests import tables
from loadtests.metrics import Record
from loadtests.summary import KIND

_PAGE = Path(__file__).with_name("page")
RUN, RECORDS, REPORT = "run.json", "records.jsonl.gz", "report.html"
COLUMNS = (
    ("name", "base · scenario"),
    ("calls", "calls"),
    ("errors", "errors %"),
    ("rate", "begun/s"),
    ("goodput", "goodput/s"),
    ("tokens", "tokens/s"),
    ("ttft50", "TTFT p50 ms"),
    ("ttft95", "TTFT p95 ms"),
    ("ttft99", "TTFT p99 ms"),
    ("itl50", "ITL p50 ms"),
    ("itl99", "ITL p99 ms"),
    ("e2e50", "E2E p50 ms"),
    ("e2e95", "E2E p95 ms"),
    ("e2e99", "E2E p99 ms"),
)


class NoRun(ValueError):
    """A file or directory holds no run; the message says why."""


def rows(run: dict[str, Any]) -> list[dict[str, Any]]:
    """Give the rows of the table by base and scenario, by the names of `COLUMNS`."""
    return [_row(name, figures) for name, figures in run["by_scenario"].items()]


def _row(name: str, figures: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": name,
        "calls": figures["calls"],
        "errors": round(100 * figures["error_share"], 2),
        "rate": figures["rate"],
        "goodput": figures["goodput"],
        "tokens": figures["tokens_s"],
    }
    for metric in ("ttft", "itl", "e2e"):
        for at in ("50", "95", "99"):
            if figures[metric]:
                row[f"{metric}{at}"] = round(figures[metric][f"p{at}"], 2)
    return row


def table(columns: Sequence[tuple[str, str]], lines: Iterable[dict[str, Any]]) -> str:
    """Render rows for a terminal, the first column to the left and numbers to the right."""
    cells = [[title for _, title in columns]]
    cells += [[_plain(line.get(key, "-")) for key, _ in columns] for line in lines]
    return tables.lined_up(cells)


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def page(runs: Sequence[dict[str, Any]]) -> str:
    """Render one run, or several to compare, as a page that stands alone."""
    title = html.escape(" beside ".join(str(run.get("title", "a run")) for run in runs))
    # In a script element only "</" and "<!--" could end the data early.
    data = msgspec.json.encode(list(runs)).decode().replace("<", "\\u003c")
    parts = {
        "{{title}}": title,
        "{{style}}": _without_header(_PAGE / "report.css", "*/"),
        "{{script}}": _without_header(_PAGE / "report.js", "*/"),
        "{{data}}": data,
    }
    text = _without_header(_PAGE / "report.html", "-->")
    for mark, content in parts.items():
        text = text.replace(mark, content)
    return text


def _without_header(path: Path, end: str) -> str:
    return path.read_text(encoding="utf-8").partition(end)[2].lstrip()


def write_json(path: Path, content: Any) -> None:
    """Write JSON that people can read; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n")


def write(folder: Path, run: dict[str, Any], records: Iterable[Record]) -> None:
    """Write all three files; makes the folder."""
    write_json(folder / RUN, run)
    with gzip.open(folder / RECORDS, "wb", compresslevel=5) as output:
        for record in records:
            output.write(msgspec.json.encode(record) + b"\n")
    (folder / REPORT).write_text(page([run]), encoding="utf-8")


def read(path: Path) -> dict[str, Any]:
    """Read a run from its folder or its `run.json`; raises `NoRun`."""
    file = path / RUN if path.is_dir() else path
    try:
        run = msgspec.json.decode(file.read_bytes())
    except OSError as mistake:
        raise NoRun(f"{file}: {mistake.strerror}") from mistake
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as mistake:
        raise NoRun(f"{file} is no JSON: {mistake}") from mistake
    if not isinstance(run, dict) or run.get("kind") != KIND:
        raise NoRun(f"{file} is no run of penstock load")
    return run


def read_records(folder: Path) -> list[Record]:
    """Read every call of a run back; raises `NoRun`."""
    try:
        with gzip.open(folder / RECORDS, "rb") as lines:
            return [msgspec.json.decode(line, type=Record) for line in lines]
    except (OSError, EOFError, msgspec.DecodeError) as mistake:
        raise NoRun(f"{folder / RECORDS}: {mistake}") from mistake
