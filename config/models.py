"""
The configuration as Penstock holds it: frozen, typed, and with every setting described once.

The descriptions in `Field` are the documentation: `docs/configuration.md` and the schema for
editors are made from them. Two steps keep apart what was written and what was checked:
`config.loader` reads the YAML and says what is wrong with it, and only then is there a `Config`.

What refers to something else (a deployment to its provider, a key to its models) is checked by
`config.clashes`, because those mistakes need the whole document; a `Config` that came from the
loader has no dangling reference.

Money is USD here, as people write it (`Decimal`, at most nine decimals); `_nusd` properties give
the integers that everything else computes with.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from pydantic import Field

from config.offers import Deployment, Model
from config.processes import AdminSettings, EdgeSettings, StoreSettings
from config.providers import Provider
from config.routes import Route
from config.section import Name, PlainName, Section
from config.tenants import Key, Organization
from config.trials import Experiment


class PlacedDeployment(NamedTuple):
    """A deployment with what its place in the document says about it."""

    id: str
    model: str
    upstream_name: str
    deployment: Deployment


class PlacedOrganization(NamedTuple):
    """
    An organization with what its place in the document says about it.

    `id` is its path, `acme/emea`; `above` is what it is a part of; `time_zone` is that of its budgets.
    """

    id: str
    above: "PlacedOrganization | None"
    time_zone: str
    organization: Organization

    @property
    def chain(self) -> "tuple[PlacedOrganization, ...]":
        """Itself and all that it is a part of, itself first."""
        return (self, *(() if self.above is None else self.above.chain))


class PlacedKey(NamedTuple):
    """A key with what its place in the document says about it; `id` is `org/team/name`."""

    id: str
    organization: str
    team: str
    name: str
    key: Key
    place: PlacedOrganization


class Config(Section):
    """The whole configuration."""

    store: StoreSettings = Field(default_factory=StoreSettings, description="Where state is kept.")
    edge: EdgeSettings = Field(default_factory=EdgeSettings, description="The data plane.")
    admin: AdminSettings = Field(default_factory=AdminSettings, description="The operator's door.")
    providers: dict[Name, Provider] = Field(
        default_factory=dict, description="Vendors and servers by name."
    )
    models: dict[Name, Model] = Field(
        default_factory=dict, description="Models by the name that callers ask for."
    )
    routes: dict[Name, Route] = Field(
        default_factory=dict, description="Virtual models by the name that callers ask for."
    )
    experiments: dict[PlainName, Experiment] = Field(
        default_factory=dict, description="What is tried out, by name."
    )
    organizations: dict[PlainName, Organization] = Field(
        default_factory=dict, description="Organizations by name."
    )

    @cached_property
    def deployments(self) -> dict[str, PlacedDeployment]:
        """Every deployment by its id, in the order of the document."""
        return {
            deployment_id: PlacedDeployment(deployment_id, name, placed.name or name, placed)
            for name, model in self.models.items()
            for deployment_id, placed in zip(
                deployment_ids(name, [(each.provider, each.id) for each in model.deployments]),
                model.deployments,
                strict=True,
            )
        }

    def placed_organizations(self) -> Iterator[PlacedOrganization]:
        """Give every organization, each before its parts, in the order of the document."""
        yield from _placed(self.organizations, None)

    def placed_keys(self) -> Iterator[PlacedKey]:
        """Give every caller key with its organization and team, in the order of the document."""
        for place in self.placed_organizations():
            for team_name, team in place.organization.teams.items():
                for name, key in team.keys.items():
                    key_id = f"{place.id}/{team_name}/{name}"
                    yield PlacedKey(key_id, place.id, team_name, name, key, place)


def _placed(
    organizations: dict[str, Organization], above: PlacedOrganization | None
) -> Iterator[PlacedOrganization]:
    path, zone = ("", "UTC") if above is None else (f"{above.id}/", above.time_zone)
    for name, organization in organizations.items():
        place = PlacedOrganization(path + name, above, organization.time_zone or zone, organization)
        yield place
        yield from _placed(organization.organizations, place)


def deployment_ids(model: str, deployments: list[tuple[str, str | None]]) -> list[str]:
    """
    Name the deployments of a model, given as (provider, explicit id or None).

    Without an explicit id it is `<model>/<provider>`, and `<model>/<provider>#2` for the second one
    at the same provider; explicit ids do not count as repeats.
    """
    seen: dict[str, int] = {}
    ids = []
    for provider, explicit in deployments:
        if explicit is None:
            seen[provider] = seen.get(provider, 0) + 1
            nth = seen[provider]
            ids.append(f"{model}/{provider}" + (f"#{nth}" if nth > 1 else ""))
        else:
            ids.append(explicit)
    return ids
