"""What models share: being paused, and whom to tell of them."""

from __future__ import annotations

from datetime import datetime

from django.db import models


class Pausable(models.Model):
    """Told not to fire: who, when, why, until. Written by `runs.pause` and `runs.resume` only.

    `paused_until` without `paused_at`: resumed, and `runs.recover` looks then whether all go on.
    """

    paused_at = models.DateTimeField(null=True, blank=True, editable=False)
    # Both defaults: one of the database alone is an expression, which slows down bulk inserts.
    paused_by = models.CharField(
        max_length=150, blank=True, default="", db_default="", editable=False
    )
    pause_reason = models.CharField(
        max_length=300, blank=True, default="", db_default="", editable=False
    )
    paused_until = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        abstract = True

    def is_paused(self, now: datetime) -> bool:
        if self.paused_at is None:
            return False
        return self.paused_until is None or now < self.paused_until


class Told(models.Model):
    """Whom to tell what happens, and until when to keep quiet about it."""

    recipients = models.JSONField(
        default=list,
        db_default=models.Value([], models.JSONField()),
        blank=True,
        help_text="E-mail addresses and names of channels (JOBS_CHANNELS)",
    )
    muted_until = models.DateTimeField(null=True, blank=True, editable=False)
    muted_by = models.CharField(
        max_length=150, blank=True, default="", db_default="", editable=False
    )

    class Meta:
        abstract = True

    def is_muted(self, now: datetime) -> bool:
        return self.muted_until is not None and now < self.muted_until
