"""
A vendor that is not there: the protocols of OpenAI, Anthropic, Gemini and Bedrock, with scripted behaviour and books of its own.

`calls` reads what is asked, `behaviour` what a model name asks for; `chat`, `messages`, `responses`, `gemini`, `converse` and `media` say it in their
protocols, `plan` renders that to timed bytes, `vendor` speaks HTTP, `watching` looks at who asks, `session` talks, `books` counts, `server` starts it all.
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
