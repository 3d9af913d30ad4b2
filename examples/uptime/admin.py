"""The pages of endpoints: one form adds one, with its probes if it needs others than the usual."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from examples.uptime import endpoints
from examples.uptime.models import Endpoint, Probe
from scheduling import clock
from scheduling.admin import display
from scheduling.admin.base import ChangeList, ModelAdmin, ModelForm, TabularInline
from scheduling.admin.fields import ScheduleField, refuse_if_over
from scheduling.admin.forms import SCHEDULE_HELP
from scheduling.errors import SchedulingError


def _is_held_by_file(endpoint: Endpoint) -> bool:
    return endpoint.is_listed and endpoint.is_active


class EndpointForm(ModelForm[Endpoint]):
    schedule = ScheduleField(label="Frequency", initial="every 5m", help_text=SCHEDULE_HELP)

    class Meta:
        model = Endpoint
        fields = ("name", "address", "schedule", "is_active", "tags", "resource")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "schedule" in self.fields:
            self.fields["schedule"].widget.attrs |= {
                "data-preview": reverse("admin:scheduling_job_preview"),
                "data-name": f"{endpoints.CHECK}/{self.instance.name}",
            }

    def clean_schedule(self) -> str:
        text = str(self.cleaned_data["schedule"])
        if "schedule" in self.changed_data:
            refuse_if_over(text)
        return text


class ProbeInline(TabularInline[Probe, Endpoint]):
    """Without any, an endpoint gets the usual probe for its kind of address."""

    model = Probe
    extra = 0
    verbose_name_plural = "Probes (none: the usual one for this kind of address)"


class EndpointChangeList(ChangeList):
    """Knows the targets of the endpoints on the page."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        targets = endpoints.targets_of([endpoint.name for endpoint in self.result_list])
        for endpoint in self.result_list:
            endpoint.target = targets.get(endpoint.name)


@admin.register(Endpoint)
class EndpointAdmin(ModelAdmin[Endpoint]):
    form = EndpointForm
    inlines = (ProbeInline,)
    actions = ("check_selected",)
    list_display = (
        "which",
        "state",
        "last_check",
        "reliability_shown",
        "response",
        "next_check",
        "history",
    )
    list_display_links = ("which",)
    list_filter = ("is_up", "is_active", "is_listed")
    list_fullwidth = True
    search_fields = ("name", "address", "tags")
    fieldsets = (
        (None, {"fields": ("name", "address", "schedule", "is_active", "tags", "resource")}),
        ("Last check", {"fields": ("state", "message", "last_check", "reliability_shown")}),
    )
    readonly_fields = ("state", "message", "last_check", "reliability_shown")

    class Media:
        js = ("scheduling/schedule_preview.js",)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return EndpointChangeList

    def get_readonly_fields(self, request: HttpRequest, obj: Endpoint | None = None) -> list[str]:
        # The name is the key of its targets and of their history.
        return [*self.readonly_fields, *(["name"] if obj is not None else [])]

    def get_fieldsets(self, request: HttpRequest, obj: Endpoint | None = None) -> Any:
        if obj is not None and obj.is_listed:
            shown = ("name", "address", "is_active", "tags", "is_listed")
            return ((None, {"fields": shown}), *self.fieldsets[1:])
        return self.fieldsets[:1] if obj is None else self.fieldsets

    def get_inlines(self, request: HttpRequest, obj: Endpoint | None = None) -> Any:
        # What is asked of those from the file is said there.
        return () if obj is not None and obj.is_listed else self.inlines

    def has_change_permission(self, request: HttpRequest, obj: Endpoint | None = None) -> bool:
        """The file says what becomes of its endpoints."""
        is_ours = obj is None or not obj.is_listed
        return is_ours and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Endpoint | None = None) -> bool:
        """What the file names would come back; once it does not, it may be deleted."""
        may_go = obj is None or not _is_held_by_file(obj)
        return may_go and super().has_delete_permission(request, obj)

    def has_trigger_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("scheduling.trigger_job")

    # --- list

    @admin.display(description="endpoint", ordering="name")
    def which(self, endpoint: Endpoint) -> SafeString:
        return format_html(
            '<span class="bk-name">{}</span><span class="bk-subtle bk-line">{}</span>',
            endpoint.name,
            endpoint.address,
        )

    @admin.display(description="state", ordering="is_up")
    def state(self, endpoint: Endpoint) -> SafeString:
        if not endpoint.is_active:
            return display.badge("not active", "amber")
        if endpoint.is_up is None:
            return display.badge("never checked")
        text, tone = ("ok", "green") if endpoint.is_up else ("failing", "red")
        return display.badge(text, tone, endpoint.message)

    @admin.display(description="last check", ordering="checked_at")
    def last_check(self, endpoint: Endpoint) -> SafeString:
        return display.moment(endpoint.checked_at, clock.now())

    @admin.display(description="reliability", ordering="reliability")
    def reliability_shown(self, endpoint: Endpoint) -> str:
        return "-" if endpoint.checked_at is None else f"{endpoint.reliability:.4g} %"

    @admin.display(description="response", ordering="response_ms")
    def response(self, endpoint: Endpoint) -> str:
        return "-" if endpoint.response_ms is None else f"{endpoint.response_ms:.0f} ms"

    @admin.display(description="next check")
    def next_check(self, endpoint: Any) -> SafeString:
        target = endpoint.target
        if target is None:
            return display.NOTHING
        if target.is_paused(now := clock.now()):
            return display.badge("paused", "amber", target.pause_reason)
        if target.eligible_since is not None:
            return display.badge("as soon as there is a slot")
        return display.moment(target.next_fire_at or target.eligible_at, now)

    @admin.display(description="runs")
    def history(self, endpoint: Any) -> SafeString:
        if endpoint.target is None:
            return display.NOTHING
        return display.link(display.runs_url(target__id__exact=endpoint.target.pk), "its runs")

    # --- changes

    def save_model(self, request: HttpRequest, obj: Endpoint, form: Any, change: bool) -> None:
        # The probes follow in the same transaction: the first check finds them.
        endpoints.save_endpoint(obj, by=request.user.get_username(), now=clock.now())

    def delete_model(self, request: HttpRequest, obj: Endpoint) -> None:
        endpoints.delete_endpoint(obj, now=clock.now())

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Endpoint]) -> None:
        for endpoint in queryset:
            if not _is_held_by_file(endpoint):
                endpoints.delete_endpoint(endpoint, now=clock.now())

    def get_deleted_objects(
        self, objs: Iterable[Endpoint], request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """Name the endpoints alone: their measurements are too many to be listed."""
        found = list(objs)
        names = [str(endpoint) for endpoint in found]
        held = [f"{each}, which the file names" for each in found if _is_held_by_file(each)]
        return names, {"endpoints, with their measurements": len(names)}, set(), held

    @admin.action(description="Check now", permissions=["trigger"])
    def check_selected(self, request: HttpRequest, queryset: QuerySet[Endpoint]) -> None:
        for endpoint in queryset:
            try:
                run = endpoints.check_now(endpoint, by=request.user.get_username(), now=clock.now())
            except SchedulingError as error:
                self.message_user(request, f"{endpoint}: {error}", messages.ERROR)
                continue
            self.message_user(
                request,
                format_html(
                    "{} is checked now: {}",
                    endpoint.name,
                    display.link(display.run_url(run), "its run"),
                ),
                messages.SUCCESS,
            )
