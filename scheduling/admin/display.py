"""How values look in the admin. Everything that comes from outside is escaped here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from scheduling import ledger
from scheduling.admin.saving import in_form
from scheduling.errors import InvalidSchedule
from scheduling.models import Job, Listing, Run, State
from scheduling.models.base import Pausable
from scheduling.runs.scopes import told

# What holds a job or a target: the scope's name in a sentence, and the scope.
Hold = tuple[str, Pausable]

NOTHING = format_html('<span class="bk-subtle">{}</span>', "-")

TONES = {
    State.QUEUED: "grey",
    State.RUNNING: "blue",
    State.SUCCEEDED: "green",
    State.FAILED: "red",
    State.SKIPPED: "amber",
}


def badge(text: str, tone: str = "grey", title: str = "") -> SafeString:
    return format_html(
        '<span class="bk-badge bk-{}" title="{}">{}</span>', tone, title or text, text
    )


def state_badge(run: Run) -> SafeString:
    """The state, its colour, and the reason behind it."""
    shown = badge(run.get_state_display(), TONES[State(run.state)], run.get_reason_display())
    if not run.reason:
        return shown
    return format_html('{} <span class="bk-subtle">{}</span>', shown, run.get_reason_display())


def attempt(run: Run, retries: int) -> str:
    """'1', '1 of 4', '2 of 4 (1 failed)': failures use up the job's retries, other ends do not."""
    most = run.attempt + max(0, retries - run.failures)
    shown = str(run.attempt) if most == 1 else f"{run.attempt} of {most}"
    before = [
        f"{number} {word}"
        for number, word in ((run.failures, "failed"), (run.losses, "lost"))
        if number
    ]
    return f"{shown} ({', '.join(before)})" if before else shown


def duration(span: timedelta | None) -> str:
    """'0.3 s', '12 s', '4 min 10 s', '2 h 5 min', '3 d 4 h'."""
    if span is None:
        return "-"
    seconds = max(span.total_seconds(), 0)
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60)):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    if whole >= 60:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 else "")
    return f"{whole} s"


def unbroken(text: str) -> SafeString:
    return format_html('<span class="bk-nowrap">{}</span>', text)


def broken(text: str) -> SafeString:
    """Text that breaks anywhere, so that a long word does not stretch its table."""
    return format_html('<span class="bk-wrap">{}</span>', text) if text else NOTHING


def relative(value: datetime, now: datetime) -> str:
    distance = value - now
    if abs(distance) < timedelta(seconds=1):
        return "now"
    if distance > timedelta(0):
        return f"in {coarse(distance)}"
    return f"{coarse(-distance)} ago"


def coarse(span: timedelta) -> str:
    seconds = int(span.total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size or (unit == "min" and seconds >= 90):
            return f"{round(seconds / size)} {unit}"
    return f"{seconds} s"


def clock_text(value: datetime, now: datetime) -> str:
    """The time on the installation's clock: with seconds if it has some, the year if another."""
    local = timezone.localtime(value)
    year = "" if local.year == timezone.localtime(now).year else f" {local.year}"
    seconds = f":{local.second:02}" if local.second else ""
    return f"{local.day} {local:%b}{year} {local:%H:%M}{seconds}"


def moment(value: datetime | None, now: datetime) -> SafeString:
    """A time, how far away it is, and on hover the exact one."""
    if value is None:
        return NOTHING
    return format_html(
        '<time class="bk-time" datetime="{}" title="{}">{} '
        '<span class="bk-subtle">{}</span></time>',
        value.isoformat(),
        f"{timezone.localtime(value):%Y-%m-%d %H:%M:%S %Z}",
        clock_text(value, now),
        relative(value, now),
    )


def link(url: str, text: object, **attributes: str) -> SafeString:
    extra = format_html_join("", ' {}="{}"', attributes.items())
    return format_html('<a class="bk-link" href="{}"{}>{}</a>', url, extra, text)


def run_url(run: Run) -> str:
    return run_url_of(run.pk)


def run_url_of(pk: UUID) -> str:
    return reverse("admin:scheduling_run_change", args=(pk,))


def job_url(job_id: int) -> str:
    return reverse("admin:scheduling_job_change", args=(job_id,))


def runs_url(**filters: object) -> str:
    query = "&".join(f"{name}={value}" for name, value in filters.items())
    return f"{reverse('admin:scheduling_run_changelist')}?{query}"


def name_over(name: str, code: str) -> SafeString:
    """A name, and below it, smaller, what it stands for in code."""
    return format_html(
        '<span class="bk-name">{}</span><span class="bk-subtle bk-line bk-mono">{}</span>',
        name,
        code,
    )


def what_it_runs(job: Job) -> str:
    return job.task or job.command


def schedule_words(text: str, *, follows: Sequence[str] = (), picked: bool = False) -> str:
    """The schedule as a sentence; its text where that cannot be read."""
    try:
        return ledger.in_words(text, follows=follows, picked=picked)
    except InvalidSchedule:
        return text


def marks(job: Job, held: Hold | None, *, is_running: bool) -> SafeString:
    """Small badges for what an operator should not overlook beside the state."""
    shown: list[SafeString] = []
    if is_running and held is not None:  # otherwise the state says it
        shown.append(badge("paused", "amber", told(*held)))
    if job.overrides:
        fields = ", ".join(sorted(map(in_form, job.overrides)))
        shown.append(badge(f"{len(job.overrides)} overridden", "blue", f"Set here: {fields}"))
    return format_html_join(" ", "{}", ((each,) for each in shown))


def listing_state(listing: Listing) -> SafeString:
    if listing.gone_at is not None:
        return badge("gone", "grey", "Full listings no longer named it")
    if not listing.is_enabled:
        return badge("disabled", "amber", "Its source says that it is not to be worked on")
    return badge("listed", "green")


def as_code(value: Any) -> SafeString:
    return format_html('<code class="bk-code">{}</code>', value)
