"""Pause and resume everything: asked from the home page."""

from __future__ import annotations

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from scheduling import clock, runs
from scheduling.admin.base import page_context
from scheduling.admin.forms import PauseForm, ResumeForm
from scheduling.models import Installation, Job


def the_installation() -> Installation:
    return Installation.objects.get_or_create(pk=1)[0]


def pause_everything(request: HttpRequest) -> HttpResponse:
    return _ask_and_do(request, PauseForm(request.POST or None), "pause")


def resume_everything(request: HttpRequest) -> HttpResponse:
    return _ask_and_do(request, ResumeForm(request.POST or None), "resume")


def _ask_and_do(request: HttpRequest, form: PauseForm | ResumeForm, verb: str) -> HttpResponse:
    if not request.user.has_perm("scheduling.pause_job"):
        raise PermissionDenied
    if not form.is_valid():
        context = page_context(
            admin.site,
            request,
            Job,
            title=f"{verb.capitalize()} everything",
            form=form,
            media=form.media,
            verb=verb,
            action=reverse(f"admin:scheduling_{verb}_everything"),
        )
        return TemplateResponse(request, "scheduling/ask.html", context)
    by, answers, now = request.user.get_username(), form.cleaned_data, clock.now()
    if verb == "pause":
        changed = runs.pause(
            the_installation(), by=by, reason=answers["reason"], until=answers["until"], now=now
        )
    else:
        changed = runs.resume(the_installation(), missed=answers["missed"], by=by, now=now)
    if changed:
        messages.success(request, f"Everything is {verb}d")
    else:
        messages.warning(request, f"Everything was {verb}d already")
    return HttpResponseRedirect(reverse("admin:index"))
