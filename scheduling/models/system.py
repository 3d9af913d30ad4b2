"""The installation itself: its processes, held seats, and notifications to deliver."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from scheduling.models.base import Pausable
from scheduling.models.run import Run


class Installation(Pausable):
    """One row: what is true for all beats and workers together.

    Paused here means that nothing fires. `declarations_hash` is the fingerprint of the code that
    was migrated last: a beat with other declarations (an old one restarting in the middle of a
    deploy) must not sync. `catch_up_tokens` is the shared bucket that meters catch-up.
    """

    declarations_hash = models.CharField(max_length=64, blank=True)
    catch_up_tokens = models.FloatField(default=0)
    catch_up_tokens_at = models.DateTimeField(null=True)

    class Meta:
        constraints = (models.CheckConstraint(name="one_installation_row", condition=Q(id=1)),)

    def __str__(self) -> str:
        return "installation"


class ProcessKind(models.TextChoices):
    BEAT = "beat", "beat"
    WORKER = "worker", "worker"


class Process(models.Model):
    """A beat or a worker, as it last said of itself. A clean stop deletes the row."""

    kind = models.CharField(max_length=10, choices=ProcessKind.choices)
    name = models.CharField(max_length=200, unique=True)
    host = models.CharField(max_length=200)
    pid = models.PositiveIntegerField()
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField(db_index=True)
    # kind worker: {"queues": [...], "concurrency": n}; clock_skew: seconds it is ahead
    detail = models.JSONField(default=dict, blank=True)

    def __str__(self) -> str:
        return self.name


class Seat(models.Model):
    """The fence of one resource: which attempt holds it. Locked in the order of keys."""

    key = models.CharField(max_length=300)
    number = models.PositiveSmallIntegerField(default=0)
    run = models.ForeignKey(Run, models.SET_NULL, null=True, blank=True, related_name="seats")
    attempt = models.PositiveIntegerField(default=0)
    token = models.PositiveBigIntegerField(default=0)
    taken_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = (models.UniqueConstraint(fields=("key", "number"), name="one_row_per_seat"),)

    def __str__(self) -> str:
        return f"{self.key}#{self.number}"


class Event(models.TextChoices):
    FAILING = "failing", "Failing"
    STILL_FAILING = "still_failing", "Still failing"
    FIXED = "fixed", "Fixed"
    SUCCEEDED = "succeeded", "Succeeded"
    SCHEDULE_ERROR = "schedule_error", "Schedule cannot be read"


class Notification(models.Model):
    """Something to tell, inserted in the transaction that made it true, delivered afterwards."""

    run = models.ForeignKey(Run, models.CASCADE, null=True, related_name="notifications")
    name = models.CharField(max_length=200)
    event = models.CharField(max_length=20, choices=Event.choices)
    detail = models.TextField(blank=True)
    created_at = models.DateTimeField()
    # Empty once it is delivered or given up.
    deliver_at = models.DateTimeField(null=True, blank=True)
    delivered_at = models.DateTimeField(null=True, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    error = models.TextField(blank=True)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("run", "event"), name="one_notification_per_run_event"),
        )
        indexes = (
            models.Index(
                fields=("deliver_at",),
                name="notification_due",
                condition=Q(deliver_at__isnull=False),
            ),
        )

    def __str__(self) -> str:
        return f"{self.event} {self.name}"
