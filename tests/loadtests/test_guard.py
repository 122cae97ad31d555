"""Laws of the guard: it measures what it says, a gateway that is slowed down is caught, and one that is not passes."""

import contextlib
import os
import signal
import threading
import time

import pytest

from loadtests import __main__ as main
from loadtests import document, guard, rig
from loadtests.budget import Tail, read
from loadtests.guard import Found, Guard, cpu_ratio, tails, wire_values
from loadtests.metrics import Record

# Bounds that nothing exceeds: what is tested is the plumbing, not the machine.
GENEROUS = """
scenarios:
  chat:
    model: bench-slow
    load: 10
    slo: "e2e:60000"
    added: {total: {p50: 60 s, p95: 60 s, p99: 60 s}}
    errors: 0 %
    cpu: 10000 x
    memory: 100 MB
    goodput: 99 %
"""
# Anthropic's streams, whose figures no other scenario has.
OF_TWO = f"""{GENEROUS}
  messages-stream:
    model: bench-messages
    load: 4
    added: {{ttft: {{p50: 60 s}}, chunk: {{p99: 60 s}}}}
    errors: 0 %
"""
STRICT = GENEROUS.replace("p50: 60 s", "p50: 10 ms").replace("bench-slow", "bench")


def record(base, e2e, **values):
    return Record(
        base, "chat", "t", 0.0, 0.0, values.pop("outcome", "ok"), 200, e2e_ms=e2e, **values
    )


@contextlib.contextmanager
def stuttering(*pids):
    """Let processes run for 10 ms out of every 70 only."""
    over = threading.Event()

    def stutter():
        while not over.is_set():
            for number, seconds in ((signal.SIGSTOP, 0.06), (signal.SIGCONT, 0.01)):
                for pid in pids:
                    os.kill(pid, number)
                time.sleep(seconds)

    thread = threading.Thread(target=stutter)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_an_edge_that_is_slowed_down_is_caught_and_what_it_broke_is_named(tmp_path, capsys):
    """The real edge, kept from its core on purpose; exit code 1, whatever else the machine does meanwhile."""
    (tmp_path / "budget.yaml").write_text(STRICT)
    with rig.rig(with_nginx=False) as ours, stuttering(*ours.pids[rig.OURS]):
        words = ["guard", "--quick", "--budget", str(tmp_path / "budget.yaml")]
        words += ["--seconds", "2", "--out", str(tmp_path / "run"), "--key", ours.gateway.key]
        words += ["--host", ours.gateway.url, "--model", "bench"]
        words += ["--direct", ours.mock_url, "--direct-model", "sim;tokens=32"]
        assert main.main(words) == 1
    said = capsys.readouterr().out
    assert "broken: chat added.total.p50" in said
    assert "not measured: chat cpu (processes of a gateway that others run are not seen)" in said
    verdicts = {row["what"]: row["verdict"] for row in document.read(tmp_path / "run")["verdicts"]}
    assert verdicts["chat added.total.p50"] == "broken"
    assert verdicts["chat errors"] == "kept"
    assert "chat added.total.p50" in (tmp_path / "run" / "report.html").read_text()


def test_the_whole_guard_runs_quickly(tmp_path, capsys):
    """A rig of its own, memory and all bases in turn; CI runs this for its plumbing."""
    (tmp_path / "budget.yaml").write_text(OF_TWO)
    words = ["guard", "--quick", "--budget", str(tmp_path / "budget.yaml")]
    assert main.main([*words, "--seconds", "1", "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    assert "chat goodput" in said
    run = document.read(tmp_path / "run")
    by_base = {name: figures["calls"] for name, figures in run["by_base"].items()}
    assert {"direct", "penstock"} <= set(by_base)
    assert max(by_base.values()) - min(by_base.values()) <= 2, "bases are asked in turn"
    assert run["values"]["messages-stream"]["added.chunk.p99"]
    assert run["values"]["chat"]["memory"]
    assert bool(run["values"]["chat"].get("cpu")) <= ("nginx" in by_base)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--budget", "/no/such"], "cannot be used"),
        (
            ["--only", "chatter"],
            "the budget has no chatter; it has chat-stream, messages-stream, chat",
        ),
        (["--host", "http://h"], "belong together"),
        (["--host", "nonsense"], "no URL of a gateway"),
        (["--repeats", "0"], "no whole number from 1 to 20"),
    ],
)
def test_mistakes_are_told_before_anything_starts(words, told, capsys):
    """As misuse."""
    with pytest.raises(SystemExit, match="2"):
        main.main(["guard", *words])
    assert told in capsys.readouterr().err


def test_a_dead_gateway_is_told(tmp_path, capfd):
    """Exit code 2, with Locust's words."""
    words = ["--host", "http://127.0.0.1:1", "--model", "m", "--direct", "http://127.0.0.1:1"]
    assert (
        main.main(["guard", "--quick", *words, "--direct-model", "m", "--out", str(tmp_path)]) == 2
    )
    assert "is not reachable" in capfd.readouterr().err


def test_what_is_added_is_a_percentile_minus_a_percentile():
    """Of the same run; failures add nothing and count as errors."""
    records = [
        *(record("direct", 10.0 + at) for at in range(10)),
        *(record("penstock", 11.0 + 2 * at, ttft_ms=3.0) for at in range(10)),
        record("penstock", None, outcome="http_503"),
        record("penstock", None, outcome="unfinished"),
    ]
    values = wire_values(records, "e2e:15")
    assert values["added.total.p50"] == 19 - 14
    assert values["added.total.p99"] == 29 - 19
    assert "added.ttft.p50" not in values, "there is nothing direct to take it from"
    assert values["errors"] == pytest.approx(200 / 12), "a call without an end is an error, too"
    assert values["goodput"] == pytest.approx(300 / 12)
    nginx = [record("nginx", 10.5 + at) for at in range(10)]
    assert wire_values([*records, *nginx], "e2e:15", "nginx")["added.total.p50"] == 0.5


def test_what_lies_beyond_a_bound_is_counted_call_by_call():
    """Beyond the direct percentile and the bound together."""
    bounds = {"added": {"total": {"p50": "5 ms", "p99": "5 ms"}, "ttft": {"p99": "1 ms"}}}
    (scenario,) = read({"scenarios": {"chat": {"model": "bench", "load": 1, **bounds}}})
    records = [
        *(record("direct", 10.0 + at) for at in range(10)),
        *(record("penstock", 12.0 + 2 * at) for at in range(10)),
        record("penstock", None, outcome="http_503"),
    ]
    assert tails(records, scenario) == {
        "added.total.p50": Tail(6, 10),
        "added.total.p99": Tail(3, 10),
    }


def test_cpu_is_per_call_and_over_nginx():
    """Without nginx, or without work that shows, there is no ratio."""
    records = [record("nginx", 1.0)] * 10 + [record("penstock", 1.0)] * 5
    assert cpu_ratio(records, {"nginx": 0.1, "penstock": 0.2}) == pytest.approx(4)
    assert cpu_ratio(records, {"nginx": 0.0, "penstock": 0.2}) is None
    assert cpu_ratio(records, {"penstock": 0.2}) is None
    assert cpu_ratio(records[:10], {"nginx": 0.1, "penstock": 0.2}) is None


def test_noise_has_three_sources():
    """Other processes, the generator itself, and direct calls whose own median moves."""
    assert Found().noise == ""
    assert "0.50 cores" in Found(others=[0.5, 0.6, 0.0]).noise
    assert Found(warnings=["the generator was late"]).noise == "the generator was late"
    assert "moved by more than half" in Found(direct_p50=[1.0, 1.6]).noise
    assert Found(direct_p50=[1.0, 1.4], others=[0.1]).noise == ""


def test_a_machine_is_hopeless_where_others_have_more_than_half_of_it():
    """Of all its cores, in the median."""
    half = (os.cpu_count() or 1) / 2
    assert Found(others=[half + 0.1, 0.0, half + 0.1]).hopeless
    assert not Found(others=[half - 0.1]).hopeless
    assert not Found().hopeless


def test_a_table_names_what_broke_and_what_could_not_be_judged(tmp_path):
    """And says so when all is well."""
    scenarios = read(
        {"scenarios": {"chat": {"model": "bench", "load": 1, "cpu": "2 x", "errors": "0 %"}}}
    )
    held = Guard(scenarios, guard.QUICK, tmp_path, print)
    held.found["chat"].values |= {"cpu": [3.0], "errors": [0.0]}
    assert "broken: chat cpu" in guard.table(held.verdicts())
    held.found["chat"].others.append(1.0)
    assert "too noisy to judge: chat cpu (other processes" in guard.table(held.verdicts())
    held.found["chat"].values["cpu"] = [1.0]
    assert "the budget is kept" in guard.table(held.verdicts())
    assert held.records == []
