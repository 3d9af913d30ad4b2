"""What was told to whom: to be looked at, and to be sent again where it was given up."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesCheckboxFilter

from scheduling import clock
from scheduling.admin import display
from scheduling.admin.base import ModelAdmin, NeverCounted, ReadOnly
from scheduling.models import Event, Notification
from scheduling.runs import telling

GOOD = frozenset({Event.FIXED, Event.SUCCEEDED, Event.CIRCUIT_CLOSED})
SHOWN = 3  # recipients in a list


class DeliveryFilter(admin.SimpleListFilter):
    title = "delivery"
    parameter_name = "delivery"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("waiting", "waiting"), ("given_up", "given up or muted")]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[Notification]
    ) -> QuerySet[Notification]:
        match self.value():
            case "waiting":
                return queryset.filter(deliver_at__isnull=False)
            case "given_up":
                return queryset.filter(deliver_at=None, delivered_at=None)
        return queryset


@admin.register(Notification)
class NotificationAdmin(ReadOnly, NeverCounted, ModelAdmin[Notification]):
    unguessable = ("detail",)
    list_display = (
        "name", "event_shown", "created", "delivered", "told", "attempts", "run_link",
    )  # fmt: skip
    list_filter = (("event", ChoicesCheckboxFilter), DeliveryFilter)
    list_filter_submit = True
    list_select_related = False
    search_fields = ("name",)
    ordering = ("-pk",)
    fields = (
        "name", "event_shown", "run_link", "late", "detail", "created", "delivered",
        "next_attempt", "told_all", "attempts", "error",
    )  # fmt: skip
    readonly_fields = (
        "event_shown", "run_link", "late", "created", "delivered", "next_attempt", "told_all",
    )  # fmt: skip
    actions = ("send_again",)

    def get_fields(self, request: HttpRequest, obj: Notification | None = None) -> Any:
        """Without the detail, which quotes what the run wrote, for those who may not see that."""
        may_see = request.user.has_perm("scheduling.view_run_output")
        return self.fields if may_see else [name for name in self.fields if name != "detail"]

    def has_send_permission(self, request: HttpRequest) -> bool:
        # The rows themselves are changed by nobody.
        return request.user.has_perm("scheduling.change_notification")

    @admin.action(description="Send again", permissions=["send"])
    def send_again(self, request: HttpRequest, queryset: QuerySet[Notification]) -> None:
        """For those that were given up or muted; who has it already does not get it twice."""
        again = [row for row in queryset if telling.send_again(row.pk, now=clock.now())]
        if again:
            LogEntry.objects.log_actions(request.user.pk or 0, again, CHANGE, "Sent again")
            self.message_user(request, f"To be sent again: {len(again)}", messages.SUCCESS)
        if left := len(queryset) - len(again):
            self.message_user(
                request, f"Delivered already, or still waiting: {left}", messages.WARNING
            )

    @admin.display(description="event", ordering="event")
    def event_shown(self, notification: Notification) -> SafeString:
        is_good = notification.event in GOOD
        return display.badge(notification.get_event_display(), "green" if is_good else "red")

    @admin.display(description="created", ordering="created_at")
    def created(self, notification: Notification) -> SafeString:
        return display.moment(notification.created_at, clock.now())

    @admin.display(description="delivered")
    def delivered(self, notification: Notification) -> SafeString:
        error = notification.error
        if notification.delivered_at is not None:
            shown = display.moment(notification.delivered_at, clock.now())
            mark = display.badge("not to all", "amber", error) if error else ""
            return format_html("{} {}", shown, mark)
        if telling.is_muted(notification):
            return display.badge("muted", "grey", error)
        if notification.deliver_at is None:
            return display.badge("given up", "red", error)
        return display.badge("waiting", "amber", error)

    @admin.display(description="next attempt")
    def next_attempt(self, notification: Notification) -> SafeString:
        return display.moment(notification.deliver_at, clock.now())

    @admin.display(description="to")
    def told(self, notification: Notification) -> str:
        to = notification.delivered_to
        more = f" and {len(to) - SHOWN} more" if len(to) > SHOWN else ""
        return ", ".join(to[:SHOWN]) + more or "-"

    @admin.display(description="delivered to")
    def told_all(self, notification: Notification) -> str:
        return ", ".join(notification.delivered_to) or "-"

    @admin.display(description="run")
    def run_link(self, notification: Notification) -> SafeString:
        if notification.run_id is None:
            return display.NOTHING
        return display.link(display.run_url_of(notification.run_id), display.unbroken("its run"))

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
