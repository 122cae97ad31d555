"""
Changes of a published document: each gives a new document, checked whole, or every mistake at once.

A change is an `Edit`: it moves, sets or takes away parts of a `Draft`, which is the document as a
tree. What it did not touch stays as it was written, references unexpanded. `checked` sends the
result the way every configuration goes, so that nothing is published that a file could not say;
the document that was begun with is never changed.
"""

from config.changes.checked import checked, taken_over
from config.changes.draft import Draft, Edit, NoSuchPlace, NotEmpty, Taken, remove_value, set_value
from config.changes.named import (
    add_key,
    organizations_of,
    place_of,
    present,
    put,
    remove,
    set_key_hash,
)
from config.changes.scopes import (
    SCOPES,
    deployment_place,
    raise_budget,
    scope_place,
    set_deployment,
    set_quota,
    time_zone_at,
)

__all__ = [
    "SCOPES",
    "Draft",
    "Edit",
    "NoSuchPlace",
    "NotEmpty",
    "Taken",
    "add_key",
    "checked",
    "deployment_place",
    "organizations_of",
    "place_of",
    "present",
    "put",
    "raise_budget",
    "remove",
    "remove_value",
    "scope_place",
    "set_deployment",
    "set_key_hash",
    "set_quota",
    "set_value",
    "taken_over",
    "time_zone_at",
]
