"""
Lua: every file says what it is for, and every script says what it takes and gives.

A script is what uses KEYS or ARGV; the other files are pieces that scripts include.
"""

import re
from pathlib import Path

import pytest
import redis.asyncio

from store import scripts
from store.places import CHECKOUT

FILES = sorted(path for path in CHECKOUT.glob("*/lua/*.lua") if path.parts[-3] != "tests")
DECLARED = re.compile(r"^-- (KEYS|ARGV)\[(\d+)(\+?)\]\s+(\w+)\s+(\S.*)$", re.MULTILINE)
USED = re.compile(r"\b(KEYS|ARGV)\[(\d+)\]")


def name_of(path: Path) -> str:
    return f"{path.parts[-3]}:{path.stem}"


def header_and_body(path: Path) -> tuple[str, str]:
    """Part a file where its first comment ends; includes belong to the body."""
    lines = path.read_text(encoding="utf-8").splitlines()
    end = next(
        (
            at
            for at, line in enumerate(lines)
            if not line.startswith("--") or line.startswith("---")
        ),
        len(lines),
    )
    body = "\n".join(re.sub(r"--.*", "", line) for line in lines[end:])
    return "\n".join(lines[:end]), body


def is_script(path: Path) -> bool:
    return re.search(r"\b(KEYS|ARGV)\b", header_and_body(path)[1]) is not None


SCRIPTS = [path for path in FILES if is_script(path)]


def test_there_is_lua_and_it_lies_beside_its_caller() -> None:
    """A package's `lua/` directory is the only place for it; the load generator's own Lua is not Redis's."""
    anywhere = {
        path
        for package in CHECKOUT.iterdir()
        if (package / "__init__.py").exists() and package.name != "loadtests"
        for path in package.rglob("*.lua")
    }
    assert FILES
    assert anywhere == set(FILES)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_begins_with_its_purpose(path: Path) -> None:
    """One sentence in the first comment, before anything else."""
    header, _ = header_and_body(path)
    assert re.match(r"-- [A-Z][^\n]{15,}", header), "the first line says what the file is for"
    first_paragraph = re.split(r"\n--\s*\n", header)[0]
    assert first_paragraph.rstrip().endswith((".", ":")), "the purpose is a sentence"


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_a_script_declares_what_it_takes_and_says_what_it_returns(path: Path) -> None:
    """KEYS and ARGV by number and name, in order, without gaps; Returns in words."""
    header, _ = header_and_body(path)
    declared = DECLARED.findall(header)
    for kind in ("KEYS", "ARGV"):
        numbers = [int(number) for of, number, _, _, _ in declared if of == kind]
        assert numbers == list(range(1, len(numbers) + 1)), f"{kind} are declared in order"
        rest = [more for of, _, more, _, _ in declared if of == kind]
        assert "+" not in rest[:-1], f"only the last of {kind} can be many"
    names = [name for _, _, _, name, _ in declared]
    assert len(set(names)) == len(names), "each has a name of its own"
    assert re.search(r"^-- Returns\b", header, re.MULTILINE)


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_what_a_script_declares_it_uses_and_what_it_uses_it_declares(path: Path) -> None:
    """A header that has drifted is worse than none. Keys that are many may be named inside of arguments."""
    header, body = header_and_body(path)
    declared = DECLARED.findall(header)
    single = {(kind, int(number)) for kind, number, more, _, _ in declared if not more}
    used = {(kind, int(number)) for kind, number in USED.findall(body)}
    many = {kind: int(number) for kind, number, more, _, _ in declared if more}
    assert single <= used, f"declared and never used: {sorted(single - used)}"
    undeclared = {one for one in used - single if one[1] < many.get(one[0], 10**6)}
    assert not undeclared, f"used and never declared: {sorted(undeclared)}"
    if "ARGV" in many:
        assert re.search(r"#ARGV|ARGV\[[^\]]*[a-z]|\(ARGV", body), "the many arguments are read"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_include_resolves(path: Path) -> None:
    """The loader finds every piece, and leaves no include behind."""
    bundled = scripts.bundle(path.parts[-3], path.stem)
    assert "@include" not in bundled


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
async def test_every_script_compiles_on_a_real_server(
    path: Path, redis_client: redis.asyncio.Redis
) -> None:
    """SCRIPT LOAD compiles without running; its hash is the one that the loader computed."""
    script = scripts.load(path.parts[-3], path.stem)
    sha = await redis_client.script_load(script.text)
    assert (sha.decode() if isinstance(sha, bytes) else sha) == script.sha


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_lua_leaves_no_globals_and_asks_for_nothing_beyond_redis_7_0(path: Path) -> None:
    """A global would fail on the server, on the path that assigns it; newer commands would on Debian's Redis."""
    _, body = header_and_body(path)
    assert not re.search(r"^function\b", body, re.MULTILINE), "functions are local"
    newer = re.findall(
        r"'(HEXPIRE|HPEXPIRE|HTTL|XACKDEL|XDELEX|DELIFEQ|MSETEX|HGETEX|HSETEX)'", body
    )
    assert not newer
