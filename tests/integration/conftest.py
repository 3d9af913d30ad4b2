from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.command_app import Deploy, deploying
from tests.services import Valkey


@pytest.fixture(autouse=True)
def empty_valkey(valkey: Valkey) -> None:
    """Every test finds the Valkey of `settings.REDIS_URL` running and empty."""
    with valkey.client() as client:
        client.flushall()


@pytest.fixture
def deploy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deploy]:
    """Give a function that makes its commands those of the app `shop`, and syncs."""
    with deploying(tmp_path, monkeypatch) as deploy:
        yield deploy
