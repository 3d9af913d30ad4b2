"""The forms of jobs, targets and resources."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from django import forms
from django.urls import reverse
from django.utils.dateparse import parse_datetime
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
)

from scheduling import clock
from scheduling.admin import choices, display
from scheduling.admin.base import ModelForm
from scheduling.admin.feeding import FeedField, PoliteField
from scheduling.admin.fields import (
    FailuresField,
    LinesField,
    RecipientsField,
    ScheduleField,
    SecretField,
    SizeField,
    SpanField,
    refuse_if_over,
)
from scheduling.admin.ledger_page import MomentField, MomentInput
from scheduling.admin.saving import in_form
from scheduling.conf import conf
from scheduling.declarations.columns import shown
from scheduling.declared_keywords import MOST_FAILURES, MOST_RUNS
from scheduling.errors import InvalidDeclaration, InvalidSchedule
from scheduling.management.crontab import MARK
from scheduling.models import Job, Resource, Target
from scheduling.models.job import Kind
from scheduling.ping_urls import require_ping_url
from scheduling.policies import Overlap
from scheduling.runs.cursors import by_rules
from scheduling.runs.seats import MOST_SEATS
from scheduling.services import ALWAYS
from scheduling.zones import ClockChange
from workers.programs import allowed_file

SECOND = timedelta(seconds=1)
HIGHEST_PRIORITY = 255  # what AMQP allows
LONGEST_NAME = 200  # of a queue, as runs keep it
OPTIONS = {"queue", "exchange", "routing_key", "priority", "headers"}
FIRST_RUNS = (
    ("next", "with the next fire of its schedule"),
    ("now", "at once, and then by its schedule"),
    ("at", "at a time, and by its schedule from then on"),
)
OVERLAPS = (
    (Overlap.SKIP, "the new fire is left out"),
    (Overlap.WAIT, "the first new fire waits, later ones are left out"),
    (Overlap.QUEUE, "new fires wait in line, up to the queue limit"),
    (Overlap.CANCEL, "the open run is asked to stop, the new one comes after it"),
    (Overlap.TERMINATE, "the open run is killed, the new one comes after it"),
    (Overlap.ALLOW, "both run side by side"),
)
CLOCK_CHANGES = (
    (ClockChange.CLASSIC, "a skipped time runs at the first instant after it, a doubled one once"),
    (ClockChange.SKIP, "a skipped time does not run, a doubled one runs once"),
    (ClockChange.TWICE, "a skipped time runs at the first instant after it, a doubled one twice"),
    (ClockChange.RUNNING, "a skipped time does not run, a doubled one runs twice"),
)
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
    retry_on = FailuresField(
        required=False,
        help_text="Exceptions and exit codes that are retried, one a line; empty: every failure",
    )
    memory_limit = SizeField(
        required=False,
        help_text="Of all processes of an external run together, such as 512M; empty: "
        "JOBS_MEMORY_LIMIT",
    )
    locks = LinesField(required=False, help_text="Keys of locks that every run holds, one a line")
    feed = FeedField()
    polite = PoliteField()
    recipients = RecipientsField(
        required=False,
        help_text="Addresses and names of channels, one a line; empty: those of JOBS_NOTIFY",
    )

    program = forms.CharField(
        required=False,
        max_length=200,
        widget=UnfoldAdminTextInputWidget(attrs={"class": "bk-mono", "spellcheck": "false"}),
        help_text="Absolute path of a file that JOBS_PROGRAMS allows",
    )
    first_run = forms.ChoiceField(
        choices=FIRST_RUNS, initial="next", widget=UnfoldAdminSelectWidget()
    )
    first_run_at = MomentField(
        required=False, label="Time of the first run", widget=MomentInput(attrs={"step": "1"})
    )
    queue_limit = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=MOST_RUNS,
        widget=UnfoldAdminIntegerFieldWidget(),
        help_text="Runs that may wait with overlap queue; empty: JOBS_QUEUE_LIMIT",
    )
    pause_after = forms.IntegerField(
        required=False,
        min_value=0,
        max_value=MOST_FAILURES,
        widget=UnfoldAdminIntegerFieldWidget(),
        help_text="Results in a row, failed or missing, that pause it; 0: never; empty: never, "
        "if it is fed JOBS_PAUSE_AFTER",
    )
    ping_url = SecretField(
        required=False,
        max_length=500,
        label="Ping URL",
        help_text="Told of each start, success and failure, as healthchecks.io takes it. "
        "Whoever knows it can report in the job's name",
    )

    class Meta:
        model = Job
        fields = "__all__"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        job = self.instance
        self.is_program = job.kind == Kind.PROGRAM
        self._offer("task", choices.registered_tasks, job.task)
        self._offer("command", choices.schedulable_commands, "" if self.is_program else job.command)
        if self.is_program:
            self.initial.update(program=job.command, command="")
        if "kind" in self.fields:
            kinds = [Kind.TASK, Kind.COMMAND]
            if conf.PROGRAMS or self.is_program:
                kinds.append(Kind.PROGRAM)
            self.fields["kind"] = forms.ChoiceField(
                choices=[(kind.value, kind.label) for kind in kinds],
                widget=UnfoldAdminSelectWidget(),
            )
        # Which line of a crontab it is, is no option: neither shown nor lost.
        self.mark = {MARK: job.options[MARK]} if MARK in job.options else {}
        self.initial["options"] = {k: v for k, v in job.options.items() if k != MARK}
        for name, told in (("overlap", OVERLAPS), ("clock_change", CLOCK_CHANGES)):
            if name in self.fields:
                self.fields[name].help_text = _each_with_help(told)
        show_preview(self, name=self.instance.name, job=self.instance.pk)
        for column, mark in job.overrides.items():
            name = in_form(column)
            if name in self.fields and isinstance(mark, Mapping):
                field = self.fields[name]
                note = override_note(column, mark, clock.now())
                field.help_text = format_html("{} {}", note, field.help_text)

    def _offer(self, name: str, source: Any, current: str) -> None:
        if name in self.fields:
            offered = choices.as_choices(source(), current=current)
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
        return options | self.mark

    def clean_program(self) -> str:
        program = str(self.cleaned_data["program"])
        if program and "program" in self.changed_data:
            try:
                allowed_file(program)
            except InvalidDeclaration as error:
                raise forms.ValidationError(str(error)) from error
        return program

    def clean_ping_url(self) -> str:
        try:
            return require_ping_url(self.cleaned_data["ping_url"])
        except InvalidDeclaration as error:
            raise forms.ValidationError(str(error)) from error

    def clean_scheduled_at_argument(self) -> str:
        name = str(self.cleaned_data["scheduled_at_argument"])
        if name and not name.isidentifier():
            raise forms.ValidationError(f"{name!r} is no name of an argument")
        return name

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        self._clean_kind(data)
        self._clean_first_run(data)
        soft, hard = data.get("soft_limit"), data.get("hard_limit")
        if soft and hard and soft >= hard:
            self.add_error("soft_limit", "Must be shorter than the hard limit")
        delay, most = data.get("retry_delay"), data.get("retry_delay_max")
        if delay and most is not None and most < delay:
            self.add_error("retry_delay_max", "Must not be shorter than the first delay")
        starts, ends = data.get("starts_at"), data.get("ends_at")
        if starts and ends and ends <= starts:
            self.add_error("ends_at", "Must be after the start")
        self._clean_calendar(data)
        return data

    def _clean_kind(self, data: dict[str, Any]) -> None:
        """One of task, command and program says what runs; the last two share a column."""
        if "kind" in self.fields and "kind" in data:
            wanted = {Kind.TASK: "task", Kind.COMMAND: "command"}.get(data["kind"], "program")
            if wanted not in self.errors and not data.get(wanted):
                self.add_error(wanted, f"Choose the {wanted} to run")
            # What was chosen before the kind was changed means nothing any more.
            data |= {name: "" for name in ("task", "command") if name != wanted}
            self.is_program = wanted == "program"
            if self.is_program:
                data["command"] = data.get("program", "")
        if self.is_program and not all(isinstance(each, str) for each in data.get("args") or []):
            self.add_error("args", 'A program takes texts, such as ["--day", "1"]')

    def _clean_first_run(self, data: dict[str, Any]) -> None:
        if data.get("first_run") != "at" or "first_run_at" in self.errors:
            return
        at = data.get("first_run_at")
        if at is None or at <= clock.now():
            self.add_error("first_run_at", "Choose a time in the future")
        else:
            data["first_run"] = at.astimezone(UTC).isoformat()

    def _clean_calendar(self, data: dict[str, Any]) -> None:
        """Refuse a calendar that leaves no fire over. What the form fixes is as it is stored."""
        names = ("schedule", "calendar", "clock_change")
        if any(name in self.errors for name in names) or not set(names) & {*self.changed_data}:
            return
        told = {name: data.get(name, getattr(self.instance, name)) for name in names}
        try:
            by_rules(told["schedule"], Job(**told))
        except InvalidSchedule as error:
            self.add_error("calendar" if "calendar" in self.fields else "schedule", str(error))


class ResourceForm(ModelForm[Resource]):
    seats = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=MOST_SEATS,
        widget=UnfoldAdminIntegerFieldWidget(),
        help_text="How many runs may hold it at once; empty: as JOBS_SEATS says, otherwise one",
    )
    recipients = RecipientsField(
        required=False,
        help_text="Told of its targets besides the recipients of their jobs, one a line",
    )

    class Meta:
        model = Resource
        fields = ("key", "description", "labels", "seats", "recipients")

    def clean_labels(self) -> dict[str, Any]:
        return expect_object(self.cleaned_data["labels"], 'such as {"country": "de"}')


class TargetForm(ModelForm[Target]):
    schedule = ScheduleField(required=False, help_text="Empty: the job's own")

    class Meta:
        model = Target
        fields = ("job", "key", "resource", "schedule", "kwargs")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        name = "" if self.instance.pk is None else self.instance.name
        show_preview(self, name=name, job=self.instance.job_id)

    def clean_schedule(self) -> str:
        text = str(self.cleaned_data["schedule"])
        if text == ALWAYS:
            raise forms.ValidationError("No target alone can run always; give its job the schedule")
        if text and "schedule" in self.changed_data:
            refuse_if_over(text)
        return text

    def clean_kwargs(self) -> dict[str, Any]:
        return expect_object(self.cleaned_data["kwargs"], 'such as {"day": 1}')


def show_preview(form: forms.Form | ModelForm[Any], *, name: str, job: int | None) -> None:
    """Have the browser ask what the schedule means while it is typed."""
    if "schedule" in form.fields:
        form.fields["schedule"].widget.attrs |= {
            "data-preview": reverse("admin:scheduling_job_preview"),
            "data-name": name,
            "data-job": "" if job is None else str(job),
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


def override_note(column: str, mark: Mapping[str, Any], now: datetime) -> SafeString:
    """Who set this field, when, and what the code says."""
    at = parse_datetime(str(mark.get("at") or ""))
    return format_html(
        '<span class="bk-override">Set here by {} {}. In the code: {}</span>',
        mark.get("by") or "somebody",
        "" if at is None else display.relative(at, now),
        display.as_code(shown(column, mark.get("code"))),
    )


def _each_with_help(told: Iterable[tuple[str, str]]) -> SafeString:
    return format_html_join("", '<span class="bk-line"><b>{}</b>: {}</span>', told)
