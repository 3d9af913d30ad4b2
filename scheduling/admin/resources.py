"""The pages of resources and targets."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from scheduling import clock, ledger, runs
from scheduling.admin import display, locks, overview, shared
from scheduling.admin.base import ChangeList, ModelAdmin, NeverCounted, SmallJson
from scheduling.admin.filters import JobFilter, held
from scheduling.admin.forms import ResourceForm, TargetForm
from scheduling.admin.muting import Mutes
from scheduling.admin.operations import Operations
from scheduling.declarations.columns import as_text
from scheduling.models import Resource, Run, State, Target
from scheduling.runs.scopes import told


@admin.register(Resource)
class ResourceAdmin(Mutes[Resource], NeverCounted, SmallJson, ModelAdmin[Resource]):
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

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        resource = self.get_object(request, object_id)
        if resource is not None and self.has_view_permission(request, resource):
            url = reverse("admin:scheduling_target_changelist", query={"q": resource.key})
            page = shared.page_of(request, resource) | {
                "links": [display.link(url, "Its targets")]
                if request.user.has_perm("scheduling.view_target")
                else [],
                "locks": self._locks(request, resource),
            }
            extra_context = {**(extra_context or {}), "page": page}
        return super().change_view(request, object_id, form_url, extra_context)

    def _locks(self, request: HttpRequest, resource: Resource) -> list[locks.LockRow] | None:
        if not request.user.has_perm("scheduling.view_seat"):
            return None
        return locks.rows_of(runs.locks_held(clock.now(), key=resource.key), request)


class TargetStateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "standing"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("failing", "failing"), ("paused", "paused"), ("retired", "retired")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Target]) -> QuerySet[Target]:
        match self.value():
            case "retired":
                return queryset.filter(retired_at__isnull=False)
            case "failing":
                return queryset.filter(retired_at__isnull=True, failing_since__isnull=False)
            case "paused":
                in_use = queryset.filter(retired_at__isnull=True)
                return held(in_use, "", "job__", "job__circuit__", "resource__")
        return queryset.filter(retired_at__isnull=True)


class TargetChangeList(ChangeList):
    """Knows after which jobs those on the page run."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        follows = ledger.follows_of({target.job_id for target in self.result_list})
        everything = runs.installation()
        for target in self.result_list:
            target.follows = follows.get(target.job_id, ())
            target.everything = everything


@admin.register(Target)
class TargetAdmin(Operations[Target], NeverCounted, SmallJson, ModelAdmin[Target]):
    form = TargetForm
    change_form_template = "scheduling/target_form.html"
    list_display = ("which", "schedule_shown", "next_fire", "standing", "last_good")
    list_display_links = ("which",)
    list_filter = (TargetStateFilter, ("job", JobFilter))
    list_filter_submit = True
    list_fullwidth = True
    ordering = ("job__name", "key")
    search_fields = ("key", "job__name")
    autocomplete_fields = ("job", "resource")
    fields = ("job", "key", "resource", "schedule", "kwargs")

    class Media:
        js = ("scheduling/schedule_preview.js",)

    def has_delete_permission(self, request: HttpRequest, obj: Target | None = None) -> bool:
        # Its history would go with it: a target is retired.
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Target]:
        return super().get_queryset(request).select_related("job__circuit", "resource")

    def get_readonly_fields(self, request: HttpRequest, obj: Target | None = None) -> list[str]:
        if obj is None:
            return []
        if obj.retired_at is not None:
            return ["job", "key", "resource", "schedule", "kwargs"]
        return ["job", "key"]

    # --- list

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return TargetChangeList

    @admin.display(description="target", ordering="job__name")
    def which(self, target: Target) -> SafeString:
        return format_html(
            '<span class="bk-name bk-cut" title="{}">{}</span>'
            '<span class="bk-subtle bk-line">{}</span>',
            target.key,
            target.key or target.job.name,
            _of_what(target),
        )

    @admin.display(description="schedule")
    def schedule_shown(self, target: Any) -> SafeString:
        return format_html(
            '<span class="bk-wrap" title="{}">{}</span>{}',
            target.schedule_text,
            display.schedule_words(target.schedule_text, follows=target.follows),
            format_html(" {}", display.badge("its own", "blue")) if target.schedule else "",
        )

    @admin.display(description="next fire", ordering="next_fire_at")
    def next_fire(self, target: Any) -> SafeString:
        if target.next_fire_at is None and target.parked:
            return display.badge(target.get_parked_display(), "amber")
        fire = target.next_fire_at
        if fire is None or runs.pause_of(target.job, target, fire, everything=target.everything):
            return display.NOTHING
        return display.moment(fire, clock.now())

    @admin.display(description="state", ordering="failing_since")
    def standing(self, target: Any) -> SafeString:
        now = clock.now()
        if target.retired_at is not None:
            return display.badge("retired")
        everything = getattr(target, "everything", None)
        if held := runs.pause_of(target.job, target, now, everything=everything):
            return display.badge("paused", "amber", told(*held))
        if target.failing_since is not None:
            return format_html(
                "{} {}",
                display.badge("failing", "red", f"{target.failures_in_a_row} in a row"),
                display.relative(target.failing_since, now),
            )
        if not target.last_state:
            return display.NOTHING
        return display.badge(target.last_state, display.TONES.get(State(target.last_state), "grey"))

    @admin.display(description="last success", ordering="last_succeeded_at")
    def last_good(self, target: Target) -> SafeString:
        return display.moment(target.last_succeeded_at, clock.now())

    # --- form

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        target = self.get_object(request, object_id)
        if target is not None and self.has_view_permission(request, target):
            extra_context = {**(extra_context or {}), "page": self._page(request, target)}
        return super().change_view(request, object_id, form_url, extra_context)

    def _page(self, request: HttpRequest, target: Target) -> dict[str, Any]:
        now = clock.now()
        retired = target.retired_at is not None
        pauses = overview.pauses_of(target.job, target, now)
        times = ("next_fire_at", "last_scheduled_at", "last_started_at", "last_ended_at",
                 "last_succeeded_at", "last_skipped_at", "failing_since")  # fmt: skip
        return {
            "target": target,
            "standing": self.standing(target),
            "schedule": display.schedule_words(
                target.schedule_text,
                follows=ledger.follows_of([target.job_id]).get(target.job_id, ()),
            ),
            "text": target.schedule_text,
            "times": [
                (name.removesuffix("_at").replace("_", " "), display.moment(value, now))
                for name in times
                if (value := getattr(target, name)) is not None
                and not (pauses and name == "next_fire_at")
            ],
            "parked": target.get_parked_display() if target.parked else "",
            "is_paused": target.is_paused(now),
            "pauses": pauses,
            "runs_url": display.runs_url(target__id__exact=target.pk),
            "may_run": self.has_trigger_permission(request) and not retired,
            "may_pause": self.has_pause_permission(request) and not retired,
            "may_retire": self.has_change_permission(request) and bool(target.key),
        }

    def save_model(self, request: HttpRequest, obj: Target, form: Any, change: bool) -> None:
        now = clock.now()
        if not change:
            made = runs.add_target(
                obj.job,
                obj.key,
                resource=obj.resource,
                schedule=obj.schedule,
                kwargs=obj.kwargs,
                now=now,
            )
            obj.pk = made.pk
            return
        columns = [name for name in ("resource", "kwargs") if name in form.changed_data]
        if columns:
            obj.save(update_fields=columns)
        if "schedule" in form.changed_data:
            runs.reschedule_target(obj, schedule=form.cleaned_data["schedule"], now=now)

    def trigger(self, subject: Target, *, by: str) -> Run:
        return runs.trigger(subject.job, key=subject.key, by=by, now=clock.now())

    def get_urls(self) -> list[URLPattern]:
        return [
            path(
                "<int:pk>/retire/",
                self.admin_site.admin_view(require_POST(self.retire_view)),
                name="scheduling_target_retire",
            ),
            *super().get_urls(),
        ]

    def retire_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Retire a target, or take it up again; its history stays."""
        if not self.has_change_permission(request):
            raise PermissionDenied
        target = get_object_or_404(Target.objects.select_related("job").exclude(key=""), pk=pk)
        if target.retired_at is None:
            runs.retire_target(target, now=clock.now())
            done = "retired: it fires no more, its history stays"
        else:
            runs.revive_target(target, now=clock.now())
            done = "taken up again"
        self.log_change(request, target, done)
        self.message_user(request, f"{target} is {done}", messages.SUCCESS)
        return HttpResponseRedirect("../change/")


def _of_what(target: Target) -> str:
    """Its job, and its resource where the key does not name it."""
    if not target.key:
        return "the job itself"
    if target.resource is None or target.resource.key == target.key:
        return target.job.name
    return f"{target.job.name}, {target.resource.key}"
