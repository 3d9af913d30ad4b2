"""The pages of holiday calendars: days on which jobs do not fire."""

from __future__ import annotations

from calendar import isleap
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from unfold.widgets import UnfoldAdminTextareaWidget

from scheduling import clock, runs
from scheduling.admin import shared
from scheduling.admin.base import ModelAdmin, ModelForm, WithPage
from scheduling.calendars import DaysOff
from scheduling.errors import InvalidCalendar, InvalidSchedule
from scheduling.models import Calendar
from scheduling.runs.cursors import by_rules
from scheduling.zones import load_zone

COMING = 10
# 29 February may be that far away: 2100 is no leap year.
YEARS = 9


class CalendarForm(ModelForm[Calendar]):
    days = forms.CharField(
        required=False,
        strip=False,
        widget=UnfoldAdminTextareaWidget(
            attrs={"rows": 14, "spellcheck": "false", "class": "bk-mono"}
        ),
        help_text="One a line: 2026-12-25, 2026-12-24..2026-12-31 or, each year, 12-25; "
        "what follows a blank is a name. Lines that begin with # count for nothing",
    )

    class Meta:
        model = Calendar
        fields = ("name", "timezone", "days")

    def clean_timezone(self) -> str:
        zone = str(self.cleaned_data["timezone"])
        try:
            load_zone(zone)
        except InvalidSchedule as error:
            raise forms.ValidationError(str(error)) from error
        return zone

    def clean_days(self) -> str:
        days = str(self.cleaned_data["days"]).replace("\r\n", "\n")
        try:
            DaysOff.parse(days)
        except InvalidCalendar as error:
            raise forms.ValidationError(str(error)) from error
        return days

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        if self.errors or self.instance.pk is None:
            return data
        changed = Calendar(name=self.instance.name, days=data["days"], timezone=data["timezone"])
        for job in self.instance.jobs.filter(retired_at=None):
            job.calendar = changed
            try:
                by_rules(job.schedule, job)
            except InvalidSchedule as error:
                self.add_error("days", f"Job {job.name!r}: {error}")
        return data


@admin.register(Calendar)
class CalendarAdmin(shared.UsedByJobs, WithPage, ModelAdmin[Calendar]):
    form = CalendarForm
    change_form_template = "scheduling/shared_form.html"
    list_display = ("name", "timezone", "next_days_off", "number_of_jobs")
    list_per_page = 50
    search_fields = ("name",)
    fields = ("name", "timezone", "days")

    @admin.display(description="next days off")
    def next_days_off(self, calendar: Calendar) -> str:
        return ", ".join(coming(calendar, 3, clock.now())) or "none"

    def page_of(self, request: HttpRequest, obj: Calendar) -> dict[str, Any]:
        return {
            "users": shared.job_links(request, obj.jobs.all()),
            "no_users": "No job uses it: choose it beside a job's schedule.",
            "days": coming(obj, COMING, clock.now()),
        }

    def save_model(self, request: HttpRequest, obj: Calendar, form: Any, change: bool) -> None:
        if not change:
            obj.save(force_insert=True)
            return
        stored = Calendar.objects.get(pk=obj.pk)
        values = form.cleaned_data
        runs.change_calendar(
            stored, days=values["days"], timezone=values["timezone"], now=clock.now()
        )


def coming(calendar: Calendar, number: int, now: datetime) -> list[str]:
    """Give the next days off, today's included, as a person writes them."""
    try:
        days_off = calendar.days_off
    except InvalidSchedule as error:
        return [f"cannot be read: {error}"]
    today = now.astimezone(ZoneInfo(calendar.timezone)).date()
    yearly = {
        date(year, month, day)
        for year in range(today.year, today.year + YEARS)
        for month, day in days_off.yearly
        if (month, day) != (2, 29) or isleap(year)
    }
    ahead = sorted(day for day in days_off.dates | yearly if day >= today)
    return [f"{day:%a} {day.day} {day:%b %Y}" for day in ahead[:number]]
