"""The forms of jobs and targets, and the questions asked before a pause or a resume."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.urls import reverse
from django.utils.dateparse import parse_datetime
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.widgets import (
    UnfoldAdminExpandableTextareaWidget,
    UnfoldAdminRadioSelectWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminSplitDateTimeWidget,
)

from scheduling import clock
from scheduling.admin import choices, display
from scheduling.admin.base import ModelForm
from scheduling.admin.fields import (
    EmailLinesField,
    LinesField,
    ScheduleField,
    SpanField,
    refuse_if_over,
)
from scheduling.declarations.columns import as_text
from scheduling.models import Job, Resource, Target
from scheduling.models.job import Kind
from scheduling.policies import CatchUp

SECOND = timedelta(seconds=1)
HIGHEST_PRIORITY = 255  # what AMQP allows
LONGEST_NAME = 200  # of a queue, as runs keep it
OPTIONS = {"queue", "exchange", "routing_key", "priority", "headers"}
SCHEDULE_HELP = format_html(
    "{} <code>every 5m</code> <code>cron 0 3 * * * tz Europe/Berlin</code> "
    "<code>times 13:00 23:37</code> <code>once 2027-01-01T00:00:00+00:00</code> "
    "<code>manual</code>",
    "Such as",
)


class JobForm(ModelForm[Job]):
    schedule = ScheduleField(help_text=SCHEDULE_HELP)
    catch_up_window = SpanField(
        required=False, at_least=SECOND, help_text="Empty: one period, 1h to 7d"
    )
    start_within = SpanField(
        required=False, at_least=SECOND, help_text="Empty: one period, at least 60s"
    )
    soft_limit = SpanField(
        required=False, at_least=SECOND, help_text="Empty: a tenth before the hard limit"
    )
    hard_limit = SpanField(
        required=False, at_least=SECOND, help_text="Empty: 5m inside the worker, else 2m"
    )
    retry_delay = SpanField(
        initial=timedelta(minutes=1), help_text="Doubles with every failure ..."
    )
    retry_delay_max = SpanField(initial=timedelta(hours=1), help_text="... up to this")
    locks = LinesField(required=False, help_text="Resource keys that every run holds, one a line")
    recipients = EmailLinesField(
        required=False, help_text="One address a line; empty: those of JOBS_NOTIFY"
    )

    class Meta:
        model = Job
        fields = "__all__"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._offer("task", choices.registered_tasks)
        self._offer("command", choices.schedulable_commands)
        if "kind" in self.fields:
            self.fields["kind"] = forms.ChoiceField(
                choices=[(kind.value, kind.label) for kind in (Kind.TASK, Kind.COMMAND)],
                widget=UnfoldAdminSelectWidget(),
            )
        show_preview(self, name=self.instance.name)
        for name, mark in self.instance.overrides.items():
            if name in self.fields and isinstance(mark, Mapping):
                field = self.fields[name]
                field.help_text = format_html(
                    "{} {}", override_note(mark, clock.now()), field.help_text
                )

    def _offer(self, name: str, source: Any) -> None:
        if name in self.fields:
            offered = choices.as_choices(source(), current=getattr(self.instance, name))
            self.fields[name] = forms.ChoiceField(
                choices=offered, required=False, widget=UnfoldAdminSelectWidget()
            )

    def clean_schedule(self) -> str:
        text = str(self.cleaned_data["schedule"])
        if "schedule" in self.changed_data:
            refuse_if_over(text)
        return text

    def clean_args(self) -> list[Any]:
        return expect_list(self.cleaned_data["args"])

    def clean_kwargs(self) -> dict[str, Any]:
        return expect_object(self.cleaned_data["kwargs"], 'such as {"day": 1}')

    def clean_options(self) -> dict[str, Any]:
        options = expect_object(self.cleaned_data["options"], 'such as {"queue": "slow"}')
        if unknown := sorted(set(options) - OPTIONS):
            raise forms.ValidationError(
                f"{', '.join(unknown)}: no such option; there are {', '.join(sorted(OPTIONS))}"
            )
        for name, value in options.items():
            if problem := option_problem(name, value):
                raise forms.ValidationError(f"{name} is {value!r}; {problem}")
        return options

    def clean_scheduled_at_argument(self) -> str:
        name = str(self.cleaned_data["scheduled_at_argument"])
        if name and not name.isidentifier():
            raise forms.ValidationError(f"{name!r} is no name of an argument")
        return name

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        if "kind" in self.fields:
            wanted, other = (
                ("task", "command") if data.get("kind") == Kind.TASK else ("command", "task")
            )
            if wanted not in self.errors and not data.get(wanted):
                self.add_error(wanted, f"Choose the {wanted} to run")
            # What was chosen before the kind was changed means nothing any more.
            data[other] = ""
        soft, hard = data.get("soft_limit"), data.get("hard_limit")
        if soft and hard and soft >= hard:
            self.add_error("soft_limit", "Must be shorter than the hard limit")
        delay, most = data.get("retry_delay"), data.get("retry_delay_max")
        if delay and most is not None and most < delay:
            self.add_error("retry_delay_max", "Must not be shorter than the first delay")
        starts, ends = data.get("starts_at"), data.get("ends_at")
        if starts and ends and ends <= starts:
            self.add_error("ends_at", "Must be after the start")
        return data


class ResourceForm(ModelForm[Resource]):
    class Meta:
        model = Resource
        fields = ("key", "description", "labels")

    def clean_labels(self) -> dict[str, Any]:
        return expect_object(self.cleaned_data["labels"], 'such as {"country": "de"}')


class TargetForm(ModelForm[Target]):
    schedule = ScheduleField(required=False, help_text="Empty: the job's own")

    class Meta:
        model = Target
        fields = ("job", "key", "resource", "schedule", "kwargs")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        show_preview(self, name="" if self.instance.pk is None else self.instance.name)

    def clean_schedule(self) -> str:
        text = str(self.cleaned_data["schedule"])
        if text and "schedule" in self.changed_data:
            refuse_if_over(text)
        return text

    def clean_kwargs(self) -> dict[str, Any]:
        return expect_object(self.cleaned_data["kwargs"], 'such as {"day": 1}')


class PauseForm(forms.Form):
    reason = forms.CharField(
        max_length=300,
        widget=UnfoldAdminExpandableTextareaWidget(attrs={"rows": 2, "maxlength": 300}),
        help_text="Shown wherever the pause is: say what is being waited for",
    )
    until = forms.SplitDateTimeField(
        required=False,
        widget=UnfoldAdminSplitDateTimeWidget(),
        help_text="Empty: until somebody resumes it",
    )

    def clean_until(self) -> datetime | None:
        until: datetime | None = self.cleaned_data["until"]
        if until is not None and until <= clock.now():
            raise forms.ValidationError("Choose a time in the future")
        return until


class ResumeForm(forms.Form):
    missed = forms.ChoiceField(
        label="What was missed during the pause",
        choices=(
            (CatchUp.NONE.value, "Leave it: go on with the next fire"),
            (CatchUp.LATEST.value, "Run the latest missed fire once"),
            (CatchUp.ALL.value, "Run every missed fire, one after another"),
        ),
        initial=CatchUp.NONE.value,
        widget=UnfoldAdminRadioSelectWidget(),
    )

    def clean_missed(self) -> CatchUp:
        return CatchUp(self.cleaned_data["missed"])


def show_preview(form: forms.Form | ModelForm[Any], *, name: str) -> None:
    """Have the browser ask what the schedule means while it is typed."""
    if "schedule" in form.fields:
        form.fields["schedule"].widget.attrs |= {
            "data-preview": reverse("admin:scheduling_job_preview"),
            "data-name": name,
        }


def option_problem(name: str, value: Any) -> str:
    """What a message could not be sent with; "" if it can."""
    match name:
        case "priority":
            if type(value) is not int or not 0 <= value <= HIGHEST_PRIORITY:
                return f"must be a whole number from 0 to {HIGHEST_PRIORITY}"
        case "headers":
            if not isinstance(value, dict):
                return 'must be an object, such as {"team": "books"}'
        case _:
            if not isinstance(value, str) or not 0 < len(value) <= LONGEST_NAME:
                return f"must be a text of 1 to {LONGEST_NAME} characters"
            if not value.isprintable():
                return "must have only characters that can be seen"
    return ""


def expect_list(value: Any) -> list[Any]:
    """Give the decoded JSON; nothing counts as an empty list."""
    if value is None or value == "":
        return []
    if not isinstance(value, list):
        raise forms.ValidationError("Must be a list, such as [1, 2]")
    return value


def expect_object(value: Any, example: str) -> dict[str, Any]:
    """Give the decoded JSON; nothing counts as an empty object."""
    if value is None or value == "":
        return {}
    if not isinstance(value, dict):
        raise forms.ValidationError(f"Must be an object, {example}")
    return value


def override_note(mark: Mapping[str, Any], now: datetime) -> SafeString:
    """Who set this field, when, and what the code says."""
    at = parse_datetime(str(mark.get("at") or ""))
    return format_html(
        '<span class="bk-override">Set here by {} {}. In the code: {}</span>',
        mark.get("by") or "somebody",
        "" if at is None else display.relative(at, now),
        display.as_code(as_text(mark.get("code"))),
    )
