"""Laws of whereabouts: the command line, the environment, the configuration, and what `up` uses."""

from pathlib import Path

import pytest

from console import settings
from console.whereabouts import Nowhere, ledger_file, redis_url
from store.places import CHECKOUT
from store.sql import BadLedgerUrl

ENVIRON = {"PENSTOCK_VAR": "/v", "SECRET": "s"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand where no configuration is, neither here nor in the checkout."""
    monkeypatch.setattr(settings, "CHECKOUT", tmp_path / "checkout")
    return tmp_path


def write(path: Path, text: str) -> Path:
    """Write a configuration."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_without_a_word_it_is_what_up_uses(here: Path) -> None:
    """The embedded store's socket, and var/ledger.db under PENSTOCK_VAR."""
    assert ledger_file(None, None, ENVIRON, here) == Path("/v/ledger.db")
    assert redis_url(None, None, ENVIRON, here) == "unix:///v/run/store.sock?db=0"
    assert ledger_file(None, None, {}, here) == CHECKOUT / "var" / "ledger.db"


def test_the_nearest_word_counts(here: Path) -> None:
    """Command line, then a named configuration, then the environment, then penstock.yaml."""
    found = write(here / "penstock.yaml", "store: {redis: redis://found, ledger: sqlite:/found}")
    named = write(here / "named.yaml", "store: {redis: redis://named, ledger: sqlite:/named}")
    said = ENVIRON | {"REDIS_URL": "redis://env", "LEDGER_URL": "sqlite:/env"}
    for environ, config, redis, ledger, expected in (
        (said, named, "redis://typed", "sqlite:/typed", "typed"),
        (said, named, None, None, "named"),
        (said, None, None, None, "env"),
        (ENVIRON, None, None, None, "found"),
    ):
        assert redis_url(redis, config, environ, here) == f"redis://{expected}"
        assert ledger_file(ledger, config, environ, here) == Path(f"/{expected}")
    found.unlink()
    write(here / "checkout" / "penstock.yaml", "store: {redis: redis://ours}")
    assert redis_url(None, None, ENVIRON, here) == "redis://ours"
    assert ledger_file(None, None, ENVIRON, here) == Path("/v/ledger.db")


def test_what_is_typed_is_relative_to_where_it_is_typed(here: Path) -> None:
    """A setting is relative to the checkout, a word on the command line to the folder one is in."""
    assert ledger_file("sqlite:a.db", None, ENVIRON, here) == here / "a.db"
    config = write(here / "c.yaml", "store: {ledger: sqlite:a.db}")
    assert ledger_file(None, config, ENVIRON, here) == CHECKOUT / "a.db"


def test_only_the_store_is_read(here: Path) -> None:
    """Looking at the books needs none of the configuration's secrets, and not all of it right."""
    config = write(
        here / "c.yaml",
        'store: {redis: "${WHERE:-embedded}", ledger: "sqlite:${SECRET}.db"}\n'
        "providers: {x: {api_key: ${UNSET_KEY}}}\nunknown: 1\n",
    )
    assert redis_url(None, config, ENVIRON, here) == "unix:///v/run/store.sock?db=0"
    assert redis_url(None, config, ENVIRON | {"WHERE": "redis://x"}, here) == "redis://x"
    assert ledger_file(None, config, ENVIRON, here) == CHECKOUT / "s.db"


def test_what_cannot_be_told_is_said(here: Path) -> None:
    """An unset variable, a broken file, none at all: the message names the place."""
    unset = write(here / "unset.yaml", "store: {redis: ${UNSET_URL}}")
    with pytest.raises(Nowhere, match=r"unset\.yaml: store\.redis: .*UNSET_URL"):
        redis_url(None, unset, ENVIRON, here)
    with pytest.raises(Nowhere, match=r"line \d"):
        redis_url(None, write(here / "broken.yaml", "store: {"), ENVIRON, here)
    with pytest.raises(Nowhere, match="cannot read"):
        redis_url(None, here / "none.yaml", ENVIRON, here)
    (here / "latin.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Nowhere, match="cannot read"):
        redis_url(None, here / "latin.yaml", ENVIRON, here)
    with pytest.raises(BadLedgerUrl):
        ledger_file("postgres://x", None, ENVIRON, here)
