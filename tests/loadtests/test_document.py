"""Laws of what a run leaves: it is read back as it was, and its page stands alone and is safe to open."""

import re

import msgspec
import pytest

from loadtests import document, machine
from loadtests.document import NoRun
from loadtests.metrics import Record
from loadtests.summary import summarize

RECORDS = [
    Record("a", "chat", "t", 1000.0 + at, 0.1, "ok", 200, True, 5.0, 5.0, 9.0, 1.0, 1.0, 9.0, 4)
    for at in range(5)
]


def run(title="a run"):
    about = {"title": title, "config": {"load": "5"}, "machine": machine.described()}
    return summarize(RECORDS, [], objectives={"ttft": 1.0}, about=about)


def test_a_run_is_read_back(tmp_path):
    """Document and calls, from the folder or the file."""
    document.write(tmp_path / "new", run(), RECORDS)
    expected = msgspec.json.decode(msgspec.json.encode(run()))
    assert document.read(tmp_path / "new") == expected
    assert document.read(tmp_path / "new" / "run.json") == expected
    assert document.read_records(tmp_path / "new") == RECORDS


@pytest.mark.parametrize("content", [None, b"{", b'{"a":"\xc3"}', b"[]", b'{"kind":"other"}'])
def test_what_is_no_run_is_told(tmp_path, content):
    """A missing file, no JSON, another document."""
    if content is not None:
        (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(NoRun):
        document.read(tmp_path)
    with pytest.raises(NoRun):
        document.read_records(tmp_path)


@pytest.mark.parametrize("count", [1, 2])
def test_a_page_stands_alone(count):
    """Nothing is fetched, nothing is left to fill in, and the data is in it."""
    page = document.page([run()] * count)
    assert not re.search(
        r"""(?:src|href)\s*=|@import|url\(|https?://(?!www\.w3\.org/2000/svg)""", page
    )
    assert "default-src 'none'" in page
    assert "{{" not in page
    assert page.startswith("<!doctype html>")
    data = re.search(r'id="data">(.*?)</script>', page)[1]
    assert len(msgspec.json.decode(data)) == count


def test_a_title_cannot_break_out_of_its_page():
    """What a server answers ends up in the report."""
    page = document.page([run("</script><script>alert(1)</script>")])
    assert "<script>alert" not in page


def test_the_table_of_a_run():
    """One row per base and scenario; what does not apply is a dash."""
    (row,) = document.rows(run())
    assert (row["name"], row["calls"], row["ttft50"]) == ("a · chat", 5, 5.0)
    told = document.table(document.COLUMNS, [row, {"name": "x"}])
    assert len({len(line) for line in told.splitlines()[:2]}) == 1
    assert told.splitlines()[-1].split() == ["x", *["-"] * (len(document.COLUMNS) - 1)]
