"""Read models on the databases that are supported."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.console.store import ReadModel

from .postgres import Postgres, programs


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL."""
    installed = programs()
    if installed is None:
        pytest.skip("there is no PostgreSQL here (Debian: apt install postgresql)")
    with Postgres(installed) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database, on each kind."""
    if request.param == "sqlite":
        return str(tmp_path / "read-model.db")
    url: str = request.getfixturevalue("postgres").url
    return url


@pytest.fixture
def store(url: str) -> Iterator[ReadModel]:
    """A read model without content."""
    store = ReadModel(url)
    store.rebuild()
    yield store
    store.close()
