"""The project as a Django app: no models, only its Celery app."""

from __future__ import annotations

from importlib import import_module

from django.apps import AppConfig


class ProjectConfig(AppConfig):
    name = "config"

    def ready(self) -> None:
        # Not in config/__init__.py, which the bootstrap imports before Celery is installed. Without
        # it `@shared_task` would bind to an app without settings in all processes but Celery's own.
        import_module("config.celery")
