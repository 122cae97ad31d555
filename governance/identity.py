"""
Who is calling: keys, and the team, application, business line and organization they belong to.

Keys are known by their keyed hash only (`config.keys`); a key that is presented is hashed and looked up.
Nobody without the secret can choose a hash, so the time of a look-up says nothing about the stored keys.
The directory is made anew for each version of the configuration and never changes.
"""

from dataclasses import dataclass
from hashlib import sha256

from config.keys import KeySecrets
from config.models import Config, PlacedOrganization
from config.quotas import Budget
from config.tenants import DEFAULT_MEMBER, Declares, Member
from config.wishes import NO_WISHES, Wishes, carried


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated key, and everything the ledger says about its calls."""

    key: str
    organization: str
    team: str
    application: str
    business_line: str
    user: str
    biz_level: str
    """The highest business level that its calls may have."""
    wishes: Wishes
    """What holds for calls that do not say it themselves."""
    models: frozenset[str]
    scopes: tuple[str, ...]
    """What limits it, innermost first; the user's scopes are added call by call."""
    users: tuple[str, ...]
    """The organizations that limit their users, innermost first."""
    strict: bool
    """Whether a strict budget stands over this caller, or may stand over one of its users."""
    weight: int = 1
    """How much its team gets of deployments that are full."""
    files: str = ""
    """The provider that keeps its files; empty where the configuration leaves it to the only one that does."""

    @property
    def tenant(self) -> str:
        """Who shares full deployments with others: its team."""
        return self.key.rpartition("/")[0]

    def may_ask_for(self, model: str) -> bool:
        """Whether the key may name this model or route."""
        return not self.models or model in self.models


def nobody(scope: str, *, strict: bool) -> Caller:
    """Return who calls where nobody does: what a gateway asks for itself, charged to one scope; `strict` as a caller's."""
    return Caller(
        key="",
        organization="",
        team="",
        application="",
        business_line="",
        user="",
        biz_level="economy",
        wishes=NO_WISHES,
        models=frozenset(),
        scopes=(scope,),
        users=(),
        strict=strict,
    )


class Directory:
    """All callers of one version of the configuration. Raises `BadKeySecret` where a secret is missing."""

    def __init__(self, config: Config, secrets: KeySecrets) -> None:
        self._secrets = secrets
        # By the id of the secret that made the hash: one, but while a secret is being replaced
        self._by_tag: dict[str, dict[bytes, Caller]] = {}
        # Who has called already, by the plain hash of the key: as many as there are keys, at most
        self._met: dict[bytes, Caller] = {}
        for placed in config.placed_keys():
            key, chain = placed.key, placed.place.chain
            team = chain[0].organization.teams[placed.team]
            members = [
                *_members("application", key.application, chain),
                *_members("business_line", key.business_line, chain),
            ]
            users = [each for each in chain if each.organization.users]
            sections: list[Declares] = [key, team, *(each.organization for each in chain)]
            budgets: list[Budget] = [
                *(*key.budgets, *team.budgets),
                *(one for each in chain for one in each.organization.budgets),
                *(one for _, each in members for one in each.budgets),
                *(
                    one
                    for each in users
                    for member in each.organization.users.values()
                    for one in member.budgets
                ),
            ]
            secret_id, tag = secrets.parts(key.key.reveal())
            self._by_tag.setdefault(secret_id, {})[tag] = Caller(
                key=placed.id,
                organization=placed.organization,
                team=placed.team,
                application=key.application,
                business_line=key.business_line,
                user=key.user,
                biz_level=next(
                    (one.biz_level for one in sections if one.biz_level is not None), "normal"
                ),
                wishes=carried(sections),
                models=frozenset(key.models),
                scopes=(
                    f"key:{placed.id}",
                    *(scope for scope, _ in members if scope.startswith("application")),
                    f"team:{placed.organization}/{placed.team}",
                    *(scope for scope, _ in members if scope.startswith("business_line")),
                    *(f"org:{each.id}" for each in chain),
                ),
                users=tuple(each.id for each in users),
                strict=any(budget.mode == "strict" for budget in budgets),
                weight=team.weight,
                files=next((one.files for one in sections if one.files), ""),
            )

    def __len__(self) -> int:
        """Return how many keys there are."""
        return sum(map(len, self._by_tag.values()))

    def find(self, token: str) -> Caller | None:
        """Return the caller who presents this key, None when nobody does."""
        digest = sha256(token.encode("utf-8", "surrogateescape")).digest()
        met = self._met.get(digest)
        if met is not None:
            return met
        for secret_id, callers in self._by_tag.items():
            found = callers.get(self._secrets.tag(secret_id, digest))
            if found is not None:
                self._met[digest] = found
                return found
        return None


def _members(
    kind: str, name: str, chain: tuple[PlacedOrganization, ...]
) -> list[tuple[str, Member]]:
    """Return the scopes of an application or a business line, and what holds there: one for each organization that limits it."""
    found = []
    for each in chain if name else ():
        known: dict[str, Member] = getattr(each.organization, f"{kind}s")
        member = known.get(name) or known.get(DEFAULT_MEMBER)
        if member is not None:
            found.append((f"{kind}:{each.id}#{name}", member))
    return found
