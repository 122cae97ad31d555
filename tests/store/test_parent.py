"""A child learns that its parent is gone, however it went."""

import asyncio
import os
import signal
import subprocess
import sys

from store import parent, places

PARENT = """
import os, subprocess, sys
from store.parent import ParentPipe
pipe = ParentPipe()
child = subprocess.Popen(
    [sys.executable, "-c", sys.argv[1]], pass_fds=[pipe.read_fd], env={**os.environ, **pipe.environment()}
)
sys.stdin.read()
"""

CHILD = """
import asyncio, os
from store.parent import on_parent_gone

async def main():
    gone = asyncio.Event()
    assert on_parent_gone(gone.set, os.environ)
    print("watching", flush=True)
    await gone.wait()
    print("gone", flush=True)

asyncio.run(main())
"""


async def test_a_killed_parent_is_noticed_at_once() -> None:
    """`kill -9` gives the parent no chance to say anything; the kernel says it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PARENT, CHILD),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=places.CHECKOUT,
        env={**os.environ, "PYTHONPATH": str(places.CHECKOUT)},
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"watching\n"
    process.kill()
    async with asyncio.timeout(10):
        assert await process.communicate() == (b"gone\n", None)


async def test_a_module_that_knows_nothing_of_parents_ends_with_its_parent() -> None:
    """It gets SIGTERM, as from an operator, with its own arguments and its own name."""
    pipe = parent.ParentPipe()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "store.parent", "http.server", "--bind", "127.0.0.1", "0"),
        stdout=subprocess.PIPE,
        cwd=places.CHECKOUT,
        env={**os.environ, **pipe.environment(), "PYTHONUNBUFFERED": "1"},
        pass_fds=(pipe.read_fd,),
    )
    assert process.stdout is not None
    assert (await process.stdout.readline()).startswith(b"Serving HTTP on 127.0.0.1")
    pipe.close()
    await process.communicate()
    assert process.returncode == -signal.SIGTERM


async def test_closing_the_pipe_calls_once() -> None:
    """The callback runs a single time, from the loop."""
    pipe = parent.ParentPipe()
    calls = []
    gone = asyncio.Event()

    def then() -> None:
        calls.append(1)
        gone.set()

    theirs = os.dup(pipe.read_fd)
    assert parent.on_parent_gone(then, {parent.PARENT_FD: str(theirs)})
    await asyncio.sleep(0)
    assert not calls
    pipe.close()
    await gone.wait()
    await asyncio.sleep(0)
    assert calls == [1]
    os.close(theirs)


async def test_without_a_parent_nothing_is_watched() -> None:
    """A role that runs alone has nobody to lose."""
    assert not parent.on_parent_gone(lambda: None, {})
    assert not parent.on_parent_gone(lambda: None, {parent.PARENT_FD: "none"})
    assert not parent.end_with_parent({})


async def test_a_number_that_is_no_open_file_means_no_parent() -> None:
    """The variable may survive in an environment whose pipe is long closed."""
    pipe = parent.ParentPipe()
    number = pipe.read_fd
    pipe.close()
    assert not parent.on_parent_gone(lambda: None, {parent.PARENT_FD: str(number)})
