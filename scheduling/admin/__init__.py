"""The admin: the edges at which people meet jobs, runs, resources and periodic tasks."""

from __future__ import annotations

from django.contrib import admin

from scheduling.admin import (
    calendars,
    circuits,
    coverage,
    dead_letters,
    jobs,
    locks,
    notifications,
    periodic,
    resources,
    runs,
    sources,
    targets,
    users,
)

__all__ = [
    "calendars",
    "circuits",
    "coverage",
    "dead_letters",
    "jobs",
    "locks",
    "notifications",
    "periodic",
    "resources",
    "runs",
    "sources",
    "targets",
    "users",
]

admin.site.index_template = "scheduling/home.html"
admin.site.index_title = "Home"
