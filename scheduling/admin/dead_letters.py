"""Messages that nobody could work on: looked at, and deleted."""

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
from scheduling.models import DeadLetter


@admin.register(DeadLetter)
class DeadLetterAdmin(ReadOnly, NeverCounted, ModelAdmin[DeadLetter]):
    unguessable = ("content",)
    list_display = ("kind_shown", "received", "task_shown", "detail_shown")
    list_filter = (("kind", ChoicesCheckboxFilter),)
    list_filter_submit = True
    search_fields = ("task", "message_id", "queue")
    ordering = ("-pk",)
    fields = (
        "kind_shown", "received", "queue", "task", "message_id", "worker", "detail", "content",
    )  # fmt: skip
    readonly_fields = ("kind_shown", "received")

    def has_delete_permission(self, request: HttpRequest, obj: DeadLetter | None = None) -> bool:
        return request.user.has_perm("scheduling.delete_deadletter")

    def get_fields(self, request: HttpRequest, obj: DeadLetter | None = None) -> Any:
        """Without the content for those who may not see what runs write: it may quote anything."""
        may_see = request.user.has_perm("scheduling.view_run_output")
        return self.fields if may_see else [name for name in self.fields if name != "content"]

    @admin.display(description="what", ordering="kind")
    def kind_shown(self, letter: DeadLetter) -> SafeString:
        return display.badge(letter.get_kind_display(), "red")

    @admin.display(description="received", ordering="received_at")
    def received(self, letter: DeadLetter) -> SafeString:
        return display.moment(letter.received_at, clock.now())

    @admin.display(description="task and queue", ordering="task")
    def task_shown(self, letter: DeadLetter) -> SafeString:
        """Cut: whoever can write to the broker may name a task as long as they like."""
        return format_html(
            '<span class="bk-line bk-cut" title="{}">{}</span>'
            '<span class="bk-subtle bk-line bk-cut" title="{}">{}</span>',
            letter.task,
            letter.task or "-",
            letter.queue,
            letter.queue,
        )

    @admin.display(description="detail")
    def detail_shown(self, letter: DeadLetter) -> SafeString:
        return display.broken(letter.detail)
