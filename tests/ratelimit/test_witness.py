"""The witness: it does nothing until the pipe that it reads has an end, and then what the next start would do."""

import os
import subprocess
import sys
from pathlib import Path

import redis.asyncio

from ratelimit.lives import DEAD, Life
from store.cells import FIRST, Cell, cell
from store.places import CHECKOUT
from tests.conftest import RedisServer


def witness(url: str, journal: Path, cells: int) -> "subprocess.Popen[bytes]":
    """Call a witness of ours."""
    return subprocess.Popen(
        (sys.executable, "-m", "ratelimit.witness", "host/0", str(journal), str(cells)),
        cwd=CHECKOUT,
        env=os.environ | {"REDIS_URL": url},
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def lives_in(folder: Path) -> list[Path]:
    """Return the files that say who lives, or lived."""
    return list(folder.rglob("*.life"))


async def test_it_tells_every_cell(
    redis_server: RedisServer, redis_client: redis.asyncio.Redis, tmp_path: Path
) -> None:
    """And ends; what it has to say is one line."""
    lives = Life(tmp_path, "host_0"), Life(tmp_path / "c1", "host_0")
    with witness(redis_server.url, tmp_path, 2) as process:
        for life, where in zip(lives, (FIRST, cell(1)), strict=True):
            life.begin("host/0.1")
            await redis_client.zadd(where.beats, {"host/0.1": 10**15})
            life.leave()
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0
    assert said.decode().endswith("witness WARNING host/0 is dead; what it held is freed\n")
    assert said.count(b"\n") == 1

    async def stands(where: Cell) -> float | None:
        return await redis_client.zscore(where.beats, "host/0.1")

    assert [await stands(FIRST), await stands(cell(1))] == [DEAD, DEAD]
    assert lives_in(tmp_path) == []


def test_it_imports_next_to_nothing_before(tmp_path: Path) -> None:
    """Neither asyncio nor redis-py: one stands beside every edge that runs alone."""
    program = (
        "import runpy, sys, os;"
        "os.read = lambda *_: sys.exit(str(sorted({'asyncio', 'logging', 'redis'} & set(sys.modules))));"
        "sys.argv = ['witness', 'host/0', sys.argv[1], '1'];"
        "runpy.run_module('ratelimit.witness', run_name='__main__')"
    )
    said = subprocess.run(
        (sys.executable, "-c", program, str(tmp_path)),
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.stderr == "[]\n"
