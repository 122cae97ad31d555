"""
What all routes of the admin API share of their schemas, which check what comes in, and of which OpenAPI is made.

What a route alone takes and gives stands beside it, in `console.*_routes`.
What is configured (a provider, a limit, a budget) is checked by the configuration's own reader and
not here, so that its mistakes are said in the same words wherever they are made.
Money is USD, times are RFC 3339 in UTC, durations are milliseconds.
"""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

# Stands in a schema for a reference to a section of the configuration, which pydantic does not know there
SECTION = "x-section"
LONGEST_WAIT_MS = 30_000
LONGEST_WHY = 500
LARGEST_VERSION = 2**53


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("no control characters and no line breaks")
    if not text.strip():
        raise ValueError("some words")
    return text


class Shape(BaseModel):
    """What every schema is made of: no unknown member, and no type is bent into another."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


Words = Annotated[str, Field(min_length=1, max_length=LONGEST_WHY), AfterValidator(_printable)]
Number = Annotated[int, Field(ge=1, le=LARGEST_VERSION)]
Limits = Annotated[
    dict[str, Any],
    WithJsonSchema(
        {
            "type": "object",
            "description": "Members of `Limits`; null takes a limit away, what is absent stays.",
        }
    ),
]
Budgets = Annotated[
    list[dict[str, Any]],
    WithJsonSchema({"type": "array", "items": {SECTION: "Budget"}}),
]


def section_of(name: str) -> WithJsonSchema:
    """Give the metadata of a section that the configuration's reader checks; `name` is its schema."""
    return WithJsonSchema({SECTION: name})


# What comes in...


class Change(Shape):
    """What every change says besides what it changes."""

    why: Words = Field(description="A sentence for the history.")
    expected: Number | None = Field(
        default=None,
        description="The version that the change was made from, also said by If-Match. If another"
        " one is live the answer is 409; without it the change is made to whatever is live.",
    )
    wait_ms: Annotated[int, Field(ge=0, le=LONGEST_WAIT_MS)] = Field(
        default=0,
        description="Answer only when every live replica runs the new version, or this time is over.",
    )


class Replacement(Change):
    """A change that takes the place of a whole, and would undo what it does not know of."""

    expected: Number = Field(
        description="The version that the change was made from, also said by If-Match."
    )


# What goes out...


class ProblemShape(Shape):
    """One mistake; line and column are 0 where there is no text."""

    source: str
    path: str
    line: int
    column: int
    message: str
    found: str
    expected: str
    nearest: str
    remedy: str
    severity: str


class DifferenceShape(Shape):
    """One change: what stood and what stands at a path; null is nothing, secrets are masked."""

    path: str
    before: Any
    after: Any


class ErrorShape(Shape):
    """An error."""

    code: str
    message: str
    problems: list[ProblemShape] = Field(default=[], description="Every mistake, at once.")
    expected: int | None = Field(default=None, description="The version that was expected.")
    current: int | None = Field(default=None, description="The version that is live.")
    changes: list[DifferenceShape] | None = Field(
        default=None,
        description="What changed since the expected version; null if it is forgotten.",
    )
    version: int | None = Field(default=None, description="The version that was published.")


class Failure(Shape):
    """The envelope of an error."""

    error: ErrorShape


class NoteShape(Shape):
    """What the history says of a version."""

    version: int
    by: str
    why: str
    kind: str
    at: str
    digest: str


class Changed(NoteShape):
    """What a change did; `published` is false when there was nothing to change."""

    published: bool
    changes: list[DifferenceShape]
    warnings: list[ProblemShape]
    everywhere: bool | None = Field(
        description="Whether every live replica runs it; null unless it was waited for."
    )
    waiting_for: list[str] = Field(description="Live replicas that do not run it yet.")
