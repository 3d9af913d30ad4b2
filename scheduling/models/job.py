"""Jobs and the follow-up rules between them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from scheduling.models.base import Pausable, Told
from scheduling.models.scopes import Calendar, Circuit
from scheduling.policies import CatchUp, Overlap
from scheduling.zones import ClockChange


class Kind(models.TextChoices):
    TASK = "task", "Celery task"
    COMMAND = "command", "management command"
    PROGRAM = "argv", "program"


class DeclaredIn(models.TextChoices):
    COMMAND = "command", "management command"
    FUNCTION = "function", "function"
    SETTINGS = "settings", "settings"
    PERIODIC_TASK = "periodic_task", "periodic task"
    ADMIN = "admin", "admin"


def choices_of(members: Iterable[CatchUp | Overlap | ClockChange]) -> list[tuple[str, str]]:
    return [(member.value, member.value) for member in members]


class JobQuerySet(models.QuerySet["Job"]):
    def active(self) -> JobQuerySet:
        return self.filter(retired_at__isnull=True)


class Job(Pausable, Told):
    """A named periodic use of a Celery task, a management command or a program.

    Columns hold the effective value. `overrides` names the fields that an operator has set:
    field -> {"code": the declaration's value, "by": user name, "at": ISO time}; a sync leaves
    these alone until they are reset.
    """

    name = models.CharField(max_length=200, unique=True)
    description = models.CharField(max_length=200, blank=True)
    kind = models.CharField(max_length=10, choices=Kind.choices)
    declared_in = models.CharField(
        max_length=20, choices=DeclaredIn.choices, default=DeclaredIn.ADMIN, editable=False
    )
    task = models.CharField(
        max_length=200, blank=True, help_text="Name of a registered Celery task"
    )
    command = models.CharField(max_length=200, blank=True, help_text="Name of a management command")
    internal = models.BooleanField(
        default=True, help_text="Run inside the worker instead of as a process of its own"
    )
    args = models.JSONField(default=list, blank=True)
    kwargs = models.JSONField(default=dict, blank=True)
    # queue, exchange, routing_key, priority, headers: passed to Celery as they are
    options = models.JSONField(default=dict, blank=True)
    scheduled_at_argument = models.CharField(
        max_length=100, blank=True, help_text="Argument that receives the scheduled time (ISO 8601)"
    )

    schedule = models.TextField(
        default="manual", help_text="Text form, e.g. every 5m or cron 0 3 * * *"
    )
    # Counts the edits of when it fires, its retirements among them. A target whose version is lower
    # stands by what was before (Edit) and is moved on by the next tick, or by who meets it.
    schedule_version = models.PositiveIntegerField(default=1, editable=False)
    starts_at = models.DateTimeField(null=True, blank=True, help_text="First fire not before")
    ends_at = models.DateTimeField(null=True, blank=True, help_text="No fire after")
    runs_left = models.PositiveIntegerField(null=True, blank=True, help_text="Empty: no limit")
    # What the code said last: only another number begins a new count of `runs_left`.
    declared_runs = models.PositiveIntegerField(null=True, editable=False)
    # "next", "now" or an ISO time; read when a target begins.
    first_run = models.CharField(max_length=40, default="next", db_default="next")
    # By name, as declarations know them.
    calendar = models.ForeignKey(
        Calendar,
        models.PROTECT,
        to_field="name",
        null=True,
        blank=True,
        related_name="jobs",
        help_text="Days on which it does not fire",
    )
    clock_change = models.CharField(
        max_length=10,
        choices=choices_of(ClockChange),
        default=ClockChange.CLASSIC.value,
        db_default=ClockChange.CLASSIC.value,
        help_text="What clock times do when clocks change",
    )
    circuit = models.ForeignKey(
        Circuit, models.PROTECT, to_field="name", null=True, blank=True, related_name="jobs"
    )
    left_out = models.BooleanField(
        default=False,
        db_default=False,
        help_text="Its circuit neither asks nor stops it, and does not wait for it",
    )
    # Since when its ready() has said yes; empty: it has not, or is not asked.
    ready_since = models.DateTimeField(null=True, blank=True, editable=False)
    # What ready() or status() said when asked last: "" for yes.
    unready_detail = models.CharField(max_length=500, blank=True, db_default="", editable=False)
    asked_at = models.DateTimeField(null=True, blank=True, editable=False)

    catch_up = models.CharField(
        max_length=10, choices=choices_of(CatchUp), default=CatchUp.LATEST.value
    )
    catch_up_window = models.DurationField(null=True, blank=True)
    overlap = models.CharField(
        max_length=10, choices=choices_of(Overlap), default=Overlap.SKIP.value
    )
    queue_limit = models.PositiveIntegerField(
        null=True, blank=True, help_text="Runs that may wait with overlap queue; empty: the default"
    )
    start_within = models.DurationField(null=True, blank=True)
    soft_limit = models.DurationField(null=True, blank=True)
    hard_limit = models.DurationField(null=True, blank=True)
    retries = models.PositiveSmallIntegerField(default=0)
    retry_delay = models.DurationField(default=timedelta(seconds=60))
    retry_delay_max = models.DurationField(default=timedelta(hours=1))
    retry_on = models.JSONField(
        default=list,
        db_default=models.Value([], models.JSONField()),
        blank=True,
        help_text="Errors (names of exceptions) and exit codes that are retried; empty: all",
    )
    memory_limit = models.PositiveBigIntegerField(
        null=True, blank=True, help_text="Bytes that its processes may use together"
    )
    rerun_if_lost = models.BooleanField(default=False)
    pause_after = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="Failures in a row that pause it; empty: never"
    )
    locks = models.JSONField(
        default=list, blank=True, help_text="Resource keys that every run holds"
    )
    lock_resource = models.BooleanField(
        default=True, help_text="Runs hold the lock of their target's resource"
    )
    locks_until_next_fire = models.BooleanField(
        default=False,
        db_default=False,
        help_text="Locks are held until the next fire, so that runs keep their distance",
    )
    batch = models.PositiveSmallIntegerField(
        default=1,
        db_default=1,
        validators=[MinValueValidator(1), MaxValueValidator(1000)],
        help_text="How many of its runs one message may carry; for short ones in a worker",
    )
    # How its targets are picked (scheduling.feeds.Feed as JSON); empty: they are not, they fire.
    feed = models.JSONField(null=True, blank=True)
    # How much of it may press on one host or other key (scheduling.feeds.Polite as JSON).
    polite = models.JSONField(null=True, blank=True)
    notify_on_success = models.BooleanField(default=False)
    notify_still_failing = models.BooleanField(default=False)
    # Whoever knows it can report in the job's name, so it is shown to nobody but its editors.
    ping_url = models.CharField(
        max_length=500,
        blank=True,
        db_default="",
        help_text="Told of each start, success and failure, as healthchecks.io takes it",
    )

    overrides = models.JSONField(default=dict, blank=True, editable=False)
    periodic_task_id = models.BigIntegerField(null=True, unique=True, editable=False)
    schedule_error = models.TextField(blank=True, editable=False)
    retired_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = JobQuerySet.as_manager()

    class Meta:
        ordering = ("name",)
        permissions = (
            ("trigger_job", "Can run a job now"),
            ("pause_job", "Can pause and resume a job"),
        )
        constraints = (
            models.CheckConstraint(
                name="job_says_what_to_run",
                condition=(Q(kind=Kind.TASK) & ~Q(task=""))
                | (Q(kind__in=(Kind.COMMAND, Kind.PROGRAM)) & ~Q(command="")),
            ),
        )

    def __str__(self) -> str:
        return self.name

    @property
    def queue(self) -> str:
        """Name of the queue, or "" for the default of the Celery app."""
        return str(self.options.get("queue") or "")

    @property
    def is_external(self) -> bool:
        """Whether it runs as a process of its own; a program always does."""
        return self.kind == Kind.PROGRAM or (self.kind == Kind.COMMAND and not self.internal)

    @property
    def is_picked(self) -> bool:
        """Whether strategies pick its targets, but for those with fire times of their own."""
        feed = self.feed
        return isinstance(feed, dict) and bool(feed.get("shares") or feed.get("express"))

    def override_of(self, field: str) -> dict[str, Any] | None:
        found = self.overrides.get(field)
        return found if isinstance(found, dict) else None


class ScheduleStretch(models.Model):
    """Which schedule a target followed in [since, until), so that its fires can be checked."""

    target = models.ForeignKey("Target", models.CASCADE, related_name="stretches")
    schedule = models.TextField()
    clock_change = models.CharField(
        max_length=10, default=ClockChange.CLASSIC.value, db_default=ClockChange.CLASSIC.value
    )
    # The days left out, as DaysOff writes them; "": none
    days_off = models.TextField(blank=True, default="", db_default="")
    # The first fire time that this schedule answers for; fires before were another's.
    since = models.DateTimeField()
    until = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = (models.Index(fields=("target", "since"), name="stretches_of_target"),)

    def __str__(self) -> str:
        return f"{self.target_id}: {self.schedule} from {self.since} to {self.until}"


class Edit(models.Model):
    """An edit of when a job fires that not all of its targets follow yet, and what was before it.

    Of jobs with so many targets that they are moved in batches; gone once all are.
    """

    job = models.ForeignKey(Job, models.CASCADE, related_name="edits", db_index=False)
    # What the targets have that are still to follow it, or less.
    version = models.PositiveIntegerField()
    # What was before answers for the fires up to then; new cursors lie strictly after `after`, or
    # after that.
    at = models.DateTimeField()
    after = models.DateTimeField(null=True)
    # A hint: targets up to this id have been looked at.
    moved_up_to = models.BigIntegerField(default=0)

    schedule = models.TextField()
    clock_change = models.CharField(max_length=10)
    # Of its calendar, as it was; without a time zone there was none.
    days = models.TextField(blank=True)
    timezone = models.CharField(max_length=60, blank=True)
    starts_at = models.DateTimeField(null=True)
    ends_at = models.DateTimeField(null=True)
    retired_at = models.DateTimeField(null=True)

    class Meta:
        constraints = (models.UniqueConstraint(fields=("job", "version"), name="one_edit_each"),)

    def __str__(self) -> str:
        return f"edit {self.version} of {self.job_id}"


class FollowUpOn(models.TextChoices):
    SUCCESS = "success", "success"
    FAILURE = "failure", "failure"
    ANY = "any", "any end"


class FollowUp(models.Model):
    """A rule: when a run of `job` ends so, `follower` gets a run."""

    job = models.ForeignKey(Job, models.CASCADE, related_name="follow_ups")
    follower = models.ForeignKey(Job, models.CASCADE, related_name="follows")
    on = models.CharField(max_length=10, choices=FollowUpOn.choices, default=FollowUpOn.SUCCESS)
    # The follower waits for all of its rules with this mark, under one root run.
    join = models.BooleanField(
        default=False, db_default=False, help_text="Only after all jobs that are joined so"
    )
    declared = models.BooleanField(default=False, editable=False)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("job", "follower"), name="one_rule_per_follower"),
            models.CheckConstraint(
                name="no_job_follows_itself", condition=~Q(job=models.F("follower"))
            ),
        )

    def __str__(self) -> str:
        return f"{self.job_id} -> {self.follower_id} on {self.on}"
