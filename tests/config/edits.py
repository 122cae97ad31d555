"""A live document, what an edit changes of it, and what is said of one that is refused."""

from typing import Any

import pytest

from config import changes
from config.changes import checked
from config.differences import diff
from config.loader import ConfigError, as_written
from config.secrets import hash_key
from tests.config.samples import ENVIRON, FULL

LIVE = as_written(FULL, ENVIRON)
HASH = hash_key("sk-pen-a-new-key-of-somebody")


def changed(edit: changes.Edit, live: str = LIVE) -> list[tuple[str, Any, Any]]:
    """Give what an edit changes, having seen to it that it changes no more."""
    after = checked(live, edit, ENVIRON)
    assert after.document == as_written(after.document, ENVIRON), "the form is canonical"
    return [(each.path, each.before, each.after) for each in diff(live, after.document)]


def wrong(edit: changes.Edit) -> list[str]:
    """Give the problems of an edit that is refused."""
    with pytest.raises(ConfigError) as refused:
        checked(LIVE, edit, ENVIRON)
    return [str(problem) for problem in refused.value.problems]
