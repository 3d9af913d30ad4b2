"""The pages of runs: history to look at, and one thing to do: stop an open one."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import F, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_GET, require_POST
from unfold.contrib.filters.admin import ChoicesCheckboxFilter

from scheduling import clock, runs
from scheduling.admin import calendar, display, run_page
from scheduling.admin.base import ModelAdmin, NeverCounted, ReadOnly, page_context
from scheduling.admin.filters import JobFilter
from scheduling.errors import UnknownRun
from scheduling.models import Job, Run, State, Target

# Shown to those who may see what a run wrote.
WRITTEN = ("output", "error", "kwargs")


def _found(term: str) -> Q:
    """Runs by a name, or by a key, found where names and keys are few: runs have indexes for that.

    Only what is no job of ours is looked through.
    """
    jobs = dict(Job.objects.order_by().values_list("pk", "name"))
    named = [pk for pk, name in jobs.items() if term.casefold() in name.casefold()]
    targets = Target.objects.filter(job__in=jobs, key=term).order_by()
    with_key = list(targets.values_list("pk", flat=True))
    foreign = Q(name__icontains=term) | Q(key=term)
    return Q(job__in=named) | Q(target__in=with_key) | Q(foreign, job=None)


@admin.register(Run)
class RunAdmin(ReadOnly, NeverCounted, ModelAdmin[Run]):
    unguessable = (*WRITTEN, "result", "metadata")
    list_display = (
        "which",
        "state_shown",
        "scheduled",
        "cause",
        "attempt_shown",
        "took",
        "lateness",
        "worker",
    )
    list_display_links = ("which",)
    list_filter = (
        ("state", ChoicesCheckboxFilter),
        ("reason", ChoicesCheckboxFilter),
        ("cause", ChoicesCheckboxFilter),
        ("job", JobFilter),
    )
    list_filter_submit = True
    list_fullwidth = True
    date_hierarchy = "created_at"
    change_list_template = "scheduling/run_list.html"
    ordering = ("-created_at",)
    # The name is on the row, so that a list needs no job and no target.
    list_select_related = False
    search_fields = ("name",)
    search_help_text = "A job's name, a target's key, or the id of a run"
    actions = None

    def get_queryset(self, request: HttpRequest) -> QuerySet[Run]:
        rows = super().get_queryset(request).defer(*WRITTEN)
        return rows.annotate(retries=F("job__retries"))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Run], search_term: str
    ) -> tuple[QuerySet[Run], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        try:
            return queryset.filter(pk=UUID(term)), False
        except ValueError:
            return queryset.filter(_found(term)), False

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("scheduling.cancel_run")

    # --- list

    @admin.display(description="run of", ordering="name")
    def which(self, run: Run) -> SafeString:
        return format_html(
            '<span class="bk-name">{}</span>'
            '<span class="bk-subtle bk-line bk-cut" title="{}">{}</span>',
            run.name,
            run.key,
            run.key,
        )

    @admin.display(description="state", ordering="state")
    def state_shown(self, run: Run) -> SafeString:
        return display.state_badge(run)

    @admin.display(description="scheduled", ordering="scheduled_at")
    def scheduled(self, run: Run) -> SafeString:
        when = display.moment(run.scheduled_at, clock.now())
        if run.fires == 1:
            return when
        return format_html('{} <span class="bk-subtle">{} fires</span>', when, run.fires)

    @admin.display(description="attempt", ordering="attempt")
    def attempt_shown(self, run: Any) -> SafeString:
        return display.unbroken(display.attempt(run, run.retries or 0))

    @admin.display(description="took")
    def took(self, run: Run) -> SafeString:
        return display.unbroken(display.duration(run_page.took(run, clock.now())))

    @admin.display(description="late by")
    def lateness(self, run: Run) -> SafeString:
        return display.unbroken(display.duration(run_page.lateness(run)))

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        response = super().changelist_view(request, extra_context)
        if isinstance(response, TemplateResponse) and response.context_data is not None:
            days = calendar.choices(response.context_data["cl"], "created_at", clock.now())
            response.context_data["days"] = days
        return response

    # --- detail

    def get_urls(self) -> list[URLPattern]:
        return [
            path(
                "<uuid:pk>/fragment/",
                self.admin_site.admin_view(require_GET(self.fragment_view)),
                name="scheduling_run_fragment",
            ),
            path(
                "<uuid:pk>/cancel/",
                self.admin_site.admin_view(require_POST(self.cancel_view)),
                name="scheduling_run_cancel",
            ),
            *super().get_urls(),
        ]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        try:
            run = self._visible(request, UUID(unquote(object_id)))
        except ValueError:
            raise Http404(f"{object_id!r} is not the id of a run") from None
        context = page_context(
            self.admin_site,
            request,
            Run,
            title=str(run),
            original=run,
            page=run_page.of(run, request),
        )
        return TemplateResponse(request, "scheduling/run.html", context)

    def fragment_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """The changing part of the page of a run, asked for while the run is open."""
        page = run_page.of(self._visible(request, pk), request, seen=request.GET.get("seen", ""))
        return TemplateResponse(request, "scheduling/run_fragment.html", {"page": page})

    def cancel_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        if not self.has_cancel_permission(request):
            raise PermissionDenied
        before = self._visible(request, pk)
        at_once = "at_once" in request.POST
        try:
            run = runs.cancel(pk, by=request.user.get_username(), now=clock.now(), at_once=at_once)
        except UnknownRun as error:
            self.message_user(request, str(error), messages.ERROR)
            return HttpResponseRedirect("../change/")
        if before.ended_at is None:
            self.log_change(request, run, "Kill" if at_once else "Stop")
        self.message_user(request, _what_cancelling_did(run, before), messages.INFO)
        return HttpResponseRedirect(display.run_url(run))

    def _visible(self, request: HttpRequest, pk: UUID) -> Run:
        """Raises PermissionDenied, Http404."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        run = (
            Run.objects.select_related("job", "target", "parent", "waiting_on")
            .defer(*(f"{other}__{name}" for other in ("parent", "waiting_on") for name in WRITTEN))
            .filter(pk=pk)
            .first()
        )
        if run is None:
            raise Http404(f"There is no run {pk}")
        return run


def _what_cancelling_did(run: Run, before: Run) -> str:
    if before.ended_at is not None:
        return "The run had ended already"
    if run.stop_requested_at is not None and run.state == State.RUNNING:
        if run.stop_at_once:
            return "The run is to be killed; its worker does it within seconds"
        return "The run was asked to stop; its worker ends it"
    if run.ended_at is None:
        return "The run could not be stopped; look again"
    again = (
        "will not start" if run.attempt == 1 else f"will not start again, as attempt {run.attempt}"
    )
    return f"The run is cancelled and {again}"
