"""Mock vendors to speak to."""

import pytest

from loadtests.mock import serve


@pytest.fixture(params=[False, True], ids=["watching", "fast"])
async def any_mock(request):
    async with serve(fast=request.param) as mock:
        yield mock


@pytest.fixture
async def mock():
    async with serve() as mock:
        yield mock
