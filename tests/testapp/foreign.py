"""Tasks that are no jobs and know nothing of Beatkeeper, for what becomes of them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from celery import Task, shared_task


@shared_task
def succeed(secret: str = "") -> str:
    return secret


@shared_task
def fail(secret: str = "") -> None:
    raise ValueError("broken")


@shared_task
def hold(until: str) -> None:
    while not Path(until).exists():
        time.sleep(0.05)


@shared_task(bind=True, max_retries=1, default_retry_delay=0)
def retry_once(self: Task[Any, Any]) -> None:
    if not self.request.retries:
        raise self.retry(exc=ValueError("broken"))
