"""Lua bundles: what is included, what it is called, and that the server runs exactly that text."""

import hashlib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest
import redis.asyncio

from store import scripts


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Let packages be folders of this test; what was loaded is forgotten afterwards."""
    monkeypatch.setattr(scripts, "files", lambda package: tmp_path / package)
    scripts.load.cache_clear()
    yield tmp_path
    scripts.load.cache_clear()


def write(packages: Path, name: str, text: str) -> None:
    package, _, stem = name.partition(":")
    folder = packages / package / "lua"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{stem}.lua").write_text(text, encoding="utf-8")


def test_a_piece_comes_in_once_where_it_is_first_named(packages: Path) -> None:
    """Pieces that share a piece do not bring it twice, nor does a circle end badly."""
    write(packages, "a:main", "--- @include one\n--- @include b:two\nmain()\n")
    write(packages, "a:one", "--- @include b:two\none()\n")
    write(packages, "b:two", "--- @include three\n--- @include a:main\ntwo()\n")
    write(packages, "b:three", "three()\n")
    lines = [line for line in scripts.bundle("a", "main").splitlines() if line]
    assert lines == ["three()", "two()", "one()", "main()"]


def test_a_piece_is_looked_for_in_the_package_that_names_it(packages: Path) -> None:
    """`--- @include x` inside a piece of another package means that package's own x."""
    write(packages, "a:main", "--- @include b:two\n--- @include three\n")
    write(packages, "b:two", "--- @include three\n")
    write(packages, "a:three", "ours()\n")
    write(packages, "b:three", "theirs()\n")
    assert scripts.bundle("a", "main").split() == ["theirs()", "ours()"]


def test_a_piece_that_is_missing_is_an_error(packages: Path) -> None:
    """Nobody runs half a script."""
    write(packages, "a:main", "--- @include nobody\n")
    with pytest.raises(FileNotFoundError, match="nobody"):
        scripts.bundle("a", "main")
    with pytest.raises(FileNotFoundError, match="gone"):
        scripts.load("a", "gone")


def test_words_that_look_like_an_include_are_left_alone(packages: Path) -> None:
    """An include is a line of its own that begins with three dashes."""
    text = '-- see --- @include one\nlocal s = "--- @include one"\n-- @include one\n'
    write(packages, "a:main", text)
    assert scripts.bundle("a", "main") == text


def test_the_header_names_the_arguments(packages: Path) -> None:
    """Its own header alone, not those of the pieces; several of a kind count as one name."""
    write(
        packages,
        "a:main",
        "-- Do.\n--\n-- KEYS[1]  bucket  hash\n-- KEYS[2+] more   hashes\n"
        "-- ARGV[1]  now     us\n-- ARGV[2]  cost_nusd  money\n\n--- @include piece\n",
    )
    write(packages, "a:piece", "-- KEYS[1]  other  hash\nreturn 1\n")
    script = scripts.load("a", "main")
    assert script.keys == ("bucket", "more")
    assert script.args == ("now", "cost_nusd")
    assert script.name == "a:main"


def test_the_hash_is_that_of_the_whole_bundle(packages: Path) -> None:
    """A change in a piece is another version of every script that includes it."""
    write(packages, "a:main", "--- @include piece\nreturn 1\n")
    write(packages, "a:piece", "local x = 1\n")
    before = scripts.load("a", "main")
    assert before.sha == hashlib.sha1(before.text.encode()).hexdigest()
    assert scripts.load("a", "main") is before
    write(packages, "a:piece", "local x = 2\n")
    scripts.load.cache_clear()
    assert scripts.load("a", "main").sha != before.sha


@pytest.mark.parametrize("name", ["admit", "settle", "progress", "beat", "fence", "reap", "seed"])
async def test_the_server_runs_what_was_loaded(
    name: str, redis_client: redis.asyncio.Redis
) -> None:
    """The scripts of the gate lie where an installed package would have them, and compile as bundled."""
    script = scripts.load("ratelimit", name)
    assert resources.files("ratelimit").joinpath("lua", f"{name}.lua").is_file()
    sha = await redis_client.script_load(script.text)
    assert (sha if isinstance(sha, str) else sha.decode()) == script.sha
    assert "@include" not in script.text
