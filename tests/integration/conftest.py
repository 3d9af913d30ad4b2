from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.command_app import Deploy, deploying
from tests.services import Valkey


@pytest.fixture(autouse=True)
def empty_valkey(valkey: Valkey) -> None:
    """Every test finds the Valkey of `settings.REDIS_URL` running and empty."""
    with valkey.client() as client:
        client.flushall()


@pytest.fixture
def keep_nothing(settings: Any) -> None:
    """An old run goes for its age alone, unless a test says otherwise."""
    settings.JOBS_KEEP_GOOD = settings.JOBS_KEEP_FAILED = settings.JOBS_KEEP_PER_TARGET = 0


@pytest.fixture
def archive(keep_nothing: None, tmp_path: Path, settings: Any) -> Path:
    """Old runs go into files of this folder."""
    settings.JOBS_ARCHIVE = str(tmp_path)
    return tmp_path


@pytest.fixture
def deploy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deploy]:
    """Give a function that makes its commands those of the app `shop`, and syncs."""
    with deploying(tmp_path, monkeypatch) as deploy:
        yield deploy
