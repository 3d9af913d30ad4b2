"""The pages of jobs: list, form with tabs, actions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.forms import BaseInlineFormSet, ModelForm
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_GET, require_POST

from scheduling import clock, ledger, runs, sync
from scheduling.admin import by_hand, display, ledger_page, overview, preview, saving
from scheduling.admin.base import (
    ChangeList,
    ModelAdmin,
    SmallJson,
    TabularInline,
    may_see_arguments,
    page_context,
)
from scheduling.admin.filters import QueueFilter, StateFilter
from scheduling.admin.forms import JobForm
from scheduling.admin.installation import pause_everything, resume_everything
from scheduling.admin.muting import Mutes
from scheduling.admin.operations import Operations
from scheduling.declarations import columns, row_jobs
from scheduling.errors import SchedulingError
from scheduling.models import FollowUp, Job, Run, State
from scheduling.models.job import DeclaredIn, Kind
from scheduling.sync.rules import cycle_through

# The options of a PeriodicTask's job hold its headers.
ARGUMENTS = frozenset({"args", "kwargs", "options"})


class JobChangeList(ChangeList):
    """Knows of each job on the page when it fires next and how it stands."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        facts = ledger.facts_of(self.result_list)
        everything = runs.installation()
        for job in self.result_list:
            job.facts = facts[job.pk]
            job.everything = everything


if TYPE_CHECKING:
    RuleFormSet = BaseInlineFormSet[FollowUp, Job, ModelForm[FollowUp]]
else:
    RuleFormSet = BaseInlineFormSet


class FollowUpFormSet(RuleFormSet):
    """Refuses rules that would let a job follow itself, however long the way round is."""

    def clean(self) -> None:
        super().clean()
        kept = [
            form.cleaned_data["follower"].name
            for form in self.forms
            if form.cleaned_data.get("follower") and not form.cleaned_data.get("DELETE")
        ]
        if error := cycle_through(self.instance, kept):
            raise ValidationError(error, code="cycle")


class FollowUpInline(TabularInline[FollowUp, Job]):
    """Rules made here; those that code declares are shown on the job's overview."""

    model = FollowUp
    formset = FollowUpFormSet
    fk_name = "job"
    extra = 0
    fields = ("follower", "on", "join")
    autocomplete_fields = ("follower",)
    verbose_name = "follow-up"
    verbose_name_plural = "Follow-ups"
    tab = True

    def get_queryset(self, request: HttpRequest) -> QuerySet[FollowUp]:
        return super().get_queryset(request).filter(declared=False).select_related("follower")

    # A rule is a part of its job.
    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("scheduling.view_job")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("scheduling.change_job")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("scheduling.change_job")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("scheduling.change_job")


@admin.register(Job)
class JobAdmin(Mutes[Job], Operations[Job], SmallJson, ModelAdmin[Job]):
    form = JobForm
    # Overrides hold what the code says of each column.
    unguessable = ARGUMENTS | columns.SECRET | {"overrides", "schedule_error"}
    actions = ("run_selected", *Mutes.actions)
    change_form_template = "scheduling/job_form.html"
    list_display = (
        "name_and_task",
        "schedule_shown",
        "next_fire",
        "last_run",
        "health",
        "origin",
    )
    list_display_links = ("name_and_task",)
    list_filter = (StateFilter, "declared_in", QueueFilter)
    list_select_related = ("circuit",)
    list_fullwidth = True
    list_disable_select_all = True
    list_per_page = 50
    search_fields = ("name", "description", "task", "command")
    inlines = (FollowUpInline,)
    warn_unsaved_form = True
    # Alpine expressions; where the kind is fixed there is no such variable.
    conditional_fields = {
        "task": "typeof kind === 'undefined' || kind === 'task'",
        "command": "typeof kind === 'undefined' || kind === 'command'",
        "program": "kind === 'argv'",
        "internal": "typeof kind === 'undefined' || kind === 'command'",
        "first_run_at": "first_run === 'at'",
    }
    fieldsets = (
        ("What runs", {
            "classes": ("tab",),
            "fields": (
                "name", "description", "kind", "task", "command", "program", "internal", "args",
                "kwargs", "scheduled_at_argument", "options",
            ),
        }),
        ("Schedule", {
            "classes": ("tab",),
            "fields": (
                "schedule", "first_run", "first_run_at", "calendar", "clock_change", "starts_at",
                "ends_at", "runs_left",
            ),
        }),
        ("Policies", {
            "classes": ("tab",),
            "fields": (
                "catch_up", "catch_up_window", "overlap", "queue_limit", "start_within", "retries",
                "retry_delay", "retry_delay_max", "retry_on", "rerun_if_lost", "pause_after",
                "circuit", "locks", "lock_resource", "locks_until_next_fire", "batch",
            ),
        }),
        ("Feeding", {"classes": ("tab",), "fields": ("feed", "polite")}),
        ("Limits", {
            "classes": ("tab",), "fields": ("soft_limit", "hard_limit", "memory_limit"),
        }),
        ("Alerts", {
            "classes": ("tab",),
            "fields": ("notify_on_success", "notify_still_failing", "recipients", "ping_url"),
        }),
    )  # fmt: skip

    class Media:
        js = ("scheduling/schedule_preview.js",)

    # --- permissions

    def has_delete_permission(self, request: HttpRequest, obj: Job | None = None) -> bool:
        # Its history would go with it: a job is retired.
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: Job | None = None) -> list[str]:
        if obj is None:
            return []
        fixed = saving.fixed_fields(obj)
        return [*fixed, "first_run_at", *(["program"] if "kind" in fixed else [])]

    def get_fieldsets(self, request: HttpRequest, obj: Job | None = None) -> Any:
        """Without what can mean nothing for this job, and what this person must not see."""
        idle: set[str] = set()
        fixed = self.get_readonly_fields(request, obj)
        if obj is not None:
            idle.add("first_run_at")
            if "kind" in fixed:
                idle |= {"program", "command" if obj.kind == Kind.TASK else "task"}
        may_change = self.has_change_permission(request, obj)
        if "ping_url" in fixed or not may_change:
            idle |= {name for name in columns.SECRET if obj is not None}
        if obj is not None and not (may_change or may_see_arguments(request)):
            idle |= ARGUMENTS
        return [
            (title, {**options, "fields": [name for name in options["fields"] if name not in idle]})
            for title, options in self.fieldsets
        ]

    # --- list

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return JobChangeList

    @admin.display(description="job", ordering="name")
    def name_and_task(self, job: Job) -> SafeString:
        return display.name_over(job.name, display.what_it_runs(job))

    @admin.display(description="schedule", ordering="schedule")
    def schedule_shown(self, job: Any) -> SafeString:
        return format_html(
            '<span class="bk-wrap" title="{}">{}</span>',
            job.schedule,
            ledger.sentence_of(job, job.facts),
        )

    @admin.display(description="next fire")
    def next_fire(self, job: Any) -> SafeString:
        fire = job.facts.next_fire_at
        if fire is None or runs.pause_of(job, None, fire, everything=job.everything):
            return display.NOTHING
        return display.moment(fire, clock.now())

    @admin.display(description="last run")
    def last_run(self, job: Any) -> SafeString:
        run: Run | None = job.facts.last_run
        if run is None:
            return display.NOTHING
        return format_html(
            '<a class="bk-link bk-nowrap" href="{}">{} {}</a>',
            display.run_url(run),
            display.badge(
                run.get_state_display(), display.TONES[State(run.state)], run.get_reason_display()
            ),
            display.relative(run.ended_at or run.started_at or run.created_at, clock.now()),
        )

    @admin.display(description="state")
    def health(self, job: Any) -> SafeString:
        now = clock.now()
        held = runs.pause_of(job, None, now, everything=job.everything)
        state = overview.health_badge(job, job.facts, held=held)
        return format_html(
            '<span class="bk-badges bk-tight">{} {}</span>',
            state,
            display.marks(job, held, is_running=job.facts.running > 0),
        )

    @admin.display(description="declared in", ordering="declared_in")
    def origin(self, job: Job) -> str:
        return job.get_declared_in_display()

    # --- form

    def get_inlines(self, request: HttpRequest, obj: Job | None) -> list[Any]:
        return list(self.inlines) if obj is not None and obj.retired_at is None else []

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        job = self.get_object(request, object_id)
        if job is not None and self.has_view_permission(request, job):
            extra_context = {**(extra_context or {}), "overview": overview.of(job, request)}
        return super().change_view(request, object_id, form_url, extra_context)

    def save_model(self, request: HttpRequest, obj: Job, form: Any, change: bool) -> None:
        by, now = request.user.get_username(), clock.now()
        if change:
            saving.change(obj, form.cleaned_data, form.changed_data, by=by, now=now)
        else:
            saving.create(obj, now=now)

    # --- more pages

    def get_urls(self) -> list[URLPattern]:
        def own(route: str, view: Callable[..., HttpResponse], name: str) -> URLPattern:
            return path(route, self.admin_site.admin_view(view), name=f"scheduling_{name}")

        return [
            own("preview/", require_GET(self.preview_view), "job_preview"),
            own("<int:pk>/ledger/", ledger_page.view, "job_ledger"),
            own("<int:pk>/run-by-hand/", by_hand.run_view, "job_run_by_hand"),
            own("<int:pk>/backfill/", by_hand.backfill_view, "job_backfill"),
            own("<int:pk>/backfill/<uuid:backfill>/", by_hand.made_view, "job_backfill_made"),
            own("<int:pk>/reset/", self.reset_view, "job_reset"),
            own("<int:pk>/retire/", require_POST(self.retire_view), "job_retire"),
            own("pause-everything/", pause_everything, "pause_everything"),
            own("resume-everything/", resume_everything, "resume_everything"),
            *super().get_urls(),
        ]

    def trigger(self, subject: Job, *, by: str) -> Run:
        return runs.trigger(subject, by=by, now=clock.now())

    def why_not_resumed(self, subject: Job) -> str:
        if subject.paused_by == row_jobs.BY:
            return "its periodic task is disabled; enable that, and the job follows"
        return ""

    def preview_view(self, request: HttpRequest) -> HttpResponse:
        """The sentence, the next fires and the clashes of a schedule, while it is being typed."""
        may_see = self.has_view_permission(request)
        if not may_see and not self.has_add_permission(request):
            raise PermissionDenied
        shown = preview.preview(request.GET, may_see_jobs=may_see)
        return TemplateResponse(request, "scheduling/preview.html", shown)

    def reset_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Ask which overridden fields go back to what the code says, then do it."""
        if not self.has_change_permission(request):
            raise PermissionDenied
        job = get_object_or_404(Job, pk=pk)
        if request.method != "POST":
            context = page_context(
                self.admin_site,
                request,
                Job,
                title=f"Reset {job.name} to its code",
                job=job,
                rows=overview.overrides(job, clock.now()),
                original=job,
            )
            return TemplateResponse(request, "scheduling/reset.html", context)
        for name in request.POST.getlist("field"):
            if name in job.overrides:
                told = saving.in_form(name)
                try:
                    sync.reset_override(job, name, now=clock.now())
                except SchedulingError as error:
                    self.message_user(request, f"{told}: {error}", messages.ERROR)
                    continue
                self.log_change(request, job, f"Reset to code: {told}")
                self.message_user(request, f"{told} is what the code says again", messages.SUCCESS)
        return HttpResponseRedirect(display.job_url(job.pk))

    def retire_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Retire a job that was made here, or take it up again; code decides about the others."""
        if not self.has_change_permission(request):
            raise PermissionDenied
        job = get_object_or_404(Job, pk=pk, declared_in=DeclaredIn.ADMIN)
        if job.retired_at is None:
            runs.retire(job, now=clock.now())
            done = "retired: it fires no more, its history stays"
        else:
            runs.revive(job, now=clock.now())
            done = "taken up again"
        self.log_change(request, job, done)
        self.message_user(request, f"{job} is {done}", messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:scheduling_job_change", args=(pk,)))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Job], search_term: str
    ) -> tuple[QuerySet[Job], bool]:
        found, duplicates = super().get_search_results(request, queryset, search_term)
        if request.path.endswith("/autocomplete/"):
            found = found.filter(retired_at__isnull=True)
        return found, duplicates
