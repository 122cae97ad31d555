"""What is looked at while something else goes on."""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self


class Beside:
    """A context in which a thread calls `look` every `every_s` seconds: first before the block begins, last when it has ended."""

    def __init__(self, look: Callable[[], None], every_s: float) -> None:
        self._look = look
        self._every_s = every_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._look()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        self._look()

    def _run(self) -> None:
        while not self._over.wait(self._every_s):
            self._look()
