"""Runs that a person asks for: now, with choices, and the fires of a past range."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Min, Q
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminRadioSelectWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanWidget,
)

from scheduling import clock, runs
from scheduling.admin import display
from scheduling.admin.base import page_context
from scheduling.admin.ledger_page import MomentField, MomentInput, written
from scheduling.errors import SchedulingError
from scheduling.models import Cause, Job, Run, State, Target
from scheduling.models.run import OPEN_STATES
from scheduling.policies import Overlap

LISTED = 100  # fire times, of a dry run
NEWEST = 10  # backfills, on the page of a job
TOWARDS = {
    Overlap.QUEUE: "come after them",
    Overlap.WAIT: "come after the one that runs, unless another waits already",
    Overlap.SKIP: "do not run, if there are any",
    Overlap.CANCEL: "come instead of the one that runs, which is asked to stop",
    Overlap.TERMINATE: "come instead of the one that runs, which is killed",
    Overlap.ALLOW: "run beside them",
}


def moment_field(label: str, help_text: str, *, required: bool) -> MomentField:
    return MomentField(
        required=required,
        label=f"{label} ({timezone.get_current_timezone_name()})",
        help_text=help_text,
        widget=MomentInput(attrs={"step": "1"}),
    )


class KeyedForm(forms.Form):
    """A form that asks for the key of a target, if there are keys."""

    key = forms.CharField(
        required=False,
        max_length=300,
        strip=False,
        label="Target",
        widget=UnfoldAdminTextInputWidget,
    )

    def __init__(self, *args: Any, has_keys: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not has_keys:
            del self.fields["key"]


class RunForm(KeyedForm):
    overlap = forms.ChoiceField(
        label="Towards its open runs",
        choices=[("", "come after the one that runs"), *TOWARDS.items()],
        required=False,
        widget=UnfoldAdminSelectWidget,
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["as_of"] = moment_field(
            "As of", "The scheduled time that the job is told; empty: now", required=False
        )


class BackfillForm(KeyedForm):
    order = forms.ChoiceField(
        choices=[("oldest", "oldest first"), ("newest", "newest first")],
        initial="oldest",
        widget=UnfoldAdminRadioSelectWidget,
    )
    missing_only = forms.BooleanField(
        required=False,
        label="Only what is missing",
        help_text="Leave out fires that have succeeded, or whose run is open",
        widget=UnfoldBooleanWidget,
    )
    overlap = forms.ChoiceField(
        label="Towards its other open runs",
        choices=list(TOWARDS.items()),
        initial=Overlap.QUEUE.value,
        widget=UnfoldAdminSelectWidget,
    )
    max_open = forms.IntegerField(
        min_value=1,
        max_value=1000,
        initial=1,
        label="Ready at once",
        help_text="Runs of one target wait for one another, unless they may run beside others",
        widget=UnfoldAdminIntegerFieldWidget,
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        others = self.fields
        self.fields = {
            "after": moment_field("After", "This moment itself is not included", required=True),
            "until": moment_field("Up to", "Included", required=True),
            **others,
        }

    @property
    def asked(self) -> dict[str, Any]:
        """What `runs.backfill_fires` takes."""
        given = self.cleaned_data
        return {
            "after": given["after"],
            "until": given["until"],
            "key": given.get("key") or None,
            "newest_first": given["order"] == "newest",
            "missing_only": given["missing_only"],
        }


def has_keys(job: Job) -> bool:
    return Target.objects.filter(job=job).exclude(key="").exists()


def job_to_trigger(request: HttpRequest, pk: int) -> Job:
    """Raises PermissionDenied unless the user may run jobs by hand."""
    if not request.user.has_perm("scheduling.trigger_job"):
        raise PermissionDenied
    return get_object_or_404(Job.objects.select_related("calendar"), pk=pk)


def answer(request: HttpRequest, job: Job, template: str, **values: Any) -> HttpResponse:
    context = page_context(admin.site, request, Job, original=job, job=job, **values)
    return TemplateResponse(request, template, context)


@require_http_methods(["GET", "POST"])
def run_view(request: HttpRequest, pk: int) -> HttpResponse:
    """Ask how a job is to be run by hand, then do it."""
    job = job_to_trigger(request, pk)
    form = RunForm(request.POST or None, has_keys=has_keys(job))
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        try:
            run = runs.trigger(
                job,
                key=given.get("key", ""),
                overlap=Overlap(given["overlap"]) if given["overlap"] else None,
                as_of=given["as_of"],
                by=request.user.get_username(),
                now=clock.now(),
            )
        except SchedulingError as error:
            form.add_error(None, str(error))
        else:
            log(request, job, f"Run now: {run.pk}")
            if request.user.has_perm("scheduling.view_run"):
                return HttpResponseRedirect(display.run_url(run))
            return HttpResponseRedirect(display.job_url(job.pk))
    return answer(
        request, job, "scheduling/run_by_hand.html", title=f"Run {job.name} now", form=form
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A backfill that was made before."""

    url: str
    asked_at: str
    by: str
    stands: str


@require_http_methods(["GET", "POST"])
def backfill_view(request: HttpRequest, pk: int) -> HttpResponse:
    """Ask for a range, list its fire times, and only then make their runs."""
    job = job_to_trigger(request, pk)
    form = BackfillForm(request.POST or None, has_keys=has_keys(job))
    listed: list[datetime] | None = None
    if request.method == "POST" and form.is_valid():
        now = clock.now()
        try:
            if "make" in request.POST:
                made = runs.backfill(
                    job,
                    **form.asked,
                    max_open=form.cleaned_data["max_open"],
                    overlap=Overlap(form.cleaned_data["overlap"]),
                    by=request.user.get_username(),
                    now=now,
                )
                log(request, job, f"Backfill {made.id}: {made.created} runs")
                messages.success(request, f"{made.created} runs are made")
                return HttpResponseRedirect(made_url(job, made.id))
            listed = runs.backfill_fires(job, **form.asked, now=now)
        except SchedulingError as error:
            form.add_error(None, str(error))
    return answer(
        request,
        job,
        "scheduling/backfill.html",
        title=f"Backfill {job.name}",
        form=form,
        listed=None if listed is None else [in_both(fire) for fire in listed[:LISTED]],
        total=len(listed or ()),
        more=max(0, len(listed or ()) - LISTED),
        clock=timezone.get_current_timezone_name(),
        backfills=made_before(job),
    )


@require_http_methods(["GET", "POST"])
def made_view(request: HttpRequest, pk: int, backfill: UUID) -> HttpResponse:
    """How a backfill stands; a POST takes back what has not run."""
    job = job_to_trigger(request, pk)
    its_runs = Run.objects.filter(backfill=backfill, job=job)
    if not its_runs.exists():
        raise Http404
    if request.method == "POST":
        if not request.user.has_perm("scheduling.cancel_run"):
            raise PermissionDenied
        stopped = runs.cancel_backfill(backfill, by=request.user.get_username(), now=clock.now())
        log(request, job, f"Backfill {backfill} cancelled: {stopped} runs")
        messages.success(request, f"{stopped} runs are cancelled or asked to stop")
        return HttpResponseRedirect(made_url(job, backfill))
    counted = dict(its_runs.order_by().values_list("state").annotate(Count("pk")))
    return answer(
        request,
        job,
        "scheduling/backfill_made.html",
        title=f"Backfill of {job.name}",
        states=[
            (display.badge(State(state).label, display.TONES[State(state)]), counted[state])
            for state in State.values
            if state in counted
        ],
        runs_url=display.runs_url(backfill=str(backfill))
        if request.user.has_perm("scheduling.view_run")
        else "",
        is_open=any(state in counted for state in OPEN_STATES),
        may_cancel=request.user.has_perm("scheduling.cancel_run"),
    )


def made_before(job: Job) -> Sequence[Made]:
    found = (
        Run.objects.filter(job=job, cause=Cause.BACKFILL, backfill__isnull=False)
        .order_by()
        .values("backfill", "requested_by")
        .annotate(
            asked_at=Min("created_at"),
            number=Count("pk"),
            left=Count("pk", filter=Q(state__in=OPEN_STATES)),
        )
        .order_by("-asked_at")[:NEWEST]
    )
    return [
        Made(
            url=made_url(job, row["backfill"]),
            asked_at=written(timezone.localtime(row["asked_at"])),
            by=row["requested_by"],
            stands=f"{row['number']} runs, {row['left']} of them open"
            if row["left"]
            else f"{row['number']} runs, all ended",
        )
        for row in found
    ]


def made_url(job: Job, backfill: UUID | None) -> str:
    return reverse("admin:scheduling_job_backfill_made", args=(job.pk, backfill))


def in_both(fire: datetime) -> str:
    """A fire time on the installation's clock and, where that differs, in UTC."""
    local = timezone.localtime(fire)
    in_utc = f" ({fire.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC)" if local.utcoffset() else ""
    return f"{written(local)}{in_utc}"


def log(request: HttpRequest, job: Job, message: str) -> None:
    admin.site.get_model_admin(Job).log_change(request, job, message)
