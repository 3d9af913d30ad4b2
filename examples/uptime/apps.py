from __future__ import annotations

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class UptimeConfig(AppConfig):
    name = "examples.uptime"
    label = "uptime"
    verbose_name = "Uptime"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from examples.uptime.watch_self import after_migrate

        # Connected after those of `scheduling`, which comes before us in INSTALLED_APPS.
        post_migrate.connect(after_migrate, dispatch_uid="uptime.watch_self")
