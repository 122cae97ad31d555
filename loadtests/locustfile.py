"""
The file that Locust loads: `locust -f loadtests/locustfile.py --host URL [--headless] [UserClass …]`.

Without a user class it is mixed traffic; `--load` and `--arrivals` choose rate and loop, `--out` where the report goes.
"""

import sys
from pathlib import Path

# Locust puts this file's folder on the path, and what it imports lies a folder above.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from loadtests.users import (
    AgentUser,
    ChatStreamUser,
    ChatUser,
    EmbeddingsUser,
    LeaverUser,
    MessagesStreamUser,
    MixedUser,
    RetryStormUser,
    SlowReaderUser,
    UnrulyUser,
    install,
)

__all__ = [
    "AgentUser",
    "ChatStreamUser",
    "ChatUser",
    "EmbeddingsUser",
    "LeaverUser",
    "MessagesStreamUser",
    "MixedUser",
    "RetryStormUser",
    "SlowReaderUser",
    "UnrulyUser",
]

install()
