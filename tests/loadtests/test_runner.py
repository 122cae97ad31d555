"""Laws of running Locust: what is asked for arrives there, and keys take the environment."""

import datetime as dt
import stat

import msgspec
import pytest

from loadtests import document, runner
from loadtests.engine import Health
from loadtests.metrics import Record
from loadtests.runner import Gathered, Run, RunFailed, command, measure, run
from loadtests.summary import Span, summarize


def test_what_an_earlier_run_left_is_not_taken_for_this_ones(tmp_path):
    """A run that could not start leaves no report, in a folder that had one, too."""
    (tmp_path / "run.json").write_text("{}")
    options = {"host": "http://127.0.0.1:1", "model": "m", "load": "1"}
    assert run(["chat"], options, tmp_path, quiet=True) == 2
    assert not (tmp_path / "run.json").exists()


def test_several_runs_are_gathered_with_their_times(tmp_path):
    """Calls, spans, the generator's samples in the clock of the calls, and warnings."""
    gathered = Gathered()
    for at in (100.0, 200.0):
        records = [Record("a", "chat", "t", at + n, 0.0, "ok", took_ms=500.0) for n in range(3)]
        samples = [Health("worker-0", at + 1, 0.5, 0.0, 0, 0)]
        told = summarize(records, samples, objectives={}, about={})
        document.write(tmp_path / str(at), {**told, "warnings": [f"late at {at}"]}, records)
        assert gathered.add(Run(tmp_path / str(at))) == records
    assert gathered.spans == [Span(100.0, 102.0, 102.5), Span(200.0, 202.0, 202.5)]
    assert [sample.at_s for sample in gathered.samples] == [101.0, 201.0]
    assert gathered.warnings == ["late at 100.0", "late at 200.0"]
    assert len(gathered.records) == 6


def test_the_command_line(tmp_path):
    """Options that say nothing are left out; there is no key in it."""
    words = command(["chat", "agent"], {"host": "http://h", "load": "5", "model": ""}, tmp_path)
    assert words[-2:] == ["ChatUser", "AgentUser"]
    assert "--headless" in words
    assert "--model" not in words
    assert words[words.index("--host") + 1] == "http://h"


def test_the_page_and_the_workers_listen_on_this_machine_only(tmp_path):
    """A load generator is a weapon that others should not find."""
    words = command(["chat"], {}, tmp_path, web_port=8089, processes=2)
    assert words[words.index("--web-host") + 1] == "127.0.0.1"
    assert words[words.index("--master-bind-host") + 1] == "127.0.0.1"
    assert words[words.index("--master-bind-port") + 1] == words[words.index("--master-port") + 1]
    assert "--headless" not in words


def test_several_bases_go_by_a_file_that_only_the_owner_reads(tmp_path, monkeypatch):
    """It holds keys, and does not outlive the run."""
    seen = {}

    def fake(scenarios, options, folder, **how):
        seen.update(options, mode=stat.S_IMODE(options["bases"].stat().st_mode), how=how)
        seen["content"] = msgspec.json.decode(options["bases"].read_bytes())
        return seen.get("code", 0)

    monkeypatch.setattr(runner, "run", fake)
    bases = [{"name": "a", "url": "http://a", "key": "sk"}]
    made = measure("chat", bases, tmp_path / "r", load="3")
    assert made.folder == tmp_path / "r"
    assert (seen["mode"], seen["content"], seen["load"]) == (0o600, bases, "3")
    assert not seen["bases"].exists()
    seen["code"] = 2
    with pytest.raises(RunFailed, match="ended with 2"):
        measure("chat", bases, tmp_path / "r")
    assert not seen["bases"].exists()


def test_runs_lie_by_time_and_name(monkeypatch):
    """Under var/load, or where PENSTOCK_VAR says."""
    monkeypatch.setenv("PENSTOCK_VAR", "/elsewhere")
    now = dt.datetime(2030, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    assert str(runner.folder_for("chat", now)) == "/elsewhere/load/20300102-030405-chat"
