from __future__ import annotations

from typing import Any

from django.apps import AppConfig


class WorkersConfig(AppConfig):
    name = "workers"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from celery import signals

        from workers import (  # noqa: F401
            commands,
            dead_letters,
            handlers,
            notifications,
            pools,
            presence,
            stopping,
        )

        commands.connect()
        handlers.connect()
        dead_letters.connect()
        presence.connect()
        pools.connect()
        stopping.connect()
        # Both come after the task modules were imported and before Celery builds its tracers; the
        # second also catches tasks that other receivers of the first have registered.
        signals.celeryd_init.connect(guard_tasks)
        signals.worker_init.connect(guard_tasks)


def guard_tasks(sender: Any = None, instance: Any = None, **_: Any) -> None:
    from workers import task

    task.install((instance or sender).app)
