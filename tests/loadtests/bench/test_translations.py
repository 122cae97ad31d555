"""Laws of the bench of translated streams: what it asks, what it compares, how it tells."""

import json

import pytest
import yaml

from loadtests.bench import __main__ as bench
from loadtests.bench import tools, translations
from loadtests.bench.translations import CALLERS, PAIRS, SHAPES, VENDORS, Pair, post_of
from loadtests.mock.behaviour import read_behaviour

DOCUMENT = yaml.safe_load(translations.CONFIG.read_text())


def test_every_pair_that_is_translated_is_measured():
    """Each caller at each vendor but at its own, whose streams pass."""
    assert len(PAIRS) == len(set(PAIRS)) == 24
    assert {caller for caller, _ in PAIRS} == set(CALLERS)
    assert not {("chat", "chat"), ("responses", "chat"), ("gemini", "gemini")} & set(PAIRS)


def test_beside_a_pair_stands_a_stream_that_passes():
    """The same vendor's; of Bedrock's, which none passes, the same answer in the caller's protocol."""
    for caller, vendor in PAIRS:
        beside = Pair(caller, vendor).beside
        assert beside not in PAIRS
        if vendor != "bedrock":
            assert beside[1] == vendor
    found = {caller: Pair(caller, "bedrock").beside for caller in CALLERS}
    assert found == {
        "chat": ("chat", "chat"),
        "responses": ("responses", "responses"),
        "messages": ("messages", "messages"),
        "gemini": ("gemini", "gemini"),
        "ollama": ("ollama", "ollama"),
    }


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("vendor", VENDORS)
def test_a_models_stream_has_the_shape_that_is_counted(vendor, shape):
    """One vendor of the protocol, streams of as many tokens as a stream is taken to have, all governance."""
    model = DOCUMENT["models"][f"{shape}-{vendor}"]
    (deployment,) = model["deployments"]
    assert deployment["provider"] == vendor
    assert read_behaviour(deployment["name"]).tokens == SHAPES[shape][2]
    assert set(model["limits"]) == {"rpm", "tpm", "concurrency"}
    (organization,) = DOCUMENT["organizations"].values()
    (team,) = organization["teams"].values()
    assert team["budget"]["mode"] == "strict"


def test_a_post_names_its_model_where_the_protocol_has_it():
    """In the body, or in Gemini's path; all of them stream."""
    path, body = post_of("chat", "messages", "burst")
    assert (path, json.loads(body)["model"]) == ("/v1/chat/completions", "burst-messages")
    path, body = post_of("gemini", "chat", "paced")
    assert path == "/v1beta/models/paced-chat:streamGenerateContent?alt=sse"
    assert "model" not in json.loads(body)


def test_a_ratio_is_of_neighbouring_runs():
    """Its median is judged."""
    pair = Pair("chat", "messages", passed=[100, 200, 100], translated=[310, 400, 290])
    assert pair.ratios() == pytest.approx([3.1, 2.0, 2.9])
    assert pair.verdict() == "target"
    assert Pair("chat", "gemini", passed=[100], translated=[301]).verdict() == "missed"
    shown = translations.table([pair])
    assert "chat→messages  messages→messages" in shown
    assert "2.9 x (2 to 3.1)" in shown


@pytest.fixture
def measured(monkeypatch):
    """Give what would be measured; every pair costs twice."""
    asked = []

    def measure(ground, programs, pairs, given):
        asked.append((given.shape, given.runs, given.seconds, [pair.name for pair in pairs]))
        for pair in pairs:
            pair.passed.append(100.0)
            pair.translated.append(200.0)
        return {"cores": 2}

    monkeypatch.setattr(translations, "_measure", measure)
    monkeypatch.setattr(tools, "find", lambda: tools.Tools("nginx", "wrk"))
    return asked


def test_it_is_a_word_of_the_bench(measured, capsys, tmp_path):
    """All pairs, or those that are named; raw figures and the machine go into a file."""
    assert bench.main(["translations"]) == 0
    assert measured[0][:3] == ("burst", 2, 2)
    assert len(measured[0][3]) == len(PAIRS)
    assert capsys.readouterr().out.count("2 x") == len(PAIRS)
    file = tmp_path / "told.json"
    said = ["--only", "gemini-chat,chat→messages", "--shape", "paced", "--json", str(file)]
    assert bench.main(["translations", *said]) == 0
    assert set(measured[1][3]) == {"gemini→chat", "chat→messages"}
    told = json.loads(file.read_text())
    assert told["machine"] == {"cores": 2}
    assert [row["translated_us"] for row in told["rows"]] == [[200.0], [200.0]]


def test_a_pair_that_does_not_exist_is_told_with_those_that_do(capsys):
    """As misuse."""
    with pytest.raises(SystemExit, match="2"):
        bench.main(["translations", "--only", "chat-chat"])
    assert "chat-messages" in capsys.readouterr().err
