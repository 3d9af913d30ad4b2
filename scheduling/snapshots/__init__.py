"""Checkpoints: how far each job has come, kept outside of the database.

A database that is restored from an older backup has forgotten what fired since; its newest
checkpoint has not. Beats take one every JOBS_SNAPSHOT_EVERY, and before they claim they compare:
what the checkpoint knows as fired is recorded as skipped, and not fired again.
"""

from __future__ import annotations

from scheduling.snapshots.checkpoint import Checkpoint, Waiting
from scheduling.snapshots.keeper import Keeper
from scheduling.snapshots.restoring import Restored, compare
from scheduling.snapshots.stores import FileStore, RedisStore, Store, store_at
from scheduling.snapshots.taking import take

__all__ = [
    "Checkpoint",
    "FileStore",
    "Keeper",
    "RedisStore",
    "Restored",
    "Store",
    "Waiting",
    "compare",
    "store_at",
    "take",
]
