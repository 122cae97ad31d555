"""Laws of `./penstock load`: mistakes are told before anything starts, and a run ends with its table and its page."""

import socket

import pytest

from loadtests import __main__ as module
from loadtests import document, runner
from loadtests.metrics import Record
from loadtests.options import PARTS
from loadtests.summary import summarize


def run_document(title="a run"):
    records = [
        Record("target", "chat", "t", 1000.0, 0.0, "ok", 200, e2e_ms=5.0),
        Record("target", "chat", "t", 1000.5, 0.0, "http_500", 500, detail="boom"),
    ]
    return records, summarize(records, [], objectives={}, about={"title": title})


@pytest.fixture
def ran(monkeypatch):
    """Give what Locust would have been asked, and leave a run behind."""
    calls = []

    def run(scenarios, options, folder, **how):
        calls.append((scenarios, options, folder, how))
        records, made = run_document()
        document.write(folder, made, records)
        return 0

    monkeypatch.setattr(runner, "run", run)
    return calls


def test_a_run_ends_with_its_table_and_its_page(ran, tmp_path, capsys):
    """Options go to Locust as they are, the key apart from them."""
    words = ["--host", "http://h:1/v1", "--key", "sk", "--scenario", "chat,agent"]
    assert module.main([*words, "--load", "7", "--out", str(tmp_path / "o")]) == 0
    ((scenarios, options, folder, how),) = ran
    assert scenarios == ["chat", "agent"]
    assert (options["host"], options["load"]) == ("http://h:1", "7")
    assert "key" not in options
    assert how["key"] == "sk"
    assert folder == tmp_path / "o"
    said = capsys.readouterr().out
    assert "target · chat" in said
    assert "1 x http_500: boom" in said
    assert str(tmp_path / "o" / "report.html") in said
    assert "sk" not in said.replace("task", "")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "--host"),
        (["--host", "h"], "no URL of a gateway"),
        (["--host", "http://h?x=1"], "carries more than"),
        (["--host", "http://h:99999"], "Port out of range"),
        (["--scenario", "chats"], "no scenario 'chats'"),
        (["--load", "much"], "no number"),
        (["--load", "0"], "no load at all"),
        (["--load", "-1"], "not between 0 and"),
        (["--load", "nan"], "not between 0 and"),
        (["--load", "ramp:1"], "a ramp has two rates"),
        (["--load", "steps:1,x"], "no number"),
        (["--load", "burst:1-2/1s/2s"], "shorter than the time"),
        (["--duration", "long"], "no duration"),
        (["--duration", "0s"], "no duration between"),
        (["--arrivals", "x"], "poisson, constant, closed"),
        (["--seed", "x"], "invalid int value"),
        (["--timeout", "0"], "--timeout 0.0: a number from 0.001"),
        (["--timeout", "inf"], "--timeout inf"),
        (["--timeout", "nan"], "--timeout nan"),
        (["--drain", "-1"], "--drain -1.0"),
        (["--most-open", "0"], "--most-open 0"),
        (["--processes", "-1"], "--processes -1"),
        (["--processes", "many"], "invalid int value"),
        (["--slo", "ttft"], "is no objective"),
        (["--ca", "/no/such"], "/no/such: No such file"),
        (["--tenants", "/no/such"], "--tenants /no/such"),
        (["--tenants", __file__], "--tenants"),
        (["--web", "many"], "'many' is no port"),
        (["--web", "0"], "'0' is no port"),
        (["--web", "70000"], "'70000' is no port"),
        (["--speed", "1"], "unrecognized arguments"),
        (["report"], "RUN"),
        (["report", "/no/such"], "No such file"),
        (["report", "a", "b", "c"], "two to compare"),
    ],
    ids=" ".join,
)
def test_mistakes_are_told_and_nothing_starts(ran, words, told, capsys):
    """Whatever option it is in: as misuse, with what was expected."""
    host = [] if not words or words[0] in {"--host", "report"} else ["--host", "http://h"]
    with pytest.raises(SystemExit, match="2"):
        module.main([*words, *host])
    assert told in capsys.readouterr().err
    assert ran == []


def test_every_option_has_a_value_that_is_refused_or_a_file_that_is_made():
    """The table above leaves none out, but for names and words that can be anything."""
    anything = {"key", "model", "embedding-model", "title", "out"}
    (table,) = test_mistakes_are_told_and_nothing_starts.pytestmark
    tried = {words[0].removeprefix("--") for words, _ in table.args[1] if words}
    assert {part.name for part in PARTS if part.group} - anything <= tried


@pytest.mark.usefixtures("ran")
@pytest.mark.parametrize(
    ("outcomes", "told"),
    [(["unfinished"], "1 calls were still open at the end"), ([], "no call was due")],
)
def test_what_is_in_no_figure_is_told(outcomes, told, monkeypatch, tmp_path, capsys):
    """Or nobody would see that it is missing: calls that were cut off, and calls at all."""
    records = [Record("target", "chat", "t", 1000.0, 0.0, outcome) for outcome in outcomes]

    def run(_scenarios, _options, folder, **_):
        document.write(folder, summarize(records, [], objectives={}, about={}), records)
        return 0

    monkeypatch.setattr(runner, "run", run)
    assert module.main(["--host", "http://h", "--out", str(tmp_path)]) == 0
    assert told in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_is_told(tmp_path, capsys):
    """Before load starts, and with the way out."""
    (tmp_path / "file").write_text("")
    words = ["--host", "http://127.0.0.1:1", "--out", str(tmp_path / "file" / "run")]
    assert module.main(words) == 2
    assert "name another with --out" in capsys.readouterr().err


def test_the_key_may_come_by_the_environment(ran, monkeypatch, tmp_path, capsys):
    """Where `ps` does not show it."""
    monkeypatch.setenv("LOAD_KEY", "sk-from-environment")
    assert module.main(["--host", "http://h", "--out", str(tmp_path)]) == 0
    assert ran[0][3]["key"] == "sk-from-environment"
    assert "sk-from-environment" not in capsys.readouterr().out


def test_locusts_page_is_said_where_it_is(ran, tmp_path, capsys):
    """And how it ends; a port that somebody has is told before Locust starts."""
    words = ["--host", "http://h", "--out", str(tmp_path), "--web"]
    with socket.create_server(("127.0.0.1", 0)) as theirs:
        port = str(theirs.getsockname()[1])
        with pytest.raises(SystemExit, match="2"):
            module.main([*words, port])
    assert f"port {port}: Address already in use; name another" in capsys.readouterr().err
    assert module.main([*words, port]) == 0
    assert ran[0][3]["web_port"] == int(port)
    assert f"page: http://127.0.0.1:{port}/llm" in capsys.readouterr().out


def test_an_unknown_verb_is_answered_with_those_there_are(capsys):
    """Exit code 2."""
    assert module.main(["gaurd"]) == 2
    assert "load guard" in capsys.readouterr().err


def test_ctrl_c_still_tells_what_was_seen(ran, monkeypatch, tmp_path, capsys):
    """Exit code 130, after the report."""
    wrote = runner.run

    def interrupted(*arguments, **how):
        wrote(*arguments, **how)
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "run", interrupted)
    assert module.main(["--host", "http://h", "--out", str(tmp_path)]) == 130
    assert "what was seen until then" in capsys.readouterr().out


def test_a_run_that_could_not_start_leaves_its_words_to_locust(monkeypatch, tmp_path):
    """Its exit code is handed on."""
    monkeypatch.setattr(runner, "run", lambda *_, **__: 2)
    assert module.main(["--host", "http://h", "--out", str(tmp_path / "x")]) == 2


def test_a_report_of_two_runs(tmp_path, capsys):
    """One page with both, beside the second, or where one says."""
    for name in ("a", "b"):
        records, made = run_document(name)
        document.write(tmp_path / name, made, records)
    assert module.main(["report", str(tmp_path / "a"), str(tmp_path / "b" / "run.json")]) == 0
    page = (tmp_path / "b" / "comparison.html").read_text()
    assert "<h1>a beside b</h1>" in page
    assert module.main(["report", str(tmp_path / "a"), "--out", str(tmp_path / "x.html")]) == 0
    with pytest.raises(SystemExit, match="2"):
        module.main(["report", str(tmp_path / "a"), "--out", str(tmp_path)])
    assert f"--out {tmp_path}: Is a directory" in capsys.readouterr().err
    assert (tmp_path / "x.html").exists()
    capsys.readouterr()


def test_every_option_of_a_run_is_an_option_of_the_command():
    """One table for both."""
    known = module.load_parser().format_help()
    assert all(f"--{part.name}" in known for part in PARTS if part.group)
