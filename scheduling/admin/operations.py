"""Run now: for rows that are ticked in a list, and for one on its own page.

It is a POST with its own permission checked here. Pause and resume come with it.
"""

from __future__ import annotations

from typing import TypeVar

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.views.decorators.http import require_POST

from scheduling.admin import display
from scheduling.admin.pausing import MOST_AT_ONCE, Pauses
from scheduling.errors import SchedulingError
from scheduling.models import Job, Run, Target

Operable = TypeVar("Operable", Job, Target)


class Operations(Pauses[Operable]):
    """Mixed into the admins of jobs and targets."""

    actions = ("run_selected", *Pauses.actions)

    def has_trigger_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("scheduling.trigger_job")

    def trigger(self, subject: Operable, *, by: str) -> Run:
        raise NotImplementedError

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_POST(self.run_view))
        return [path("<int:pk>/run/", view, name=self._name_of("run")), *super().get_urls()]

    # --- run now

    @admin.action(description="Run now", permissions=["trigger"])
    def run_selected(self, request: HttpRequest, queryset: QuerySet[Operable]) -> None:
        for subject in queryset[:MOST_AT_ONCE]:
            self._run(request, subject)

    def run_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        if not self.has_trigger_permission(request):
            raise PermissionDenied
        run = self._run(request, get_object_or_404(self.get_queryset(request), pk=pk))
        if run is not None and request.user.has_perm("scheduling.view_run"):
            return HttpResponseRedirect(display.run_url(run))
        return self._back(request)

    def _run(self, request: HttpRequest, subject: Operable) -> Run | None:
        try:
            run = self.trigger(subject, by=request.user.get_username())
        except SchedulingError as error:
            self.message_user(request, f"{subject}: {error}", messages.ERROR)
            return None
        self.log_change(request, subject, f"Run now: {run.pk}")
        self.message_user(
            request,
            format_html(
                "{} runs now: {}", str(subject), display.link(display.run_url(run), "its run")
            ),
            messages.SUCCESS,
        )
        return run
