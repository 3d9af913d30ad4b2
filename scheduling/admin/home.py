"""The home page: is it alive, what fails, what comes next, what happened today."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import CharField, Count, F, Q
from django.db.models.functions import Cast, Substr
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString

from scheduling import clock, health, runs
from scheduling.admin import coverage, display, overview
from scheduling.admin.sidebar import flower_link
from scheduling.conf import conf
from scheduling.models import Circuit, Job, Run, State, Target
from scheduling.models.run import RunQuerySet
from scheduling.runs.circuits import told

ROWS = 10
MOST_COUNTED = 1000
HOURS = 24
# More runs than this are not counted for the bars: the page has to come at once.
MOST_DRAWN = 250_000
# A run that waits longer than this for a worker is worth a look.
LATE = timedelta(minutes=1)
CARDS = {
    "beat": "Beat",
    "workers": "Workers",
    "broker": "Broker",
    "redis": "Redis",
    "database": "Database",
}
BARS = (State.SUCCEEDED, State.FAILED, State.SKIPPED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One hour; heights in percent of the busiest hour."""

    label: str
    counts: list[tuple[str, str, int, float]]  # state, tone, runs, height


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Unfold's DASHBOARD_CALLBACK: add what this user may see."""
    now = clock.now()
    context |= {
        "title": "Home",
        "cards": [*cards(request, now), *filter(None, [coverage.card(request, now)])],
        "flower_url": flower_link(request),
        "may_see_jobs": request.user.has_perm("scheduling.view_job"),
        "may_see_runs": request.user.has_perm("scheduling.view_run"),
        "may_pause": request.user.has_perm("scheduling.pause_job"),
        "everything_paused": everything_paused(now),
    }
    if context["may_see_jobs"]:
        context |= {
            "failing": failing(request, now),
            "late": late(now),
            "upcoming": upcoming(now),
            "open_circuits": open_circuits(request),
            "has_jobs": Job.objects.active().exists(),
            "may_add_jobs": request.user.has_perm("scheduling.add_job"),
        }
    if context["may_see_runs"]:
        since = drawn_since(now)
        drawn, totals = day(now, since=since)
        context |= {"last_runs": last_runs(now), "bars": drawn, "totals": totals}
        context["drawn"] = "" if since is None else f"the newest {MOST_DRAWN:,} runs"
    return context


def cards(request: HttpRequest, now: datetime) -> list[dict[str, Any]]:
    found = {check.name: check for check in health.checks(now, CARDS)}
    shown = [
        {"title": title, "ok": found[name].ok, "detail": found[name].detail}
        for name, title in CARDS.items()
        if name in found
    ]
    queued, running = capped(Run.objects.queued()), capped(Run.objects.running())
    detail = f"{running} running, {queued} queued"
    url = open_runs_url() if request.user.has_perm("scheduling.view_run") else ""
    return [*shown, {"title": "Open runs", "ok": True, "detail": detail, "url": url}]


def capped(rows: RunQuerySet) -> str:
    """Count open runs, but not for ever."""
    found = len(rows.order_by().values_list("pk")[: MOST_COUNTED + 1])
    return f"over {MOST_COUNTED:,}" if found > MOST_COUNTED else str(found)


def open_runs_url() -> str:
    return f"{reverse('admin:scheduling_run_changelist')}?state__exact=queued&state__exact=running"


def everything_paused(now: datetime) -> SafeString | None:
    everything = runs.installation()
    return overview.pause_text(everything, now) if everything.is_paused(now) else None


def open_circuits(request: HttpRequest) -> list[dict[str, str]]:
    """What stops several jobs at once, for everybody who sees jobs; the newest first."""
    may_look = request.user.has_perm("scheduling.view_circuit")
    found = Circuit.objects.filter(opened_at__isnull=False).order_by("-opened_at", "name")
    return [
        {
            "told": told(circuit),
            "url": reverse("admin:scheduling_circuit_change", args=(circuit.pk,))
            if may_look
            else "",
        }
        for circuit in found[:ROWS]
    ]


def failing(request: HttpRequest, now: datetime) -> list[dict[str, Any]]:
    """Failing targets, longest first, with the last line of what each said."""
    targets = list(
        Target.objects.filter(failing_since__isnull=False, retired_at__isnull=True)
        .select_related("job")
        .order_by("failing_since")[:ROWS]
    )
    said = last_errors(targets) if request.user.has_perm("scheduling.view_run_output") else {}
    return [
        {
            "name": str(target),
            "url": display.job_url(target.job_id),
            "since": display.moment(target.failing_since, now),
            "in_a_row": target.failures_in_a_row,
            "error": said.get(target.pk, ""),
        }
        for target in targets
    ]


def last_errors(targets: list[Target]) -> dict[int, str]:
    """The last line of each target's newest failed run: one short indexed query for each."""
    said: dict[int, str] = {}
    for target in targets:
        newest = Run.objects.filter(target=target, state=State.FAILED).order_by("-scheduled_at")
        run = newest.only("error", "reason").first()
        if run is not None:
            said[target.pk] = overview.last_line(run.error) or run.get_reason_display()
    return said


def late(now: datetime) -> list[dict[str, Any]]:
    """Fires that no beat has claimed, then runs that no worker has started."""
    unclaimed = Target.objects.due(now - conf.GRACE).select_related("job")[:ROWS]
    waiting = (
        Run.objects.queued()
        .filter(
            Q(start_by__isnull=True) | Q(start_by__gt=now),
            ready_at__lt=now - LATE,
            publish_at__isnull=False,  # it does not wait for another run or a seat
        )
        .defer("output", "error")
        .order_by("ready_at")[:ROWS]
    )
    return [
        *(
            {
                "name": str(target),
                "url": display.job_url(target.job_id),
                "since": display.moment(target.next_fire_at, now),
                "why": "due, and no beat has claimed it",
            }
            for target in unclaimed
        ),
        *(
            {
                "name": f"{run.name}[{run.key}]" if run.key else run.name,
                "url": display.run_url(run),
                "since": display.moment(run.ready_at, now),
                "why": "published, and no worker has started it"
                if run.published_at
                else "ready, and no beat has published it",
            }
            for run in waiting
        ),
    ][:ROWS]


def upcoming(now: datetime) -> list[dict[str, Any]]:
    """The next fires, without what will be paused then or stands in an open circuit."""

    def fires(scope: str) -> Q:
        until = f"{scope}paused_until__lte"
        return Q(**{f"{scope}paused_at": None}) | Q(**{until: F("next_fire_at")})

    targets = (
        Target.objects.filter(
            Q(job__circuit__opened_at=None) | Q(job__left_out=True),
            *(fires(scope) for scope in ("", "job__", "job__circuit__")),
            next_fire_at__gt=now - conf.GRACE,
        )
        .select_related("job")
        .order_by("next_fire_at")[:ROWS]
    )
    return [
        {
            "name": str(target),
            "url": display.job_url(target.job_id),
            "at": display.moment(target.next_fire_at, now),
            "sentence": display.schedule_words(target.schedule_text),
        }
        for target in targets
    ]


def last_runs(now: datetime) -> list[dict[str, Any]]:
    newest = Run.objects.newest_first().defer("output", "error")[:ROWS]
    return [
        {
            "name": f"{run.name}[{run.key}]" if run.key else run.name,
            "url": display.run_url(run),
            "state": display.state_badge(run),
            "at": display.moment(run.started_at or run.created_at, now),
            "took": display.duration(overview.took(run, now)) if run.started_at else "",
        }
        for run in newest
    ]


def drawn_since(now: datetime) -> datetime | None:
    """What is older than this is not counted; None: there are no more than can be."""
    today = Run.objects.filter(created_at__gt=first_hour(now)).order_by("-created_at")
    return today.values_list("created_at", flat=True)[MOST_DRAWN : MOST_DRAWN + 1].first()


def hourly(now: datetime, *, since: datetime | None) -> dict[tuple[str, str], int]:
    """Ended runs of the last day, or later than `since`: (hour in UTC, state) -> runs.

    The hour is cut from the text of the time, which both databases write alike in UTC: on SQLite,
    Django's own truncation calls Python for every row.
    """
    rows = (
        Run.objects.filter(created_at__gt=since or first_hour(now), state__in=BARS)
        .order_by()
        .annotate(hour=Substr(Cast("created_at", CharField()), 1, 13))
        .values("hour", "state")
        .annotate(number=Count("pk"))
    )
    return {(row["hour"], row["state"]): row["number"] for row in rows}


def first_hour(now: datetime) -> datetime:
    return now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=HOURS - 1)


def day(
    now: datetime, *, since: datetime | None = None
) -> tuple[list[Bar], list[tuple[str, str, int]]]:
    """The bars of the last 24 hours, oldest first, and the totals: (state, tone, runs)."""
    numbers = hourly(now, since=since)
    hours = [first_hour(now) + timedelta(hours=n) for n in range(HOURS)]

    def number(hour: datetime, state: State) -> int:
        return numbers.get((f"{hour.astimezone(UTC):%Y-%m-%d %H}", state.value), 0)

    busiest = max((sum(number(hour, state) for state in BARS) for hour in hours), default=0) or 1
    drawn = [
        Bar(
            label=f"{timezone.localtime(hour):%H:%M}",
            counts=[
                (state.label, display.TONES[state], runs, round(100 * runs / busiest, 2))
                for state in BARS
                if (runs := number(hour, state))
            ],
        )
        for hour in hours
    ]
    summed = [
        (str(state.label), display.TONES[state], sum(number(hour, state) for hour in hours))
        for state in BARS
    ]
    return drawn, summed
