"""Laws of the clock that a drill steps: the server's alone, and only where there is a compiler."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from loadtests.bench.ground import Ground
from loadtests.drills import clock, faults
from loadtests.drills.site import Site


async def server_s(store: faults.Store) -> int:
    """Return what time it is at the server."""
    client = store.client()
    try:
        return (await client.time())[0]
    finally:
        await client.aclose()


async def test_the_servers_clock_goes_ahead_and_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """By so much, and no further; where nothing can be compiled, it goes right."""
    ground = Ground()
    ground.pinned = False
    with ground:
        store = faults.Store(ground)
        store.start()
        seen = [await server_s(store)]

        async def meanwhile(_: float) -> None:
            seen.append(await server_s(store))

        monkeypatch.setattr(faults, "asyncio", SimpleNamespace(sleep=meanwhile))
        if store.clock.can_be_stepped:
            harm = await faults.clock_stepped(store, 0, Site.__new__(Site))
            assert harm.stepped_s == faults.STEP_S
            assert seen[1] - seen[0] >= faults.STEP_S
        assert await server_s(store) - seen[0] < faults.STEP_S


def test_without_a_compiler_nothing_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server starts as ever."""
    monkeypatch.setattr(clock.shutil, "which", lambda _: None)
    made = clock.Clock(tmp_path)
    assert not made.can_be_stepped
    assert made.environment() == {}
    assert list(tmp_path.iterdir()) == []
