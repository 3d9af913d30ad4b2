"""django-celery-beat's rows: they fire, follow their edits, and go back to the stock scheduler."""

from __future__ import annotations

import logging
from datetime import timedelta
from itertools import pairwise

import pytest
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask, PeriodicTasks

from scheduling.models import Job, Run, Target
from tests.acceptance.rig import Rig, now
from tests.waiting import wait_for

logger = logging.getLogger(__name__)
pytestmark = pytest.mark.acceptance

STOCK = "django_celery_beat.schedulers:DatabaseScheduler"
# Seconds, as promised.
AN_EDIT = 1.0


def add_row(name: str, **fields: object) -> PeriodicTask:
    return PeriodicTask.objects.create(
        name=name, task="tests.testapp.jobs.plain", args=f'["{name}"]', **fields
    )


def every(seconds: int) -> IntervalSchedule:
    return IntervalSchedule.objects.create(every=seconds, period=IntervalSchedule.SECONDS)


def target_of(row: PeriodicTask) -> Target:
    return Target.objects.select_related("job").get(job__periodic_task_id=row.pk)


def wait_for_target(row: PeriodicTask) -> Target:
    wait_for(
        lambda: Target.objects.filter(
            job__periodic_task_id=row.pk, next_fire_at__isnull=False
        ).exists(),
        timeout=30,
        message=f"{row.name} has a next fire",
    )
    return target_of(row)


def test_rows_fire_on_time_and_leave_history(rig: Rig) -> None:
    rig.beat()
    rig.worker()
    interval = add_row("interval", interval=every(2))
    crontab = add_row("crontab", crontab=CrontabSchedule.objects.create())  # every minute
    wait_for_target(interval)
    first = wait_for_target(crontab).next_fire_at
    assert first is not None
    assert (first.second, first.microsecond) == (0, 0)
    wait_for(lambda: len(rig.lines("end", "interval")) >= 3, timeout=30, message="three fires")
    history = Run.objects.filter(job__periodic_task_id=interval.pk, state="succeeded")
    times = sorted(history.values_list("scheduled_at", flat=True))
    assert {later - earlier for earlier, later in pairwise(times)} == {timedelta(seconds=2)}
    for run in history:
        assert run.started_at is not None
        assert run.started_at - run.scheduled_at < timedelta(seconds=2)
    wait_for(lambda: rig.lines("end", "crontab"), timeout=70, message="the crontab fires")
    wait_for(
        lambda: Run.objects.filter(
            job__periodic_task_id=crontab.pk, state="succeeded", scheduled_at=first
        ).exists(),
        message="the crontab's fire is in the history",
    )
    crontab.refresh_from_db()
    assert crontab.last_run_at is not None
    assert crontab.last_run_at >= first
    assert crontab.total_run_count == 1
    rig.check_oracle_of_foreign()


def test_edits_are_followed_within_a_second(rig: Rig) -> None:
    rig.beat()
    one = add_row("one", interval=every(3600))
    shared = CrontabSchedule.objects.create(minute="0", hour="3")
    two, three = add_row("two", crontab=shared), add_row("three", crontab=shared)
    for row in (one, two, three):
        wait_for_target(row)
    took: dict[str, timedelta] = {}

    def followed(what: str, row: PeriodicTask, condition: object) -> None:
        began = now()
        wait_for(
            lambda: condition(target_of(row)),  # type: ignore[operator]
            timeout=10,
            message=lambda: f"{what}: {target_of(row).job.schedule} {target_of(row).next_fire_at}",
        )
        took[what] = now() - began

    def soon(target: Target) -> bool:
        return target.next_fire_at is not None and target.next_fire_at < now() + timedelta(hours=1)

    one.interval = every(1800)
    one.save()
    followed("save", one, lambda target: soon(target) and "30m" in target.job.schedule)

    other = every(600)
    PeriodicTask.objects.filter(pk=one.pk).update(interval=other)
    PeriodicTasks.update_changed()
    followed("bulk update", one, lambda target: soon(target) and "10m" in target.job.schedule)

    shared.hour, shared.minute = "*", "*/5"
    shared.save()
    followed("shared crontab", two, soon)
    followed("shared crontab, second row", three, soon)

    two.enabled = False
    two.save()
    followed("disabled", two, lambda target: target.job.is_paused(now()))

    three.delete()
    began = now()
    wait_for(
        lambda: Job.objects.get(name="three").retired_at is not None,
        timeout=10,
        message="a deleted row is retired",
    )
    took["deleted"] = now() - began
    logger.info("Edits were followed after %s", {what: str(span) for what, span in took.items()})
    assert {what for what, span in took.items() if span.total_seconds() > AN_EDIT} == set()


def test_the_stock_scheduler_takes_over_and_gives_back_without_a_storm(rig: Rig) -> None:
    seconds = 6
    rig.worker()
    beat = rig.beat("ours")
    row = add_row("interval", interval=every(seconds))

    def fires() -> int:
        return len(rig.lines("end", "interval"))

    for name, scheduler in (("ours", ""), ("stock", STOCK), ("ours again", "")):
        if scheduler or name != "ours":
            # Right after a fire there is time for a handover.
            beat.stop()
            beat = rig.beat(name.replace(" ", "-"), scheduler=scheduler)
        seen = fires()
        wait_for(lambda: fires() >= seen + 2, timeout=40, message=f"{name}: two fires")  # noqa: B023
    moments = [line.at for line in rig.lines("start", "interval")]
    gaps = [later - earlier for earlier, later in pairwise(moments)]
    logger.info("Seconds between fires: %s", gaps)
    assert min(gaps) > seconds - 1.5, "something was repeated"
    assert max(gaps) < seconds + 1.5, "something was lost"
    row.refresh_from_db()
    assert row.total_run_count == len(moments)
    rig.check_oracle_of_foreign()


def test_an_entry_in_the_settings_and_a_row_of_its_name_are_one_job(rig: Rig) -> None:
    rig.environ["JOBS_TEST_ENTRIES"] = "both=3600"
    rig.manage("migrate", "--verbosity", "0")
    rig.beat()
    rig.worker()
    row = add_row("both", interval=every(2))
    wait_for(lambda: len(rig.lines("end", "both")) >= 4, timeout=40, message="four fires")
    row.refresh_from_db()
    assert Job.objects.filter(name="both").count() == 1
    moments = [line.at for line in rig.lines("start", "both")]
    assert min(later - earlier for earlier, later in pairwise(moments)) > 1
    times = list(Run.objects.filter(name="both").values_list("scheduled_at", flat=True))
    assert len(times) == len(set(times))
