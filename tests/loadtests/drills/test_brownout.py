"""Laws of the brown-out drill: what it judges, a door that holds answers up or hangs up, and a small one for real."""

import asyncio
import json

import pytest

from loadtests.drills import brownout
from loadtests.drills.brownout import Call, Door, Found, judge, percentile


def calls(phase, begin, count, *, slow=0, first_s=0.05, status=200):
    """Make calls, a hundredth of a second apart, of which some were served by the slow place."""
    return [
        Call(
            begin + n / 100,
            phase,
            "m/v0" if n < slow else "m/v1",
            status,
            0.5 if n < slow else first_s,
        )
        for n in range(count)
    ]


GOOD = [
    *calls("before", 0, 300, slow=100),
    *calls("brown-out", 10, 300, slow=20),
    *calls("after", 30, 100),
    *calls("outage", 40, 100, status=503),
]


def judged(*changed, attempts=110, edges=1):
    found = Found(outage_attempts=attempts)
    judge(found, [*GOOD, *changed], 10, "m/v0", edges=edges)
    return found


def test_what_holds_is_not_broken():
    """Traffic moved within half a second, nobody failed, and a tenth more attempts were made."""
    found = judged()
    assert found.broken == []
    assert found.moved_after_s == 0.5
    assert found.settled_p99_ms == 50
    assert found.amplification == 1.1
    assert found.phases["before"].places == {"m/v0": 100, "m/v1": 200}


@pytest.mark.parametrize(
    ("changed", "attempts", "words"),
    [
        (calls("brown-out", 13, 700, slow=700), 110, "nine tenths"),
        (calls("after", 31, 1, status=502), 110, "failed after"),
        (calls("brown-out", 13, 100, first_s=9), 110, "waited"),
        ([], 150, "attempts for each call"),
    ],
)
def test_each_law_is_judged(changed, attempts, words):
    """What is broken is said in words."""
    assert any(words in one for one in judged(*changed, attempts=attempts).broken)


def test_percentiles_of_few_calls():
    """None is nothing, one is itself."""
    assert percentile([], 99) == 0
    assert percentile(calls("before", 0, 1), 99) == 50


async def test_a_door_passes_holds_up_and_hangs_up():
    """Bytes as they come; answers later; nobody."""

    async def echo(reader, writer):
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    door = Door(f"http://127.0.0.1:{port}")
    await door.open()
    try:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", int(door.url.rpartition(":")[2])
        )
        writer.write(b"one")
        assert await reader.readexactly(3) == b"one"
        door.hold_s = 0.02
        begun = asyncio.get_running_loop().time()
        writer.write(b"two")
        assert await reader.readexactly(3) == b"two"
        assert asyncio.get_running_loop().time() - begun >= 0.019
        door.shut()
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reader.readexactly(1)
        writer.transport.abort()
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", int(door.url.rpartition(":")[2])
        )
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reader.readexactly(1)
        writer.transport.abort()
    finally:
        await door.close()
        server.close()
        await server.wait_closed()


@pytest.mark.timeout(120)
def test_a_small_one_for_real(capsys, tmp_path):
    """The whole way, small; times are not judged on a machine that others use, only that everything is told and recorded."""
    record = tmp_path / "brownout.json"
    brownout.main(["--edges", "1", "--rate", "20", "--seconds", "1.5", "--json", str(record)])
    said = json.loads(record.read_text())
    phases = said["found"]["phases"]
    assert set(phases) == set(brownout.PHASES)
    assert phases["before"]["failed"] == 0
    assert phases["outage"]["failed"] == phases["outage"]["calls"] > 0
    assert said["found"]["outage_attempts"] > 0
    assert not [words for words in said["found"]["broken"] if "ended with" in words]
    assert "outage:" in capsys.readouterr().out
