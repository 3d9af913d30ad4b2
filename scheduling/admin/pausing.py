"""Pause and resume, asked of a person: one way for every scope.

Everything, circuits, jobs, resources, targets: who may do it is checked here, at every request.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.http import url_has_allowed_host_and_scheme
from unfold.widgets import UnfoldAdminRadioSelectWidget, UnfoldAdminSplitDateTimeWidget

from scheduling import clock, runs
from scheduling.admin.base import ModelAdmin, page_context
from scheduling.admin.fields import ReasonField
from scheduling.models import Circuit, Installation, Job, Resource, Target
from scheduling.policies import CatchUp
from scheduling.runs import Scope

Held = TypeVar("Held", Circuit, Job, Resource, Target)

# More would neither fit into a form nor be meant one by one.
MOST_AT_ONCE = 500
ID = re.compile(r"[0-9]{1,18}")  # what every database takes for a number
DONE = {"pause": "paused", "resume": "resumed"}

if TYPE_CHECKING:

    class _Base(ModelAdmin[Held]):
        pass

else:

    class _Base:
        __class_getitem__ = classmethod(lambda cls, _: cls)


class PauseForm(forms.Form):
    reason = ReasonField(help_text="Shown wherever the pause is: say what is being waited for")
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


FORMS: dict[str, type[forms.Form]] = {"pause": PauseForm, "resume": ResumeForm}


def may_pause(request: HttpRequest) -> bool:
    return request.user.has_perm("scheduling.pause_job")


def ask_and_do(
    request: HttpRequest,
    verb: str,
    scopes: Sequence[Scope],
    *,
    model: type[Model],
    action: str,
    back: str,
    why_not: Callable[[Any], str] = lambda scope: "",
) -> HttpResponse:
    """Ask what a `pause` or `resume` needs to know; with good answers, do it and go back.

    `action` is where the answers are posted; `why_not` tells what stands against resuming.
    """
    if not may_pause(request):
        raise PermissionDenied
    form = FORMS[verb](request.POST if request.method == "POST" else None)
    if not form.is_valid():
        return ask(request, verb, scopes, form, model=model, action=action, back=back)
    for scope in scopes:
        obstacle = why_not(scope) if verb == "resume" else ""
        if obstacle:
            messages.warning(request, f"{called(scope)}: {obstacle}")
        elif _do(request, verb, scope, form.cleaned_data):
            messages.success(request, f"{called(scope)} is {DONE[verb]}")
        else:
            messages.warning(request, f"{called(scope)} was {DONE[verb]} already")
    return HttpResponseRedirect(back)


def ask(
    request: HttpRequest,
    verb: str,
    scopes: Sequence[Scope],
    form: forms.Form,
    *,
    model: type[Model],
    action: str,
    back: str,
) -> HttpResponse:
    if not scopes:
        messages.warning(request, "Nothing was chosen")
        return HttpResponseRedirect(back)
    one = scopes[0]
    if len(scopes) > 1:
        name = f"{len(scopes)} {model._meta.verbose_name_plural}"
    else:
        name = "everything" if isinstance(one, Installation) else str(one)
    context = page_context(
        admin.site,
        request,
        model,
        title=f"{verb.capitalize()} {name}",
        form=form,
        media=form.media,
        subjects=scopes,
        verb=verb,
        action=action,
        next=back,
    )
    return TemplateResponse(request, "scheduling/ask.html", context)


def called(scope: Scope) -> str:
    return "Everything" if isinstance(scope, Installation) else str(scope)


def _do(request: HttpRequest, verb: str, scope: Scope, answers: dict[str, Any]) -> bool:
    by, now = request.user.get_username(), clock.now()
    if verb == "pause":
        why = answers["reason"]
        changed = runs.pause(scope, by=by, reason=why, until=answers["until"], now=now)
    else:
        why = answers["missed"]
        changed = runs.resume(scope, by=by, missed=why, now=now)
    if changed:
        told = f"{DONE[verb].capitalize()}: {why}"
        LogEntry.objects.log_actions(
            request.user.pk or 0, [scope], CHANGE, told, single_object=True
        )
    return changed


class Pauses(_Base[Held]):
    """Mixed into the admins of whatever can be paused."""

    actions: Sequence[Any] = ("pause_selected", "resume_selected")

    def has_pause_permission(self, request: HttpRequest) -> bool:
        return may_pause(request)

    def why_not_resumed(self, subject: Held) -> str:
        """What stands against resuming it here; "" if nothing does."""
        return ""

    def get_urls(self) -> list[URLPattern]:
        def own(verb: str, view: Callable[..., HttpResponse]) -> URLPattern:
            return path(f"{verb}/", self.admin_site.admin_view(view), name=self._name_of(verb))

        return [
            own("pause", self.pause_view),
            own("resume", self.resume_view),
            *super().get_urls(),
        ]

    @admin.action(description="Pause …", permissions=["pause"])
    def pause_selected(self, request: HttpRequest, queryset: QuerySet[Held]) -> HttpResponse:
        return self._ask_of_ticked(request, "pause", queryset)

    @admin.action(description="Resume …", permissions=["pause"])
    def resume_selected(self, request: HttpRequest, queryset: QuerySet[Held]) -> HttpResponse:
        return self._ask_of_ticked(request, "resume", queryset)

    def pause_view(self, request: HttpRequest) -> HttpResponse:
        return self._ask_and_do(request, "pause")

    def resume_view(self, request: HttpRequest) -> HttpResponse:
        return self._ask_and_do(request, "resume")

    def _ask_and_do(self, request: HttpRequest, verb: str) -> HttpResponse:
        asked = request.POST if request.method == "POST" else request.GET
        ids = [value for value in asked.getlist("id") if ID.fullmatch(value)][:MOST_AT_ONCE]
        return ask_and_do(
            request,
            verb,
            list(self.get_queryset(request).filter(pk__in=ids)),
            model=self.model,
            action=self._address_of(verb),
            back=self._safe(request, asked.get("next", "")),
            why_not=self.why_not_resumed,
        )

    def _ask_of_ticked(
        self, request: HttpRequest, verb: str, queryset: QuerySet[Held]
    ) -> HttpResponse:
        return ask(
            request,
            verb,
            list(queryset[:MOST_AT_ONCE]),
            FORMS[verb](),
            model=self.model,
            action=self._address_of(verb),
            back=self._safe(request, request.get_full_path()),
        )

    def _name_of(self, verb: str) -> str:
        return f"scheduling_{self.opts.model_name}_{verb}"

    def _address_of(self, verb: str) -> str:
        return reverse(f"admin:{self._name_of(verb)}")

    def _back(self, request: HttpRequest) -> HttpResponseRedirect:
        wanted = request.POST.get("next") or request.GET.get("next") or ""
        return HttpResponseRedirect(self._safe(request, wanted))

    def _safe(self, request: HttpRequest, wanted: str) -> str:
        """Give `wanted` if it leads to this site, otherwise the list."""
        if url_has_allowed_host_and_scheme(
            wanted, allowed_hosts={request.get_host()}, require_https=request.is_secure()
        ):
            return wanted
        return self._address_of("changelist")
