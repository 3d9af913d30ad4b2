"""Run now, pause, resume: for rows that are ticked in a list, and for one on its own page.

Everything that changes something is a POST with its own permission checked here; a GET at most
asks the question first.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

from scheduling import clock, runs
from scheduling.admin import display
from scheduling.admin.base import ModelAdmin, page_context
from scheduling.admin.forms import PauseForm, ResumeForm
from scheduling.errors import SchedulingError
from scheduling.models import Job, Run, Target

Operable = TypeVar("Operable", Job, Target)

# More would neither fit into a form nor be meant one by one.
MOST_AT_ONCE = 500
ID = re.compile(r"[0-9]{1,18}")  # what every database takes for a number

if TYPE_CHECKING:

    class _Base(ModelAdmin[Operable]):
        pass

else:

    class _Base:
        __class_getitem__ = classmethod(lambda cls, _: cls)


class Operations(_Base[Operable]):
    """Mixed into the admins of jobs and targets."""

    actions = ("run_selected", "pause_selected", "resume_selected")

    def has_trigger_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("scheduling.trigger_job")

    def has_pause_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("scheduling.pause_job")

    def trigger(self, subject: Operable, *, by: str) -> Run:
        raise NotImplementedError

    def why_not_resumed(self, subject: Operable) -> str:
        """What stands against resuming it here; "" if nothing does."""
        return ""

    def get_urls(self) -> list[URLPattern]:
        name = f"scheduling_{self.opts.model_name}"
        own = [
            path("pause/", self._wrapped(self.pause_view), name=f"{name}_pause"),
            path("resume/", self._wrapped(self.resume_view), name=f"{name}_resume"),
            path("<int:pk>/run/", self._wrapped(require_POST(self.run_view)), name=f"{name}_run"),
        ]
        return own + super().get_urls()

    def _wrapped(self, view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
        return self.admin_site.admin_view(view)

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

    # --- pause and resume

    @admin.action(description="Pause …", permissions=["pause"])
    def pause_selected(self, request: HttpRequest, queryset: QuerySet[Operable]) -> HttpResponse:
        return self._ask(request, queryset, PauseForm(), "pause", request.get_full_path())

    @admin.action(description="Resume …", permissions=["pause"])
    def resume_selected(self, request: HttpRequest, queryset: QuerySet[Operable]) -> HttpResponse:
        return self._ask(request, queryset, ResumeForm(), "resume", request.get_full_path())

    def pause_view(self, request: HttpRequest) -> HttpResponse:
        def pause(subject: Operable, answers: dict[str, Any], by: str) -> bool:
            return runs.pause(
                subject, by=by, reason=answers["reason"], until=answers["until"], now=clock.now()
            )

        return self._ask_and_do(request, PauseForm, "pause", "paused", pause)

    def resume_view(self, request: HttpRequest) -> HttpResponse:
        def resume(subject: Operable, answers: dict[str, Any], by: str) -> bool:
            return runs.resume(subject, missed=answers["missed"], by=by, now=clock.now())

        return self._ask_and_do(request, ResumeForm, "resume", "resumed", resume)

    def _ask_and_do(
        self,
        request: HttpRequest,
        form_class: type[forms.Form],
        verb: str,
        done: str,
        act: Callable[[Operable, dict[str, Any], str], bool],
    ) -> HttpResponse:
        if not self.has_pause_permission(request):
            raise PermissionDenied
        asked = request.POST if request.method == "POST" else request.GET
        ids = [value for value in asked.getlist("id") if ID.fullmatch(value)][:MOST_AT_ONCE]
        subjects = self.get_queryset(request).filter(pk__in=ids)
        form = form_class(request.POST if request.method == "POST" else None)
        if not form.is_valid():
            return self._ask(request, subjects, form, verb, asked.get("next", ""))
        for subject in subjects:
            if verb == "resume" and (obstacle := self.why_not_resumed(subject)):
                self.message_user(request, f"{subject}: {obstacle}", messages.WARNING)
            elif act(subject, form.cleaned_data, request.user.get_username()):
                why = form.cleaned_data.get("reason") or form.cleaned_data.get("missed")
                self.log_change(request, subject, f"{done.capitalize()}: {why}")
                self.message_user(request, f"{subject} is {done}", messages.SUCCESS)
            else:
                self.message_user(request, f"{subject} was {done} already", messages.WARNING)
        return self._back(request)

    def _ask(
        self,
        request: HttpRequest,
        subjects: QuerySet[Operable],
        form: forms.Form,
        verb: str,
        back: str,
    ) -> HttpResponse:
        chosen = list(subjects[:MOST_AT_ONCE])
        if not chosen:
            self.message_user(request, "Nothing was chosen", messages.WARNING)
            return self._back(request)
        name = (
            str(chosen[0]) if len(chosen) == 1 else f"{len(chosen)} {self.opts.verbose_name_plural}"
        )
        return TemplateResponse(
            request,
            "scheduling/ask.html",
            page_context(
                self.admin_site,
                request,
                self.model,
                title=f"{verb.capitalize()} {name}",
                form=form,
                media=self.media + form.media,
                subjects=chosen,
                verb=verb,
                action=reverse(f"admin:scheduling_{self.opts.model_name}_{verb}"),
                next=self._safe(request, back),
            ),
        )

    def _back(self, request: HttpRequest) -> HttpResponseRedirect:
        wanted = request.POST.get("next") or request.GET.get("next") or ""
        return HttpResponseRedirect(self._safe(request, wanted))

    def _safe(self, request: HttpRequest, wanted: str) -> str:
        """Give `wanted` if it leads to this site, otherwise the list."""
        if url_has_allowed_host_and_scheme(
            wanted, allowed_hosts={request.get_host()}, require_https=request.is_secure()
        ):
            return wanted
        return reverse(f"admin:scheduling_{self.opts.model_name}_changelist")
