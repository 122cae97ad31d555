"""
What one place of the document says about another: names that must exist, and must be unique.

It works on the tree as written, not on the checked models, so that these mistakes are reported
together with all others. Whatever has the wrong shape is passed over here; the models report it.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from urllib.parse import urlsplit

from pydantic_core import PydanticCustomError

from config.document import NULLS, Entry, Node
from config.keys import VARIABLE, KeySecrets
from config.models import deployment_ids
from config.problems import Path, nearest, quoted, spell
from config.processes import AdminSettings, EdgeSettings
from config.scalars import NAME, Plain, moment_of, split_listen
from config.secrets import is_hashed, read_caller_key
from config.tenants import DEFAULT_MEMBER, MOST_LEVELS
from config.vendors import why_unprobed, word_of

# Headers that frame a message or that the gateway itself must own (RFC 9110 §7.6.1, RFC 9112 §6):
# a second opinion about them would let a request be read in two ways, or hide usage from the meter.
OWNED_HEADERS = frozenset(
    {
        *("connection", "content-length", "expect", "host", "keep-alive", "proxy-connection"),
        *("te", "trailer", "transfer-encoding", "upgrade", "accept-encoding", "content-encoding"),
    }
)
# Longer than this no bucket may take to refill: its arithmetic stays exact, and nobody waits for more.
LONGEST_REFILL_S = 31 * 86_400
_WINDOWS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_EVERYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared with, not listened on
_LOOPBACK = re.compile(r"127\.[0-9.]+|::1|localhost")
_ONLY_REFERENCES = re.compile(r"(?:[A-Za-z]+ )?(?:\$\{[A-Za-z_][A-Za-z0-9_]*(?::-)?\})+")
_BEDROCK_HOST = re.compile(r"(?:^|\.)bedrock(?:-runtime)?(?:-fips)?\.([a-z0-9-]+)\.")
# What is said to providers of one protocol only.
_SPOKEN_BY = {"aws": "bedrock", "dialect": "openai", "api_version": "openai"}
_TELLING = re.compile(r"auth|key|token|secret|cookie", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Clash:
    """One mistake: where it is (line and column from 1), what is wrong and how to mend it."""

    path: Path
    line: int
    column: int
    message: str
    nearest: str = ""
    remedy: str = ""
    severity: str = "error"


def check(root: Node, *, published: bool, secrets: KeySecrets | None = None) -> Iterator[Clash]:
    """
    Give every dangling reference and every clash of names.

    A `published` document is read by a replica: where others listen and how the file wrote its
    secrets was judged when it was published. Without key `secrets` keyed hashes are not judged.
    """
    yield from _providers(root)
    yield from _models(root)
    yield from _routes(root)
    yield from _experiments(root)
    yield from _callers(root, secrets)
    if not published:
        yield from _addresses(root)
        yield from _secrets_in_clear(root)


def _providers(root: Node) -> Iterator[Clash]:
    for name, provider in _members(root, "providers"):
        yield from _limited(("providers", name), provider.node)
        yield from _known_to_the_vendor(("providers", name), provider)
        yield from _unprobed(("providers", name), provider.node)
        headers = provider.node.get("headers")
        seen: dict[str, str] = {}
        for header, entry in headers.entries.items() if headers else ():
            path: Path = ("providers", name, "headers", header)
            folded = header.lower()
            if folded in OWNED_HEADERS:
                yield Clash(
                    path,
                    entry.line,
                    entry.column,
                    "the gateway owns this header",
                    remedy="leave it out: it is made for each request",
                )
            if folded in seen:
                yield Clash(
                    path,
                    entry.line,
                    entry.column,
                    f"the same header as {quoted(seen[folded])}",
                    remedy="keep one of the two",
                )
            if folded == "authorization" and _text(provider.node.get("api_key")) is not None:
                yield Clash(
                    path,
                    entry.line,
                    entry.column,
                    "this header is made from api_key",
                    remedy="write one of the two",
                )
            seen.setdefault(folded, header)


def _known_to_the_vendor(path: Path, provider: Entry) -> Iterator[Clash]:
    """See that a provider says what its protocol needs to be asked, and nothing that it has no use for."""
    node = provider.node
    protocol = _text(node.get("protocol"))
    for name, spoken in _SPOKEN_BY.items():
        said = _given(node.get(name))
        platform = name == "dialect" and _text(said) == "vertex"
        fitting = {"gemini", "anthropic"} if platform else {spoken}
        if said is not None and protocol is not None and protocol not in fitting:
            yield Clash(
                (*path, name),
                said.line,
                said.column,
                f"this is for providers that speak {' or '.join(sorted(fitting))}",
                remedy="leave it out",
            )
    token = _given(node.get("token"))
    if token is not None:
        ways = [name for name in ("service_account", "file") if _given(token.get(name))]
        ways += ["metadata"] if _text(token.get("metadata")) == "true" else []
        others = [name for name in ("api_key", "aws") if _given(node.get(name))]
        if len(ways) != 1 or others:
            yield Clash(
                (*path, "token"),
                token.line,
                token.column,
                "a provider is shown one thing only",
                remedy="write one of service_account, metadata and file, and no api_key beside it",
            )
    if protocol != "bedrock":
        return
    aws, key = _given(node.get("aws")), _given(node.get("api_key"))
    if (aws is None) == (key is None):
        where = aws or provider
        yield Clash(
            (*path, "aws") if aws is not None else path,
            where.line,
            where.column,
            "Amazon has to be told who asks, once",
            remedy="write api_key (a bearer key) or aws (an access key), one of the two",
        )
    if aws is not None:
        role = _text(aws.get("role")) == "true"
        given = [
            _given(aws.get(name)) is not None for name in ("access_key_id", "secret_access_key")
        ]
        if (role and any(given)) or (not role and not all(given)):
            yield Clash(
                (*path, "aws"),
                aws.line,
                aws.column,
                "there is one key to sign with",
                remedy="write role: true, or access_key_id with its secret_access_key",
            )
    url = _text(node.get("base_url"))
    if aws is not None and aws.get("region") is None and url is not None:
        try:
            host = urlsplit(url).hostname or ""
        except ValueError:
            return
        if not bedrock_region(host):
            yield Clash(
                (*path, "aws"),
                aws.line,
                aws.column,
                "the host of base_url names no region",
                remedy="write aws.region, e.g. eu-central-1",
            )


def _unprobed(path: Path, provider: Node) -> Iterator[Clash]:
    """See that a probe only asks whom it can ask as the edges do."""
    health = provider.get("health")
    probe = _given(health.get("probe")) if health else None
    protocol, url = _text(provider.get("protocol")), _text(provider.get("base_url"))
    if probe is None or protocol is None or url is None or _text(probe) not in {"models", "call"}:
        return
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return
    why = why_unprobed(
        protocol,
        _text(_given(provider.get("dialect"))) or word_of(host),
        versioned=_given(provider.get("api_version")) is not None,
        with_token=_given(provider.get("token")) is not None,
    )
    if why:
        yield Clash(
            (*path, "health", "probe"),
            probe.line,
            probe.column,
            f"a probe cannot ask this provider: {why}",
            remedy="write connect or off",
        )


def bedrock_region(host: str) -> str:
    """Give the region that the host of a Bedrock endpoint names, "" where it names none."""
    found = _BEDROCK_HOST.search(host)
    return "" if found is None else found[1]


def _models(root: Node) -> Iterator[Clash]:
    providers = dict(_members(root, "providers"))
    owners: dict[str, str] = {}
    for name, model in _members(root, "models"):
        path: Path = ("models", name)
        yield from _repeats((*path, "tags"), model.node.get("tags"))
        yield from _too_much_output(path, model.node)
        yield from _prices(path, model.node)
        yield from _limited(path, model.node)
        placed = model.node.get("deployments")
        deployments = placed.items if placed else []
        for at, deployment in enumerate(deployments):
            here = (*path, "deployments", at)
            node = deployment.get("provider")
            yield from _dangling((*here, "provider"), node, providers, "provider")
            yield from _prices(here, deployment)
            yield from _limited(here, deployment)
        ids = deployment_ids(
            name,
            [(_text(each.get("provider")) or "", _text(each.get("id"))) for each in deployments],
        )
        for at, (deployment_id, node) in enumerate(zip(ids, deployments, strict=True)):
            here = (*path, "deployments", at)
            if deployment_id in owners:
                explicit = node.get("id")
                where = explicit or node
                yield Clash(
                    (*here, "id") if explicit else here,
                    where.line,
                    where.column,
                    f"the deployment id {quoted(deployment_id)} is taken by"
                    f" {owners[deployment_id]}",
                    remedy="give each deployment an id of its own",
                )
            else:
                owners[deployment_id] = spell(here)


def _too_much_output(path: Path, model: Node) -> Iterator[Clash]:
    context, most = model.get("context"), model.get("max_output")
    context_tokens, most_tokens = _whole(context), _whole(most)
    if most is not None and context_tokens and most_tokens and most_tokens > context_tokens:
        yield Clash(
            (*path, "max_output"),
            most.line,
            most.column,
            f"more output than the context of {context_tokens} tokens holds",
            remedy="lower it, or raise context",
        )


def _prices(path: Path, priced: Node) -> Iterator[Clash]:
    """Check that of a list of prices each begins at a moment of its own."""
    written = priced.get("price")
    seen: set[datetime | None] = set()
    for at, price in enumerate(written.items if written is not None else ()):
        said = price.get("from")
        text = _text(said)
        try:
            since = None if text is None else moment_of(text, "UTC")
        except ValueError:
            continue  # no moment: the models report it
        if since in seen and price.kind == "mapping" and not (said and said.unset):
            where = said or price
            yield Clash(
                (*path, "price", at, "from") if said else (*path, "price", at),
                where.line,
                where.column,
                "a second price from then on" if said else "a second price without a beginning",
                remedy="say from when on each of them holds, e.g. from: 2027-01-01",
            )
        seen.add(since)


def _routes(root: Node) -> Iterator[Clash]:
    models = dict(_members(root, "models"))
    for name, route in _members(root, "routes"):
        if name in models:
            yield Clash(
                ("routes", name),
                route.line,
                route.column,
                f"a model has this name too (line {models[name].line})",
                remedy="callers ask for models and routes by the same field; rename one",
            )
        yield from _references(
            ("routes", name, "models"), route.node.get("models"), models, "model"
        )
        yield from _references(
            ("routes", name, "degrade"), route.node.get("degrade"), models, "model"
        )
        yield from _policy(("routes", name), route.node)


_KINDS_OF_EXPERIMENT = ("arms", "canary", "migration", "shadow")


def _experiments(root: Node) -> Iterator[Clash]:
    """Check that an experiment is of one kind, leads to what there is, and meets no other one at the same name."""
    askable = _Askable(root)
    deployments = _deployment_ids(root)
    leading: dict[tuple[str, bool], str] = {}
    for name, entry in _members(root, "experiments"):
        path: Path = ("experiments", name)
        node = entry.node
        asked = node.get("asked")
        yield from _dangling((*path, "asked"), asked, askable, "model or route")
        kinds = [kind for kind in _KINDS_OF_EXPERIMENT if _is_said(node.get(kind))]
        if len(kinds) != 1:
            yield Clash(
                path,
                entry.line,
                entry.column,
                f"{' and '.join(kinds) or 'none'} of arms, canary, migration and shadow",
                remedy="an experiment is of one kind: write one of them",
            )
            continue
        kind = kinds[0]
        where = (*path, kind)
        for place, holder in (
            [((*where, arm), each.node) for arm, each in _members(node, "arms")]
            if kind == "arms"
            else [(where, node.get(kind))]
        ):
            assert holder is not None
            yield from _destination(place, holder, askable, deployments, must=kind != "arms")
        if kind == "arms":
            yield from _weightless(where, node)
        elif kind == "canary":
            yield from _rising((*where, "steps"), _each(node.get(kind, "steps")))
            yield from _beyond(where, node)
        elif kind == "migration":
            yield from _in_order((*where, "schedule"), node.get(kind, "schedule"))
        else:
            yield from _budgets(where, node.get(kind) or node)
            yield from _raises(where, node.get(kind) or node)
        if _is_said(node.get("stopped")):
            continue
        meets = (_text(asked) or "", kind == "shadow")
        if meets in leading:
            yield Clash(
                (*path, "asked"),
                entry.line,
                entry.column,
                f"experiment {quoted(leading[meets])} leads the calls of"
                f" {quoted(meets[0])} already",
                remedy="stop one of the two (`stopped: why`), or make them one with more arms",
            )
        leading.setdefault(meets, name)


class _Askable(dict[str, Entry]):
    """The names that callers may ask for: models, routes, `auto`, and what of these has a tag (`auto/coding`)."""

    def __init__(self, root: Node) -> None:
        super().__init__(
            (name, each) for part in ("models", "routes") for name, each in _members(root, part)
        )
        self._tagged = {"auto", *(name for name, _ in _members(root, "routes"))}

    def __contains__(self, name: object) -> bool:
        known = super().__contains__(name) or name in self._tagged
        return known or str(name).rpartition("/")[0] in self._tagged


def _is_said(node: Node | None) -> bool:
    """Whether there is a value; an empty one is as if the line were not there."""
    return node is not None and not (node.kind == "scalar" and node.raw in NULLS)


def _deployment_ids(root: Node) -> list[str]:
    found: list[str] = []
    for name, model in _members(root, "models"):
        said = [
            (_text(each.get("provider")) or "", _text(each.get("id")))
            for each in _each(model.node.get("deployments"))
        ]
        found += deployment_ids(name, said)
    return found


def _each(node: Node | None) -> list[Node]:
    return list(node.items) if node is not None else []


def _destination(
    path: Path, node: Node, askable: Collection[str], deployments: Collection[str], *, must: bool
) -> Iterator[Clash]:
    model, deployment = node.get("model"), node.get("deployment")
    yield from _dangling((*path, "model"), model, askable, "model or route")
    yield from _dangling((*path, "deployment"), deployment, deployments, "deployment", shape=".+")
    if model is not None and deployment is not None:
        yield Clash(
            (*path, "deployment"),
            deployment.line,
            deployment.column,
            "a model and a deployment",
            remedy="keep one: a deployment serves its own model",
        )
    if must and model is None and deployment is None:
        yield Clash(
            path,
            node.line,
            node.column,
            "it leads nowhere",
            remedy="say model or deployment",
        )


def _weightless(path: Path, node: Node) -> Iterator[Clash]:
    weights = [_whole(each.node.get("weight")) for _, each in _members(node, "arms")]
    arms = node.get("arms")
    if arms is not None and weights and all(weight == 0 for weight in weights):
        yield Clash(
            path, arms.line, arms.column, "no arm has a weight", remedy="give one more than 0"
        )


def _rising(path: Path, nodes: list[Node]) -> Iterator[Clash]:
    before = Decimal(-1)
    for at, node in enumerate(nodes):
        found = _amount(node)
        if found is None:
            continue
        if found <= before or found == 0:
            yield Clash(
                (*path, at),
                node.line,
                node.column,
                "no more than the step before",
                remedy="steps rise, from more than 0 to at most 100",
            )
        before = found


def _beyond(path: Path, node: Node) -> Iterator[Clash]:
    step, steps = node.get("canary", "step"), _each(node.get("canary", "steps"))
    number = _whole(step)
    # Without steps of its own a canary has the five of the default.
    if step is not None and number is not None and number >= (len(steps) or 5):
        yield Clash(
            (*path, "step"),
            step.line,
            step.column,
            f"there are only {len(steps) or 5} steps",
            remedy="steps are counted from 0",
        )


def _in_order(path: Path, node: Node | None) -> Iterator[Clash]:
    before = None
    for at, point in enumerate(_each(node)):
        when = point.get("at")
        try:
            found = moment_of(_text(when) or "", "UTC")
        except (ValueError, OverflowError):
            continue
        if when is not None and before is not None and found <= before:
            yield Clash(
                (*path, at, "at"),
                when.line,
                when.column,
                "not later than the moment before",
                remedy="write the schedule in order of time",
            )
        before = found


def _policy(path: Path, route: Node) -> Iterator[Clash]:
    """Find what makes a policy contradict itself."""
    levels = route.get("levels")
    for level in ("premium", "normal", "economy"):
        within = None if levels is None else levels.get(level)
        within = None if within is None else within.get("within")
        low, high = (None, None) if within is None else (within.get("low"), within.get("high"))
        if low is None or high is None:
            continue
        parts = [_fraction(low), _fraction(high)]
        if None not in parts and parts[0] < parts[1]:  # type: ignore[operator]
            yield Clash(
                (*path, "levels", level, "within", "low"),
                low.line,
                low.column,
                f"less than what calls with a preference for high cost give up ({high.raw})",
                remedy="a preference for low cost gives up more quality; turn the two round",
            )


def _fraction(node: Node) -> Decimal | None:
    try:
        return Decimal(_text(node) or "")
    except InvalidOperation:
        return None


def _callers(root: Node, secrets: KeySecrets | None) -> Iterator[Clash]:
    askable = {name: each for part in ("models", "routes") for name, each in _members(root, part)}
    servers = list(dict.fromkeys([*dict(_members(root, "models")), *_deployments(root)]))
    keepers = [
        name
        for name, each in _members(root, "providers")
        if _text(each.node.get("files")) in {"true", "True"}
    ]
    owners: dict[str, str] = {}
    for path, organization_entry in organizations_in(root):
        if len(path) == 2 * (MOST_LEVELS + 1):
            yield Clash(
                path,
                organization_entry.line,
                organization_entry.column,
                f"organizations have at most {MOST_LEVELS} levels",
                remedy="make it a team, or a part of one further up",
            )
        yield from _limited(path, organization_entry.node)
        yield from _pinned(path, organization_entry.node, servers)
        yield from _kept_by(path, organization_entry.node, keepers)
        for kind in ("users", "applications", "business_lines"):
            for member, member_entry in _members(organization_entry.node, kind):
                yield from _limited((*path, kind, member), member_entry.node)
                if (kind, member) == ("users", DEFAULT_MEMBER):
                    yield from _lasting((*path, kind, member), member_entry.node)
        for team, team_entry in _members(organization_entry.node, "teams"):
            team_path = (*path, "teams", team)
            yield from _limited(team_path, team_entry.node)
            yield from _pinned(team_path, team_entry.node, servers)
            yield from _kept_by(team_path, team_entry.node, keepers)
            for name, entry in _members(team_entry.node, "keys"):
                here = (*team_path, "keys", name)
                yield from _limited(here, entry.node)
                yield from _pinned(here, entry.node, servers)
                yield from _kept_by(here, entry.node, keepers)
                models = entry.node.get("models")
                yield from _references((*here, "models"), models, askable, "model or route")
                node = entry.node.get("key")
                digest = caller_key_hash(node)
                if node is None or digest is None:
                    continue
                other = None if secrets is None else secrets.unknown(digest)
                if other is not None:
                    yield Clash(
                        (*here, "key"),
                        node.line,
                        node.column,
                        f"hashed with a key secret that is not here (id {other})",
                        remedy=f"add that secret to {VARIABLE}, or make another key",
                    )
                elif secrets is not None:
                    digest = secrets.keyed(digest)
                if digest in owners:
                    yield Clash(
                        (*here, "key"),
                        node.line,
                        node.column,
                        f"the same key as {owners[digest]}",
                        remedy="a key belongs to one caller; make another",
                    )
                owners.setdefault(digest, spell((*here, "key")))


def _pinned(path: Path, node: Node, servers: Collection[str]) -> Iterator[Clash]:
    yield from _dangling((*path, "pin"), node.get("pin"), servers, "model or deployment")


def _kept_by(path: Path, node: Node, keepers: Collection[str]) -> Iterator[Clash]:
    yield from _dangling(
        (*path, "files"), node.get("files"), keepers, "provider that has `files: true`"
    )


def _deployments(root: Node) -> Iterator[str]:
    """Give the ids of all deployments."""
    for name, entry in _members(root, "models"):
        written = entry.node.get("deployments")
        yield from deployment_ids(
            name,
            [
                (_text(each.get("provider")) or "", _text(each.get("id")))
                for each in (written.items if written else ())
            ],
        )


def caller_key_hash(node: Node | None) -> str | None:
    """Give the hash of a caller key as written, or None where it cannot be read."""
    text = _text(node)
    if text is None:
        return None
    try:
        return read_caller_key(text).reveal()
    except PydanticCustomError:
        # Two keys that are both too short may still be the same mistake; they are not compared
        return None


def organizations_in(node: Node, above: Path = ()) -> Iterator[tuple[Path, Entry]]:
    """Give every organization of a document, each before its parts, with its path."""
    for name, entry in _members(node, "organizations"):
        path = (*above, "organizations", name)
        yield path, entry
        yield from organizations_in(entry.node, path)


def _limited(path: Path, scope: Node) -> Iterator[Clash]:
    """Check the limits and the budgets of a scope."""
    yield from _bursts(path, scope)
    yield from _budgets(path, scope)
    yield from _raises(path, scope)


def _bursts(path: Path, scope: Node) -> Iterator[Clash]:
    limits = scope.get("limits")
    for rate, entry in _members(scope, "limits", "burst"):
        limit, burst = limits.get(rate) if limits is not None else None, _whole(entry.node)
        place = (*path, "limits", "burst", rate)
        if limit is None:
            yield Clash(
                place,
                entry.line,
                entry.column,
                f"there is no {rate} whose burst this could be",
                remedy=f"add {rate}, or take this out",
            )
            continue
        amount = _whole(limit)
        window_s = _WINDOWS_S.get(rate[-1:])
        if burst and amount and window_s and burst * window_s > LONGEST_REFILL_S * amount:
            yield Clash(
                place,
                entry.line,
                entry.column,
                f"at {amount} a bucket of {burst} would take longer than 31 days to refill",
                remedy="make it smaller",
            )


def _each_budget(path: Path, scope: Node) -> Iterator[tuple[Path, Node]]:
    written = scope.get("budget")
    if written is not None and written.kind == "list":
        for at, budget in enumerate(written.items):
            yield (*path, "budget", at), budget
    elif written is not None:
        yield (*path, "budget"), written


def _raises(path: Path, scope: Node) -> Iterator[Clash]:
    for place, budget in _each_budget(path, scope):
        usd, raised = _amount(budget.get("usd")), _amount(budget.get("raise", "usd"))
        node = budget.get("raise", "usd")
        if node is not None and usd is not None and raised is not None and raised <= usd:
            yield Clash(
                (*place, "raise", "usd"),
                node.line,
                node.column,
                f"a raise to no more than the {usd:f} USD of the budget",
                remedy="write the amount that holds until then, not what is added",
            )


def _lasting(path: Path, scope: Node) -> Iterator[Clash]:
    for place, budget in _each_budget(path, scope):
        per = budget.get("per")
        if per is not None and _text(per) == "total":
            yield Clash(
                (*place, "per"),
                per.line,
                per.column,
                "what users without an entry of their own have spent is not kept for ever",
                remedy="name the user, or choose a period",
            )


def _budgets(path: Path, scope: Node) -> Iterator[Clash]:
    written = scope.get("budget")
    if written is None:
        return
    for at, budget in enumerate(written.items if written.kind == "list" else [written]):
        down = budget.get("when_store_is_down")
        if down is not None and _text(budget.get("mode")) == "strict" and _text(down) == "share":
            place: Path = (*path, "budget", at) if written.kind == "list" else (*path, "budget")
            yield Clash(
                (*place, "when_store_is_down"),
                down.line,
                down.column,
                "a strict budget is always closed while the store is down",
                remedy="leave it out, or make the budget soft",
            )
    if written.kind != "list":
        return
    seen: set[tuple[str | None, str]] = set()
    zones: dict[str | None, str | None] = {}
    for at, budget in enumerate(written.items):
        per, mode = _text(budget.get("per")), _text(budget.get("mode")) or "soft"
        if per is not None and (per, mode) in seen:
            yield Clash(
                (*path, "budget", at),
                budget.line,
                budget.column,
                f"a second {mode} budget per {per}",
                remedy="keep the smaller one",
            )
        seen.add((per, mode))
        zone = budget.get("time_zone")
        if zones.setdefault(per, _text(zone)) != _text(zone):
            where = zone or budget
            yield Clash(
                (*path, "budget", at),
                where.line,
                where.column,
                f"two budgets per {per} in different time zones",
                remedy="give both the same time_zone",
            )


def _addresses(root: Node) -> Iterator[Clash]:
    admin = root.get("admin", "listen")
    edge_at = _address(root.get("edge", "listen"), EdgeSettings().listen)
    admin_at = _address(admin, AdminSettings().listen)
    # With the default in place the line to mend is the edge's
    where = admin or root.get("edge", "listen")
    path: Path = ("admin" if admin else "edge", "listen")
    if where is not None and edge_at and admin_at and edge_at[1] == admin_at[1] != 0:
        same = edge_at[0] == admin_at[0] or {edge_at[0], admin_at[0]} & _EVERYWHERE
        if same:
            yield Clash(
                path,
                where.line,
                where.column,
                f"the data port and the admin port are both {admin_at[1]}",
                remedy="the two doors are kept apart; give each a port of its own",
            )
    token = root.get("admin", "token")
    has_token = token is not None and (token.unset or token.value is not None)
    if admin is not None and admin_at and not _LOOPBACK.fullmatch(admin_at[0]) and not has_token:
        yield Clash(
            ("admin", "listen"),
            admin.line,
            admin.column,
            "the admin port would be open to other machines without a token",
            remedy="add admin.token: ${PENSTOCK_ADMIN_TOKEN}, or listen on 127.0.0.1",
        )


def _secrets_in_clear(root: Node) -> Iterator[Clash]:
    places: list[tuple[Path, Node | None, str]] = [
        (("admin", "token"), root.get("admin", "token"), "")
    ]
    for name, provider in _members(root, "providers"):
        places.append((("providers", name, "api_key"), provider.node.get("api_key"), ""))
        places += (
            (("providers", name, "aws", secret), provider.node.get("aws", secret), "")
            for secret in ("secret_access_key", "session_token")
        )
        headers = provider.node.get("headers")
        for header, entry in headers.entries.items() if headers else ():
            if _TELLING.search(header):
                places.append((("providers", name, "headers", header), entry.node, ""))
    for above, entry in organizations_in(root):
        for team, team_entry in _members(entry.node, "teams"):
            for name, key in _members(team_entry.node, "keys"):
                here: Path = (*above, "teams", team, "keys", name, "key")
                places.append((here, key.node.get("key"), " or sha256:<64 hex>"))
    for path, node, other in places:
        if _is_in_clear(node):
            assert node is not None
            yield Clash(
                path,
                node.line,
                node.column,
                "a secret in clear",
                remedy=f"write ${{VARIABLE}}{other} and keep the secret out of the file",
                severity="warning",
            )


def _is_in_clear(node: Node | None) -> bool:
    if node is None or _text(node) is None or not node.raw:
        return False
    return not _ONLY_REFERENCES.fullmatch(node.raw) and not is_hashed(node.raw)


# Small questions...


def _members(node: Node, *names: str) -> Iterator[tuple[str, Entry]]:
    found = node.get(*names)
    if found is not None:
        yield from found.entries.items()


def _given(node: Node | None) -> Node | None:
    """Give a node that is not empty: an empty value means the default."""
    empty = node is None or (node.kind == "scalar" and not node.unset and node.value is None)
    return None if empty else node


def _text(node: Node | None) -> str | None:
    """Give the text of a scalar that has one."""
    return node.value if node is not None and node.kind == "scalar" and not node.unset else None


def _whole(node: Node | None) -> int | None:
    text = _text(node)
    if not isinstance(text, Plain) or not re.fullmatch(r"[0-9][0-9_]{0,30}", text):
        return None
    return int(text.replace("_", ""))


def _amount(node: Node | None) -> Decimal | None:
    text = _text(node)
    if not isinstance(text, Plain):
        return None
    try:
        found = Decimal(text.replace("_", ""))
    except InvalidOperation:
        return None
    return found if found.is_finite() else None


def _address(node: Node | None, default: str) -> tuple[str, int] | None:
    if node is not None and node.unset:
        return None
    try:
        return split_listen(_text(node) or default)
    except ValueError:
        return None


def _references(
    path: Path, written: Node | None, known: Collection[str], kind: str
) -> Iterator[Clash]:
    for at, node in enumerate(written.items if written else ()):
        yield from _dangling((*path, at), node, known, kind)
    yield from _repeats(path, written)


def _dangling(
    path: Path, node: Node | None, known: Collection[str], kind: str, *, shape: str = NAME
) -> Iterator[Clash]:
    text = _text(node)
    if node is None or text is None or text in known or not re.fullmatch(shape, text):
        return
    meant = nearest(text, known)
    some = ", ".join(quoted(each) for each in list(known)[:5])
    more = ", …" if len(known) > 5 else ""
    remedy = f"there are: {some}{more}" if known else f"no {kind} is defined"
    yield Clash(
        path,
        node.line,
        node.column,
        f"no {kind} named {quoted(node.raw)}",
        nearest=meant,
        remedy="" if meant else remedy,
    )


def _repeats(path: Path, written: Node | None) -> Iterator[Clash]:
    seen: set[str] = set()
    for at, node in enumerate(written.items if written else ()):
        text = _text(node)
        if text is not None and text in seen:
            yield Clash(
                (*path, at),
                node.line,
                node.column,
                f"{quoted(node.raw)} is listed twice",
                remedy="keep one",
            )
        seen.add(text or "")
