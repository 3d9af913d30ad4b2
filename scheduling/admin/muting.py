"""Mute and unmute: keep quiet for a while about a job, a circuit or a resource.

Whoever may change it may do so; that is checked here, at every request.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from unfold.widgets import UnfoldAdminSplitDateTimeWidget, UnfoldAdminTextInputWidget

from scheduling import clock
from scheduling.admin import display
from scheduling.admin.fields import ReasonField
from scheduling.admin.pausing import ID, MOST_AT_ONCE, Pauses, ask
from scheduling.models import Circuit, Job, Resource
from scheduling.runs import telling

Muted = TypeVar("Muted", Circuit, Job, Resource)

DONE = {"mute": "muted", "unmute": "unmuted"}


class MuteForm(forms.Form):
    until = forms.SplitDateTimeField(
        widget=UnfoldAdminSplitDateTimeWidget(),
        help_text="What still fails then is told. Everything runs as before",
    )
    reason = ReasonField(
        required=False,
        max_length=telling.LONGEST_REASON,
        widget=UnfoldAdminTextInputWidget(),
        help_text="Shown wherever the mute is",
    )

    def clean_until(self) -> datetime:
        until: datetime = self.cleaned_data["until"]
        if until <= clock.now():
            raise forms.ValidationError("Choose a time in the future")
        return until


FORMS: dict[str, type[forms.Form]] = {"mute": MuteForm, "unmute": forms.Form}


def mute_of(request: HttpRequest, scope: telling.Tellable) -> dict[str, Any]:
    """For a template: `text`, the mute in words or "", and `verb` and `url` of what may be done."""
    now = clock.now()
    is_muted = scope.is_muted(now)
    name = scope._meta.model_name
    verb = "unmute" if is_muted else "mute"
    url = reverse(f"admin:scheduling_{name}_{verb}", query={"id": scope.pk, "next": request.path})
    text = format_html(
        "Muted by {}: nobody is told of it until {}",
        scope.muted_by or "somebody",
        display.moment(scope.muted_until, now),
    )
    return {
        "text": text if is_muted else "",
        "verb": verb,
        "url": url if request.user.has_perm(f"scheduling.change_{name}") else "",
    }


class Mutes(Pauses[Muted]):
    """Mixed into the admins of what people are told of."""

    actions: Sequence[Any] = (*Pauses.actions, "mute_selected", "unmute_selected")

    def get_urls(self) -> list[URLPattern]:
        def own(verb: str, view: Callable[..., HttpResponse]) -> URLPattern:
            return path(f"{verb}/", self.admin_site.admin_view(view), name=self._name_of(verb))

        return [
            own("mute", self.mute_view),
            own("unmute", self.unmute_view),
            *super().get_urls(),
        ]

    @admin.action(description="Mute …", permissions=["change"])
    def mute_selected(self, request: HttpRequest, queryset: QuerySet[Muted]) -> HttpResponse:
        return self._ask_quiet(request, "mute", list(queryset[:MOST_AT_ONCE]), None)

    @admin.action(description="Unmute …", permissions=["change"])
    def unmute_selected(self, request: HttpRequest, queryset: QuerySet[Muted]) -> HttpResponse:
        return self._ask_quiet(request, "unmute", list(queryset[:MOST_AT_ONCE]), None)

    def mute_view(self, request: HttpRequest) -> HttpResponse:
        return self._quiet(request, "mute")

    def unmute_view(self, request: HttpRequest) -> HttpResponse:
        return self._quiet(request, "unmute")

    def _quiet(self, request: HttpRequest, verb: str) -> HttpResponse:
        if not self.has_change_permission(request):
            raise PermissionDenied
        is_answer = request.method == "POST"
        asked = request.POST if is_answer else request.GET
        ids = [value for value in asked.getlist("id") if ID.fullmatch(value)][:MOST_AT_ONCE]
        scopes = list(self.get_queryset(request).filter(pk__in=ids))
        form = FORMS[verb](request.POST if is_answer else None)
        if not form.is_valid():
            return self._ask_quiet(request, verb, scopes, form)
        for scope in scopes:
            self._do_quiet(request, verb, scope, form.cleaned_data)
        return HttpResponseRedirect(self._safe(request, asked.get("next", "")))

    def _ask_quiet(
        self, request: HttpRequest, verb: str, scopes: Sequence[Muted], form: forms.Form | None
    ) -> HttpResponse:
        wanted = request.POST.get("next") or request.GET.get("next") or request.get_full_path()
        return ask(
            request,
            verb,
            list(scopes),
            form or FORMS[verb](),
            model=self.model,
            action=self._address_of(verb),
            back=self._safe(request, wanted),
        )

    def _do_quiet(
        self, request: HttpRequest, verb: str, scope: Muted, answers: dict[str, Any]
    ) -> None:
        by, now = request.user.get_username(), clock.now()
        if verb == "mute":
            until, why = answers["until"], answers["reason"]
            changed = telling.mute(scope, by=by, reason=why, until=until, now=now)
            said = f"Muted until {until:%Y-%m-%d %H:%M %Z}{f': {why}' if why else ''}"
        else:
            changed, said = telling.unmute(scope, by=by, now=now), "Unmuted"
        if not changed:
            messages.warning(request, f"{scope} was not {DONE[verb]}: there was nothing to do")
            return
        self.log_change(request, scope, said)
        messages.success(request, f"{scope} is {DONE[verb]}")
