"""
A vendor that is not there: OpenAI's API with scripted behaviour and books of its own.

`behaviour` reads what a model name asks for, `plan` renders it to timed bytes, `vendor` speaks HTTP, `books` counts, `server` starts it all.
The upstream of the demo, of the integration tests and of the benchmarks.
"""

from loadtests.mock.behaviour import OPTIONS, BadOption, Behaviour, read_behaviour
from loadtests.mock.books import Books, Served, Totals
from loadtests.mock.server import Mock, serve

__all__ = [
    "OPTIONS",
    "BadOption",
    "Behaviour",
    "Books",
    "Mock",
    "Served",
    "Totals",
    "read_behaviour",
    "serve",
]
