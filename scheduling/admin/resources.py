"""The pages of resources."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from scheduling import clock, runs
from scheduling.admin import display, locks, shared
from scheduling.admin.base import (
    ModelAdmin,
    NeverCounted,
    SmallJson,
    WithPage,
    may_see_arguments,
)
from scheduling.admin.forms import ResourceForm
from scheduling.admin.muting import Mutes
from scheduling.declarations.columns import as_text
from scheduling.models import Listing, Resource


@admin.register(Resource)
class ResourceAdmin(Mutes[Resource], NeverCounted, WithPage, SmallJson, ModelAdmin[Resource]):
    form = ResourceForm
    change_form_template = "scheduling/resource_form.html"
    list_display = ("key", "description", "labels_shown", "seats", "standing", "last_seen")
    search_fields = ("key", "description")
    fields = (
        *("key", "description", "labels", "seats", "recipients"),
        *("first_seen_at", "last_seen_at"),
    )
    readonly_fields = ("first_seen_at", "last_seen_at")

    @admin.display(description="labels")
    def labels_shown(self, resource: Resource) -> SafeString:
        if not resource.labels:
            return display.NOTHING
        return format_html("{}", as_text(resource.labels))

    @admin.display(description="state", ordering="paused_at")
    def standing(self, resource: Resource) -> SafeString:
        return shared.standing(resource)

    @admin.display(description="last seen", ordering="last_seen_at")
    def last_seen(self, resource: Resource) -> SafeString:
        return display.moment(resource.last_seen_at, clock.now())

    def get_readonly_fields(self, request: HttpRequest, obj: Resource | None = None) -> list[str]:
        # Locks are held by the key: another key is another resource.
        return [*self.readonly_fields, *(["key"] if obj is not None else [])]

    def get_fields(self, request: HttpRequest, obj: Resource | None = None) -> Any:
        return self.fields if obj is not None else self.fields[:5]

    def page_of(self, request: HttpRequest, obj: Resource) -> dict[str, Any]:
        query = {"resource__id__exact": obj.pk}
        url = reverse("admin:scheduling_target_changelist", query=query)
        return shared.page_of(request, obj) | {
            "links": [display.link(url, "Its targets")]
            if request.user.has_perm("scheduling.view_target")
            else [],
            "locks": self._locks(request, obj),
            "listings": self._listings(obj),
            "may_see_parameters": may_see_arguments(request),
        }

    def _locks(self, request: HttpRequest, resource: Resource) -> list[locks.LockRow] | None:
        if not request.user.has_perm("scheduling.view_seat"):
            return None
        return locks.rows_of(runs.locks_held(clock.now(), key=resource.key), request)

    def _listings(self, resource: Resource) -> list[dict[str, Any]]:
        """How each source lists it, whichever named it first."""
        now = clock.now()
        listed = Listing.objects.filter(resource=resource).select_related("source")
        return [
            {
                "source": each.source.name,
                "state": display.listing_state(each),
                "hint": display.moment(each.hint_at, now),
                "first_seen": display.moment(each.first_seen_at, now),
                "last_seen": display.moment(each.last_seen_at, now),
                "kwargs": display.as_code(as_text(each.kwargs)) if each.kwargs else "",
            }
            for each in listed.order_by("first_seen_at", "pk")
        ]
