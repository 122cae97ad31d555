"""What models are good for: every entry stands on a source, and is one that the price catalogue knows."""

from collections import Counter
from datetime import UTC, datetime

import pytest

from routing.catalogue import is_listed, rates_for
from routing.listing import (
    MODALITIES,
    TAGS,
    TASKS,
    Listed,
    called,
    listed,
    listing,
    sources,
)
from store.places import CHECKOUT

AT = datetime(2026, 11, 22, tzinfo=UTC)
BY_TOKEN = {"chat", "embedding"}


def entry_id(entry: Listed) -> str:
    return entry.id


def test_there_are_more_than_two_hundred_models() -> None:
    """Mainstream ones: two hundred that answer prompts, from more than twenty vendors."""
    assert len([each for each in listing() if "chat" in each.tags and each.quality]) > 200
    assert len({each.vendor for each in listing()}) > 20


def test_the_page_counts_what_is_there() -> None:
    """Models, vendors, and the priors of each source."""
    page = (CHECKOUT / "docs" / "catalogue.md").read_text(encoding="utf-8")
    vendors = {each.vendor for each in listing()}
    assert f"{len(listing())} models of {len(vendors)} vendors" in page
    counts = Counter(prior.source for each in listing() for prior in each.priors.values())
    for source, count in counts.items():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{source}` |")]
        assert row.endswith(f"| {count} |"), source


def test_no_two_entries_are_called_alike() -> None:
    """Each is found by its own id, as its vendor writes it."""
    assert [each.id for each in listing() if listed(each.id) is not each] == []


def test_every_entry_resolves() -> None:
    """
    The price catalogue has it under the seller that is named; what answers prompts has a price.

    Only what ranks is not there: it is sold by the search.
    """
    unlisted = [each for each in listing() if not is_listed(each.id, each.seller)]
    assert {each.tags for each in unlisted} == {("rerank",)}
    unpriced = [
        each.id
        for each in listing()
        if BY_TOKEN & set(each.tags) and rates_for(each.id, each.seller, AT) is None
    ]
    assert unpriced == []


def test_every_entry_has_a_source() -> None:
    """Of its facts and of each prior; each source says what it is, where and of when."""
    known = sources()
    for each in listing():
        assert each.facts[0] in known, each.id
        assert each.facts[1], each.id
        assert {prior.source for prior in each.priors.values()} <= set(known), each.id
    for name, source in known.items():
        assert source.says, name
        assert source.rule, name
        assert source.url.startswith(("https://", "docs/")), name
        assert datetime.fromisoformat(source.date) <= AT.replace(tzinfo=None), name


def test_priors_follow_from_what_was_read() -> None:
    """A number follows from its source by that source's rule, so that none is invented."""
    known = sources()
    by_id = {each.id: each for each in listing()}
    for each in listing():
        for task, prior in each.priors.items():
            where = f"{each.id} {task}"
            if prior.source == "livebench":
                expected = float(prior.read) / 100
            elif prior.source == "arena":
                line = known["arena"].equating[task]
                expected = (line["slope"] * float(prior.read) + line["intercept"]) / 100
            elif prior.source == "price-class":
                expected = known["price-class"].medians[str(prior.read)][task]
            else:
                assert prior.source == "successor", where
                expected = by_id[str(prior.read)].quality[task]
            assert prior.value == pytest.approx(min(0.98, max(0.05, expected)), abs=2e-3), where


def test_entries_are_complete_and_plain() -> None:
    """Known tags, tasks and modalities; a prior for every task or for none; tokens that make sense."""
    for each in listing():
        assert each.tags, each.id
        assert set(each.tags) <= set(TAGS), each.id
        assert set(each.input) | set(each.output) <= set(MODALITIES), each.id
        assert set(each.quality) in (set(), set(TASKS)), each.id
        assert ("chat" in each.tags) == bool(each.quality), each.id
        assert each.context is None or each.context > 0, each.id
        assert each.max_output is None or each.max_output > 0, each.id


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("us.anthropic.claude-opus-4-5-20251101-v1:0", "claude-opus-4-5"),
        ("anthropic/claude-opus-4.5", "claude-opus-4-5"),
        ("claude-sonnet-4-5@20250929", "claude-sonnet-4-5"),
        ("openai/gpt-5-mini", "gpt-5-mini"),
        ("gpt-5.2-2025-12-11", "gpt-5.2"),
        ("Qwen/Qwen3-32B-AWQ", "qwen/qwen3-32b"),
        ("meta-llama/Llama-3.3-70B-Instruct", "meta-llama/llama-3.3-70b-instruct"),
        ("gpt-oss:120b", "gpt-oss-120b"),
        ("gpt-4o:free", "gpt-4o"),
        ("cohere.rerank-v3-5:0", "rerank-v3.5"),
    ],
)
def test_a_model_is_found_under_the_names_of_its_sellers(name: str, found: str) -> None:
    """Prefixes, regions, dates, revisions and packagings are no other model."""
    entry = listed(name)
    assert entry is not None
    assert entry.id == found


@pytest.mark.parametrize("name", ["", "gpt", "claude", "house-7b", "/", "gpt-4o-maxi"])
def test_what_is_not_listed_is_not_guessed(name: str) -> None:
    """None, and the next name is tried."""
    assert listed(name) is None
    assert listed(name, "gpt-4o") is listed("gpt-4o")


def test_a_size_is_part_of_the_name() -> None:
    """Only what does not change the answers is taken off."""
    assert called("llama-3.1-8b-instruct") != called("llama-3.1-70b-instruct")
    assert called("gpt-5-mini") != called("gpt-5")
    assert called("qwen3-30b-a3b-thinking-2507") != called("qwen3-30b-a3b-instruct-2507")
