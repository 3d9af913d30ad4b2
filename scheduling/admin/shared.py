"""What stands above the form of something that jobs share: who uses it, and whether it is held."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Count, Q
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from scheduling import clock
from scheduling.admin import display, muting, overview
from scheduling.admin.pausing import may_pause
from scheduling.models import Circuit, Job, Resource
from scheduling.models.job import JobQuerySet
from scheduling.runs.scopes import name_of, told

MOST_NAMES = 100


class UsedByJobs:
    """Says how many jobs use it, and which of them stand against deleting it; Django would say
    that no job may be deleted.
    """

    def get_queryset(self, request: HttpRequest) -> Any:
        active = Count("jobs", filter=Q(jobs__retired_at=None))
        return super().get_queryset(request).annotate(used_by=active)  # type: ignore[misc]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        # Jobs refer to it by name.
        return [] if obj is None else ["name"]

    @admin.display(description="jobs", ordering="used_by")
    def number_of_jobs(self, obj: Any) -> int:
        return int(obj.used_by)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        found: tuple[Any, ...] = super().get_deleted_objects(objs, request)  # type: ignore[misc]
        to_delete, counts, lacking, protected = found
        return to_delete, counts, set() if protected else lacking, protected


def standing(scope: Circuit | Resource) -> SafeString:
    if not scope.is_paused(clock.now()):
        return display.NOTHING
    return display.badge("paused", "amber", told(name_of(scope), scope))


def page_of(request: HttpRequest, scope: Circuit | Resource) -> dict[str, Any]:
    """For the template: the pause, and the way to its question."""
    now = clock.now()
    is_paused = scope.is_paused(now)
    verb = "resume" if is_paused else "pause"
    url = reverse(
        f"admin:scheduling_{scope._meta.model_name}_{verb}",
        query={"id": scope.pk, "next": request.path},
    )
    return {
        "pause": overview.pause_text(scope, now) if is_paused else "",
        "ask": {"verb": verb, "url": url} if may_pause(request) else None,
        "mute": muting.mute_of(request, scope),
    }


def job_links(request: HttpRequest, jobs: JobQuerySet) -> dict[str, Any]:
    """For the template: the jobs that use it, and how many more there are."""
    found = list(jobs.active().order_by("name")[: MOST_NAMES + 1])
    return {
        "jobs": [_named(request, job) for job in found[:MOST_NAMES]],
        "has_more": len(found) > MOST_NAMES,
    }


def _named(request: HttpRequest, job: Job) -> SafeString:
    if request.user.has_perm("scheduling.view_job"):
        return display.link(display.job_url(job.pk), job.name)
    return format_html("{}", job.name)
