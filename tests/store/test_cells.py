"""A cell is a hash tag: its keys lie in one slot, and each cell's in another."""

from dataclasses import astuple

from redis.crc import key_slot

from store.cells import FIRST, cell


def test_all_keys_of_a_cell_lie_in_one_slot() -> None:
    """One script may touch all of them, on a cluster too; another cell's lie elsewhere."""
    slots = []
    for number in range(64):
        one = cell(number)
        keys = [each for each in astuple(one) if isinstance(each, str)]
        (slot,) = {key_slot(key.encode()) for key in keys}
        assert len(set(keys)) == len(keys)
        slots.append(slot)
    assert len(set(slots)) == len(slots)


def test_a_cell_is_known_by_its_number() -> None:
    """The same number is the same cell, and people call it as its keys begin."""
    assert cell(0) is FIRST
    assert cell(3) is cell(3)
    assert (str(cell(3)), cell(3).tag, cell(3).ledger) == ("c3", "{c3}", "{c3}:led")
