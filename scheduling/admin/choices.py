"""What may be scheduled from the admin: registered tasks and the project's own commands."""

from __future__ import annotations

import functools

from celery import current_app
from django.core import management

# Made to be run periodically. Django's other commands administer a project (shell, flush, dbshell
# ...): from the admin they would be a way to run code.
DJANGO_COMMANDS = {"clearsessions"}
# Run by other means: Celery's internals, and the tasks that run other jobs' commands.
INTERNAL_TASKS = ("celery.", "workers.")


def registered_tasks() -> list[str]:
    current_app.loader.import_default_modules()
    return sorted(name for name in current_app.tasks if not name.startswith(INTERNAL_TASKS))


def schedulable_commands() -> list[str]:
    return sorted(
        name
        for name, app in management.get_commands().items()
        if name in DJANGO_COMMANDS
        or not (str(app).startswith("django.") or name in core_commands())
    )


@functools.cache
def core_commands() -> frozenset[str]:
    """Django's own, also where an app has put its version in front."""
    return frozenset(management.find_commands(management.__path__[0]))


def as_choices(names: list[str], *, current: str = "") -> list[tuple[str, str]]:
    """With an empty choice, and with the stored name even if it is unknown by now."""
    known = names if not current or current in names else [current, *names]
    return [("", "---------"), *((name, name) for name in known)]
