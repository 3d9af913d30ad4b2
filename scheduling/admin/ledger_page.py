"""The ledger of a job: each fire time with what became of it, and what comes next."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.safestring import SafeString
from django.views.decorators.http import require_GET

from scheduling import clock
from scheduling.admin import display
from scheduling.admin.base import page_context
from scheduling.admin.run_page import lateness
from scheduling.errors import UnknownTarget
from scheduling.models import Cause, Job, State, Target
from scheduling.why import Account, Finding, why

if TYPE_CHECKING:
    from django.forms import TextInput as UnfoldAdminTextInputWidget
else:
    from unfold.widgets import UnfoldAdminTextInputWidget

ROWS = 50
YEARS = range(1970, 2100)  # in which schedules have fire times


class MomentInput(UnfoldAdminTextInputWidget):
    """The browser's own field for a time, on the installation's clock."""

    input_type = "datetime-local"

    def format_value(self, value: Any) -> str | None:
        """Fill in whole seconds, whatever the address said; nothing if it is no time."""
        try:
            read = parse_datetime(value) if isinstance(value, str) else value
            if read is None:
                return None
            local = timezone.make_aware(read) if timezone.is_naive(read) else read
            return f"{timezone.localtime(local):%Y-%m-%dT%H:%M:%S}"
        except (ValueError, OverflowError):
            return None


class MomentField(forms.DateTimeField):
    """Reads the browser's local time, or ISO 8601 with an offset."""

    def to_python(self, value: Any) -> datetime | None:
        read = super().to_python(value)
        if read is not None and read.year not in YEARS:
            raise forms.ValidationError(f"The year {read.year} is not one of 1970 to 2099")
        return read


class StretchForm(forms.Form):
    key = forms.CharField(
        required=False,
        max_length=300,
        strip=False,
        label="Target",
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "its key"}),
    )

    def __init__(self, *args: Any, has_keys: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not has_keys:
            del self.fields["key"]
        clock_name = timezone.get_current_timezone_name()
        self.fields |= {
            # A word of Python's, so that it can be no attribute.
            "from": MomentField(
                required=False,
                label=f"After ({clock_name})",
                widget=MomentInput(attrs={"step": "1"}),
            ),
            "to": MomentField(
                required=False,
                label=f"Up to ({clock_name})",
                widget=MomentInput(attrs={"step": "1"}),
            ),
        }

    def clean(self) -> dict[str, Any]:
        after, until = self.cleaned_data.get("from"), self.cleaned_data.get("to")
        if after is not None and until is not None and until <= after:
            raise forms.ValidationError("The end is not after the beginning")
        return self.cleaned_data


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One answer, ready for the template."""

    local: str
    utc: str
    until: str
    fires: int
    key: str
    state: SafeString
    attempt: str
    late: str
    explanation: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerPage:
    job: Job
    form: StretchForm
    clock: str
    next: Finding | None
    rows: list[Row]
    of_targets: int
    shows_keys: bool
    """Rows of several targets: fire times without a row are not among them."""
    older_url: str
    newest_url: str
    runs_url: str


@require_GET
def view(request: HttpRequest, pk: int) -> HttpResponse:
    """Answer for `?key=&from=&to=`: a target and the fire times in (from, to], newest first."""
    if not request.user.has_perm("scheduling.view_job"):
        raise PermissionDenied
    job = get_object_or_404(Job.objects.select_related("circuit", "calendar"), pk=pk)
    context = page_context(
        admin.site,
        request,
        Job,
        title=f"Ledger of {job.name}",
        original=job,
        page=page_of(job, request, clock.now()),
    )
    return TemplateResponse(request, "scheduling/ledger.html", context)


def page_of(job: Job, request: HttpRequest, now: datetime) -> LedgerPage:
    has_keys = Target.objects.filter(job=job).exclude(key="").exists()
    form = StretchForm(request.GET, has_keys=has_keys)
    account = Account(findings=[])
    if form.is_valid():
        asked = form.cleaned_data
        try:
            account = why(
                job,
                after=asked["from"],
                until=asked["to"],
                key=asked.get("key") or None,
                limit=ROWS,
                now=now,
                with_output=False,
                with_error=request.user.has_perm("scheduling.view_run_output"),
            )
        except UnknownTarget as error:
            form.add_error("key", str(error))
    may_see_runs = request.user.has_perm("scheduling.view_run")
    shows_keys = account.of_targets > 1
    address = reverse("admin:scheduling_job_ledger", args=(job.pk,))
    key = request.GET.get("key", "") if has_keys else ""
    return LedgerPage(
        job=job,
        form=form,
        clock=timezone.get_current_timezone_name(),
        next=account.next,
        rows=[row_of(each, now, may_see_runs=may_see_runs) for each in account.findings],
        of_targets=account.of_targets,
        shows_keys=shows_keys,
        older_url=_older(address, account, request) if not shows_keys else "",
        newest_url=f"{address}?{urlencode({'key': key})}" if request.GET.get("to") else "",
        runs_url=display.runs_url(job__id__exact=job.pk) if may_see_runs else "",
    )


def _older(address: str, account: Account, request: HttpRequest) -> str:
    """The address of what comes before the oldest that is shown; "" if that was all."""
    if not account.is_cut or not account.findings:
        return ""
    last = account.findings[-1]
    oldest = last.run.scheduled_at if last.run is not None else last.about
    if oldest is None:
        return ""
    asked = {name: request.GET[name] for name in ("key", "from") if request.GET.get(name)}
    return f"{address}?{urlencode({**asked, 'to': (oldest - oldest.resolution).isoformat()})}"


def row_of(finding: Finding, now: datetime, *, may_see_runs: bool) -> Row:
    run = finding.run
    at = run.scheduled_at if run is not None else finding.about
    until = run.scheduled_until if run is not None else finding.until
    fires = run.fires if run is not None else finding.fires
    return Row(
        local=written(timezone.localtime(at)) if at is not None else "",
        utc=_in_utc(at) if at is not None else "",
        until=written(timezone.localtime(until)) if until is not None else "",
        fires=fires,
        key=run.key if run is not None else "",
        state=display.badge("no row", "amber" if finding.is_problem else "grey")
        if run is None
        else display.badge(
            run.get_state_display(), display.TONES[State(run.state)], run.get_reason_display()
        ),
        attempt=str(run.attempt) if run is not None and run.state != State.SKIPPED else "",
        late=_late(finding, now),
        explanation=finding.explanation,
        url=display.run_url(run) if run is not None and may_see_runs else "",
    )


def _late(finding: Finding, now: datetime) -> str:
    """How long after its fire time it started; until it does, how long it waits by now."""
    run = finding.run
    if run is None or run.cause not in (Cause.SCHEDULE, Cause.CATCH_UP):
        return ""
    late = lateness(run)
    if late is None and run.state == State.QUEUED:
        late = now - run.scheduled_at
    return "" if late is None else display.duration(max(late, timedelta(0)))


def _in_utc(moment: datetime) -> str:
    """The same time in UTC; "" where the installation's clock shows that already."""
    if timezone.localtime(moment).utcoffset() == timedelta(0):
        return ""
    return f"{written(moment.astimezone(UTC))} UTC"


def written(moment: datetime) -> str:
    return f"{moment:%a} {moment.day} {moment:%b %Y %H:%M:%S}"
