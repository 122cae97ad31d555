"""Configurations to try things on: one that has everything, and a strategy for any valid one."""

from collections.abc import Callable, Mapping
from typing import Any

import yaml
from hypothesis import strategies as st

from config.section import Section
from config.tenants import Declares

FULL = """\
x-anchors: &slow {first_byte_timeout_s: 300}
store: {redis: "${REDIS_URL:-embedded}", ledger: sqlite:var/ledger.db, admit_timeout_ms: 500}
edge: {listen: 127.0.0.1:8080, workers: ${WORKERS:-auto}, access_log: off}
admin: {listen: "[::1]:8081", token: ${ADMIN_TOKEN}}
providers:
  openai: {protocol: openai, base_url: https://api.openai.com/v1/, api_key: ${OPENAI_API_KEY}}
  house:
    <<: *slow
    protocol: openai
    base_url: http://${HOUSE:-10.0.0.5}:8000/v1
    headers: {x-team: "a b", X-Auth: "Token ${HOUSE_TOKEN}"}
    stream_usage: false
models:
  gpt-4.1:
    tags: [chat, no, 1e3]
    deployments:
      - {provider: openai}
      - {provider: house, name: 0123, weight: 2, limits: {rpm: 3_000, tpm: 4, concurrency: 2}}
      - {provider: house, id: spare, region: eu, drained: true, price: {input: 0, output: 0}}
  qwen:
    quality: 0.71
    context: 131072
    max_output: 1000
    price: {input: 0.10, output: 0.30, cached_input: 0.000000001}
    limits: {rpm: 5}
    deployments: [{provider: house, name: Qwen/Qwen3-32B}]
routes:
  auto: {models: [gpt-4.1, qwen]}
organizations:
  acme:
    limits: {rpm: 6000}
    budget: {usd: 2000, per: month}
    teams:
      no:
        budget: [{usd: 300.5, per: month, mode: strict}, {usd: 1, per: day}]
        keys:
          helpdesk:
            key: ${HELPDESK_KEY}
            application: helpdesk
            biz_level: premium
            prefer_cost: low
            models: [auto, qwen]
            limits: {rpm: 600, concurrency: 50}
          other: {key: "sha256:9F86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}
"""

ENVIRON: Mapping[str, str] = {
    "ADMIN_TOKEN": "admin-token-of-the-operator",
    "OPENAI_API_KEY": "sk-openai-secret",
    "HOUSE_TOKEN": "token-of-the-house",
    "HELPDESK_KEY": "helpdesk-key-in-clear",
}


names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,8}", fullmatch=True)
plain_names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:@+-]{0,8}", fullmatch=True)
labels = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1).map(
    lambda text: text[:128].replace("$", "$$")
)
usd = st.decimals(min_value="0.000000001", max_value=9_000_000, places=9).map(float)


def maybe(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Draw a section of which every field may be absent, or empty."""
    return st.fixed_dictionaries(
        {}, optional={name: st.none() | each for name, each in fields.items()}
    )


def whole(low: int, high: int) -> st.SearchStrategy[int]:
    return st.integers(low, high)


limits = maybe(rpm=whole(1, 10**7), tpm=whole(1, 10**10), concurrency=whole(1, 10**6))
budget = st.fixed_dictionaries(
    {"usd": usd, "per": st.sampled_from(["day", "week", "month"])},
    optional={"mode": st.sampled_from(["strict", "soft"])},
)
budgets = budget | st.lists(budget, unique_by=lambda b: (b["per"], b.get("mode", "soft")))
seconds = st.floats(0.001, 86_400) | whole(1, 86_400)
tokens = st.fixed_dictionaries(
    {"input": st.floats(0, 100).map(lambda n: round(n, 9)), "output": whole(0, 100)},
    optional={"reasoning": st.none() | whole(0, 9)},
)
price = tokens | st.builds(
    lambda first, then: [first, {"from": "2027-01-01", **then}], tokens, tokens
)
quality = st.floats(0, 1) | st.fixed_dictionaries(
    {}, optional={"overall": st.floats(0, 1), "long-context": st.floats(0, 1) | st.none()}
)


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, Any]:
    """Draw the data of a valid configuration; secrets are `${SECRET_<n>}` (see `secret_environ`)."""
    askable = draw(st.lists(names, unique=True, min_size=1, max_size=5))
    cut = draw(whole(1, len(askable)))
    models, routes = askable[:cut], askable[cut:]
    providers = draw(st.lists(names, unique=True, min_size=1, max_size=3))
    secret = iter(f"${{SECRET_{n}}}" for n in range(1000))

    def some(known: list[str], at_least: int = 0) -> list[str]:
        return draw(st.lists(st.sampled_from(known), unique=True, min_size=at_least))

    deployment_count = iter(range(1000))

    def deployment() -> dict[str, Any]:
        more = maybe(
            name=labels,
            region=labels,
            weight=whole(1, 1000),
            limits=limits,
            drained=st.booleans(),
            price=price,
        )
        return {
            "provider": draw(st.sampled_from(providers)),
            "id": f"deployment-{next(deployment_count)}",
            **draw(more),
        }

    def key() -> dict[str, Any]:
        more = maybe(
            application=labels,
            biz_level=st.sampled_from(["premium", "normal", "economy"]),
            limits=limits,
            budget=budgets,
        )
        return {"key": next(secret), "models": some(askable), **draw(more)}

    def provider() -> dict[str, Any]:
        more = maybe(connect_timeout_s=seconds, stream_usage=st.booleans())
        return {
            "protocol": "openai",
            "base_url": draw(st.sampled_from(["http://h", "https://a.b/v1", "http://[::1]:80/x/"])),
            "api_key": draw(st.sampled_from([None, next(secret)])),
            **draw(more),
        }

    def section(of: Callable[[], Any], called: list[str]) -> dict[str, Any]:
        return {name: of() for name in called}

    def some_names() -> list[str]:
        return draw(st.lists(plain_names, unique=True, max_size=2))

    return {
        "edge": draw(maybe(workers=st.just("auto") | whole(1, 9), drain_timeout_s=whole(0, 9))),
        "admin": {"token": draw(st.sampled_from([None, next(secret)]))},
        "providers": section(provider, providers),
        "models": section(
            lambda: {
                "deployments": [deployment() for _ in range(draw(whole(1, 2)))],
                **draw(maybe(quality=quality, price=price, limits=limits)),
            },
            models,
        ),
        "routes": section(lambda: {"models": some(models, at_least=1)}, routes),
        "organizations": section(
            lambda: {
                "teams": section(
                    lambda: {"keys": section(key, some_names()), **draw(maybe(budget=budgets))},
                    some_names(),
                ),
                **draw(maybe(limits=limits)),
            },
            some_names(),
        ),
    }


def secret_environ() -> dict[str, str]:
    """Give the variables of drawn configurations: each value is easy to find where it must not be."""
    return {f"SECRET_{n}": f"hush-{n:04}-hush-hush-hush" for n in range(1000)}


def as_yaml(data: dict[str, Any], *, flow: bool | None = False) -> str:
    """Write data as YAML by another hand than ours; numbers keep all of their digits."""
    return yaml.safe_dump(data, default_flow_style=flow, sort_keys=False, allow_unicode=True)


def written_sections() -> list[type[Section]]:
    """Return every kind of section that stands in a document; what several have in common is none."""
    own = [each for each in Section.__subclasses__() if each is not Declares]
    return [*own, *Declares.__subclasses__()]
