"""The pages of sources: how far each has come, what it named last, and what people ask of it."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from scheduling import clock, inventory, runs
from scheduling.admin import display
from scheduling.admin.base import ModelAdmin, ReadOnly, WithPage, may_see_arguments
from scheduling.admin.pausing import may_pause
from scheduling.declarations.columns import as_text
from scheduling.errors import SchedulingError
from scheduling.models import Job, Listing, Source
from scheduling.runs.listing import Place, interrupted_listing

MOST_NAMED = 10
TONES = {"live": "green", "on trial": "amber", "retired": "grey"}


def may_list(request: HttpRequest) -> bool:
    return request.user.has_perm("scheduling.trigger_job")


@admin.register(Source)
class SourceAdmin(ReadOnly, WithPage, ModelAdmin[Source]):
    """Declared in code; looked at here, listed by hand, and made live."""

    unguessable = ("state",)
    change_form_template = "scheduling/source_form.html"
    list_display = ("name", "standing", "of_jobs", "last_listing", "last_full_listing")
    list_per_page = 50
    search_fields = ("name", "description")
    fields = ("name", "description", "of_jobs", "is_express", "state_shown")
    readonly_fields = ("of_jobs", "state_shown")

    def get_fields(self, request: HttpRequest, obj: Source | None = None) -> Any:
        return self.fields if may_see_arguments(request) else self.fields[:4]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Source]:
        active = Prefetch("jobs", Job.objects.active().order_by("name"))
        return super().get_queryset(request).prefetch_related(active)

    @admin.display(description="state", ordering="is_trial")
    def standing(self, source: Source) -> SafeString:
        word = runs.standing_of(source)
        return display.badge(word, TONES[word])

    @admin.display(description="jobs")
    def of_jobs(self, source: Source) -> SafeString:
        names = format_html_join(", ", "{}", ((job.name,) for job in source.jobs.all()))
        return names or display.NOTHING

    @admin.display(description="last listing", ordering="listing_ended_at")
    def last_listing(self, source: Source) -> SafeString:
        return display.moment(source.listing_ended_at, clock.now())

    @admin.display(description="last full listing", ordering="full_listing_ended_at")
    def last_full_listing(self, source: Source) -> SafeString:
        return display.moment(source.full_listing_ended_at, clock.now())

    @admin.display(description="state that its code saved")
    def state_shown(self, source: Source) -> SafeString:
        state = runs.state_of(source)
        return format_html("{}", as_text(state)) if state else display.NOTHING

    def page_of(self, request: HttpRequest, obj: Source) -> dict[str, Any]:
        source, now = obj, clock.now()
        # In the order of an index: there may be millions.
        listings = Listing.objects.filter(source=source).order_by("-resource")
        newest = listings.select_related("resource")[:MOST_NAMED]
        may_look = request.user.has_perm("scheduling.view_resource")
        return {
            "standing": self.standing(source),
            "counts": inventory.listed_by(source),
            "most_counted": f"{inventory.MOST_COUNTED:,}",
            "began": display.moment(source.listing_began_at, now),
            "ended": display.moment(source.listing_ended_at, now),
            "full": display.moment(source.full_listing_ended_at, now),
            "open": [
                in_words(place)
                for full in (True, False)
                if (place := interrupted_listing(source, full=full)) is not None
            ],
            "named": [_row(row, now, may_look=may_look) for row in newest],
            "may_see_parameters": may_see_arguments(request),
            "buttons": self._buttons(request, source),
        }

    def _buttons(self, request: HttpRequest, source: Source) -> list[dict[str, str]]:
        if source.retired_at is not None:
            return []
        wanted = []
        if may_list(request):
            listed = Job.objects.active().filter(name__startswith=f"{source.name}.")
            names = set(listed.values_list("name", flat=True))
            for kind in ("full", "incremental"):
                if f"{source.name}.{kind}" in names:
                    words = "List all now" if kind == "full" else "List changes now"
                    wanted.append((kind, words))
        if may_pause(request):
            live = ("live", "Make live") if source.is_trial else ("trial", "Put on trial")
            wanted.append(live)
        return [
            {"url": reverse(f"admin:scheduling_source_{verb}", args=(source.pk,)), "words": words}
            for verb, words in wanted
        ]

    # --- what people ask of it --------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        def own(verb: str, view: Callable[..., HttpResponse]) -> URLPattern:
            view = self.admin_site.admin_view(require_POST(view))
            return path(f"<int:pk>/{verb}/", view, name=f"scheduling_source_{verb}")

        return [
            own("full", partial(self.list_view, full=True)),
            own("incremental", partial(self.list_view, full=False)),
            own("live", partial(self.trial_view, is_trial=False)),
            own("trial", partial(self.trial_view, is_trial=True)),
            *super().get_urls(),
        ]

    def list_view(self, request: HttpRequest, pk: int, full: bool) -> HttpResponse:
        source = self._source(request, pk, allowed=may_list(request))
        self._list(request, source, full=full)
        return self._back(source)

    def trial_view(self, request: HttpRequest, pk: int, is_trial: bool) -> HttpResponse:
        source = self._source(request, pk, allowed=may_pause(request))
        by, now = request.user.get_username(), clock.now()
        done = "put on trial" if is_trial else "made live"
        if runs.set_trial(source, is_trial=is_trial, by=by, now=now):
            self.log_change(request, source, done.capitalize())
            self.message_user(request, f"{source.name} is {done}", messages.SUCCESS)
            if not is_trial:
                self._list(request, source, full=True)
        return self._back(source)

    def _list(self, request: HttpRequest, source: Source, *, full: bool) -> None:
        try:
            run = runs.list_now(source, full=full, by=request.user.get_username(), now=clock.now())
        except SchedulingError as error:
            self.message_user(request, str(error), messages.WARNING)
            return
        self.log_change(request, source, f"Listing asked for: {run.name}")
        self.message_user(request, f"{run.name} is queued", messages.SUCCESS)

    def _source(self, request: HttpRequest, pk: int, *, allowed: bool) -> Source:
        source = get_object_or_404(Source, pk=pk)
        if not allowed or not self.has_view_permission(request, source):
            raise PermissionDenied
        return source

    def _back(self, source: Source) -> HttpResponseRedirect:
        return HttpResponseRedirect(reverse("admin:scheduling_source_change", args=(source.pk,)))


def in_words(place: Place) -> SafeString:
    """Tell of a listing that has not ended."""
    named = f"{place.recorded.seen:,} named so far"
    if place.unread:
        named += f", {place.unread:,} entries that could not be read"
    if place.is_listed:
        return format_html(
            "The {} listing has come through ({}) and is not ended: it has left out more than "
            "JOBS_VANISH_LIMIT allows, or its run was interrupted. List it again; or, if so much "
            "is really gone, {}",
            place.kind,
            named,
            display.as_code(
                f"manage.py jobs sources finish {shlex.quote(place.source.name)} --force"
            ),
        )
    return format_html("The {} listing is under way, or was interrupted: {}", place.kind, named)


def _row(row: Listing, now: Any, *, may_look: bool) -> dict[str, Any]:
    url = reverse("admin:scheduling_resource_change", args=(row.resource_id,))
    key = row.resource.key
    return {
        "key": display.link(url, key) if may_look else key,
        "state": display.listing_state(row),
        "hint": display.moment(row.hint_at, now),
        "first_seen": display.moment(row.first_seen_at, now),
        "last_seen": display.moment(row.last_seen_at, now),
        "kwargs": as_text(row.kwargs) if row.kwargs else "",
    }
