"""The installation itself: its processes, held seats, and what is to be delivered."""

from __future__ import annotations

import uuid
from datetime import datetime

from django.db import models
from django.db.models import Q

from scheduling.models.base import Pausable
from scheduling.models.run import Run
from scheduling.models.scopes import Circuit
from scheduling.models.target import Target


class Installation(Pausable):
    """One row: what is true for all beats and workers together.

    Paused here means that nothing fires. `declarations_hash` is the fingerprint of the code that
    was migrated last: a beat with other declarations (an old one restarting in the middle of a
    deploy) must not sync. `catch_up_tokens` is the shared bucket that meters catch-up.
    `checkpoints` counts the checkpoints taken; `key` names this installation in them, and stays
    the same in a backup that is restored.
    """

    key = models.UUIDField(default=uuid.uuid4, editable=False)
    checkpoints = models.PositiveBigIntegerField(default=0, db_default=0)

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
    """The fence of one resource: which attempt holds it. Locked in the order of keys.

    Held by a running attempt (`run`, `attempt`), or by code outside of runs (`holder`) until its
    lease ends; in both cases not before `held_until`.
    """

    key = models.CharField(max_length=300)
    number = models.PositiveSmallIntegerField(default=0)
    run = models.ForeignKey(Run, models.SET_NULL, null=True, blank=True, related_name="seats")
    attempt = models.PositiveIntegerField(default=0)
    token = models.PositiveBigIntegerField(default=0)
    taken_at = models.DateTimeField(null=True, blank=True)
    holder = models.CharField(max_length=200, blank=True, default="", db_default="")
    lease_until = models.DateTimeField(null=True, blank=True)
    held_until = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = (models.UniqueConstraint(fields=("key", "number"), name="one_row_per_seat"),)
        verbose_name = "lock"
        permissions = (("break_lock", "Can break a lock"),)

    def __str__(self) -> str:
        return f"{self.key}#{self.number}"

    def is_held(self, now: datetime, *, running_attempt: int | None) -> bool:
        """Whether somebody has it; `running_attempt`: that of its run, if the run is running."""
        if self.held_until is not None and now < self.held_until:
            return True
        if self.holder:
            return self.lease_until is not None and now < self.lease_until
        return running_attempt is not None and running_attempt == self.attempt


class Ticket(models.Model):
    """A waiter's place in the line for one lock; it has one for each lock that it wants.

    Who waits outside of runs has no run, but a `holder`, and must say again that it waits.
    """

    key = models.CharField(max_length=300)
    run = models.ForeignKey(Run, models.CASCADE, null=True, related_name="tickets")
    holder = models.CharField(max_length=200, blank=True, default="")
    since = models.DateTimeField()
    lease_until = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("since", "pk")
        constraints = (
            models.UniqueConstraint(
                fields=("run", "key"), condition=Q(run__isnull=False), name="one_ticket_per_lock"
            ),
            models.UniqueConstraint(
                fields=("holder", "key"),
                condition=Q(run__isnull=True),
                name="one_ticket_per_lock_outside",
            ),
        )
        indexes = (models.Index(fields=("key", "since"), name="ticket_line"),)

    def __str__(self) -> str:
        return f"{self.run_id or self.holder} waits for {self.key}"


class Event(models.TextChoices):
    FAILING = "failing", "Failing"
    STILL_FAILING = "still_failing", "Still failing"
    FIXED = "fixed", "Fixed"
    SUCCEEDED = "succeeded", "Succeeded"
    SCHEDULE_ERROR = "schedule_error", "Schedule cannot be read"
    LATE = "late", "Late"
    PAUSED = "paused", "Paused"
    LOST = "lost", "Lost"
    CIRCUIT_OPENED = "circuit_opened", "Circuit open"
    CIRCUIT_CLOSED = "circuit_closed", "Circuit closed"


class Notification(models.Model):
    """Something to tell, inserted in the transaction that made it true, delivered afterwards."""

    run = models.ForeignKey(Run, models.CASCADE, null=True, related_name="notifications")
    # Of a late target: which one, and since which fire time. Many look; one row comes of it.
    target = models.ForeignKey(Target, models.CASCADE, null=True, related_name="notifications")
    late_since = models.DateTimeField(null=True, blank=True)
    circuit = models.ForeignKey(Circuit, models.CASCADE, null=True, related_name="notifications")
    # The job's name, or the circuit's.
    name = models.CharField(max_length=200)
    event = models.CharField(max_length=20, choices=Event.choices)
    detail = models.TextField(blank=True)
    created_at = models.DateTimeField()
    # Empty once it is delivered or given up.
    deliver_at = models.DateTimeField(null=True, blank=True)
    delivered_at = models.DateTimeField(null=True, blank=True)
    # Who has it already, when it could not be delivered to all.
    delivered_to = models.JSONField(
        default=list, db_default=models.Value([], models.JSONField()), blank=True
    )
    attempts = models.PositiveSmallIntegerField(default=0)
    error = models.TextField(blank=True)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("run", "event"), name="one_notification_per_run_event"),
            models.UniqueConstraint(fields=("target", "late_since"), name="one_alert_per_lateness"),
        )
        indexes = (
            models.Index(
                fields=("deliver_at",),
                name="notification_due",
                condition=Q(deliver_at__isnull=False),
            ),
        )

    def __str__(self) -> str:
        return f"{self.get_event_display()}: {self.name}"


class PingSignal(models.TextChoices):
    START = "start", "start"
    SUCCESS = "success", "success"
    FAIL = "fail", "fail"


class Ping(models.Model):
    """A run's sign of life for a monitor outside, to be sent to its job's `ping_url`."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="pings")
    signal = models.CharField(max_length=10, choices=PingSignal.choices)
    created_at = models.DateTimeField()
    # Empty once it is delivered or given up.
    deliver_at = models.DateTimeField(null=True, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    error = models.CharField(max_length=300, blank=True)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("run", "signal"), name="one_ping_per_run_signal"),
        )
        indexes = (
            models.Index(
                fields=("deliver_at",), name="ping_due", condition=Q(deliver_at__isnull=False)
            ),
        )

    def __str__(self) -> str:
        return f"{self.signal} of run {self.run_id}"


class Spoilt(models.TextChoices):
    ENVELOPE = "envelope", "not a message"
    BODY = "body", "unreadable body"
    CONTENT = "content", "content type not accepted"
    TASK = "task", "unknown task"
    RUN = "run", "unknown run"


class DeadLetter(models.Model):
    """A message that nobody can work on, kept to be looked at."""

    kind = models.CharField(max_length=10, choices=Spoilt.choices)
    received_at = models.DateTimeField()
    worker = models.CharField(max_length=200, blank=True)
    queue = models.CharField(max_length=200, blank=True)
    # As far as they could be read
    task = models.CharField(max_length=300, blank=True)
    message_id = models.CharField(max_length=100, blank=True)
    detail = models.CharField(max_length=500, blank=True)
    # The beginning, made harmless. Empty where it would show arguments.
    content = models.TextField(blank=True)

    class Meta:
        ordering = ("-received_at",)
        indexes = (models.Index(fields=("-received_at",), name="dead_letters"),)

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.task or self.message_id}".rstrip(": ")
