"""
One version of the configuration, ready for the hot path.

Everything that a request needs and that does not change from request to request is made here once: callers by key, names by what serves them, request heads, prices, plans.
A new version makes a new `Live`; exchanges that run keep theirs until they end.
"""

import logging
import ssl
from bisect import bisect_left
from collections import Counter as Counts
from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import dataclass
from datetime import datetime

import msgpack

from config.cells import cell_of
from config.keys import KeySecrets
from config.models import Config
from config.offers import Hedge
from config.routes import Route
from governance.identity import Caller, Directory, nobody
from governance.ledger import ENTRY_FIELDS
from proxy.errors import BadRequest, Forbidden, NotFound
from proxy.observe import Counter, Histogram, Metrics
from proxy.place import UNPRICED, Place, Way, place_of, source_of, spoken_of
from proxy.tokens import Source, Token
from proxy.upstream.tls import origin_of
from proxy.wire.endpoints import Endpoint
from ratelimit.degraded import rules
from ratelimit.limits import MOST_OUTPUT, Candidate, Plan, is_limited, missing, records
from routing import decision
from routing.alike import Choices
from routing.classify import load_weights
from routing.contenders import UNBOUNDED, field_of, policy_of
from routing.eligibility import Option, Pool, UnknownModel
from routing.experiments import Arm, compiled, with_fallback
from routing.rates import Rates, bound
from routing.scoring import Policy
from store.cells import FIRST, Cell

MOST_LISTS = 1000
log = logging.getLogger("penstock.edge")

_pack = msgpack.Packer(use_bin_type=False).pack


@dataclass(frozen=True, slots=True)
class Offer:
    """
    What one caller gets for one name: the plan for `admit`, and the places in the plan's order, each with the way to ask it.

    `most_input` is the most input tokens that any of the places can take: what an upper bound need not exceed.
    """

    plan: Plan
    places: tuple[Place, ...]
    ways: tuple[Way, ...]
    translates: bool
    """Whether any of them leads into another protocol."""
    strict: bool
    caller: Caller
    asked: str
    most_input: int
    ok: Counter
    duration: Histogram
    choices: Choices
    """
    Who could serve, as the scorer sees them.

    Behind them stand those that serve in need, and what a name leads to whose calls an experiment leads to another route.
    """
    degraded: frozenset[int]
    """Numbers of the places, from 0, that serve only where none of their route's models can."""
    hedge: Hedge | None
    """When a stream that is late is asked for once more, beside."""
    affine: frozenset[str]
    """Models of which one of several places is favoured by how a prompt begins."""
    decides: bool
    """Whether a call that wishes nothing is to be looked at by the scorer."""
    policy: bytes
    """What answers say of the policy."""
    decided: str
    """How the record of a decision among the places begins."""
    experiments: tuple[str, ...]
    """What the ledger says of the experiment that led a call to each place; empty where none did."""
    led: tuple[bytes, ...]
    """The same as answers say it."""
    label: str
    """What is asked for, as a label of metrics."""


class Live:
    """The running configuration, compiled."""

    def __init__(
        self,
        config: Config,
        version: int,
        metrics: Metrics,
        *,
        at: datetime,
        replica: str,
        trust: MutableMapping[str, ssl.SSLContext],
        secrets: KeySecrets,
        token: Callable[[Source], Token] = Token,
    ) -> None:
        """Compile; `token` gives the token of a source, which its owner keeps up, `trust` is of `origin_of`. Raises what that raises."""
        load_weights()
        self.config = config
        self.tokens = {
            source
            for provider in config.providers.values()
            if (source := source_of(provider)) is not None
        }
        self._token = token
        self.version = version
        # What each limit does when the store is away.
        self.rules = rules(config)
        self.callers = Directory(config, secrets)
        self.pool = Pool(config, at)
        # What is tried out, by the name that callers ask for.
        self.trials = compiled(config)
        # Who pays for what is copied, by the experiment.
        self.shadow_callers = {
            trial.shadow.name: nobody(
                trial.shadow.scope,
                strict=any(budget.mode == "strict" for budget in trial.shadow.budgets),
            )
            for trial in self.trials.values()
            if trial.shadow is not None
        }
        self.until_us = self.pool.next_price_change_us()
        self._metrics = metrics
        self._replica = replica
        self._offers: dict[tuple[str, str, Endpoint, bool, int], Offer] = {}
        self._named = frozenset(self.pool.names())
        self._choices: dict[tuple[str, tuple[tuple[str, int], ...], int], Choices] = {}
        self._listed: list[tuple[str, str, Endpoint, bool, int]] = []
        self._records: dict[Cell, dict[str, bytes]] = {}
        self._thresholds: dict[str, tuple[int, ...]] = {}
        self.origins = {
            name: origin_of(provider.base_url, provider.ca_file, trust)
            for name, provider in config.providers.items()
        }
        self._places = {
            option.placed.id: place_of(
                option, metrics, self.origins[option.placed.deployment.provider], token
            )
            for name in config.models
            for option in self.pool.options(name)
        }

    def keeper_of(self, caller: Caller) -> str:
        """Return the provider that keeps a caller's files, empty where none does, or several might."""
        if caller.files:
            return caller.files
        keepers = [name for name, each in self.config.providers.items() if each.files]
        return keepers[0] if len(keepers) == 1 else ""

    def names_for(self, caller: Caller) -> list[str]:
        """Return the models and routes that this caller may ask for."""
        return [name for name in self.pool.names() if caller.may_ask_for(name)]

    def offer(
        self,
        caller: Caller,
        asked: str,
        endpoint: Endpoint,
        *,
        stream: bool,
        input_bound: int,
        arm: Arm | None = None,
        alone: bool = False,
    ) -> Offer:
        """
        Return what this caller gets for this name.

        The `arm` of an experiment leads elsewhere, with where the name leads as the last resort; `alone`: without.
        `input_bound` is the most input tokens that the call can hold: where a price depends on it, the reservation takes the dearest that can apply.
        Raises `NotFound`, `Forbidden`, and `BadRequest` when every candidate falls out.
        """
        # No name holds what parts the two.
        name = asked if arm is None else f"{asked} {arm.label} {'alone' if alone else ''}"
        thresholds = self._thresholds.get(name)
        tier = 0 if not thresholds else bisect_left(thresholds, input_bound)
        found = self._offers.get((caller.key, name, endpoint, stream, tier))
        if found is None:
            options, route = self._options(caller, asked, arm, alone=alone)
            # What a name that nobody configured stands for may depend on the caller.
            among = options if asked in self._named else self.pool.everybody()
            self._thresholds[name] = tuple(
                sorted({start for o in among if o.rates for start, _ in o.rates.tiers})
            )
            found = self._make_offer(
                caller,
                asked,
                endpoint,
                options,
                route,
                stream=stream,
                input_bound=input_bound,
                arm=arm,
            )
            tier = bisect_left(self._thresholds[name], input_bound)
            self._offers[caller.key, name, endpoint, stream, tier] = found
            if found.label != asked:
                # Callers may write lists without end.
                if len(self._listed) >= MOST_LISTS:
                    for key in self._listed:
                        self._offers.pop(key, None)
                        self._thresholds.pop(key[1], None)
                    self._listed.clear()
                self._listed.append((caller.key, name, endpoint, stream, tier))
        return found

    def _options(
        self, caller: Caller, asked: str, arm: Arm | None, *, alone: bool
    ) -> tuple[list[Option], Route | None]:
        """Return who could serve what is asked for, in an arm of an experiment or in none, and the route that decides. Raises `NotFound` and `Forbidden`."""
        try:
            options, route, names = self.pool.asked(asked, caller.may_ask_for)
        except UnknownModel as unknown:
            raise NotFound(
                f"The model '{unknown}' does not exist here. GET /v1/models lists what this key may use.",
                code="model_not_found",
                param="model",
            ) from None
        for each in names:
            if not caller.may_ask_for(each):
                raise Forbidden(
                    f"This key may not use the model '{each}'. GET /v1/models lists what it may use.",
                    code="model_not_allowed",
                    param="model",
                )
        if arm is None or not arm.leads:
            return options, route
        # A model or a deployment is a choice already; another route decides by its own policy.
        return self.pool.led(options, arm, alone=alone), self.pool.route_of(arm)

    def _make_offer(
        self,
        caller: Caller,
        asked: str,
        endpoint: Endpoint,
        options: list[Option],
        route: Route | None,
        *,
        stream: bool,
        input_bound: int,
        arm: Arm | None,
    ) -> Offer:
        label = "list" if "," in asked else asked
        reasons = {}
        eligible = []
        for option in options:
            if endpoint not in self._places[option.placed.id].ways:
                reasons[option.placed.id] = (
                    f"its provider speaks {option.provider.protocol},"
                    f" in which {endpoint.route} cannot be asked"
                )
            elif not _is_priced(option.rates, endpoint) and (
                caller.strict or self._is_strict(option)
            ):
                over = "this key" if caller.strict else "it"
                reasons[option.placed.id] = (
                    f"its price is unknown, and a strict budget stands over {over}"
                    f" (set models.{option.placed.model}.price)"
                )
            else:
                eligible.append(option)
        if not eligible:
            words = "; ".join(f"{name}: {why}" for name, why in reasons.items())
            raise BadRequest(
                f"No deployment of '{asked}' can serve this request: {words}.",
                code="none_eligible",
                param="model",
            )
        places = tuple(self._places[option.placed.id] for option in eligible)
        ways = tuple(
            (way.streamed or way) if stream else way
            for way in (place.ways[endpoint] for place in places)
        )
        policy = policy_of(route, self.config.edge.assumed_output_tokens)
        own = [arm is None or self.pool.is_own(option, arm) for option in eligible]
        labels = tuple("" if arm is None else with_fallback(arm.label, own=each) for each in own)
        # What another route chooses among are its own places; they stand first, before those that serve in need.
        leading = eligible[: sum(own)] if policy.scores and any(own) else eligible
        plain = sum(not option.degraded for option in leading)
        scored = leading[:plain] if policy.scores and plain else leading
        behind = eligible[len(scored) :]
        name = asked if arm is None or not arm.leads else arm.label
        return Offer(
            plan=Plan(
                caller.scopes,
                tuple(_candidate(option, input_bound) for option in eligible),
                self._entry(caller, asked, endpoint, places[0], stream=stream, arm=arm),
                caller.users,
                tenant=caller.tenant,
                weight=caller.weight,
                cell=cell_of(self.config, caller.organization),
            ),
            places=places,
            ways=ways,
            translates=any(way.translation is not None for way in ways),
            strict=caller.strict or any(map(self._is_strict, eligible)),
            caller=caller,
            asked=asked,
            most_input=max(option.context or UNBOUNDED for option in eligible),
            ok=self._metrics.counter("penstock_requests_total", endpoint.word, label, "200"),
            duration=self._metrics.histogram("penstock_duration_seconds", label),
            choices=self._choices_of(name, scored, behind, policy),
            degraded=frozenset(number for number, option in enumerate(eligible) if option.degraded),
            hedge=self._hedge(asked, route) if len(places) > 1 else None,
            affine=frozenset(
                name
                for name, count in Counts(place.model for place in places).items()
                if count > 1 and self.config.models[name].prefix_affinity
            ),
            decides=policy.scores or caller.wishes.filters,
            policy=b"; policy=" + policy.name.encode(),
            decided=decision.head(asked, [place.id for place in places]),
            experiments=labels,
            led=tuple(b"; experiment=" + each.encode() if each else b"" for each in labels),
            label=label,
        )

    def _hedge(self, asked: str, route: Route | None) -> Hedge | None:
        """Return when calls for a name are hedged: as its route says, or its model."""
        if route is not None:
            return route.hedge
        model = self.config.models.get(asked)
        return None if model is None else model.hedge

    def _choices_of(
        self, name: str, scored: list[Option], behind: list[Option], policy: Policy
    ) -> Choices:
        """Return what the scorer sees of an offer: one for all callers who get the same for the same name, or arm."""
        places = tuple((option.placed.id, option.tier) for option in (*scored, *behind))
        key = (name, places, len(scored))
        found = self._choices.get(key)
        if found is None:
            found = Choices(
                field_of(scored, policy, MOST_OUTPUT),
                field_of(behind, Policy(), MOST_OUTPUT) if behind else None,
            )
            if "," not in name:
                self._choices[key] = found
        return found

    def _is_strict(self, option: Option) -> bool:
        """Whether a strict budget stands over a deployment, its model or its provider."""
        budgets = (
            *option.placed.deployment.budgets,
            *self.config.models[option.placed.model].budgets,
            *option.provider.budgets,
        )
        return any(budget.mode == "strict" for budget in budgets)

    def records_for(self, keys: Iterable[str], cell: Cell = FIRST) -> list[tuple[str, bytes]]:
        """Return the limits to write where a cell of the store lacks some keys."""
        known = self._records.get(cell)
        if known is None:
            known = self._records[cell] = dict(records(self.config, self.version, cell))
        return missing(known, keys)

    def _entry(
        self,
        caller: Caller,
        asked: str,
        endpoint: Endpoint,
        place: Place,
        *,
        stream: bool,
        arm: Arm | None,
    ) -> bytes:
        """Return the entry that a reaper completes when this replica dies."""
        known = {
            "organization": caller.organization,
            "team": caller.team,
            "key": caller.key,
            "application": caller.application,
            "business_line": caller.business_line,
            "model_asked": asked,
            "price_version": place.rates.version,
            "outcome": "reaped",
            "token_source": "estimated",
            "reason": "reaped",
            "protocol": endpoint.word,
            "replica": self._replica,
            "stream": 1 if stream else 0,
            "experiment": "" if arm is None else arm.label,
        }
        texts = {
            *("attempt_id", "request_id", "user", "model", "deployment", "provider"),
            *("decision", "experiment"),
        }
        packed: bytes = _pack(
            [known.get(name, "" if name in texts else 0) for name in ENTRY_FIELDS]
        )
        return packed

    def learn_absent(self, deployment: str, asked: Endpoint) -> None:
        """Take that a deployment's server has not got what callers ask there: from now on what can stand in for it is asked."""
        place = self._places.get(deployment)
        way = None if place is None else place.ways.get(asked)
        if place is None or way is None or way.instead is None:
            return
        place.ways[asked] = way.instead
        self._offers.clear()
        log.info("%s has no %s: chat completions stand in for it", deployment, asked.route)

    def headers_to(self, provider_name: str) -> dict[str, str]:
        """Return the headers of a request that is not of the hot path: the provider's own, and what shows who asks, as it is now."""
        provider = self.config.providers[provider_name]
        headers = dict(provider.headers)
        if provider.token is not None:
            value = self._token(provider.token).value.decode("ascii")
            if value:
                headers["authorization"] = f"Bearer {value}"
        elif provider.api_key is not None:
            name, value = spoken_of(provider).protocol.credential(provider.api_key.reveal())
            headers[name] = value
        return headers


def _is_priced(rates: Rates | None, endpoint: Endpoint) -> bool:
    """Whether a price list says what a call costs here."""
    if rates is None:
        return False
    return rates.sells_tokens or any(
        getattr(rates, name) for name in (*endpoint.sells, "request_nusd")
    )


def _candidate(option: Option, input_bound: int) -> Candidate:
    rates = option.rates or UNPRICED
    dearest_input, dearest_output = bound(rates, input_bound)
    return Candidate(
        deployment=option.placed.id,
        model=option.placed.model,
        tier=option.tier,
        input=dearest_input,
        output=dearest_output,
        input_estimate=rates.input_nusd_per_ktok,
        most=option.max_output or MOST_OUTPUT,
        provider=option.placed.deployment.provider,
        request=rates.request_nusd,
        limited_provider=is_limited(option.provider),
    )
