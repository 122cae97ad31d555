"""The sections of what is tried out: A/B tests, canaries, migrations and shadow traffic."""

from typing import Annotated, Literal

from pydantic import Field

from config.quotas import Budgets
from config.scalars import Moment, Number, Text, Whole, Word
from config.section import HIGHEST_CONCURRENCY, Name, PlainName, Seconds, Section

Sticky = Literal["caller", "user", "session", "request"]
# The name of one, or `<model>/<provider>#2`.
DeploymentId = Annotated[str, Text(longest=300, what="the id of a deployment")]
Percent = Annotated[float, Number(0, 100)]
_TO_MODEL = "The model or route that serves them; absent: what was asked for."
_TO_DEPLOYMENT = "The one deployment that serves them, in the place of `model`."


class Arm(Section):
    """One arm of an A/B test; without `model` and `deployment` its calls go where they always went."""

    model: Name | None = Field(default=None, description=_TO_MODEL)
    deployment: DeploymentId | None = Field(default=None, description=_TO_DEPLOYMENT)
    weight: Annotated[int, Whole(0, 10**6)] = Field(
        default=1, description="Its share of the calls, relative to the other arms'."
    )


class Guards(Section):
    """How much worse a canary may be than what it would replace."""

    error_rate: Annotated[float, Number(0, 1)] = Field(
        default=0.02,
        description="How much higher the share of tries that fail may be; with 1 it does not matter.",
    )
    ttft: Annotated[float, Number(0, 100)] = Field(
        default=0.5,
        description="How much longer the first byte may take; 0.5 is half as long again.",
    )
    cost: Annotated[float, Number(0, 100)] | None = Field(
        default=None,
        description="How much dearer a call may be; 0.2 is a fifth. It is not judged unless it is said.",
    )
    quality: Annotated[float, Number(0, 1)] = Field(
        default=0.05,
        description="How much lower the quality of its answers may be, as their outcomes tell it"
        " (cut off, refused, of another form than was asked for); with 1 it does not matter.",
    )


class Canary(Section):
    """A change that is tried on a share of the calls, which grows step by step, and taken back when it does harm."""

    model: Name | None = Field(default=None, description=_TO_MODEL)
    deployment: DeploymentId | None = Field(default=None, description=_TO_DEPLOYMENT)
    steps: Annotated[tuple[Percent, ...], Field(min_length=1, max_length=20)] = Field(
        default=(1, 5, 25, 50, 100), description="The percents of the calls, one after another."
    )
    step: Annotated[int, Whole(0, 19)] = Field(
        default=0, description="The step that runs, counted from 0; the control raises it."
    )
    since: Annotated[str, Moment()] | None = Field(
        default=None,
        description="When that step began: what was served before is not judged. The control says it.",
    )
    step_s: Seconds = Field(default=600, description="How long a step takes at least.")
    min_samples: Annotated[int, Whole(10, 10**6)] = Field(
        default=100, description="Calls of each arm without which nothing is judged."
    )
    confidence: Annotated[float, Number(0.5, 0.9999)] = Field(
        default=0.95,
        description="How sure a rollback must be: a harmless canary survives all of its steps with"
        " this probability at least, however often it is looked at.",
    )
    guards: Guards = Field(
        default_factory=Guards, description="How much worse it may be before it is taken back."
    )


class Point(Section):
    """A share of the calls at a moment."""

    at: Annotated[str, Moment()] = Field(description="The moment, in UTC where it names no offset.")
    percent: Percent = Field(description="The percent of the calls that are led there by then.")


class Migration(Section):
    """A change from one model to another, by weight over time."""

    model: Name | None = Field(default=None, description=_TO_MODEL)
    deployment: DeploymentId | None = Field(default=None, description=_TO_DEPLOYMENT)
    schedule: Annotated[tuple[Point, ...], Field(min_length=1, max_length=100)] = Field(
        description="Moments with their percents, in order of time; between two of them the share"
        " grows evenly. Before the first one nothing is led there."
    )


class ShadowTest(Section):
    """Copies of calls to another model, beside the answer that callers get; no caller pays or waits for one."""

    model: Name | None = Field(default=None, description=_TO_MODEL)
    deployment: DeploymentId | None = Field(default=None, description=_TO_DEPLOYMENT)
    percent: Percent = Field(default=100, description="The percent of the calls that are copied.")
    max_body_kb: Annotated[int, Whole(1, 32 * 1024)] = Field(
        default=256, description="Larger requests are not copied; in KiB."
    )
    concurrency: Annotated[int, Whole(1, HIGHEST_CONCURRENCY)] = Field(
        default=8,
        description="Copies that may be under way at the same time, on all edges together.",
    )
    budgets: Annotated[Budgets, Field(min_length=1)] = Field(
        validation_alias="budget",
        description="What the copies may cost: they are charged to this and to nobody else.",
    )


class Experiment(Section):
    """
    A change that is tried out behind a name, with callers untouched.

    One of `arms`, `canary`, `migration` and `shadow` says what kind it is.
    """

    asked: Name = Field(description="The model or route whose calls take part.")
    sticky: Annotated[Sticky, Word.of(Sticky)] = Field(
        default="caller",
        description="What stays in one arm: the `caller` (a key), the `user` that a request names,"
        " the `session` (`x-session-id`, `metadata.session_id` or `prompt_cache_key`), or nothing"
        " beyond the `request`. Where a request names none, its key counts.",
    )
    stopped: Annotated[str, Text(longest=500)] | None = Field(
        default=None,
        description="Why it is stopped; while this stands, calls go as if it were not there."
        " A canary that does harm is stopped so by the control.",
    )
    arms: Annotated[dict[PlainName, Arm], Field(min_length=2, max_length=20)] | None = Field(
        default=None, description="An A/B test: its arms by name."
    )
    canary: Canary | None = Field(default=None, description="A canary.")
    migration: Migration | None = Field(default=None, description="A weighted migration.")
    shadow: ShadowTest | None = Field(default=None, description="Shadow traffic.")
