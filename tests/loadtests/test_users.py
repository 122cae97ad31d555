"""
Laws of Locust's side: what Locust shows is what was measured, in one process and over several, and an end that comes early loses nothing.

Each test starts Locust in a process of its own, as gevent's patches must not reach other tests.
"""

import contextlib
import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from loadtests import document
from loadtests.bench.ground import free_port
from loadtests.runner import LOCUSTFILE, ROOT, command
from tests.loadtests.peer import ANTHROPIC, peer, whole

WITHIN_S = 110


@pytest.fixture
def vendor():
    """Start a mock vendor in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "loadtests.mock", "--listen", "127.0.0.1:0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    line = process.stdout.readline()
    yield line.removeprefix("listening on ").strip()
    process.terminate()
    process.communicate(timeout=10)


@pytest.fixture(autouse=True)
def interruptible():
    """Let what is started here be interrupted, although whoever runs the tests in the background may have SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def start(scenarios, options, folder, *, key="sk-1", **how):
    folder.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        command(scenarios, options, folder, **how),
        env={**os.environ, "LOAD_KEY": key, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process):
    said, _ = process.communicate(timeout=WITHIN_S)
    return process.returncode, said


def books(url):
    with urllib.request.urlopen(f"{url}/__mock/books", timeout=10) as answer:
        return json.load(answer)


def until_calls(url, count):
    """Wait until a vendor has so many calls in its books."""
    give_up = time.monotonic() + WITHIN_S
    while (calls := books(url)["totals"]["calls"]) < count:
        assert time.monotonic() < give_up, f"{calls} calls within {WITHIN_S} s, instead of {count}"
        time.sleep(0.05)


def test_what_locust_shows_is_what_was_measured(vendor, tmp_path):
    """Every row type in CSV and JSON, as many calls as the vendor served, and the report beside them."""
    options = {
        "host": vendor,
        "model": "sim;tokens=4;interval_ms=2",
        "load": "40",
        "arrivals": "constant",
        "duration": "1s",
    }
    code, said = finish(start(["chat-stream", "chat"], options, tmp_path))
    assert code == 0, said
    run, records = document.read(tmp_path), document.read_records(tmp_path)
    totals = books(vendor)["totals"]
    # The look beforehand made one call of each scenario.
    assert len(records) == totals["calls"] - 2
    assert run["total"]["calls"] == len(records) >= 20
    assert run["total"]["errors"] == {}
    assert {record.scenario for record in records} == {"chat", "chat-stream"}
    assert {record.tokens for record in records} <= {1, 2, 3, 4}
    assert run["health"]["worker-0"]

    shown = json.loads((tmp_path / "locust.json").read_text())
    counts = {(row["method"], row["name"]): row["num_requests"] for row in shown}
    streams = sum(record.stream for record in records)
    assert counts["E2E", "chat-stream"] == counts["TTFT", "chat-stream"] == streams
    assert counts["E2E", "chat"] == len(records) - streams
    assert ("TTFT", "chat") not in counts
    kinds = {kind for kind, _ in counts}
    assert {"E2E", "TTFT", "ITL", "TPOT", "TOK/S", "GOOD"} <= kinds
    table = (tmp_path / "locust_stats.csv").read_text()
    assert {row["Type"] for row in csv.DictReader(table.splitlines())} >= kinds


def locust(*words, file=LOCUSTFILE):
    return subprocess.Popen(
        [sys.executable, "-m", "locust", "-f", str(file), *words],
        env={**os.environ, "LOAD_KEY": "sk-1", "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_master_and_two_workers_make_one_run(vendor, tmp_path):
    """
    As the README starts them on several machines: one even stream of arrivals, shared, and one report.

    Every call that the vendor served is in it once, streams that outlive the run's end too.
    """
    port = str(free_port())
    words = ["--master", "--master-bind-port", port, "--expect-workers", "2", "--headless"]
    words += ["--host", vendor, "--model", "sim;tokens=1000;interval_ms=4", "--drain", "60"]
    words += ["--load", "20", "--arrivals", "constant", "--duration", "1s"]
    master = locust(*words, "--out", str(tmp_path), "ChatStreamUser")
    workers = [locust("--worker", "--master-port", port) for _ in range(2)]
    code, said = finish(master)
    assert code == 0, said
    assert [finish(worker)[0] for worker in workers] == [0, 0]
    records = document.read_records(tmp_path)
    assert {record.outcome for record in records} == {"ok"}
    assert len(records) == books(vendor)["totals"]["calls"] - 1 == 20
    assert len({round(record.at_s % 0.05, 4) for record in records}) <= 4, "each worker's are even"
    run = document.read(tmp_path)
    assert set(run["health"]) == {"worker-0", "worker-1"}
    assert run["config"]["bases"][0]["model"] == "sim;tokens=1000;interval_ms=4"


def test_a_worker_waits_for_nothing_before_it_begins(vendor, tmp_path, monkeypatch):
    """Its master may have it begin as soon as it is known: whoever asked git of the checkout then began nothing at all."""
    git = tmp_path / "bin" / "git"
    git.parent.mkdir()
    git.write_text(f"#!/bin/sh\necho asked >> {tmp_path}/asked\n")
    git.chmod(0o755)
    monkeypatch.setenv("PATH", f"{git.parent}:{os.environ['PATH']}")
    options = {"host": vendor, "model": "sim", "load": "20", "duration": "1s"}
    code, said = finish(start(["chat"], options, tmp_path / "run", processes=2))
    assert code == 0, said
    assert "Traceback" not in said
    assert (tmp_path / "asked").read_text().split() == ["asked"] * 2, "the master, twice"
    assert len(document.read_records(tmp_path / "run")) >= 10


def test_a_generator_that_is_the_bottleneck_says_so(vendor, tmp_path):
    """Fifty that ask as fast as they can for streams that come in one burst: to time each event costs more than to write them."""
    options = {"host": vendor, "model": "sim;tokens=300", "load": "50", "arrivals": "closed"}
    code, said = finish(start(["chat-stream"], options | {"duration": "2s"}, tmp_path))
    assert code == 0, said
    assert "the generator worker-0" in "".join(document.read(tmp_path)["warnings"])


def test_an_interrupted_run_of_several_processes_writes_its_report(vendor, tmp_path):
    """Master and workers all get the Ctrl-C; nothing that was answered is lost."""
    options = {"host": vendor, "model": "sim", "load": "20", "duration": "10m"}
    process = start(["chat"], options, tmp_path, processes=2)
    until_calls(vendor, 12)
    os.killpg(process.pid, signal.SIGINT)
    code, said = finish(process)
    assert code == 0, said
    total = document.read(tmp_path)["total"]
    assert (total["calls"], total["unfinished"]) == (books(vendor)["totals"]["calls"] - 1, 0)


def test_a_worker_that_is_interrupted_before_its_master_hands_over_all_of_its_calls(
    vendor, tmp_path
):
    """The master's word to end comes while its last calls are under way: they are waited for once more."""
    port = str(free_port())
    words = ["--master", "--master-bind-port", port, "--expect-workers", "1", "--headless"]
    words += ["--host", vendor, "--model", "sim;tokens=40;interval_ms=50", "--drain", "60"]
    words += ["--load", "20", "--duration", "10m", "--out", str(tmp_path), "ChatStreamUser"]
    master = locust(*words)
    worker = locust("--worker", "--master-port", port)
    until_calls(vendor, 12)
    worker.send_signal(signal.SIGINT)
    time.sleep(0.3)
    master.send_signal(signal.SIGINT)
    code, said = finish(master)
    assert code == 0, said
    assert finish(worker)[0] == 0
    total = document.read(tmp_path)["total"]
    assert (total["calls"], total["unfinished"]) == (books(vendor)["totals"]["calls"] - 1, 0)


def test_a_worker_that_was_missed_hands_over_what_it_has(vendor, tmp_path):
    """It may only have had no core for the three seconds after which Locust takes it for lost, and what it knows is awaited."""
    port = str(free_port())
    words = ["--master", "--master-bind-port", port, "--expect-workers", "1", "--headless"]
    words += ["--host", vendor, "--model", "sim", "--load", "20", "--duration", "10m"]
    master = locust(*words, "--drain", "5", "--out", str(tmp_path), "ChatUser")
    worker = locust("--worker", "--master-port", port)
    until_calls(vendor, 12)
    worker.send_signal(signal.SIGSTOP)
    try:
        while "went missing, stopping test" not in (line := master.stdout.readline()):
            assert line, "the master ended before it missed anybody"
    finally:
        worker.send_signal(signal.SIGCONT)
    code, said = finish(master)
    assert code == 0, said
    assert finish(worker)[0] == 0
    assert document.read(tmp_path)["total"]["calls"] == books(vendor)["totals"]["calls"] - 1


INTERRUPTED = """
import os, signal
from itertools import count
from loadtests import client, users

times = count()

def then(go):
    def instead(*given):
        if next(times) == {at}:
            os.kill(os.getpid(), signal.SIGINT)
        return go(*given)
    return instead

{where} = then({where})
globals().update(users.user_classes())
users.install()
"""


@pytest.mark.parametrize(
    ("where", "at", "duration"),
    [("client.read_whole", 5, "10m"), ("users.Site.end", 0, "1s"), ("users.Site.quit", 0, "1s")],
    ids=["as an answer is read", "as the run ends", "as all ends"],
)
def test_a_ctrl_c_breaks_off_nothing(where, at, duration, vendor, tmp_path):
    """It ends the run, whatever runs at that moment goes on; and where the run ends by itself just then, it does."""
    (tmp_path / "interrupted.py").write_text(INTERRUPTED.format(where=where, at=at))
    words = ["--headless", "--host", vendor, "--model", "sim;ttft_ms=400", "--load", "20"]
    words += ["--duration", duration, "--out", str(tmp_path), "ChatUser"]
    code, said = finish(locust(*words, file=tmp_path / "interrupted.py"))
    assert code == 0, said
    assert "Traceback" not in said
    total = document.read(tmp_path)["total"]
    assert (total["calls"], total["unfinished"]) == (books(vendor)["totals"]["calls"] - 1, 0)
    assert total["calls"] >= 5


def test_messages_are_streamed_from_those_who_speak_them(tmp_path):
    """Anthropic's protocol, closed loop, against a peer that speaks it."""
    with peer(whole(ANTHROPIC)) as ours:
        options = {
            "host": ours.url,
            "model": "claude",
            "load": "2",
            "arrivals": "closed",
            "duration": "1s",
        }
        code, said = finish(start(["messages-stream"], options, tmp_path))
    assert code == 0, said
    run = document.read(tmp_path)
    assert run["total"]["ok"] == run["total"]["calls"] > 0
    assert run["total"]["tokens"] == 6 * run["total"]["calls"]


def test_ctrl_c_still_writes_the_report(vendor, tmp_path):
    """`./penstock load`, and what a terminal does to it: what was seen until then is told; open calls end or are called unfinished."""
    words = ["--host", vendor, "--model", "sim;tokens=1000;interval_ms=100", "--load", "20"]
    words += ["--scenario", "chat-stream", "--duration", "10m", "--drain", "3"]
    process = subprocess.Popen(
        [sys.executable, "-m", "loadtests", *words, "--out", str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    until_calls(vendor, 12)
    os.killpg(process.pid, signal.SIGINT)
    code, said = finish(process)
    assert code == 130, said
    assert "interrupted: the report holds what was seen until then" in said
    assert "Traceback" not in said
    assert "KeyboardInterrupt" not in said
    run = document.read(tmp_path)
    assert run["total"]["unfinished"] > 0
    assert (tmp_path / "report.html").exists()


def test_ctrl_c_before_load_starts_is_told_in_a_line(tmp_path):
    """A target that takes the connection and says nothing is waited for as long as one wants to."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        words = ["--host", f"http://127.0.0.1:{silent.getsockname()[1]}", "--model", "m"]
        process = subprocess.Popen(
            [sys.executable, "-m", "loadtests", *words, "--out", str(tmp_path)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        silent.settimeout(WITHIN_S)
        with silent.accept()[0]:
            process.send_signal(signal.SIGINT)
            code, said = finish(process)
    assert code == 130
    assert said.splitlines()[1:] == [
        "the run left no report: interrupted before there was anything to report"
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"host": "nonsense"}, "no URL of a gateway"),
        ({"host": "http://127.0.0.1:1"}, "is not reachable"),
        ({"host": "http://127.0.0.1:1", "load": "sine"}, "'sine' is no number"),
        ({"host": "http://127.0.0.1:1", "slo": "x", "arrivals": "never"}, "--slo"),
        ({"bases": "/no/such/file"}, "--bases /no/such/file"),
    ],
    ids=["url", "dead", "load", "several", "bases"],
)
def test_what_cannot_work_is_told_before_load_starts(options, words, tmp_path):
    """Exit code 2, words, and no report."""
    code, said = finish(start(["chat"], {"load": "1", "model": "m", **options}, tmp_path))
    assert code == 2, said
    assert words in said
    assert not (tmp_path / "run.json").exists()


def test_a_wrong_key_is_told(tmp_path):
    """After one call."""
    refusal = whole(b'{"error":{"message":"no such key"}}', "application/json", "401 No")
    with peer(refusal) as ours:
        options = {"host": ours.url, "model": "m", "load": "1"}
        code, said = finish(start(["chat"], options, tmp_path, key="sk-wrong"))
        assert len(ours.requests) == 1
    assert code == 2
    assert "refuses the key: 401 no such key" in said
    assert "sk-wrong" not in said


def test_locusts_page_shows_our_figures(vendor, tmp_path):
    """A tab with tokens, rows in its statistics, and the report so far."""
    port = free_port()
    options = {"host": vendor, "model": "sim", "load": "20", "duration": "1m"}
    words = command(["chat-stream"], options, tmp_path, web_port=port)
    process = subprocess.Popen(
        words,
        env={**os.environ, "LOAD_KEY": "k", "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )

    def get(path):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.read().decode()

    try:
        rows, give_up = [], time.monotonic() + WITHIN_S
        while not rows and time.monotonic() < give_up:
            with contextlib.suppress(OSError):
                rows = json.loads(get("/stats/requests"))["extended_stats"][0]["data"]
            time.sleep(0.1)
        assert rows[0]["name"] == "target · chat-stream"
        assert "extended_tabs" in get("/llm")
        page = get("/report")
        assert re.search(r'id="data">\[\{"kind":"penstock-load"', page)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(WITHIN_S)
    assert (tmp_path / "report.html").exists(), "ended from outside, it still writes its report"


def test_nothing_here_imports_gevent():
    """The tests of other packages share this process."""
    assert "gevent" not in sys.modules
    assert threading.current_thread().__class__.__module__ == "threading"
    assert Path(ROOT, "loadtests", "users.py").exists()
