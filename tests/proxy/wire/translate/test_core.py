"""The laws of the core's values."""

import pytest

from proxy.wire.translate.core import CannotExpress, Written
from tests.proxy.wire.translate.samples import FULL


def test_what_cannot_be_said_names_its_field() -> None:
    """A caller reads which field and what to do."""
    cannot = CannotExpress("n", "one answer at a time")
    assert (cannot.param, cannot.why) == ("n", "one answer at a time")
    assert "n" in str(cannot)


def test_a_request_is_a_value() -> None:
    """It may be written for one deployment after another: nobody changes it on the way."""
    with pytest.raises(AttributeError):
        FULL.model = "other"  # type: ignore[misc]  # that is the law
    with pytest.raises(AttributeError):
        Written(b"").body = b"x"  # type: ignore[misc]  # that is the law
