"""The pages of coverage: all jobs with many targets, and the sources of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from scheduling import clock
from scheduling.admin import display
from scheduling.admin.base import ModelAdmin, ReadOnly, page_context
from scheduling.coverage import Coverage, coverage
from scheduling.inventory import Standing
from scheduling.models import CoverageCount, Job

BUCKETS = {
    "1h": "up to 1 hour",
    "6h": "up to 6 hours",
    "1d": "up to 1 day",
    "1w": "up to 1 week",
    "30d": "up to 30 days",
    "90d": "up to 90 days",
    "1y": "up to 1 year",
    "more": "longer",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One piece of a bar; `x` and `width` in percent, written as SVG wants them."""

    name: str
    tone: str
    targets: int
    x: str
    width: str

    @property
    def shown(self) -> str:
        return f"{self.targets:,}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A job, or one of its sources, ready for the template."""

    name: SafeString
    is_paused: bool
    bar: list[Part]
    figures: list[tuple[str, SafeString | str]]


def may_look(request: HttpRequest) -> bool:
    return request.user.has_perm("scheduling.view_coveragecount")


def card(request: HttpRequest, now: datetime) -> dict[str, Any] | None:
    """For the home page: all jobs together; None if there is nothing, or not for this user."""
    jobs = coverage(now=now) if may_look(request) else []
    if not jobs:
        return None
    known, never, stale = (
        sum(getattr(each, name) for each in jobs) for name in ("known", "never_checked", "stale")
    )
    return {
        "title": "Coverage",
        "ok": True,
        "detail": f"{known:,} targets known, {never:,} never checked, {stale:,} stale",
        "url": reverse("admin:scheduling_coveragecount_changelist"),
    }


def stacked(parts: Mapping[tuple[str, str], int]) -> list[Part]:
    """Lay out (name, tone) -> targets side by side, as far as there are some."""
    whole, begins, bar = sum(parts.values()) or 1, 0, []
    for (name, tone), number in parts.items():
        if number:
            bar.append(_part(name, tone, number, begins, whole))
        begins += number
    return bar


def spread(buckets: Mapping[str, int], tone: str) -> list[Part]:
    """One bar for each bucket, the fullest as wide as the page."""
    fullest = max(buckets.values()) or 1
    return [_part(BUCKETS[name], tone, number, 0, fullest) for name, number in buckets.items()]


def _part(name: str, tone: str, number: int, begins: int, whole: int) -> Part:
    x, width = (f"{100 * each / whole:.2f}%" for each in (begins, number))
    return Part(name=name, tone=tone, targets=number, x=x, width=width)


def row_of(found: Coverage, request: HttpRequest, now: datetime) -> Row:
    fresh = max(0, found.active - found.never_checked - found.stale)
    return Row(
        name=_name(found),
        is_paused=found.job_is_paused,
        bar=stacked(
            {
                ("checked, not stale", "green"): fresh,
                ("stale", "amber"): found.stale,
                ("never checked", "blue"): found.never_checked,
                ("paused", "grey"): found.paused,
            }
        ),
        figures=list(_figures(found, request, now)),
    )


def _name(found: Coverage) -> SafeString:
    if found.source is not None:
        return format_html("{}", found.source or "named by no source")
    url = reverse("admin:scheduling_coveragecount_job", args=(found.job_id,))
    return display.link(url, found.job)


def _figures(
    found: Coverage, request: HttpRequest, now: datetime
) -> Iterator[tuple[str, SafeString | str]]:
    def targets(number: int, standing: Standing | None = None) -> SafeString | str:
        """The number; for a whole job, and who may see targets, the way to them."""
        if found.source is not None or not request.user.has_perm("scheduling.view_target"):
            return f"{number:,}"
        # Only those with a key are counted.
        query = {"job__id__exact": found.job_id, "key__gt": ""}
        if standing is not None:
            query["standing"] = standing.value
        return display.link(
            reverse("admin:scheduling_target_changelist", query=query), f"{number:,}"
        )

    yield "Known", targets(found.known)
    yield "Never checked", targets(found.never_checked, Standing.NEVER_FOUND)
    yield "Stale", targets(found.stale, Standing.STALE)
    yield "Missed the last time", f"{found.missed:,}"
    yield "Paused", targets(found.paused, Standing.PAUSED)
    if found.oldest_never_checked is not None:
        yield "Oldest never checked", display.coarse(found.oldest_never_checked)
    if (mean := found.first_success_mean) is not None:
        yield "Mean to first success", display.coarse(mean)
    if found.listed_at is not None:
        yield "Listed", display.moment(found.listed_at, now)


@admin.register(CoverageCount)
class CoverageAdmin(ReadOnly, ModelAdmin[CoverageCount]):
    """What the counts say, in place of the rows of the table."""

    def get_urls(self) -> list[URLPattern]:
        def own(route: str, view: Callable[..., HttpResponse], name: str) -> URLPattern:
            name = f"scheduling_coveragecount_{name}"
            return path(route, self.admin_site.admin_view(view), name=name)

        return [own("", self.list_view, "changelist"), own("<int:pk>/", self.job_view, "job")]

    def list_view(self, request: HttpRequest) -> HttpResponse:
        if not may_look(request):
            raise PermissionDenied
        now = clock.now()
        rows = [row_of(each, request, now) for each in coverage(now=now)]
        context = page_context(self.admin_site, request, CoverageCount, title="Coverage", rows=rows)
        return TemplateResponse(request, "scheduling/coverage.html", context)

    def job_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        if not may_look(request):
            raise PermissionDenied
        job, now = get_object_or_404(Job, pk=pk), clock.now()
        found = next(iter(coverage(job.name, now=now)), None)
        context = page_context(
            self.admin_site,
            request,
            CoverageCount,
            title=f"Coverage of {job.name}",
            rows=[row_of(found, request, now)] if found else [],
            sources=[row_of(each, request, now) for each in found.sources] if found else [],
            lag=spread(found.lag, "amber") if found and found.stale else [],
            first_success=spread(found.first_success, "green")
            if found and found.first_success_mean is not None
            else [],
            job=job,
            may_see_job=request.user.has_perm("scheduling.view_job"),
        )
        return TemplateResponse(request, "scheduling/coverage.html", context)
