"""What the tests of clouds without a server to install share."""

from collections.abc import AsyncIterator

import pytest

from .stub import Stub, serving


@pytest.fixture
async def stub() -> AsyncIterator[Stub]:
    async with serving() as made:
        yield made
