"""
An edge that runs alone, without a control on its machine, and its witness.

Killed, it holds nothing a moment later, also of strict budgets; ended in good order, it leaves nobody behind.
"""

import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.integration.processes import (
    HELLO,
    KEY,
    Gateway,
    pid_of,
    processes_of,
    wait_until,
)

EDGE, WITNESS = "-m proxy edge", "-m ratelimit.witness"


@pytest.fixture
def call(own: Gateway) -> Iterator[None]:
    """Keep a call open for which a strict budget reserves something."""
    broken = threading.Event()

    def read() -> None:
        asked = {"model": "endless", "messages": [HELLO], "stream": True}
        headers = {"authorization": f"Bearer {KEY}"}
        try:
            httpx2.post(f"{own.url}/v1/chat/completions", json=asked, headers=headers, timeout=60)
        except httpx2.TransportError:
            broken.set()

    reader = threading.Thread(target=read)
    reader.start()
    wait_until(lambda: own.vendor_books()["totals"]["in_flight"] == 1, "a call")
    yield
    own.edge.kill()
    reader.join(20)
    assert broken.is_set()


def witness_of(gateway: Gateway) -> int:
    """Wait until the witness watches, and return its process id."""
    wait_until(lambda: WITNESS in str(processes_of(gateway.folder / "var")), "a witness")
    pid = pid_of(gateway.folder / "var", WITNESS)

    def hears() -> bool:
        (caught,) = re.findall(
            r"^SigCgt:\s*(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE
        )
        return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)

    wait_until(hears, "a witness that has begun")
    return pid


def kill(gateway: Gateway) -> None:
    """Kill the edge, and nothing else."""
    gateway.edge.kill()
    gateway.edge.wait(10)


def left(gateway: Gateway) -> tuple[list[str], list[str]]:
    """Return the edges and witnesses that run, and what `files` gives."""
    commands = processes_of(gateway.folder / "var").values()
    return [each for each in commands if EDGE in each or WITNESS in each], files(gateway)


def files(gateway: Gateway) -> list[str]:
    """Return the kinds of files that say who lives, or has something to settle."""
    return [path.suffix for path in (gateway.folder / "var" / "journal").iterdir()]


@pytest.mark.usefixtures("call")
def test_what_a_killed_edge_held_is_free(own: Gateway) -> None:
    """Its witness tells the store, also one that took the place of another, and was told to end with the group."""
    first = witness_of(own)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: first not in processes_of(own.folder / "var"), "the end of the first")
    second = witness_of(own)
    os.kill(second, signal.SIGTERM)
    assert own.in_flight() > 0
    kill(own)
    wait_until(own.reaped, "the end of what a dead edge held")
    (entry,) = own.entries()
    assert (entry.outcome, entry.deployment) == ("reaped", "endless/mock")
    wait_until(lambda: second not in processes_of(own.folder / "var"), "the end of the second")
    assert files(own) == []


@pytest.mark.usefixtures("call")
def test_who_is_killed_with_its_witness_is_told_of_by_the_next_start(own: Gateway) -> None:
    """What it had reserved stays until then."""
    witness = witness_of(own)
    # So that it calls no other.
    own.edge.send_signal(signal.SIGSTOP)
    os.kill(witness, signal.SIGKILL)
    kill(own)
    assert files(own) == [".life"]
    own.edge = own.start_edge()
    assert own.reaped()


def test_an_edge_that_ends_well_leaves_nobody(own: Gateway) -> None:
    """Nor a file."""
    witness_of(own)
    own.edge.terminate()
    assert own.edge.wait(20) == 0
    assert left(own) == ([], [])


def test_an_edge_that_cannot_serve_leaves_nobody(own: Gateway) -> None:
    """Its port is somebody else's: it says so in a line, which names the port."""
    own.edge.terminate()
    own.edge.wait(20)
    with (
        socket.create_server(("127.0.0.1", own.port)),
        pytest.raises(AssertionError, match=rf"cannot serve: .*listening on 127.0.0.1:{own.port}"),
    ):
        own.start_edge()
    assert left(own) == ([], [])
    # The error that was asked for is none of those that are looked for at the end.
    own.log.write_text("")
