"""What jobs belong to and what they leave out: circuits, and calendars of days off."""

from __future__ import annotations

from django.db import models

from scheduling.calendars import DaysOff
from scheduling.models.base import Pausable, Told


class Circuit(Pausable, Told):
    """Jobs that stop together when one of them fails, and close again when all are ready.

    Its name is what declarations use. Open while `opened_at` is set; written by
    `runs.open_circuit` and `runs.close_circuit` only, its checks by `runs.circuits`.
    """

    name = models.CharField(max_length=200, unique=True)
    description = models.CharField(max_length=300, blank=True)
    opened_at = models.DateTimeField(null=True, blank=True, editable=False)
    # The name of the member that opened it, and what was wrong with it.
    opened_by = models.CharField(max_length=200, blank=True, db_default="", editable=False)
    open_reason = models.CharField(max_length=500, blank=True, db_default="", editable=False)
    # Open: when its members are asked next whether they are ready, and how often that was done.
    # Closed: when they are asked next for their status.
    check_at = models.DateTimeField(null=True, blank=True, editable=False)
    probes = models.PositiveIntegerField(default=0, db_default=0, editable=False)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name

    @property
    def is_open(self) -> bool:
        return self.opened_at is not None


class Calendar(models.Model):
    """Named days on which jobs do not fire. Edited by `runs.change_calendar` only."""

    name = models.CharField(max_length=200, unique=True)
    timezone = models.CharField(
        max_length=60, default="UTC", help_text="Where a day begins and ends, e.g. Europe/Berlin"
    )
    days = models.TextField(
        blank=True,
        help_text="One a line: 2026-12-25, 2026-12-24..2026-12-31 or, each year, 12-25",
    )

    class Meta:
        ordering = ("name",)
        verbose_name = "holiday calendar"

    def __str__(self) -> str:
        return self.name

    @property
    def days_off(self) -> DaysOff:
        """Raises InvalidCalendar if the stored text cannot be read (it was written by hand)."""
        return DaysOff.parse(self.days, timezone=self.timezone)
