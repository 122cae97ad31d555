"""The two doors: apart from each other, and the operator's not open to strangers."""

import pytest

from tests.config.slips import said


@pytest.mark.parametrize(
    ("old", "new", "problems"),
    [
        (
            "edge: {}",
            "edge: {listen: 127.0.0.1:8081}",
            [
                (
                    "f:2: edge.listen: the data port and the admin port are both 8081;"
                    " the two doors are kept apart; give each a port of its own"
                )
            ],
        ),
        ("edge: {}", "edge: {listen: 127.0.0.2:8081}", []),
        (
            "admin: {}",
            "admin: {listen: 127.0.0.1:8080}",
            [
                (
                    "f:1: admin.listen: the data port and the admin port are both 8080;"
                    " the two doors are kept apart; give each a port of its own"
                )
            ],
        ),
        ("edge: {}", "edge: {listen: 127.0.0.1:0}", []),
        (
            "admin: {}",
            "admin: {listen: 10.0.0.1:8081}",
            [
                (
                    "f:1: admin.listen: the admin port would be open to other machines without a"
                    " token; add admin.token: ${PENSTOCK_ADMIN_TOKEN}, or listen on 127.0.0.1"
                )
            ],
        ),
        ("admin: {}", 'admin: {listen: "[::]:8081", token: ${KEY}}', []),
        ("admin: {}", "admin: {listen: localhost:8081}", []),
        ("admin: {}", "admin: {listen: 127.9.9.9:8081}", []),
    ],
)
def test_doors_that_would_meet_or_stand_open_are_said(
    old: str, new: str, problems: list[str]
) -> None:
    """Exactly these problems."""
    assert said(old, new) == problems
