"""A backup of the rows of a test, to be restored when more has happened; and what happens."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.apps import apps
from django.core import serializers
from django.db import connection
from django.db.models import Model

from scheduling import runs
from scheduling.models import Run, State
from tests.factories import NOW

APPS = ("scheduling", "django_celery_beat")


class Backup:
    """All rows of Beatkeeper and django-celery-beat, as they are now."""

    def __init__(self) -> None:
        self._rows = {
            model: serializers.serialize("python", model._base_manager.all())
            for model in self.models()
        }

    @staticmethod
    def models() -> list[type[Model]]:
        return [model for app in APPS for model in apps.get_app_config(app).get_models()]

    def restore(self) -> None:
        with connection.constraint_checks_disabled():
            for model in reversed(self.models()):
                model._base_manager.all()._raw_delete("default")
            for model, rows in self._rows.items():
                found = [each.object for each in serializers.deserialize("python", rows)]
                model._base_manager.bulk_create(found)


def beat(
    until: datetime, *, every: timedelta = timedelta(minutes=1), since: datetime = NOW
) -> None:
    """Claim as a beat that ticks at an interval, and end each run at once."""
    now = since
    while now <= until:
        for run in runs.claim(now=now, limit=100).runs:
            end(run, now)
        now += every


def end(run: Run, now: datetime) -> None:
    started = runs.start(run.pk, 1, worker="w", now=now)
    assert isinstance(started, runs.Started)
    result = runs.Result(state=State.SUCCEEDED)
    assert runs.finish(run.pk, 1, token=started.run.token, result=result, now=now)
