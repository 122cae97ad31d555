"""Laws of the ledger's entry: what goes in comes out, and nothing else is taken for an entry."""

import string
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from governance.ledger import (
    ENTRY_FIELDS,
    OUTCOMES,
    SERVED,
    Entry,
    MalformedEntry,
    decode,
    decode_values,
    encode,
    entry_of,
    stream_id,
)
from governance.usage import DIMENSIONS

INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
TEXT = st.text(max_size=12)
NAME = st.text(string.ascii_letters, min_size=1, max_size=8)
ENTRIES = st.builds(
    Entry,
    **{field.name: INT64 if field.type is int else TEXT for field in fields(Entry)}
    | {"attempt_id": NAME, "request_id": NAME},
)
SAMPLE = Entry(*("x" if field.type is str else 1 for field in fields(Entry)))


@given(ENTRIES)
def test_an_entry_survives_the_wire(entry: Entry) -> None:
    """Decoding what was encoded gives the same entry, whoever packed it."""
    assert decode(encode(entry)) == entry
    by_hand = msgpack.Packer().pack(tuple(entry.as_dict().values()))
    assert by_hand == encode(entry)
    assert decode_values(by_hand) == tuple(entry.as_dict().values())


def test_an_entry_is_empty_where_nothing_is_said() -> None:
    """Of each place's own type, so that it can be entered; a field that there is not is a mistake."""
    entry = entry_of(attempt_id="r.1", request_id="r", cost_nusd=7)
    assert decode(encode(entry)) == entry
    said = {name: value for name, value in entry.as_dict().items() if value not in {0, ""}}
    assert said == {"attempt_id": "r.1", "request_id": "r", "cost_nusd": 7}
    with pytest.raises(TypeError, match="costs"):
        entry_of(costs=1)


def test_the_places_are_the_contract() -> None:
    """Lua and the edge count on these places; a change here is a change of the wire."""
    places = {name: place for place, name in enumerate(ENTRY_FIELDS)}
    assert len(places) == 43
    assert [places[name] for name in ("attempt_id", "at_us", "user", "model", "provider")] == [
        *(0, 3, 7, 11, 13)
    ]
    assert [places[name] for name in ("input_tokens", "output_tokens", "cost_nusd")] == [14, 17, 21]
    assert [places[name] for name in ("outcome", "stream", "added_us")] == [25, 29, 32]
    assert places["decision"] == 33
    assert [places[name] for name in ("images", "search_units")] == [34, 40]
    assert (places["experiment"], places["defect"]) == (41, 42)


def test_a_newer_writer_may_append_places() -> None:
    """Places beyond the known ones are left away, so that replicas may be upgraded one by one."""
    values = [*SAMPLE.as_dict().values(), "news", {"more": 1}]
    assert decode(msgpack.packb(values)) == SAMPLE


def test_an_older_writer_knows_fewer_places() -> None:
    """What was added later has its default where it is missing; what every writer knows must be there."""
    values = list(SAMPLE.as_dict().values())
    added = {name: type(getattr(SAMPLE, name))() for name in ENTRY_FIELDS[33:]}
    assert decode(msgpack.packb(values[:33])) == replace(SAMPLE, **added)
    assert decode(msgpack.packb(values[:34])) == replace(SAMPLE, **added | {"decision": "x"})
    with pytest.raises(MalformedEntry, match="at least 33"):
        decode(msgpack.packb(values[:32]))


def test_a_whole_number_that_lua_wrote_as_a_float_is_a_number() -> None:
    """Lua has one type of number; 3.0 is 3, and 3.5 is refused."""
    values = list(SAMPLE.as_dict().values())
    place = ENTRY_FIELDS.index("cost_nusd")
    values[place] = -3.0
    assert decode(msgpack.packb(values)) == replace(SAMPLE, cost_nusd=-3)
    for bad in (3.5, float("inf"), float("nan"), True, None, "3"):
        values[place] = bad
        with pytest.raises(MalformedEntry, match="cost_nusd"):
            decode(msgpack.packb(values))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cost_nusd": 1 << 63}, "64 bits"),
        ({"attempt_id": ""}, "empty"),
        ({"request_id": ""}, "empty"),
        ({"user": 7}, "user: expected str, found int"),
        ({"user": b"raw"}, "user: expected str, found bytes"),
    ],
)
def test_a_wrong_value_is_named(change: dict[str, object], words: str) -> None:
    """The message says which place is wrong and why."""
    with pytest.raises(MalformedEntry, match=words):
        decode(msgpack.packb(list((SAMPLE.as_dict() | change).values())))


JSONISH = st.recursive(
    st.none() | st.booleans() | INT64 | st.floats() | TEXT | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=40) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=60,
)


@given(st.binary(max_size=200) | JSONISH.map(msgpack.packb))
def test_whatever_is_no_entry_is_refused_with_one_error(payload: bytes) -> None:
    """Any bytes either are an entry or raise `MalformedEntry`, nothing else."""
    with suppress(MalformedEntry):
        assert decode(payload)


@given(ENTRIES, st.data())
def test_a_cut_entry_is_no_entry(entry: Entry, data: st.DataObject) -> None:
    """No proper prefix of an entry decodes."""
    whole = encode(entry)
    with pytest.raises(MalformedEntry):
        decode(whole[: data.draw(st.integers(0, len(whole) - 1))])


def test_every_outcome_has_a_meaning() -> None:
    """The words are one word each, and those that are no error are among them."""
    assert all(word.isidentifier() for word in OUTCOMES)
    assert OUTCOMES.keys() > SERVED
    assert all(OUTCOMES.values())


def test_a_stream_id_is_two_numbers() -> None:
    """Ids compare as numbers, not as text."""
    assert stream_id(b"1795319032223-10") > stream_id(b"1795319032223-9")


def test_the_entry_is_documented() -> None:
    """Every field and every outcome, with its meaning, stands in docs/accounting.md."""
    text = (Path(__file__).parents[2] / "docs" / "accounting.md").read_text()
    for name in ENTRY_FIELDS:
        assert f"`{name}`" in text
    for word, meaning in OUTCOMES.items():
        assert f"| `{word}` | {meaning} |" in text
    for name in DIMENSIONS:
        assert f"`{name}`" in text
