"""Targets: a job applied to one key, and the resources behind the keys."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q

from scheduling.models.base import Pausable, Told
from scheduling.models.job import Job
from scheduling.models.source import Source


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

    def parked_for(self, reason: Parked) -> TargetQuerySet:
        """Who has no cursor for this reason. SQLite needs the index's very words to use it."""
        return self.filter(~Q(parked=""), next_fire_at__isnull=True, parked=reason)


def pool_index(name: str, *order: str, **condition: Any) -> models.Index:
    """What is in the pool, in one order. What cools down is not in it: a plain index would have
    it at its head, and each selection would read past it.
    """
    return models.Index(
        fields=("job", *order, "id"),
        name=f"target_pool_{name}",
        condition=Q(eligible_since__isnull=False, **condition),
    )


# One for each stage of a strategy (scheduling.strategies).
POOL_INDEXES = (
    pool_index("new", "created_at", last_scheduled_at__isnull=True),
    pool_index("new_of_source", "source", "created_at", last_scheduled_at__isnull=True),
    pool_index("oldest", "last_scheduled_at", last_scheduled_at__isnull=False),
    pool_index("unfound", "hint_at", found_at__isnull=True, hint_at__isnull=False),
    pool_index("stalest", "-staleness", staleness__isnull=False),
    pool_index("unhinted", "created_at", hint_at__isnull=True, position__isnull=True),
    pool_index("position", "position", hint_at__isnull=True, position__isnull=False),
    pool_index("not_ok", "hint_at", ok_since__isnull=True, hint_at__isnull=False),
    pool_index("not_ok_unhinted", "created_at", ok_since__isnull=True, hint_at__isnull=True),
)


class Target(Pausable):
    """(job, key): the cursor, the arguments and the statistics. A plain job has one, with key "".

    Cursor, parking, streaks and counters are written by `scheduling.runs` only.
    """

    # Its index is the constraint's, on (job, key).
    job = models.ForeignKey(Job, models.CASCADE, related_name="targets", db_index=False)
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
    # Of its job, when this cursor was set; see `Job.schedule_version`.
    schedule_version = models.PositiveIntegerField(default=1, db_default=1, editable=False)
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

    # --- what looking at its resource has found (see scheduling.cadence) ---
    # The source that named it first; its listing's parameters are the target's. Without an index of
    # its own, which each claim would have to write: a source is asked for by way of its listings.
    source = models.ForeignKey(
        Source,
        models.SET_NULL,
        null=True,
        blank=True,
        editable=False,
        related_name="targets",
        db_index=False,
    )
    # When it changed last, as its listings say; empty: nobody says.
    hint_at = models.DateTimeField(null=True, blank=True, editable=False)
    # When the newest result was had that counts here. Older ones change nothing that is newer.
    observed_at = models.DateTimeField(null=True, blank=True, editable=False)
    # The newest result that found it: a success, and not `missing`.
    found_at = models.DateTimeField(null=True, blank=True, editable=False)
    # hint_at - found_at where that is positive: how much is known to be out of date.
    staleness = models.DurationField(null=True, blank=True, editable=False)
    # Since when each result has found it; empty: the newest has not, or there is none.
    ok_since = models.DateTimeField(null=True, blank=True, editable=False)
    # Of what was found last: equal means unchanged.
    fingerprint = models.CharField(max_length=128, blank=True, default="", db_default="")
    # Equal results in a row (found, missing, failed), and results in a row that have not found it.
    streak = models.PositiveIntegerField(default=0, db_default=0, editable=False)
    misses = models.PositiveIntegerField(default=0, db_default=0, editable=False)
    # The ladder: 0 (changes all the time) to 10; and its place on the virtual clock, in seconds.
    level = models.PositiveSmallIntegerField(default=4, db_default=4, editable=False)
    position = models.BigIntegerField(null=True, blank=True, editable=False)
    # What an `adaptive` schedule has come to; empty: its start.
    interval = models.DurationField(null=True, blank=True, editable=False)
    # What its newest result asked for (`retry_after`): not looked at before then.
    not_before = models.DateTimeField(null=True, blank=True, editable=False)

    # --- of jobs that are fed (Job.feed): which targets may be picked. One of the two, or neither:
    # it cools down or is in flight until then; or it is in the pool since then.
    eligible_at = models.DateTimeField(null=True, blank=True, editable=False)
    eligible_since = models.DateTimeField(null=True, blank=True, editable=False)

    retired_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = TargetQuerySet.as_manager()

    class Meta:
        ordering = ("job", "key")
        constraints = (
            models.UniqueConstraint(fields=("job", "key"), name="one_target_per_job_and_key"),
            models.CheckConstraint(
                name="target_cools_or_is_eligible",
                condition=Q(eligible_at__isnull=True) | Q(eligible_since__isnull=True),
            ),
        )
        indexes = (
            # Serves every tick: TargetQuerySet.due
            models.Index(
                fields=("next_fire_at",),
                name="target_due",
                condition=Q(next_fire_at__isnull=False),
            ),
            # Serves recovery (TargetQuerySet.parked_for): who waits for the end of a run that has
            # ended. Without those that fire by no cursor, a million of a fed job's among them.
            models.Index(
                fields=("parked",),
                name="target_parked",
                condition=Q(next_fire_at__isnull=True) & ~Q(parked=""),
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
            # Serves the ends of cooldowns
            models.Index(
                fields=("eligible_at",),
                name="target_cooling",
                condition=Q(eligible_at__isnull=False),
            ),
            # Serves the age of the oldest that was never found
            models.Index(
                fields=("job", "created_at"),
                name="target_never_found",
                condition=Q(found_at__isnull=True, retired_at__isnull=True, paused_at__isnull=True),
            ),
            *POOL_INDEXES,
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
