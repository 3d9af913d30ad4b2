"""The admin: the edges at which people meet jobs, runs, resources and periodic tasks."""

from __future__ import annotations

from django.contrib import admin

from scheduling.admin import (
    calendars,
    circuits,
    dead_letters,
    jobs,
    locks,
    notifications,
    periodic,
    resources,
    runs,
    users,
)

__all__ = [
    "calendars",
    "circuits",
    "dead_letters",
    "jobs",
    "locks",
    "notifications",
    "periodic",
    "resources",
    "runs",
    "users",
]

admin.site.index_template = "scheduling/home.html"
admin.site.index_title = "Home"
