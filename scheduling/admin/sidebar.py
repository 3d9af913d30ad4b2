"""The navigation beside every page: only what this user may look at."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse

from scheduling.conf import conf

GROUPS: tuple[tuple[str, tuple[tuple[str, str, str, str], ...]], ...] = (
    (
        "Scheduling",
        (
            ("Jobs", "timer", "scheduling", "job"),
            ("Runs", "history", "scheduling", "run"),
            ("Targets", "target", "scheduling", "target"),
            ("Resources", "dns", "scheduling", "resource"),
            ("Coverage", "donut_large", "scheduling", "coveragecount"),
            ("Sources", "input", "scheduling", "source"),
            ("Locks", "lock", "scheduling", "seat"),
            ("Circuits", "account_tree", "scheduling", "circuit"),
            ("Holiday calendars", "beach_access", "scheduling", "calendar"),
            ("Notifications", "notifications", "scheduling", "notification"),
            ("Dead letters", "mark_email_unread", "scheduling", "deadletter"),
        ),
    ),
    (
        "Periodic tasks",
        (
            ("Periodic tasks", "event_repeat", "django_celery_beat", "periodictask"),
            ("Intervals", "avg_pace", "django_celery_beat", "intervalschedule"),
            ("Crontabs", "calendar_month", "django_celery_beat", "crontabschedule"),
            ("Clocked", "alarm", "django_celery_beat", "clockedschedule"),
            ("Solar events", "wb_twilight", "django_celery_beat", "solarschedule"),
        ),
    ),
    (
        "Accounts",
        (
            ("Users", "person", "auth", "user"),
            ("Groups", "group", "auth", "group"),
        ),
    ),
)


def flower_link(request: HttpRequest) -> str:
    """The way to Flower for those whom it lets in, else ""."""
    allowed = request.user.has_perm("scheduling.view_run_output")
    return conf.FLOWER_URL if allowed else ""


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """Unfold's SIDEBAR navigation."""
    home: list[dict[str, Any]] = [
        {"title": "Home", "icon": "space_dashboard", "link": reverse("admin:index")}
    ]
    if link := flower_link(request):
        home.append({"title": "Flower", "icon": "local_florist", "link": link})
    groups = [
        {
            "title": title,
            "separator": True,
            "items": [
                {
                    "title": name,
                    "icon": icon,
                    "link": reverse(f"admin:{app}_{model}_changelist"),
                }
                for name, icon, app, model in entries
                if request.user.has_perm(f"{app}.view_{model}")
                or request.user.has_perm(f"{app}.change_{model}")
            ],
        }
        for title, entries in GROUPS
    ]
    shown = [group for group in groups if group["items"]]
    return [{"items": home}, *shown, *_of_the_project(request)]


def _of_the_project(request: HttpRequest) -> list[dict[str, Any]]:
    """The project's own apps, as the admin's index would list them."""
    ours = {app for _, entries in GROUPS for _, _, app, _ in entries}
    return [
        {
            "title": app["name"],
            "separator": True,
            "items": [
                {"title": model["name"], "icon": "table", "link": model["admin_url"]}
                for model in app["models"]
                if model["admin_url"]
            ],
        }
        for app in admin.site.get_app_list(request)
        if app["app_label"] not in ours
    ]
