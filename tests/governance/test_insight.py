"""Laws of insight: what a model was asked and gave is summed as a naive reading of its entries."""

from typing import Any

import pytest

from governance.insight import models_used
from store.sql import LedgerUnreachable

Books = Any  # the fixture of this folder's conftest

AT_US = 1_795_318_572_345_678


async def test_each_model_is_summed_and_tries_in_vain_are_told_apart(books: Books) -> None:
    """Tokens and cost of all tries; the mean first byte of what was served; a correction is no try."""
    await books.append("a.1", at_us=AT_US, model="m", outcome="overloaded", ttft_us=9_000)
    await books.append(
        "a.2", at_us=AT_US, model="m", input_tokens=10, output_tokens=4, cost_nusd=7, ttft_us=1_000
    )
    await books.append("b.1", at_us=AT_US, model="m", output_tokens=6, cost_nusd=9, ttft_us=2_001)
    await books.append("b.1+settle", at_us=AT_US, model="m", cost_nusd=-1)
    await books.append("c.1", at_us=AT_US, model="n", outcome="client_left")
    await books.drain()
    m, n = models_used(books.path, since_us=0)
    assert (m.model, m.requests, m.attempts, m.errors, m.served) == ("m", 2, 3, 1, 2)
    assert (m.input_tokens, m.output_tokens, m.cost_nusd, m.ttft_us) == (10, 10, 15, 1_500)
    assert (n.model, n.requests, n.errors, n.served, n.ttft_us) == ("n", 1, 0, 0, 0)


async def test_a_span_holds_its_beginning_and_not_its_end(books: Books) -> None:
    """As everywhere in usage."""
    await books.append("a.1", at_us=AT_US, model="m")
    await books.append("b.1", at_us=AT_US + 5, model="m")
    await books.drain()
    (only,) = models_used(books.path, since_us=AT_US, until_us=AT_US + 5)
    assert only.requests == 1


async def test_what_a_call_was_about_parts_the_sums(books: Books) -> None:
    """As the decision says, where it was scored; copies are nobody's calls."""
    for number, decision in enumerate(['{"task":"coding"}', '{"policy":"declared"}', "", "{"]):
        await books.append(f"r{number}.1", at_us=AT_US, model="m", decision=decision)
    await books.append("c.1", at_us=AT_US, model="m", experiment="dark/shadow")
    await books.append("d.1", at_us=AT_US, model="m", experiment="ab/shadow", key="a/b/c")
    await books.drain()
    found = {use.task: use.requests for use in models_used(books.path, since_us=0)}
    assert found == {"": 4, "coding": 1}


def test_no_ledger_is_said(books: Books) -> None:
    """Before the first entry there is none."""
    with pytest.raises(LedgerUnreachable):
        models_used(books.path, since_us=0)
