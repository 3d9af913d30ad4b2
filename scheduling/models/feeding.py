"""What feeds jobs whose targets are picked, and how far they have come."""

from __future__ import annotations

from datetime import datetime

from django.db import models

from scheduling.models.job import Job


class Feeder(models.Model):
    """Where the feeding of one job stands; how it is to be fed is `Job.feed`. One at a time feeds
    a job: whoever holds this row's lock.
    """

    job = models.OneToOneField(Job, models.CASCADE, related_name="feeder", primary_key=True)
    # Strategy -> what it is owed, in picks: shares even out over time.
    credits = models.JSONField(default=dict)
    # The virtual clock: the highest position that was picked.
    position = models.BigIntegerField(default=0, db_default=0)
    # When it is looked at again; empty: at the next tick.
    next_at = models.DateTimeField(null=True, blank=True)
    # The cooldowns by which `eligible_at` was reckoned; others: reckon anew.
    cooldowns = models.JSONField(default=dict)
    # What became of the newest round, for screens: {"slots", "picked": {strategy: n}, "why"}
    last_round = models.JSONField(default=dict)
    last_round_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"feeder of {self.job_id}"

    def is_due(self, now: datetime) -> bool:
        return self.next_at is None or self.next_at <= now


class CoverageCount(models.Model):
    """One measure of a job's targets that one source named first (0: no source), summed up."""

    job = models.ForeignKey(Job, models.CASCADE, related_name="coverage", db_index=False)
    source = models.PositiveBigIntegerField(default=0)
    measure = models.CharField(max_length=40)
    value = models.BigIntegerField(default=0)

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=("job", "source", "measure"), name="one_count_per_measure"
            ),
        )
        verbose_name_plural = "coverage"

    def __str__(self) -> str:
        return f"{self.measure} of {self.job_id}: {self.value}"


class CoverageChange(models.Model):
    """What a transaction adds to a count. Rows of their own, so that nobody waits for a count that
    everybody changes; `runs.sum_up_coverage` adds them up.
    """

    job = models.ForeignKey(
        Job, models.CASCADE, related_name="+", db_index=False, db_constraint=False
    )
    source = models.PositiveBigIntegerField(default=0)
    measure = models.CharField(max_length=40)
    delta = models.BigIntegerField()

    def __str__(self) -> str:
        return f"{self.measure} of {self.job_id}: {self.delta:+}"


class ArchiveFile(models.Model):
    """A file of ended runs. Only what a file surely has (`written_at`) is deleted."""

    # Relative to the archive's folder
    name = models.CharField(max_length=200, unique=True)
    began_at = models.DateTimeField()
    written_at = models.DateTimeField(null=True, blank=True)
    # All of it had ended by then: from there on the history is whole.
    before = models.DateTimeField(null=True, blank=True)
    runs = models.PositiveIntegerField(default=0)
    size = models.PositiveBigIntegerField(default=0)
    sha256 = models.CharField(max_length=64, blank=True, default="")
    # When the last of its runs had left the table.
    deleted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name
