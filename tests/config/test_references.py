"""Names that must exist and must be unique: each kind of slip is found, with the line to mend."""

import pytest

from config.loader import check_text

BASE = """\
admin: {}
edge: {}
providers:
  p: {protocol: openai, base_url: http://h}
  q/r: {protocol: openai, base_url: http://h}
  g: {protocol: bedrock, base_url: http://h, api_key: "${KEY}"}
models:
  m: {deployments: [{provider: p}]}
  n: {deployments: [{provider: p}]}
routes:
  auto: {models: [m, n]}
organizations:
  o: {teams: {t: {keys: {k: {key: "sha256:%s"}}}}}
""" % ("0" * 64)


def said(old: str, new: str) -> list[str]:
    assert old in BASE
    text = BASE.replace(old, new, 1)
    return [str(each) for each in check_text(text, source="f", environ={"KEY": "k" * 16})]


def test_the_base_is_sound() -> None:
    """Nothing to say of it."""
    assert said("admin", "admin") == []


@pytest.mark.parametrize(
    ("old", "new", "problems"),
    [
        (
            "m: {deployments: [{provider: p}]}",
            "m: {deployments: [{provider: x}]}",
            [
                'f:8: models.m.deployments[0].provider: no provider named "x"; there are: "p", "q/r", "g"'
            ],
        ),
        (
            'api_key: "${KEY}"}',
            "dialect: vllm}",
            [
                (
                    "f:6: providers.g: Amazon has to be told who asks, once; write api_key (a bearer"
                    " key) or aws (an access key), one of the two"
                ),
                "f:6: providers.g.dialect: this is for providers that speak openai; leave it out",
            ],
        ),
        (
            "p: {protocol: openai, base_url: http://h}",
            "p: {protocol: gemini, base_url: http://h, token: {file: /x, metadata: true}}",
            [
                (
                    "f:4: providers.p.token: a provider is shown one thing only; write one of"
                    " service_account, metadata and file, and no api_key beside it"
                )
            ],
        ),
        (
            "p: {protocol: openai, base_url: http://h}",
            "p: {protocol: anthropic, base_url: http://h, dialect: vertex, token: {metadata: true}}",
            [],
        ),
        (
            "p: {protocol: openai, base_url: http://h}",
            "p: {protocol: openai, base_url: http://h, dialect: vertex}",
            [
                (
                    "f:4: providers.p.dialect: this is for providers that speak anthropic or"
                    " gemini; leave it out"
                )
            ],
        ),
        *(
            (
                "p: {protocol: openai, base_url: http://h}",
                f"p: {{{provider}, health: {{probe: call}}}}",
                [
                    (
                        f"f:4: providers.p.health.probe: a probe cannot ask this provider: {why};"
                        " write connect or off"
                    )
                ],
            )
            for provider, why in (
                (
                    "protocol: cohere, base_url: http://h",
                    "those who speak cohere have no such probe",
                ),
                (
                    "protocol: gemini, base_url: https://aiplatform.googleapis.com/v1/projects/o",
                    "its paths at Vertex AI are known to the edges only",
                ),
                (
                    "protocol: openai, base_url: http://h, dialect: azure, api_version: v",
                    "its paths with an api_version are known to the edges only",
                ),
                (
                    "protocol: openai, base_url: http://h, token: {file: /x}",
                    "its token is known to the edges only",
                ),
            )
        ),
        (
            'api_key: "${KEY}"}',
            'api_key: "${KEY}", health: {probe: connect}}',
            [],
        ),
        (
            'http://h, api_key: "${KEY}"}',
            "http://h, aws: {role: true, region: eu-west-1}}",
            [],
        ),
        (
            'http://h, api_key: "${KEY}"}',
            "http://h, aws: {access_key_id: A, region: eu-west-1}}",
            [
                (
                    "f:6: providers.g.aws: there is one key to sign with; write role: true, or"
                    " access_key_id with its secret_access_key"
                )
            ],
        ),
        (
            'api_key: "${KEY}"}',
            'aws: {access_key_id: A, secret_access_key: "${KEY}"}}',
            [
                (
                    "f:6: providers.g.aws: the host of base_url names no region; write aws.region,"
                    " e.g. eu-central-1"
                )
            ],
        ),
        (
            'http://h, api_key: "${KEY}"}',
            (
                "https://bedrock-runtime.eu-west-1.amazonaws.com,"
                " aws: {access_key_id: A, secret_access_key: in-clear}}"
            ),
            [
                (
                    "f:6: providers.g.aws.secret_access_key: warning: a secret in clear;"
                    " write ${VARIABLE} and keep the secret out of the file"
                )
            ],
        ),
        (
            "p: {protocol: openai, base_url: http://h}",
            (
                "p: {protocol: openai, base_url: http://h, aws: {access_key_id: A,"
                ' secret_access_key: "${KEY}"}}'
            ),
            ["f:4: providers.p.aws: this is for providers that speak bedrock; leave it out"],
        ),
        (
            "[m, n]",
            "[m, auto]",
            ['f:11: routes.auto.models[1]: no model named "auto"; there are: "m", "n"'],
        ),
        (
            "{models: [m, n]}",
            "{models: [m], degrade: [n, o]}",
            ['f:11: routes.auto.degrade[1]: no model named "o"; there are: "m", "n"'],
        ),
        ("[m, n]", "[m, m]", ['f:11: routes.auto.models[1]: "m" is listed twice; keep one']),
        (
            "[m, n]",
            "[]",
            ["f:11: routes.auto.models: found an empty list, expected at least one entry"],
        ),
        (
            "  auto: {models: [m, n]}",
            "  m: {models: [m, n]}",
            [
                (
                    "f:11: routes.m: a model has this name too (line 8);"
                    " callers ask for models and routes by the same field; rename one"
                )
            ],
        ),
        (
            "{models: [m, n]}",
            (
                "{models: [m, n], policy: cost_quality, levels:"
                " {economy: {within: {low: 0.1, high: 0.2}}}}"
            ),
            [
                (
                    "f:11: routes.auto.levels.economy.within.low: less than what calls with a"
                    " preference for high cost give up (0.2);"
                    " a preference for low cost gives up more quality; turn the two round"
                )
            ],
        ),
        (
            "{key:",
            "{pin: q, key:",
            [
                (
                    'f:13: organizations.o.teams.t.keys.k.pin: no model or deployment named "q";'
                    ' there are: "m", "n", "m/p", "n/p"'
                )
            ],
        ),
        (
            "{key:",
            "{files: p, key:",
            [
                (
                    "f:13: organizations.o.teams.t.keys.k.files: no provider that has `files: true`"
                    ' named "p"; no provider that has `files: true` is defined'
                )
            ],
        ),
        (
            "{key:",
            "{models: [auto, m, N, x, m], key:",
            [
                "f:13: organizations.o.teams.t.keys.k.models[2]: no model or route named \"N\"; did you mean 'n'?",
                (
                    'f:13: organizations.o.teams.t.keys.k.models[3]: no model or route named "x";'
                    ' there are: "m", "n", "auto"'
                ),
                'f:13: organizations.o.teams.t.keys.k.models[4]: "m" is listed twice; keep one',
            ],
        ),
        (
            "n: {deployments: [{provider: p}]}",
            "n: {deployments: [{provider: p, id: m/p}]}",
            [
                (
                    'f:9: models.n.deployments[0].id: the deployment id "m/p" is taken by'
                    " models.m.deployments[0]; give each deployment an id of its own"
                )
            ],
        ),
        (
            "n: {deployments: [{provider: p}]}",
            "m/q: {deployments: [{provider: p, id: a}, {provider: p, id: a}]}\n  m: {deployments: []}",
            None,
        ),
        (
            "  m: {deployments: [{provider: p}]}",
            "  m: {deployments: [{provider: q/r}]}\n  m/q: {deployments: [{provider: r}]}",
            None,
        ),
        (
            "  m: {deployments: [{provider: p}]}",
            "  m: {deployments: [{provider: p}], context: 10, max_output: 11, tags: [a, a]}",
            [
                "f:8: models.m.max_output: more output than the context of 10 tokens holds; lower it, or raise context",
                'f:8: models.m.tags[1]: "a" is listed twice; keep one',
            ],
        ),
        (
            "keys: {k:",
            "keys: {l: {key: 'sha256:%s'}, k:" % ("0" * 64),
            [
                (
                    "f:13: organizations.o.teams.t.keys.k.key: the same key as"
                    " organizations.o.teams.t.keys.l.key; a key belongs to one caller; make another"
                )
            ],
        ),
        (
            "teams: {t:",
            "budget: [{usd: 1, per: day}, {usd: 2, per: day, mode: strict}, {usd: 3, per: day}], teams: {t:",
            ["f:13: organizations.o.budget[2]: a second soft budget per day; keep the smaller one"],
        ),
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
        (
            "p: {protocol: openai, base_url: http://h}",
            (
                "p: {protocol: openai, base_url: http://h, api_key: ${KEY},"
                " headers: {a: b, A: c, Content-Length: 1, Authorization: x}}"
            ),
            [
                'f:4: providers.p.headers.A: the same header as "a"; keep one of the two',
                "f:4: providers.p.headers.Content-Length: the gateway owns this header; leave it out: it is made for each request",
                "f:4: providers.p.headers.Authorization: this header is made from api_key; write one of the two",
                (
                    "f:4: providers.p.headers.Authorization: warning: a secret in clear;"
                    " write ${VARIABLE} and keep the secret out of the file"
                ),
            ],
        ),
    ],
)
def test_a_slip_is_found(old: str, new: str, problems: list[str] | None) -> None:
    """Exactly these problems, in the order of the document."""
    found = said(old, new)
    if problems is None:  # several mistakes follow from one another
        assert any("deployment id" in each for each in found) or "q/r" in new
    else:
        assert found == problems


def test_one_key_under_two_variables_is_one_key() -> None:
    """Keys are compared by what they are, in clear or hashed, across organizations."""
    text = """
organizations:
  a: {teams: {t: {keys: {k: {key: "${ONE}"}}}}}
  b: {teams: {t: {keys: {k: {key: "${OTHER}"}}}}}
"""
    environ = {"ONE": "k" * 16, "OTHER": "k" * 16}
    (problem,) = check_text(text, source="f", environ=environ)
    assert problem.line == 4
    assert problem.message == "the same key as organizations.a.teams.t.keys.k.key"
    assert check_text(text, source="f", environ={**environ, "OTHER": "j" * 16}) == ()


def test_names_that_cannot_be_read_are_not_dangling() -> None:
    """A reference to an unset variable, or to what is no name, is said once."""
    for written, words in (
        ("${GONE}", "is not set"),
        ("'a b'", "expected a name"),
        ("[m]", "a list"),
    ):
        found = said("[m, n]", f"[m, {written}]")
        assert len(found) == 1
        assert words in found[0]


def test_a_secret_is_in_clear_unless_it_is_made_of_references() -> None:
    """Schemes may stand before a reference; defaults are in the file; a hash is no secret."""
    for written, is_warned in (
        ("${KEY}", False),
        ("${KEY:-}", False),
        ("${KEY}${KEY}", False),
        ("Token ${KEY}", False),
        ("${KEY:-abc}", True),
        ("abc", True),
        ("abc${KEY}", True),
    ):
        provider = "p: {protocol: openai, base_url: http://h}"
        found = said(provider, f"{provider[:-1]}, headers: {{x-api-key: '{written}'}}}}")
        assert ("a secret in clear" in "".join(found)) == is_warned
        assert len(found) == is_warned


@pytest.mark.parametrize(
    ("budget", "where"),
    [
        ("{usd: 1, per: day, mode: strict, when_store_is_down: share}", "budget"),
        ("[{usd: 1, per: day, mode: strict, when_store_is_down: share}]", "budget[0]"),
    ],
)
def test_a_strict_budget_cannot_declare_that_it_goes_on(budget: str, where: str) -> None:
    """What is spent unseen may overshoot it; `closed` is what it does anyway, and a soft one may say either."""
    [problem] = said("o: {teams", f"o: {{budget: {budget}, teams")
    assert (
        f"organizations.o.{where}.when_store_is_down: a strict budget is always closed" in problem
    )
    for fine in (
        budget.replace("share", "closed"),
        budget.replace("strict", "soft"),
        budget.replace("mode: strict, ", ""),
    ):
        assert said("o: {teams", f"o: {{budget: {fine}, teams") == []


def deep(levels: int) -> str:
    """Write organizations in organizations."""
    inner = "{}"
    for level in range(levels):
        inner = f"{{limits: {{rpm: {level + 1}}}, organizations: {{o{level}: {inner}}}}}"
    return f"organizations: {{o: {inner}}}"


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        (deep(4), "organizations.o." + "organizations.o", "at most 4 levels"),
        (
            "organizations: {o: {limits: {rpm: 5, burst: {tpm: 3}}}}",
            "organizations.o.limits.burst.tpm",
            "there is no tpm",
        ),
        (
            "organizations: {o: {limits: {rpm: 1, burst: {rpm: 50_000}}}}",
            "organizations.o.limits.burst.rpm",
            "31 days",
        ),
        (
            "organizations: {o: {users: {default: {budget: {usd: 1, per: total}}}}}",
            "organizations.o.users.default.budget.per",
            "not kept for ever",
        ),
        (
            "organizations: {o: {budget: {usd: 5, per: day, raise: {usd: 5, until: 2026-01-01}}}}",
            "organizations.o.budget.raise.usd",
            "no more than the 5 USD",
        ),
        (
            "organizations: {o: {budget: [{usd: 5, per: day}, {usd: 5, per: day, mode: strict, time_zone: Europe/Berlin}]}}",
            "organizations.o.budget[1]",
            "different time zones",
        ),
        (
            "organizations: {o: {business_lines: {b: {limits: {burst: {rpm: 3}}}}}}",
            "organizations.o.business_lines.b.limits.burst.rpm",
            "there is no rpm",
        ),
        (
            "providers: {p: {protocol: openai, base_url: http://h, limits: {burst: {rps: 3}}}}",
            "providers.p.limits.burst.rps",
            "there is no rps",
        ),
    ],
)
def test_limits_that_cannot_hold_are_said(text: str, path: str, words: str) -> None:
    """Wherever they stand, with their path."""
    found = [one for one in check_text(text, source="t", environ={}) if one.severity == "error"]
    assert [words in one.message for one in found] == [True], found
    assert found[0].path.startswith(path)


def test_what_a_user_has_spent_is_kept_where_he_is_named() -> None:
    """A total budget is for those with an entry of their own."""
    text = "organizations: {o: {users: {ann: {budget: {usd: 1, per: total}}}}}"
    assert not check_text(text, source="t", environ={})
    assert not check_text(deep(3), source="t", environ={})


@pytest.mark.parametrize(
    ("prices", "problems"),
    [
        ("{from: 2027-01-01, input: 1, output: 1}", []),
        ("[{input: 1, output: 1}, {from: 2027-01-01, input: 2, output: 2}]", []),
        (
            "[{input: 1, output: 1}, {input: 2, output: 2}]",
            [
                (
                    "f:8: models.m.price[1]: a second price without a beginning;"
                    " say from when on each of them holds, e.g. from: 2027-01-01"
                )
            ],
        ),
        (
            "[{from: 2027-01-01, input: 1, output: 1}, {from: 2027-01-01T01:00+01:00, input: 2, output: 2}]",
            [
                (
                    "f:8: models.m.price[1].from: a second price from then on;"
                    " say from when on each of them holds, e.g. from: 2027-01-01"
                )
            ],
        ),
        (
            "[{from: soon, input: 1, output: 1}]",
            [
                (
                    'f:8: models.m.price[0].from: found "soon", expected a date or a moment from 2024 to'
                    " 2099; write 2026-12-24, 2026-12-24T18:00 or 2026-12-24T18:00+01:00"
                )
            ],
        ),
    ],
)
def test_each_price_of_a_list_begins_at_a_moment_of_its_own(
    prices: str, problems: list[str]
) -> None:
    """Two that begin together would leave open which one bills."""
    model = "m: {deployments: [{provider: p}]}"
    assert said(model, f"m: {{price: {prices}, deployments: [{{provider: p}}]}}") == problems
    inner = f"m: {{deployments: [{{provider: p, price: {prices}}}]}}"
    assert len(said(model, inner)) == len(problems)


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
