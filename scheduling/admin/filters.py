"""The filters of the lists of jobs, runs and targets."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import HttpRequest
from unfold.contrib.filters.admin import AutocompleteSelectFilter

from scheduling import clock, ledger
from scheduling.admin.base import M, is_id
from scheduling.models import Job, Run, Target


def held(queryset: QuerySet[M], *scopes: str) -> QuerySet[M]:
    """Those that a pause holds: one of everything, or of a scope, given as a lookup's beginning."""
    now = clock.now()
    if ledger.everything_paused(now):
        return queryset
    paused = Q()
    for scope in scopes:
        unended = Q(**{f"{scope}paused_until": None}) | Q(**{f"{scope}paused_until__gt": now})
        paused |= unended & Q(**{f"{scope}paused_at__isnull": False})
    return queryset.filter(paused)


class StateFilter(admin.SimpleListFilter):
    """Retired jobs are shown only when they are asked for."""

    title = "state"
    parameter_name = "standing"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("failing", "failing"),
            ("running", "running"),
            ("paused", "paused"),
            ("broken", "schedule cannot be read"),
            ("overridden", "overridden"),
            ("retired", "retired"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Job]) -> QuerySet[Job]:
        value = self.value()
        if value == "retired":
            return queryset.filter(retired_at__isnull=False)
        queryset = queryset.filter(retired_at__isnull=True)
        of_job = Target.objects.filter(job=OuterRef("pk"), retired_at__isnull=True)
        match value:
            case "failing":
                return queryset.filter(Exists(of_job.filter(failing_since__isnull=False)))
            case "running":
                running = Run.objects.running().filter(job=OuterRef("pk"))
                return queryset.filter(Exists(running))
            case "paused":
                return held(queryset, "", "circuit__")
            case "broken":
                return queryset.exclude(schedule_error="")
            case "overridden":
                return queryset.exclude(overrides={})
        return queryset


class JobFilter(AutocompleteSelectFilter):  # type: ignore[misc]
    """Runs and targets of one job, found by typing its name."""

    def __init__(self, field: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(field, *args, **kwargs)
        if not all(is_id(field.target_field, asked) for asked in self.lookup_val or ()):
            raise IncorrectLookupParameters


class QueueFilter(admin.SimpleListFilter):
    title = "queue"
    parameter_name = "queue"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        named = Job.objects.active().filter(options__has_key="queue")
        names = sorted(
            {str(name) for name in named.values_list("options__queue", flat=True) if name}
        )
        return [("-", "the default"), *((name, name) for name in names)] if names else []

    def queryset(self, request: HttpRequest, queryset: QuerySet[Job]) -> QuerySet[Job]:
        match self.value():
            case None:
                return queryset
            case "-":
                return queryset.exclude(options__has_key="queue")
            case name:
                return queryset.filter(options__queue=name)
