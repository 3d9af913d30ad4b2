"""Servers for the tests that need them; started by the first that does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.conf import settings

import config.celery  # noqa: F401  as manage.py does
from scheduling import declarations
from tests import services
from tests.services import NoPostgres, Postgres, Valkey


@pytest.fixture(scope="session", autouse=True)
def known_declarations() -> None:
    """Load them before a test can take a copy of the registry, which imports fill only once."""
    declarations.load()


@pytest.fixture(scope="session")
def valkey() -> Iterator[Valkey]:
    """The Valkey that `settings.REDIS_URL` names."""
    services.valkey.start()
    yield services.valkey
    services.valkey.kill()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    try:
        services.postgres.start()
    except NoPostgres as missing:
        pytest.skip(str(missing))
    yield services.postgres
    services.postgres.stop()


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    request: pytest.FixtureRequest,
    django_db_modify_db_settings_parallel_suffix: None,
) -> None:
    if settings.DATABASES["default"]["ENGINE"].endswith("postgresql"):
        request.getfixturevalue("postgres")
