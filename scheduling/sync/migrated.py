"""The sync after `manage.py migrate`."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig, apps
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.migrations.executor import MigrationExecutor

from scheduling import clock
from scheduling.sync.engine import SyncResult, sync

OURS = ("scheduling", "django_celery_beat")


def after_migrate(
    sender: AppConfig, verbosity: int = 1, using: str = DEFAULT_DB_ALIAS, **kwargs: Any
) -> None:
    """Sync once, when the last app has been migrated: declarations may need any app's tables."""
    with_models = [app for app in apps.get_app_configs() if app.models_module is not None]
    if sender.name != with_models[-1].name or using != DEFAULT_DB_ALIAS:
        return
    if _is_behind(using):
        _say(
            "Jobs are not synced: the tables of scheduling are not migrated to this code yet.",
            verbosity,
        )
        return
    _report(sync(now=clock.sample(), by="migrate"), verbosity)


def _is_behind(using: str) -> bool:
    """Whether our tables are missing, or older than the models."""
    executor = MigrationExecutor(connections[using])
    leaves = [node for app in OURS for node in executor.loader.graph.leaf_nodes(app)]
    return bool(executor.migration_plan(leaves))


def _report(result: SyncResult, verbosity: int) -> None:
    for outcome in ("created", "updated", "retired"):
        if names := getattr(result, outcome):
            _say(f"Jobs {outcome}: {', '.join(names)}", verbosity)
    for name, lines in result.diff.items():
        for line in lines:
            _say(f"  {name}: {line}", verbosity)
    for problem in result.problems:
        _say(f"Problem: {problem}", max(verbosity, 1))


def _say(line: str, verbosity: int) -> None:
    if verbosity >= 1:
        print(line)  # noqa: T201 - as `migrate` itself does
