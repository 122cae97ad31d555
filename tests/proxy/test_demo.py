"""What the demo reads and what it says; `tests/integration/test_up.py` runs it whole."""

import ast
import hashlib
import io
import json
import os
import shlex
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from config.loader import load_file
from proxy import demo
from proxy.terminal import Terminal
from routing.decision import Decision, Scored


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def screen(out: io.StringIO) -> Terminal:
    return Terminal(out, {})


def entry(**given: Any) -> dict[str, Any]:
    return {
        "attempt": 1,
        "deployment": "river/north",
        "provider": "north",
        "model": "river",
        "outcome": "ok",
        "status": 200,
        "duration_us": 1_500_000,
        "ttft_us": 180_000,
        "added_us": 700,
        "input_tokens": 1234,
        "output_tokens": 56,
        "cost_nusd": 164_000,
        "token_source": "provider",
        "reason": "order",
        **given,
    }


ANSWER = demo.Answer(200, {}, 56, 0.19, complete=True)
FAILED = entry(outcome="upstream_refused", status=503, cost_nusd=0, duration_us=183_000)
RETRIED = entry(
    attempt=2,
    deployment="river/south",
    provider="south",
    added_us=184_000,
    reason="retry:upstream_refused",
)


def test_the_configuration_has_no_mistakes_and_knows_the_key() -> None:
    """The key that the demo prints is the one whose hash the file holds."""
    variables = {
        "PENSTOCK_DEMO_PORT": "8080",
        "PENSTOCK_DEMO_ADMIN_PORT": "8081",
        "PENSTOCK_DEMO_VENDOR": "http://127.0.0.1:9/v1",
    }
    loaded = load_file(demo.CONFIG_FILE, {**os.environ, **variables})
    assert loaded.problems == ()
    written = yaml.safe_load(demo.CONFIG_FILE.read_text())
    key = written["organizations"]["acme"]["teams"]["support"]["keys"]["helpdesk"]
    assert key["key"] == f"sha256:{hashlib.sha256(demo.KEY.encode()).hexdigest()}"
    assert demo.MODEL in key["models"]


def test_one_good_attempt_is_explained(screen: Terminal) -> None:
    """What it cost, who served it, why, how fast, and what we added."""
    said = "\n".join(demo.explain([entry()], ANSWER, screen))
    assert "$0.000164   1,234 tokens in, 56 out, as the vendor counts" in said
    assert "river/north of provider north, model river" in said
    assert "it stands first" in said
    assert "190 ms as the caller saw it, of which the vendor took 180 ms" in said
    assert "0.70 ms before the request went out" in said


def test_a_fallback_is_told_as_one(screen: Terminal) -> None:
    """Both attempts are listed, and what the failed one took is not called ours."""
    said = "\n".join(demo.explain([FAILED, RETRIED], ANSWER, screen))
    assert "503 upstream_refused" in said
    assert "river/north answered 503 before its first byte" in said
    assert "0.70 ms before the request went out; what failed took 183 ms" in said


def test_what_was_expected_of_each_model_is_told(screen: Terminal) -> None:
    """Where a policy has chosen: quality and cost of each, and how far from the best is good enough."""
    models = (Scored("ocean", 780, 9_000_000, 0, "cost"), Scored("river", 750, 1_000_000))
    decision = Decision(
        "cost_quality",
        asked="auto",
        places=("river/north",),
        chosen=0,
        models=models,
        delta=75,
    )
    text = msgspec.json.encode(decision).decode()
    said = "\n".join(demo.explain([entry(decision=text, reason="score")], ANSWER, screen))
    assert "chosen among      ocean, $0.009000 at quality 0.78 expected" in said
    assert "river, $0.001000 at quality 0.75 expected" in said
    assert "as the cheapest whose quality is within 0.075 of the best" in said
    assert "good enough for a call of this level" in said
    assert demo.among(entry()) == []


@pytest.mark.parametrize(
    "reason", ["only", "order", "load", "least_bad", "score", "next_best", "explored"]
)
def test_every_word_of_the_choice_has_its_sentence(reason: str) -> None:
    """These are the words that the ledger knows."""
    assert " " in demo.because([entry(reason=reason)])


def test_a_failure_without_a_status_is_named_by_its_outcome() -> None:
    """A vendor that cannot be connected to answers nothing."""
    failed = entry(outcome="connect_failed", status=0)
    said = demo.because([failed, entry(reason="retry:connect_failed")])
    assert "river/north failed (connect_failed)" in said


def test_text_is_set_into_a_column_word_by_word(screen: Terminal, out: io.StringIO) -> None:
    """Nothing is held back, no line is longer than the column, and the vendor's own lines are kept."""
    column = demo.Column(screen)
    for word in ["Water", *[" comes"] * 40, "\n", "down"]:
        column.write(word)
    column.end()
    lines = out.getvalue().splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert "".join(out.getvalue().split()) == "Water" + "comes" * 40 + "down"
    assert lines[-1] == "  down"


def test_metrics_are_summed_over_label_sets() -> None:
    """A page of the admin port, in Prometheus's text format."""
    page = (
        "# TYPE penstock_tokens_total counter\n"
        'penstock_tokens_total{kind="input",model="a"} 10.0\n'
        'penstock_tokens_total{kind="output",model="a"} 5.0\n'
        'penstock_tokens_total{kind="input",model="b"} 1.0\n'
        "penstock_in_flight 2.0\n"
    )
    assert demo.total(page, "penstock_tokens_total") == 16
    assert demo.total(page, "penstock_tokens_total", 'kind="input"') == 11
    assert demo.total(page, "penstock_in_flight") == 2
    assert demo.total(page, "penstock_nothing") == 0


@pytest.mark.parametrize(
    ("chunk", "text"),
    [
        ({"choices": [{"delta": {"content": "Hi"}}]}, "Hi"),
        ({"choices": [{"delta": {"role": "assistant", "content": None}}]}, ""),
        ({"choices": []}, ""),
        ({}, ""),
    ],
)
def test_a_chunk_adds_its_text(chunk: dict[str, Any], text: str) -> None:
    """The first chunk has a role and no text, the usage chunk has no choice."""
    assert demo.content_of(chunk) == text


def test_what_is_printed_to_be_typed_can_be_typed() -> None:
    """A shell reads the curl line, Python reads the snippet, and both say the same."""
    words = shlex.split("\n".join(demo.curl("http://127.0.0.1:8080")).replace("\\\n", " "))
    assert words[:3] == ["curl", "-N", "http://127.0.0.1:8080/v1/chat/completions"]
    assert json.loads(words[-1])["model"] == demo.MODEL
    assert f"authorization: Bearer {demo.KEY}" in words
    ast.parse("\n".join(demo.snippet("http://127.0.0.1:8080")))


def test_money_is_shown_in_dollars() -> None:
    """Nano-USD are for computing."""
    assert demo.usd(164_000) == "$0.000164"
    assert demo.usd(5_000_000_000, 2) == "$5.00"


def test_a_path_is_quoted_for_a_shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is printed to be typed can be typed."""
    monkeypatch.chdir(tmp_path)
    assert demo.quoted(tmp_path / "var" / "demo") == "var/demo"
    assert demo.quoted(Path("/srv/my data")) == "'/srv/my data'"
