"""The settings as a tree: every path that can be written leads to its field."""

from collections.abc import Iterator

from config.models import Config
from config.problems import Path
from config.providers import Provider
from config.quotas import Budget, Limits
from config.section import Section
from config.tenants import Key, Team
from config.tree import is_private, section_at, written_fields
from tests.config.samples import written_sections


def test_sections_are_found_by_their_path() -> None:
    """Through names, indexes and lists that may be written without being lists."""
    assert section_at(()) is Config
    assert section_at(("providers", "p")) is Provider
    assert section_at(("models", "m", "deployments", 3, "limits")) is Limits
    key: Path = ("organizations", "o", "teams", "t", "keys", "k")
    assert section_at(key) is Key
    assert section_at(key[:-2]) is Team
    assert section_at((*key, "budget", 1)) is section_at((*key, "budget")) is Budget
    assert written_fields(Key)["budget"] is Key.model_fields["budgets"]


def test_where_there_is_no_section_there_is_none() -> None:
    """Scalars, unknown names, and whatever lies beneath them."""
    for path in (
        ("nothing",),
        ("edge", "listen"),
        ("edge", "listen", "x", 0),
        ("providers", "p", 0),
    ):
        assert section_at(path) is None
    assert section_at(("models", "m", "tags", 0)) is None
    assert section_at(("providers",)) is None


def test_what_is_never_shown() -> None:
    """Secrets and headers, and everything that is written within them."""
    for path in (
        ("admin", "token"),
        ("providers", "p", "api_key"),
        ("providers", "p", "headers", "x-team"),
        ("organizations", "o", "teams", "t", "keys", "k", "key"),
        ("organizations", "o", "teams", "t", "keys", "k", "key", 0, "x"),
    ):
        assert is_private(path)
    for other in (
        (),
        ("providers", "p"),
        ("providers", "p", "base_url"),
        ("models", "headers", "x"),
    ):
        assert not is_private(other)


def every_section(
    section: type[Section], path: Path, above: tuple[type[Section], ...] = ()
) -> Iterator[tuple[Path, type[Section]]]:
    if section in above:
        return  # a part of an organization is an organization
    yield path, section
    for name in written_fields(section):
        for more in ((name,), (name, "any"), (name, 0)):
            inner = section_at((*path, *more))
            if inner is not None:
                yield from every_section(inner, (*path, *more), (*above, section))
                break


def test_every_setting_is_described() -> None:
    """A setting without a description would be missing from docs and editors."""
    found = list(every_section(Config, ()))
    assert len({section for _, section in found}) == len(written_sections())
    for _, section in found:
        assert section.__doc__
        for field in section.model_fields.values():
            assert field.description
            assert field.description.endswith((".", "`."))
