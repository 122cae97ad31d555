"""Experiments: of one kind, leading to what there is, and no two at the same name."""

import pytest

from tests.config.slips import said

TWO = "arms: {x: {}, y: {model: n}}"
LATER = "{at: 2026-12-01, percent: 2}"


@pytest.mark.parametrize(
    ("experiments", "problem"),
    [
        ("{e: {asked: m, TWO}}", None),
        ("{e: {asked: auto/coding, arms: {x: {}, y: {model: auto}}}}", None),
        ("{e: {asked: m/coding, TWO}}", 'experiments.e.asked: no model or route named "m/coding"'),
        ("{e: {asked: mm, TWO}}", 'experiments.e.asked: no model or route named "mm"'),
        ("{e: {asked: m}}", "experiments.e: none of arms, canary, migration and shadow"),
        (
            "{e: {asked: m, canary: {model: n}, TWO}}",
            "experiments.e: arms and canary of arms, canary, migration and shadow",
        ),
        (
            "{e: {asked: m, arms: {x: {}, y: {model: o}}}}",
            'experiments.e.arms.y.model: no model or route named "o"',
        ),
        (
            "{e: {asked: m, canary: {deployment: n/q}}}",
            "experiments.e.canary.deployment: no deployment named \"n/q\"; did you mean 'n/p'?",
        ),
        (
            "{e: {asked: m, canary: {deployment: n/p, model: n}}}",
            "experiments.e.canary.deployment: a model and a deployment",
        ),
        (
            "{e: {asked: m, canary: {deployment: 'n/p#3'}}}",
            "experiments.e.canary.deployment: no deployment named \"n/p#3\"; did you mean 'n/p'?",
        ),
        ("{e: {asked: m, canary: {model: ~, deployment: n/p}}}", None),
        ('{e: {asked: m, canary: {model: n, deployment: "${TO:-}"}}}', None),
        ("{e: {asked: m, canary: {model: ~}}}", "experiments.e.canary: it leads nowhere"),
        ("{e: {asked: m, canary: {step_s: 60}}}", "experiments.e.canary: it leads nowhere"),
        (
            "{e: {asked: m, arms: {x: {weight: 0}, y: {weight: 0}}}}",
            "experiments.e.arms: no arm has a weight",
        ),
        (
            "{e: {asked: m, canary: {model: n, steps: [5, 5]}}}",
            "experiments.e.canary.steps[1]: no more than the step before",
        ),
        (
            "{e: {asked: m, canary: {model: n, steps: [5, 50], step: 2}}}",
            "experiments.e.canary.step: there are only 2 steps",
        ),
        (
            "{e: {asked: m, canary: {model: n, step: 5}}}",
            "experiments.e.canary.step: there are only 5 steps",
        ),
        (
            "{e: {asked: m, migration: {model: n, schedule: [{at: 2026-12-02, percent: 1}, LATER]}}}",
            "experiments.e.migration.schedule[1].at: not later than the moment before",
        ),
        (
            "{e: {asked: m, shadow: {model: n}}}",
            "experiments.e.shadow.budget: missing",
        ),
        (
            "{e: {asked: m, shadow: {model: n, budget: [{usd: 1, per: day}, {usd: 2, per: day}]}}}",
            "experiments.e.shadow.budget[1]: a second soft budget per day",
        ),
        (
            "{e: {asked: m, TWO}, f: {asked: m, canary: {model: n}}}",
            'experiments.f.asked: experiment "e" leads the calls of "m" already',
        ),
        (
            "{e: {asked: m, stopped: '${WHY:-}', TWO}, f: {asked: m, canary: {model: n}}}",
            'experiments.f.asked: experiment "e" leads the calls of "m" already',
        ),
        ("{e: {asked: m, stopped: 'null', TWO}, f: {asked: m, canary: {model: n}}}", None),
        ("{e: {asked: m, stopped: enough, TWO}, f: {asked: m, canary: {model: n}}}", None),
        (
            "{e: {asked: m, TWO}, f: {asked: m, shadow: {model: n, budget: {usd: 1, per: day}}}}",
            None,
        ),
    ],
)
def test_an_experiment_is_of_one_kind_and_leads_to_what_there_is(
    experiments: str, problem: str | None
) -> None:
    """And two that run do not lead the calls of one name."""
    experiments = experiments.replace("TWO", TWO).replace("LATER", LATER)
    found = said("organizations:", f"experiments: {experiments}\norganizations:")
    if problem is None:
        assert found == []
    else:
        assert len(found) == 1
        assert problem in found[0]
