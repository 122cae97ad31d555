"""What does not work is said once, in words that show nothing of what was asked."""

import hiredis
import pytest
from redis.exceptions import ResponseError

from ratelimit.troubles import Troubles, words
from store.lane import LaneLost


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was said."""
    return [one.getMessage() for one in caplog.records if one.name == "penstock.gate"]


def test_each_reason_is_said_once_until_it_works_again(caplog: pytest.LogCaptureFixture) -> None:
    """Any number of failures is a line for each reason; the return is a line; then all is new."""
    troubles = Troubles()
    troubles.over("admission")
    for _ in range(3):
        troubles.note("admission", LaneLost("x"))
        troubles.note("admission", TimeoutError())
    troubles.over("beat")
    troubles.over("admission")
    troubles.over("admission")
    troubles.note("admission", LaneLost("x"))
    first, second, back, again = told(caplog)
    assert first == again == "the store fails at admission: no connection"
    assert second == "the store fails at admission: TimeoutError"
    assert back.startswith("the store is back for admission after 0.0 s")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (hiredis.ReplyError("OOM command not allowed"), "OOM"),
        (hiredis.ReplyError("ERR user_script:77: canary script: f00"), "ERR at user_script:77"),
        (ResponseError("user_script:9: canary"), "ResponseError at user_script:9"),
        (LaneLost("cannot reach canary"), "no connection"),
        (ValueError("canary"), "ValueError"),
        (OSError(28, "No space left on device", "/var/canary"), "OSError: No space left on device"),
        (OSError("canary"), "OSError"),
    ],
)
def test_words_show_no_keys_and_no_contents(error: Exception, said: str) -> None:
    """A store's error repeats what it was asked; only its code and its place in the script are shown."""
    assert words(error) == said
