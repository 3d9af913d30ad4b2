"""The pages of targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from scheduling import clock, inventory, ledger, runs
from scheduling.admin import display, findings, overview
from scheduling.admin.base import (
    ChangeList,
    ModelAdmin,
    NeverCounted,
    SmallJson,
    WithPage,
    may_see_arguments,
)
from scheduling.admin.filters import JobFilter, held
from scheduling.admin.forms import TargetForm
from scheduling.admin.operations import Operations
from scheduling.inventory import Standing
from scheduling.models import Run, State, Target
from scheduling.runs.scopes import told

HELD = "held"


class StandingFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "standing"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        words = {**inventory.IN_WORDS, Standing.PAUSED: "paused itself"}
        return [*((each.value, told) for each, told in words.items()), (HELD, "held by any pause")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Target]) -> QuerySet[Target]:
        value = self.value()
        if value == HELD:
            in_use = queryset.filter(retired_at__isnull=True)
            return held(in_use, "", "job__", "job__circuit__", "resource__")
        standing = next((each for each in Standing if each == value), None)
        return queryset.filter(inventory.standing_as(standing))


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
class TargetAdmin(Operations[Target], NeverCounted, WithPage, SmallJson, ModelAdmin[Target]):
    unguessable = ("kwargs",)
    form = TargetForm
    change_form_template = "scheduling/target_form.html"
    list_display = ("which", "schedule_shown", "next_fire", "standing", "found", "last_good")
    list_display_links = ("which",)
    list_filter = (StandingFilter, ("job", JobFilter))
    list_filter_submit = True
    list_fullwidth = True
    # As the index has them: by the job's name, a page would sort all that there are.
    ordering = ("job_id", "key")
    search_fields = ("key", "job__name")
    autocomplete_fields = ("job", "resource")
    fields = ("job", "key", "resource", "schedule", "kwargs")

    class Media:
        js = ("scheduling/schedule_preview.js",)

    def has_delete_permission(self, request: HttpRequest, obj: Target | None = None) -> bool:
        # Its history would go with it: a target is retired.
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Target]:
        return super().get_queryset(request).select_related("job__circuit", "resource", "source")

    def get_fields(self, request: HttpRequest, obj: Target | None = None) -> Any:
        if self.has_change_permission(request, obj) or may_see_arguments(request):
            return self.fields
        return self.fields[:4]

    def get_readonly_fields(self, request: HttpRequest, obj: Target | None = None) -> list[str]:
        if obj is None:
            return []
        if obj.retired_at is not None:
            return ["job", "key", "resource", "schedule", "kwargs"]
        return ["job", "key"]

    # --- list

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return TargetChangeList

    @admin.display(description="target")
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
            _in_words(target, target.follows),
            format_html(" {}", display.badge("its own", "blue")) if target.schedule else "",
        )

    @admin.display(description="next fire", ordering="next_fire_at")
    def next_fire(self, target: Any) -> SafeString:
        if (in_pool := findings.pool_badge(target, clock.now())) is not None:
            return in_pool
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

    @admin.display(description="found")
    def found(self, target: Target) -> SafeString:
        return findings.in_short(target)

    @admin.display(description="last success", ordering="last_succeeded_at")
    def last_good(self, target: Target) -> SafeString:
        return display.moment(target.last_succeeded_at, clock.now())

    # --- form

    def page_of(self, request: HttpRequest, obj: Target) -> dict[str, Any]:
        target, now = obj, clock.now()
        retired = target.retired_at is not None
        pauses = overview.pauses_of(target.job, target, now)
        times = ("next_fire_at", "last_scheduled_at", "last_started_at", "last_ended_at",
                 "last_succeeded_at", "last_skipped_at", "failing_since")  # fmt: skip
        return {
            "target": target,
            "standing": self.standing(target),
            "schedule": _in_words(
                target, ledger.follows_of([target.job_id]).get(target.job_id, ())
            ),
            "text": target.schedule_text,
            "times": [
                (name.removesuffix("_at").replace("_", " "), display.moment(value, now))
                for name in times
                if (value := getattr(target, name)) is not None
                and not (pauses and name == "next_fire_at")
            ],
            "parked": target.get_parked_display() if target.parked else "",
            "findings": findings.of(target, now),
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


def _in_words(target: Target, follows: Sequence[str]) -> str:
    picked = target.job.is_picked and not target.schedule
    return display.schedule_words(target.schedule_text, follows=follows, picked=picked)


def _of_what(target: Target) -> str:
    """Its job, and its resource where the key does not name it."""
    if not target.key:
        return "the job itself"
    if target.resource is None or target.resource.key == target.key:
        return target.job.name
    return f"{target.job.name}, {target.resource.key}"
