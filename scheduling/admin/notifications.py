"""What was told to whom: read-only."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesCheckboxFilter

from scheduling import clock
from scheduling.admin import display
from scheduling.admin.base import ModelAdmin, NeverCounted, ReadOnly
from scheduling.models import Notification

TONES = {"failing": "red", "still_failing": "red", "schedule_error": "red", "late": "red"}


@admin.register(Notification)
class NotificationAdmin(ReadOnly, NeverCounted, ModelAdmin[Notification]):
    list_display = ("name", "event_shown", "created", "delivered", "attempts", "run_link")
    list_filter = (("event", ChoicesCheckboxFilter),)
    list_filter_submit = True
    list_select_related = False
    search_fields = ("name",)
    ordering = ("-pk",)
    fields = (
        "name", "event_shown", "run_link", "late", "detail", "created_at", "deliver_at",
        "delivered_at", "attempts", "error",
    )  # fmt: skip
    readonly_fields = ("event_shown", "run_link", "late")
    actions = None

    def get_fields(self, request: HttpRequest, obj: Notification | None = None) -> Any:
        """Without the detail, which quotes what the run wrote, for those who may not see that."""
        may_see = request.user.has_perm("scheduling.view_run_output")
        return self.fields if may_see else [name for name in self.fields if name != "detail"]

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        return not lookup.startswith("detail") and super().lookup_allowed(lookup, value, request)

    @admin.display(description="event", ordering="event")
    def event_shown(self, notification: Notification) -> SafeString:
        tone = TONES.get(notification.event, "green")
        return display.badge(notification.get_event_display(), tone)

    @admin.display(description="created", ordering="created_at")
    def created(self, notification: Notification) -> SafeString:
        return display.moment(notification.created_at, clock.now())

    @admin.display(description="delivered")
    def delivered(self, notification: Notification) -> SafeString:
        if notification.delivered_at is not None:
            return display.moment(notification.delivered_at, clock.now())
        if notification.deliver_at is None:
            return display.badge("given up", "red", notification.error)
        return display.badge("waiting", "amber", notification.error)

    @admin.display(description="run")
    def run_link(self, notification: Notification) -> SafeString:
        if notification.run_id is None:
            return display.NOTHING
        return display.link(display.run_url_of(notification.run_id), "its run")

    @admin.display(description="late")
    def late(self, notification: Notification) -> SafeString:
        target, since = notification.target, notification.late_since
        if target is None or since is None:
            return display.NOTHING
        now, started = clock.now(), target.last_started_at
        key = f"{target.key}: " if target.key else ""
        if started is None or started < since:
            return format_html("{}since {}", key, display.moment(since, now))
        return format_html(
            "{}since {}; it has started again, the last time {}",
            key,
            display.moment(since, now),
            display.moment(started, now),
        )
