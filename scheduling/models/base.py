"""What the scopes of a pause share: the installation, circuits, jobs, resources, targets."""

from __future__ import annotations

from datetime import datetime

from django.db import models


class Pausable(models.Model):
    """Told not to fire: who, when, why, until. Written by `runs.pause` and `runs.resume` only.

    `paused_until` without `paused_at`: resumed, and `runs.recover` looks then whether all go on.
    """

    paused_at = models.DateTimeField(null=True, blank=True, editable=False)
    paused_by = models.CharField(max_length=150, blank=True, db_default="", editable=False)
    pause_reason = models.CharField(max_length=300, blank=True, db_default="", editable=False)
    paused_until = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        abstract = True

    def is_paused(self, now: datetime) -> bool:
        if self.paused_at is None:
            return False
        return self.paused_until is None or now < self.paused_until
