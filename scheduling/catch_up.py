"""The bucket that meters catch-up, shared by all beats through the database."""

from __future__ import annotations

from datetime import datetime

from scheduling.conf import conf
from scheduling.db import short_transaction
from scheduling.models import Installation


def take(wanted: int, *, now: datetime) -> int:
    """Take up to `wanted` catch-up runs out of the shared bucket; give how many were granted.

    In a transaction of its own, so that no other beat waits for a claim that holds it.
    """
    Installation.objects.get_or_create(pk=1)
    with short_transaction():
        # Read and write must not be interleaved with another beat's, or both spend the same.
        row = Installation.objects.select_for_update(no_key=True).get(pk=1)
        since = row.catch_up_tokens_at
        level = float(conf.CATCH_UP_BURST)
        if since is not None:
            grown = max(0.0, (now - since).total_seconds()) * conf.CATCH_UP_RATE
            level = min(row.catch_up_tokens + grown, level)
        granted = min(wanted, int(level))
        Installation.objects.filter(pk=1).update(
            catch_up_tokens=level - granted, catch_up_tokens_at=now
        )
    return granted
