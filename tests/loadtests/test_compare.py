"""Laws of the side by side: every mistake of its file is told, bases take turns, and the first is what the others are set against."""

import pytest

from loadtests import compare, document, runner
from loadtests.compare import BadComparison, Comparison, load, read
from loadtests.metrics import Record
from loadtests.runner import Gathered
from loadtests.summary import span_of, summarize

BASES = [
    {"name": "direct", "url": "http://a", "model": "m"},
    {"name": "gateway", "url": "http://b", "model": "n"},
]


def test_a_file_is_read_with_keys_from_the_environment(tmp_path):
    """So that it can be committed."""
    (tmp_path / "c.yaml").write_text(
        "scenario: chat\nload: 5\nrepeats: 3\nbases:\n"
        "  - {name: a, url: 'http://a', model: m, key: '${SIDE_KEY}'}\n"
    )
    wanted = load(tmp_path / "c.yaml", {"SIDE_KEY": "sk"})
    assert (wanted.scenario, wanted.load, wanted.repeats) == ("chat", "5", 3)
    assert wanted.bases[0]["key"] == "sk"
    with pytest.raises(BadComparison, match="the environment has no SIDE_KEY"):
        load(tmp_path / "c.yaml", {})


def test_every_mistake_is_told_at_once():
    """One a line."""
    wrong = {
        "scenario": "chats",
        "load": "fast",
        "arrivals": "x",
        "repeats": 0,
        "speed": 1,
        "bases": [{"name": "a", "url": "nonsense"}, {"name": "b", "url": "http://b"}],
    }
    with pytest.raises(BadComparison) as told:
        read(wrong, [])
    words = str(told.value)
    for part in ("'chats'", "'fast'", "arrivals 'x'", "repeats 0", "'speed'", "'nonsense'"):
        assert part in words


@pytest.mark.parametrize("content", [None, [], {}, {"bases": BASES[:1] * 2}])
def test_a_file_without_usable_bases_is_told(content):
    """None, or two of one name."""
    with pytest.raises(BadComparison):
        read(content, [])


def test_a_model_must_be_named():
    """What each base calls it."""
    with pytest.raises(BadComparison, match="a: model is missing"):
        read({"bases": [{"name": "a", "url": "http://a"}]}, [])


def test_a_missing_or_broken_file_is_told(tmp_path):
    """With its name."""
    with pytest.raises(BadComparison, match="No such file"):
        load(tmp_path / "none.yaml")
    (tmp_path / "x.yaml").write_text("a: [")
    with pytest.raises(BadComparison, match="no YAML"):
        load(tmp_path / "x.yaml")
    (tmp_path / "x.yaml").write_bytes(b"a: \xff")
    with pytest.raises(BadComparison, match="no YAML"):
        load(tmp_path / "x.yaml")


def test_bases_take_turns(monkeypatch, tmp_path):
    """All of them once, then all again, each alone."""
    order = []

    class Made:
        """A run that is over."""

        def records(self):
            return [Record("x", "chat", "t", 0.0, 0.0, "ok")]

        def document(self):
            sample = {"at_s": 0.5, "cpu": 0.1, "lag_ms": 0.0, "open_calls": 0, "dropped": 0}
            return {"warnings": ["late"], "begin_s": 100.0, "health": {"worker-0": [sample]}}

    def measure(scenario, bases, folder, **options):
        order.append(([base["name"] for base in bases], options["seed"]))
        return Made()

    monkeypatch.setattr(runner, "measure", measure)
    said, into = [], Gathered()
    compare.run(Comparison(tuple(BASES), repeats=2), tmp_path, said.append, into)
    assert order == [(["direct"], 1), (["gateway"], 1), (["direct"], 2), (["gateway"], 2)]
    assert (len(into.records), len(into.spans)) == (4, 4)
    assert {sample.at_s for sample in into.samples} == {100.5}
    assert "  gateway: late" in said


def test_what_an_interrupted_base_has_seen_is_kept(monkeypatch, tmp_path):
    """Locust writes it when it is told to end; a base that had not begun has nothing."""

    def measure(_scenario, bases, folder, **_):
        if bases[0]["name"] == "gateway":
            records = [Record("gateway", "chat", "t", 0.0, 0.0, "ok", e2e_ms=1.0)]
            document.write(folder, summarize(records, [], objectives={}, about={}), records)
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "measure", measure)
    for base, seen in zip(BASES, (0, 1), strict=True):
        into = Gathered()
        with pytest.raises(KeyboardInterrupt):
            compare.run(Comparison((base,)), tmp_path, print, into)
        assert len(into.records) == seen


def test_the_table_sets_each_base_against_the_first():
    """E2E minus E2E, at the median and at p99."""
    records = [
        Record(base, "chat", "t", float(at), 0.0, "ok", e2e_ms=10.0 + at + extra)
        for base, extra in (("direct", 0), ("gateway", 2))
        for at in range(10)
    ]
    wanted = Comparison(tuple(BASES), duration="10s", repeats=1)
    gathered = Gathered(records, spans=[span_of(records)])
    first, second = compare.rows(wanted, gathered)
    assert "added50" not in first
    assert (second["added50"], second["added99"]) == (2, 2)
    assert second["rate"] == pytest.approx(10 / 9, abs=0.001)
    run = compare.summarize(wanted, gathered)
    assert set(run["by_base"]) == {"direct", "gateway"}
    assert "key" not in str(run["config"])


def test_a_first_base_that_answered_nothing_sets_nothing_against_another():
    """What is added is over the first base, whichever others there are."""
    bases = [{"name": name, "url": f"http://{name}", "model": "m"} for name in ("a", "b", "c")]
    records = [
        Record(name, "chat", "t", float(at), 0.0, outcome, e2e_ms=latency)
        for name, outcome, latency in (("a", "lost", None), ("b", "ok", 10.0), ("c", "ok", 12.0))
        for at in range(10)
    ]
    gathered = Gathered(records, spans=[span_of(records)])
    rows = compare.rows(Comparison(tuple(bases), duration="10s", repeats=1), gathered)
    assert [row.get("added50") for row in rows] == [None] * 3
