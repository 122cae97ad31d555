"""Laws of answers: one shape for every error, and no cache keeps any."""

import json

from console.answers import Refused, error_answer, json_answer, problem

LOOK = "look at the changes since, and say the version that is live now"


def test_an_error_has_a_code_and_words() -> None:
    """And what else there is to say about it, beside them."""
    answer = Refused(
        409, "stale_version", "somebody was faster", path="expected", current=7
    ).answer()
    assert answer.status == 409
    assert isinstance(answer.body, bytes)
    assert json.loads(answer.body) == {
        "error": {
            "code": "stale_version",
            "message": "somebody was faster",
            "problems": [problem("expected", "somebody was faster", LOOK)],
            "current": 7,
        }
    }
    assert str(Refused(404, "not_found", "gone")) == "gone"


def test_no_cache_keeps_an_answer() -> None:
    """Whatever other headers it has."""
    for answer in (json_answer(200, {}, {"ETag": '"1"'}), error_answer(401, "c", "m", {"A": "b"})):
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.content_type == "application/json"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert json_answer(200, {}, {"ETag": '"1"'}).headers["ETag"] == '"1"'
