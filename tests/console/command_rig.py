"""Commands against a running admin port: each runs as an operator runs it, in a thread, with its own output."""

import asyncio
import contextlib
import io
import json
from typing import Any, NamedTuple

from console.cli import main


class Ended(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.out)


async def typed(words: str | list[str]) -> Ended:
    """Run `penstock WORDS` and wait for its end; misuse ends it as it ends a process."""
    argv = words.split() if isinstance(words, str) else words

    def run() -> Ended:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main(argv)
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else 1
        return Ended(code, out.getvalue(), err.getvalue())

    return await asyncio.to_thread(run)
