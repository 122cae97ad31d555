"""Laws of the clock that a drill steps: the server's alone, and only where there is a compiler."""

import shutil
import struct
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from loadtests.bench.ground import Ground
from loadtests.drills import clock, faults
from loadtests.drills.site import Site


async def is_ahead(store: faults.Store, seconds: int) -> bool:
    """Whether the server's clock is so far ahead of the machine's, as exactly as asking takes, and the server's milliseconds."""
    client = store.client()
    try:
        before_ns = time.time_ns()
        told_s, told_us = await client.time()
        told_ns = (told_s - seconds) * 10**9 + told_us * 1000
        return before_ns - 10**6 <= told_ns <= time.time_ns()
    finally:
        await client.aclose()


@pytest.mark.parametrize("compiler", ["the machine's", "none"])
async def test_the_servers_clock_goes_ahead_and_back(
    compiler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By so much, and no further; where nothing can be compiled, it goes right."""
    if compiler == "none":
        monkeypatch.setattr(clock.shutil, "which", lambda _: None)
    ground = Ground()
    ground.pinned = False
    with ground:
        store = faults.Store(ground)
        store.start()
        assert store.clock.can_be_stepped == (clock.shutil.which("cc") is not None)
        assert await is_ahead(store, 0)
        seen = []

        async def meanwhile(_: float) -> None:
            seen.append(await is_ahead(store, faults.STEP_S))

        monkeypatch.setattr(faults, "asyncio", SimpleNamespace(sleep=meanwhile))
        if store.clock.can_be_stepped:
            harm = await faults.clock_stepped(store, 0, Site.__new__(Site))
            assert harm.stepped_s == faults.STEP_S
            assert seen == [True]
            assert await is_ahead(store, 0)


def test_without_a_compiler_nothing_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server starts as ever."""
    monkeypatch.setattr(clock.shutil, "which", lambda _: None)
    made = clock.Clock(tmp_path)
    assert not made.can_be_stepped
    assert made.environment() == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("program", "compiles"), [("true", True), ("false", False)])
def test_what_a_compiler_made_is_loaded(
    program: str, compiles: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the file that says how far ahead it is, in seconds; one that failed made nothing."""
    path = shutil.which(program)
    monkeypatch.setattr(clock.shutil, "which", lambda _: path)
    made = clock.Clock(tmp_path)
    assert made.can_be_stepped is compiles
    assert made.environment() == (
        {"LD_PRELOAD": str(tmp_path / "clock.so"), "DRILL_CLOCK": str(tmp_path / "clock")}
        if compiles
        else {}
    )
    for seconds in (0, 30, -5):
        made.step(seconds)
        assert struct.unpack("=q", (tmp_path / "clock").read_bytes()) == (seconds,)
