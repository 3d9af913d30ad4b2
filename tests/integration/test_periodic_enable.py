"""Enabling what was disabled: one rule, whichever way it is done.

Nothing that was missed is run, every missed fire is a skipped one, and the next fire lies ahead.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db.models import Sum
from django_celery_beat.models import PeriodicTask, PeriodicTasks

from scheduling import clock, runs
from scheduling.declarations import periodic
from scheduling.models import Job, Parked, Run, State, Target
from tests.integration.admin_pages import log_in, page
from tests.integration.cli import jobs
from tests.integration.periodic_rows import claim, cron, cursor, job, make_row

pytestmark = pytest.mark.django_db

OUTAGE = timedelta(hours=3)
MISSED = 18  # of a fire every ten minutes


def by_form(row: PeriodicTask) -> None:
    client = log_in(superuser=True)
    address = page("django_celery_beat_periodictask_change", row.pk)
    form = client.get(address).context["adminform"].form
    data = {name: "" if value is None else value for name, value in form.initial.items()}
    response = client.post(address, {**data, "regtask": "", "enabled": "on", "start_time_0": ""})
    assert response.status_code == 302, response.context["adminform"].form.errors


def by_action(name: str) -> Callable[[PeriodicTask], None]:
    def act(row: PeriodicTask) -> None:
        seen = PeriodicTasks.last_change()
        log_in(superuser=True).post(
            page("django_celery_beat_periodictask_changelist"),
            {"action": name, "_selected_action": [row.pk]},
        )
        periodic.changed_since(seen, now=clock.now())  # as the next tick does

    return act


def by_saving(row: PeriodicTask) -> None:
    row.enabled = True
    row.save()


def by_bulk_update(row: PeriodicTask) -> None:
    seen = PeriodicTasks.last_change()
    PeriodicTask.objects.filter(pk=row.pk).update(enabled=True)
    PeriodicTasks.update_changed()
    periodic.changed_since(seen, now=clock.now())


def by_command(row: PeriodicTask) -> None:
    assert jobs("resume", "--job", row.name, "--json").document() == {"changed": 1}


def by_call(row: PeriodicTask) -> None:
    assert periodic.enable_row(job(row.name), by="ann", now=clock.now())


WAYS = {
    "form": by_form,
    "enable action": by_action("enable_tasks"),
    "toggle action": by_action("toggle_tasks"),
    "save": by_saving,
    "bulk update": by_bulk_update,
    "command line": by_command,
    "call": by_call,
}


def disabled_since(outage: timedelta, *, met_by_a_beat: bool) -> PeriodicTask:
    """Make a row that has been disabled for so long, with a job that would catch up everything."""
    row = make_row(**cron(minute="*/10", hour="*"), task="tests.testapp.jobs.note")
    Job.objects.filter(periodic_task_id=row.pk).update(catch_up="all", overlap="allow")
    row.enabled = False
    row.save()
    first = cursor()
    assert first is not None
    target = Target.objects.filter(job__periodic_task_id=row.pk)
    if met_by_a_beat:
        target.update(next_fire_at=None, parked=Parked.PAUSED, parked_cursor=first - outage)
    else:
        target.update(next_fire_at=first - outage)
    return row


@pytest.mark.parametrize("met_by_a_beat", [True, False], ids=["parked", "not met yet"])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_enabling_runs_nothing_that_was_missed(
    way: Callable[[PeriodicTask], None], met_by_a_beat: bool
) -> None:
    row = disabled_since(OUTAGE, met_by_a_beat=met_by_a_beat)
    before = clock.now()
    way(row)
    row.refresh_from_db()
    assert row.enabled
    assert job().paused_at is None
    ahead = cursor()
    assert ahead is not None
    assert ahead > before
    assert claim(clock.now()) == []
    assert not Run.objects.exclude(state=State.SKIPPED).exists()
    skipped = Run.objects.filter(job=job(), reason="paused")
    assert skipped.aggregate(fires=Sum("fires"))["fires"] in (MISSED, MISSED + 1)
    # It stays so: the row and its job agree.
    assert periodic.sync_rows(None, now=clock.now()).updated == []
    assert [run.scheduled_at for run in claim(ahead)] == [ahead]


@pytest.mark.parametrize(("missed", "expected"), [("latest", 1), ("all", MISSED)])
def test_on_the_command_line_missed_fires_can_be_asked_for(missed: str, expected: int) -> None:
    row = disabled_since(OUTAGE, met_by_a_beat=True)
    assert jobs("resume", "--job", row.name, "--missed", missed).code == 0
    row.refresh_from_db()
    assert row.enabled
    made_up = Run.objects.exclude(state=State.SKIPPED).filter(job=job(), cause="catch_up")
    assert made_up.count() in (expected, expected + (missed == "all"))


def test_a_job_of_the_code_is_resumed_by_the_same_rule() -> None:
    row = disabled_since(OUTAGE, met_by_a_beat=True)
    # As if it had no row: `runs.resume` is what the admin, the API and the command line call.
    Job.objects.filter(periodic_task_id=row.pk).update(periodic_task_id=None)
    assert runs.resume(job(), by="ann", now=clock.now())
    ahead = cursor()
    assert ahead is not None
    assert ahead > clock.now()
    assert not Run.objects.exclude(state=State.SKIPPED).exists()
