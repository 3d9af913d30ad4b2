"""django-celery-beat's own pages in the same dress, with the rows' Beatkeeper jobs beside them.

Its forms, widgets and actions stay as they are, with two differences: actions ask for the
permission that they need (the stock ones let anybody run and enable who may look), and a row is
run by way of its job, so that the run has a history.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django_celery_beat import admin as stock
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    SolarSchedule,
)
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from scheduling import clock, runs
from scheduling.admin import display
from scheduling.admin.base import ChangeList, may_see_arguments
from scheduling.errors import SchedulingError
from scheduling.models import Job, Target

if TYPE_CHECKING:
    _Dress = admin.ModelAdmin[Any]

    class _InlineDress: ...

else:
    from scheduling.admin.base import ModelAdmin as _Dress
    from scheduling.admin.base import TabularInline as _InlineDress

CHANGE = "django_celery_beat.change_periodictask"
ARGUMENTS = ("args", "kwargs", "headers")

STOCK_MODELS = (
    PeriodicTask, IntervalSchedule, CrontabSchedule, ClockedSchedule, SolarSchedule,
)  # fmt: skip
for model in STOCK_MODELS:
    admin.site.unregister(model)


class TaskSelectWidget(UnfoldAdminSelectWidget, stock.TaskSelectWidget):  # type: ignore[misc]
    """The stock list of registered tasks."""


class PeriodicTaskForm(stock.PeriodicTaskForm):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Without change permission the form has no fields.
        if "task" in self.fields:
            self.fields["task"].widget = UnfoldAdminTextInputWidget()
        if "regtask" in self.fields:
            self.fields["regtask"].widget = TaskSelectWidget()


def visible(fields: Iterable[Any], request: HttpRequest, obj: Any) -> list[Any]:
    """Give those fields of rows that this person may see; all of a row that is to be made."""
    if obj is None or may_see_arguments(request) or request.user.has_perm(CHANGE):
        return list(fields)
    return [name for name in fields if name not in ARGUMENTS]


class PeriodicTaskChangeList(ChangeList):
    """Knows the job of each row on the page, and when it fires next."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        targets = Target.objects.filter(
            key="", job__periodic_task_id__in=[row.pk for row in self.result_list]
        ).select_related("job")
        by_row = {target.job.periodic_task_id: target for target in targets}
        for row in self.result_list:
            row.target = by_row.get(row.pk)


@admin.register(PeriodicTask)
class PeriodicTaskAdmin(stock.PeriodicTaskAdmin, _Dress):  # type: ignore[misc]
    form = PeriodicTaskForm
    unguessable = ARGUMENTS
    change_form_template = "scheduling/periodic_task_form.html"
    list_display = ("name_and_task", "enabled", "scheduler", "next_fire", "last_run_at", "job")
    list_display_links = ("name_and_task",)
    list_filter = ("enabled", "one_off", "task")
    list_fullwidth = True
    date_hierarchy = None

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return PeriodicTaskChangeList

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return [
            (title, {**options, "fields": fields})
            for title, options in super().get_fieldsets(request, obj)
            if (fields := visible(options["fields"], request, obj))
        ]

    @admin.display(description="periodic task", ordering="name")
    def name_and_task(self, row: Any) -> SafeString:
        return display.name_over(row.name, row.task)

    @admin.display(description="next fire")
    def next_fire(self, row: Any) -> SafeString:
        target: Target | None = getattr(row, "target", None)
        if target is None or not row.enabled:
            return display.NOTHING
        return display.moment(target.next_fire_at, clock.now())

    @admin.display(description="job")
    def job(self, row: Any) -> SafeString:
        target: Target | None = getattr(row, "target", None)
        if target is None:
            return display.NOTHING
        return display.link(display.job_url(target.job_id), "history and next fires")

    @admin.display(description="crontab in words")
    def crontab_translation(self, obj: Any) -> str:
        return "" if obj is None or obj.crontab is None else str(obj.crontab.human_readable)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        extra = dict(extra_context or {})
        if object_id.isdecimal() and request.user.has_perm("scheduling.view_job"):
            target = (
                Target.objects.select_related("job")
                .filter(key="", job__periodic_task_id=int(object_id))
                .first()
            )
            if target is not None:
                extra["target"] = target
                extra["next_fire"] = (
                    "none, its job is paused"
                    if target.job.paused_at is not None
                    else display.moment(target.next_fire_at, clock.now())
                )
                extra["job_url"] = display.job_url(target.job_id)
        return super().change_view(request, object_id, form_url, extra)

    # --- actions

    def has_run_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("scheduling.trigger_job")

    @admin.action(description="Enable selected tasks", permissions=["change"])
    def enable_tasks(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        super().enable_tasks(request, queryset)

    @admin.action(description="Disable selected tasks", permissions=["change"])
    def disable_tasks(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        super().disable_tasks(request, queryset)

    @admin.action(description="Toggle activity of selected tasks", permissions=["change"])
    def toggle_tasks(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        super().toggle_tasks(request, queryset)

    @admin.action(description="Run selected tasks", permissions=["run"])
    def run_tasks(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        jobs = {
            job.periodic_task_id: job for job in Job.objects.filter(periodic_task_id__in=queryset)
        }
        for row in queryset:
            if row.pk not in jobs:
                self.message_user(
                    request,
                    f"{row.name}: no beat has met it yet; try again in a moment",
                    messages.WARNING,
                )
                continue
            try:
                run = runs.trigger(jobs[row.pk], by=request.user.get_username(), now=clock.now())
            except SchedulingError as error:
                self.message_user(request, f"{row.name}: {error}", messages.ERROR)
                continue
            shown = display.link(display.run_url(run), "its run")
            self.message_user(
                request, format_html("{} runs now: {}", row.name, shown), messages.SUCCESS
            )


class PeriodicTaskInline(stock.PeriodicTaskInline, _InlineDress):  # type: ignore[misc]
    tab = True

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return visible(super().get_fields(request, obj), request, obj)


class ScheduleAdmin(_Dress):
    inlines = (PeriodicTaskInline,)


@admin.register(IntervalSchedule)
class IntervalScheduleAdmin(ScheduleAdmin):
    pass


@admin.register(CrontabSchedule)
class CrontabScheduleAdmin(ScheduleAdmin, stock.CrontabScheduleAdmin):  # type: ignore[misc]
    inlines = (PeriodicTaskInline,)


@admin.register(SolarSchedule)
class SolarScheduleAdmin(ScheduleAdmin):
    pass


@admin.register(ClockedSchedule)
class ClockedScheduleAdmin(ScheduleAdmin, stock.ClockedScheduleAdmin):  # type: ignore[misc]
    inlines = (PeriodicTaskInline,)
