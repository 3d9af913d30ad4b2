"""Pause and resume everything: asked from the home page."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from scheduling import runs
from scheduling.admin import pausing
from scheduling.models import Job


def pause_everything(request: HttpRequest) -> HttpResponse:
    return _ask_and_do(request, "pause")


def resume_everything(request: HttpRequest) -> HttpResponse:
    return _ask_and_do(request, "resume")


def _ask_and_do(request: HttpRequest, verb: str) -> HttpResponse:
    return pausing.ask_and_do(
        request,
        verb,
        [runs.installation()],
        model=Job,
        action=reverse(f"admin:scheduling_{verb}_everything"),
        back=reverse("admin:index"),
    )
