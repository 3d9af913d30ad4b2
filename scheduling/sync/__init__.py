"""Bringing what the code declares, and django-celery-beat's rows, into the database."""

from __future__ import annotations

from scheduling.sync.engine import SyncResult, declarations_hash, sync, sync_at_beat_start
from scheduling.sync.migrated import after_migrate
from scheduling.sync.overrides import reset_override, set_override, set_overrides

__all__ = [
    "SyncResult",
    "after_migrate",
    "declarations_hash",
    "reset_override",
    "set_override",
    "set_overrides",
    "sync",
    "sync_at_beat_start",
]
