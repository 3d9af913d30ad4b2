"""The Django app: checks, receivers, and the sync after migrations."""

from __future__ import annotations

from typing import Any

from celery.signals import import_modules
from django.apps import AppConfig, apps
from django.core.exceptions import ImproperlyConfigured
from django.db.models.signals import post_migrate


class SchedulingConfig(AppConfig):
    name = "scheduling"
    verbose_name = "Jobs"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        if not apps.is_installed("django_celery_beat"):
            raise ImproperlyConfigured(
                "Beatkeeper follows django-celery-beat's tables; "
                "add 'django_celery_beat' to INSTALLED_APPS"
            )
        from scheduling import checks
        from scheduling.declarations import receivers
        from scheduling.sync import after_migrate

        checks.register()
        receivers.connect()
        post_migrate.connect(after_migrate, dispatch_uid="scheduling.after_migrate")
        # Sent when a worker or a beat starts: from then on it knows every job's hooks.
        import_modules.connect(
            _load_declarations, weak=False, dispatch_uid="scheduling.load_declarations"
        )


def _load_declarations(**kwargs: Any) -> None:
    from scheduling import declarations

    declarations.load()
