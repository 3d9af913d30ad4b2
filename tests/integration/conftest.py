from __future__ import annotations

import pytest

from tests.services import Valkey


@pytest.fixture(autouse=True)
def empty_valkey(valkey: Valkey) -> None:
    """Every test finds the Valkey of `settings.REDIS_URL` running and empty."""
    with valkey.client() as client:
        client.flushall()
