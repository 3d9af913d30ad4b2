"""Runs: the history, the outbox and the ledger in one table."""

from __future__ import annotations

import uuid
from datetime import datetime

from django.db import models
from django.db.models import Case, F, Q, When

from scheduling.models.job import FollowUp, Job
from scheduling.models.target import Target
from scheduling.outcome import Outcome


class State(models.TextChoices):
    QUEUED = "queued", "queued"
    RUNNING = "running", "running"
    SUCCEEDED = "succeeded", "succeeded"
    FAILED = "failed", "failed"
    SKIPPED = "skipped", "skipped"


OPEN_STATES = (State.QUEUED, State.RUNNING)
# The queue of jobs that others execute. What is published there is only stamped: it is claimed.
OUTSIDE = "jobs:outside"


class Cause(models.TextChoices):
    SCHEDULE = "schedule", "schedule"
    CATCH_UP = "catch_up", "catch-up"
    FOLLOW_UP = "follow_up", "follow-up"
    BACKFILL = "backfill", "backfill"
    MANUAL = "manual", "manual"
    FOREIGN = "foreign", "not a job"


class Reason(models.TextChoices):
    """Why a run ended as it did, or why it is queued again."""

    # skipped
    OVERLAP = "overlap", "the run before was still open"
    LATE = "late", "could not start in time"
    COALESCED = "coalesced", "a later fire stands for it"
    PAUSED = "paused", "paused"
    WINDOW = "window", "older than the catch-up window"
    CIRCUIT = "circuit", "its circuit is open"
    DECLINED = "declined", "should_run said no"
    CANCELLED = "cancelled", "cancelled by a person"
    RETIRED = "retired", "the job is no longer declared"
    CAPPED = "capped", "too many are waiting"
    RETARGETED = "retargeted", "the schedule was edited"
    # queued again
    RETRY = "retry", "tried again after a failure"
    LOST = "lost", "its worker disappeared"
    HANDED_BACK = "handed_back", "handed back by a stopping worker"
    # failed
    ERROR = "error", "raised an error"
    EXIT_CODE = "exit_code", "ended with an exit code"
    SOFT_LIMIT = "soft_limit", "reached its soft time limit"
    HARD_LIMIT = "hard_limit", "reached its hard time limit"
    MEMORY = "memory", "reached its memory limit"
    KILLED = "killed", "killed by a signal"
    POISON = "poison", "its workers died too often"
    TERMINATED = "terminated", "terminated by a person"
    PERMANENT = "permanent", "raised an error that no retry can mend"
    UNKNOWN_TASK = "unknown_task", "no worker knows this task"


class RunQuerySet(models.QuerySet["Run"]):
    def open(self) -> RunQuerySet:
        """Queued or running. SQLite uses a partial index only where its condition is spelt out."""
        return self.filter(state__in=OPEN_STATES, ended_at__isnull=True)

    def ended(self) -> RunQuerySet:
        return self.exclude(state__in=OPEN_STATES)

    def queued(self) -> RunQuerySet:
        return self.filter(state=State.QUEUED, ended_at__isnull=True)

    def running(self) -> RunQuerySet:
        return self.filter(state=State.RUNNING, ended_at__isnull=True)

    def to_publish(self, now: datetime) -> RunQuerySet:
        """Ready, queued and unpublished: its own outbox entry."""
        return self.filter(
            state=State.QUEUED, published_at__isnull=True, publish_at__lte=now
        ).order_by("publish_at")

    def lapsed(self, now: datetime) -> RunQuerySet:
        """Running without a sign of life, the longest silent first."""
        return self.filter(state=State.RUNNING, lease_until__lt=now).order_by("lease_until")

    def newest_first(self) -> RunQuerySet:
        return self.order_by("-created_at", "-scheduled_at")


class Run(models.Model):
    """One occurrence of a target, from claim to end; or, if skipped, a stretch of `fires` fires.

    `state` and everything that moves with it are written by `scheduling.runs` only, each arrow by
    one conditional UPDATE that names the state it leaves.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    # Empty for cause `foreign` only: history of tasks that are not jobs.
    # Indexed below, with what is asked for besides; so are the other rows it refers to, for which
    # PostgreSQL has triggers instead of foreign keys (migration 0007). The job is the target's,
    # whose own constraint vouches for both: checking it again would cost each claim.
    job = models.ForeignKey(
        Job,
        models.CASCADE,
        null=True,
        related_name="runs",
        db_index=False,
        db_constraint=False,
    )
    target = models.ForeignKey(
        Target, models.CASCADE, null=True, related_name="runs", db_index=False
    )
    # The job's name or, for cause `foreign`, the task's.
    name = models.CharField(max_length=200)
    key = models.CharField(max_length=300, blank=True, default="")

    # The fire time (UTC); for other causes the moment it was asked for. A skipped stretch is
    # [scheduled_at, scheduled_until], both fires included.
    scheduled_at = models.DateTimeField()
    scheduled_until = models.DateTimeField(null=True, blank=True)
    fires = models.PositiveIntegerField(default=1)
    cause = models.CharField(max_length=10, choices=Cause.choices)
    state = models.CharField(max_length=10, choices=State.choices)
    reason = models.CharField(max_length=15, choices=Reason.choices, blank=True)
    detail = models.CharField(max_length=500, blank=True)

    attempt = models.PositiveIntegerField(default=1)
    failures = models.PositiveSmallIntegerField(default=0)
    losses = models.PositiveSmallIntegerField(default=0)
    created_at = models.DateTimeField()
    # When it may start; a retry or a delayed trigger waits here.
    ready_at = models.DateTimeField(null=True, blank=True)
    # Not started by then: skipped as late.
    start_by = models.DateTimeField(null=True, blank=True)
    # It waits for the end of this run of the same target ...
    waiting_on = models.ForeignKey(
        "self", models.SET_NULL, null=True, blank=True, related_name="waiters", db_index=False
    )
    # ... or for its locks, this one first found busy, in the order of waiting_since (see Ticket).
    waiting_for = models.CharField(max_length=300, blank=True, default="")
    waiting_since = models.DateTimeField(null=True, blank=True)

    # Outbox: earliest moment at which a beat may publish it; empty while it waits.
    publish_at = models.DateTimeField(null=True, blank=True)
    published_at = models.DateTimeField(null=True, blank=True)
    published_epoch = models.CharField(max_length=40, blank=True, default="")
    publications = models.PositiveIntegerField(default=0)
    queue = models.CharField(max_length=200, blank=True, default="")

    # The lane, 1 first; empty: the normal one, after all lanes. Strict: what is in a lower lane
    # goes before everything in a higher one.
    priority = models.PositiveSmallIntegerField(null=True, blank=True)
    # It waits, ready since then, for a free slot of its job; empty: it may be published.
    feed_at = models.DateTimeField(null=True, blank=True)
    # The strategy that picked its target.
    strategy = models.CharField(max_length=40, blank=True, default="", db_default="")
    # Its own number of retries; empty: the job's.
    retry_limit = models.PositiveSmallIntegerField(null=True, blank=True)
    # Whatever its caller or its worker says of it; later words win, key by key.
    metadata = models.JSONField(
        default=dict, db_default=models.Value({}, models.JSONField()), blank=True
    )

    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    worker = models.CharField(max_length=200, blank=True, default="")
    token = models.PositiveBigIntegerField(null=True, blank=True)
    # False for overlap `allow`: several may run at once.
    exclusive = models.BooleanField(default=True)
    stop_requested_at = models.DateTimeField(null=True, blank=True)
    stop_requested_by = models.CharField(max_length=150, blank=True, default="")
    # Kill it, instead of asking and waiting.
    stop_at_once = models.BooleanField(default=False, db_default=False)

    kwargs = models.JSONField(default=dict, blank=True)
    outcome = models.CharField(
        max_length=10, choices=[(found.value, found.value) for found in Outcome], blank=True
    )
    exit_code = models.IntegerField(null=True, blank=True)
    # What the job gave back, if JSON has it and it is small: for its follow-ups.
    result = models.JSONField(null=True, blank=True)
    output = models.TextField(blank=True, default="")
    # Bytes the job wrote; more than are stored if the middle was cut out.
    output_bytes = models.PositiveBigIntegerField(default=0)
    error = models.TextField(blank=True, default="")

    parent = models.ForeignKey(
        "self", models.SET_NULL, null=True, blank=True, related_name="followers", db_index=False
    )
    rule = models.ForeignKey(
        FollowUp, models.SET_NULL, null=True, blank=True, related_name="+", db_index=False
    )
    depth = models.PositiveSmallIntegerField(default=0)
    # The first run of the chain; empty: it is that itself.
    root = models.ForeignKey(
        "self", models.SET_NULL, null=True, blank=True, related_name="descendants", db_index=False
    )
    # It came after all of several runs under its root.
    joined = models.BooleanField(default=False, db_default=False)
    # Shared by the runs that were asked for together.
    backfill = models.UUIDField(null=True, blank=True)
    requested_by = models.CharField(max_length=150, blank=True, default="")

    objects = RunQuerySet.as_manager()

    class Meta:
        permissions = (
            ("cancel_run", "Can cancel a run"),
            ("view_run_output", "Can see what a run wrote"),
        )
        constraints = (
            # Serves the history of a target, too: what is no fire is in it, and equal to nothing.
            models.UniqueConstraint(
                "target",
                F("scheduled_at").desc(),
                Case(When(cause__in=(Cause.SCHEDULE, Cause.CATCH_UP), then=True)),
                name="one_run_per_fire_time",
            ),
            models.UniqueConstraint(
                fields=("parent", "rule", "target"),
                condition=Q(cause=Cause.FOLLOW_UP),
                name="one_follow_up_per_parent_and_rule",
            ),
            models.UniqueConstraint(
                fields=("root", "target"),
                condition=Q(cause=Cause.FOLLOW_UP, joined=True),
                name="one_join_per_root_and_target",
            ),
            models.UniqueConstraint(
                fields=("backfill", "target", "scheduled_at"),
                condition=Q(cause=Cause.BACKFILL),
                name="one_run_per_backfilled_fire",
            ),
            # Claims, manual runs, retries and follow-ups cannot race past each other.
            models.UniqueConstraint(
                fields=("target",),
                condition=Q(state=State.RUNNING, exclusive=True),
                name="one_running_run_per_target",
            ),
        )
        # Conditions by NULL, not by state: SQLite cannot see the value of a bound parameter.
        indexes = (
            # Serves RunQuerySet.to_publish on every tick
            models.Index(
                fields=("publish_at",), name="run_outbox", condition=Q(publish_at__isnull=False)
            ),
            # ... lane by lane, before all that has none
            models.Index(
                fields=("priority", "publish_at"),
                name="run_outbox_lanes",
                condition=Q(publish_at__isnull=False, priority__isnull=False),
            ),
            # Serves the reaper
            models.Index(
                fields=("lease_until",), name="run_leases", condition=Q(lease_until__isnull=False)
            ),
            # Serves the claim, and whoever asks for the open runs of a target or of all
            models.Index(
                fields=("target", "created_at"),
                name="run_open_of_target",
                condition=Q(ended_at__isnull=True),
            ),
            # Serves the comparison of queues with the broker
            models.Index(
                fields=("queue", "published_at"),
                name="run_published_of_queue",
                condition=Q(ended_at__isnull=True, published_at__isnull=False),
            ),
            # Serves the feeder: how many are open, of a job and of its express lane
            models.Index(
                fields=("job", "queue"),
                name="run_open_of_job",
                condition=Q(ended_at__isnull=True),
            ),
            # Serves the feeder: what waits for a slot, lane by lane
            models.Index(
                fields=("job", "priority", "feed_at"),
                name="run_to_feed",
                condition=Q(feed_at__isnull=False),
            ),
            # Serves runs that can no longer start in time
            models.Index(
                fields=("start_by",),
                name="run_start_by",
                condition=Q(ended_at__isnull=True, start_by__isnull=False),
            ),
            # Serves the runs of one backfill
            models.Index(
                fields=("backfill",), name="run_of_backfill", condition=Q(backfill__isnull=False)
            ),
            # Serve chains and lines; empty on almost all rows
            *(
                models.Index(
                    fields=(name,),
                    name=f"run_by_{name}",
                    condition=Q(**{f"{name}__isnull": False}),
                )
                for name in ("waiting_on", "parent", "rule", "root")
            ),
            # Serve histories, newest first; that of a target is served by its first constraint.
            models.Index(fields=("job", "-created_at"), name="run_history_of_job"),
            models.Index(fields=("-created_at",), name="run_history"),
        )

    def __str__(self) -> str:
        return f"{self.name} {self.scheduled_at:%Y-%m-%d %H:%M:%S}"


class Attempt(models.Model):
    """An attempt that did not end its run: the run went on with another one."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="earlier_attempts")
    number = models.PositiveIntegerField()
    worker = models.CharField(max_length=200, blank=True)
    token = models.PositiveBigIntegerField(null=True)
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField()
    # Why there was another one: retry, lost, handed_back.
    reason = models.CharField(max_length=15, choices=Reason.choices)
    exit_code = models.IntegerField(null=True)
    output = models.TextField(blank=True, default="")
    output_bytes = models.PositiveBigIntegerField(default=0)
    error = models.TextField(blank=True, default="")

    class Meta:
        ordering = ("number",)
        constraints = (
            models.UniqueConstraint(fields=("run", "number"), name="one_row_per_attempt"),
        )

    def __str__(self) -> str:
        return f"attempt {self.number} of run {self.run_id}"
