"""What jobs belong to and what they leave out: circuits, and calendars of days off."""

from __future__ import annotations

from django.db import models

from scheduling.calendars import DaysOff
from scheduling.models.base import Pausable


class Circuit(Pausable):
    """Jobs that stop together. Its name is what declarations use."""

    name = models.CharField(max_length=200, unique=True)
    description = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


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
