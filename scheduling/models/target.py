"""Resources, and targets: a job applied to one key."""

from __future__ import annotations

from datetime import datetime

from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q

from scheduling.models.base import Pausable, Told
from scheduling.models.job import Job


class Resource(Pausable, Told):
    """A thing out there that runs must not touch together."""

    key = models.CharField(max_length=300, unique=True)
    description = models.CharField(max_length=300, blank=True)
    labels = models.JSONField(default=dict, blank=True)
    seats = models.PositiveSmallIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="How many runs may hold it at once; empty: as JOBS_SEATS says, else one",
    )
    first_seen_at = models.DateTimeField(auto_now_add=True)
    last_seen_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("key",)
        indexes = (
            # Serves the end of pauses
            models.Index(
                fields=("paused_until",),
                name="resource_paused_until",
                condition=Q(paused_until__isnull=False),
            ),
        )

    def __str__(self) -> str:
        return self.key


class Parked(models.TextChoices):
    """Why a target has no cursor although its job has a schedule."""

    PAUSED = "paused", "paused"
    ERROR = "error", "schedule cannot be read"
    RETIRED = "retired", "retired"
    OPEN = "open", "waits for the end of its run"
    CIRCUIT = "circuit", "its circuit is open"


class TargetQuerySet(models.QuerySet["Target"]):
    def due(self, now: datetime) -> TargetQuerySet:
        """Targets with a fire time at or before `now`, earliest first."""
        return self.filter(next_fire_at__lte=now).order_by("next_fire_at")


class Target(Pausable):
    """(job, key): the cursor, the arguments and the statistics. A plain job has one, with key "".

    Cursor, parking, streaks and counters are written by `scheduling.runs` only.
    """

    job = models.ForeignKey(Job, models.CASCADE, related_name="targets")
    key = models.CharField(max_length=300, blank=True, default="")
    resource = models.ForeignKey(
        Resource, models.PROTECT, null=True, blank=True, related_name="targets"
    )
    # Empty: the job's.
    schedule = models.TextField(blank=True, default="")
    kwargs = models.JSONField(default=dict, blank=True)

    # The next fire time not yet claimed (UTC).
    next_fire_at = models.DateTimeField(null=True, blank=True, editable=False)
    parked = models.CharField(max_length=10, choices=Parked.choices, blank=True, editable=False)
    # The cursor it had when it was parked: what was missed since is known on resume.
    parked_cursor = models.DateTimeField(null=True, blank=True, editable=False)
    # Grows by one with every start: the fencing token of the newest attempt.
    token = models.PositiveBigIntegerField(default=0, editable=False)

    last_scheduled_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_started_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_ended_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_succeeded_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_skipped_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_state = models.CharField(max_length=10, blank=True, editable=False)
    last_outcome = models.CharField(max_length=10, blank=True, editable=False)
    failing_since = models.DateTimeField(null=True, blank=True, editable=False)
    failures_in_a_row = models.PositiveIntegerField(default=0, editable=False)
    last_alerted_at = models.DateTimeField(null=True, blank=True, editable=False)
    # What its overlap policy has done: fires skipped, runs ended for a newer fire, and fires
    # skipped because too many waited.
    skipped_for_overlap = models.PositiveBigIntegerField(default=0, editable=False)
    ended_for_overlap = models.PositiveBigIntegerField(default=0, db_default=0, editable=False)
    skipped_for_cap = models.PositiveBigIntegerField(default=0, db_default=0, editable=False)
    # A service's: how often in a row it ended soon after its start.
    short_runs = models.PositiveIntegerField(default=0, db_default=0, editable=False)

    retired_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = TargetQuerySet.as_manager()

    class Meta:
        ordering = ("job", "key")
        constraints = (
            models.UniqueConstraint(fields=("job", "key"), name="one_target_per_job_and_key"),
        )
        indexes = (
            # Serves every tick: TargetQuerySet.due
            models.Index(
                fields=("next_fire_at",),
                name="target_due",
                condition=Q(next_fire_at__isnull=False),
            ),
            # Serves recovery: who waits for the end of a run that has ended
            models.Index(
                fields=("parked",),
                name="target_parked",
                condition=Q(next_fire_at__isnull=True),
            ),
            # Serves the end of pauses
            models.Index(
                fields=("paused_until",),
                name="target_paused_until",
                condition=Q(paused_until__isnull=False),
            ),
            # Serves the home page: what is failing
            models.Index(
                fields=("failing_since",),
                name="target_failing",
                condition=Q(failing_since__isnull=False),
            ),
        )

    def __str__(self) -> str:
        return f"{self.job.name}[{self.key}]" if self.key else self.job.name

    @property
    def name(self) -> str:
        """The stable name that spreads `H` and `spread` schedules."""
        return f"{self.job.name}/{self.key}" if self.key else self.job.name

    @property
    def schedule_text(self) -> str:
        return self.schedule or self.job.schedule
