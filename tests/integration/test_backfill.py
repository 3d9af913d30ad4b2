"""Backfill: the fires of a past range, run because somebody asks for it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from scheduling import runs
from scheduling.errors import InvalidBackfill, JobRetired, UnknownTarget
from scheduling.models import Calendar, Job, Reason, Run, State, Target
from scheduling.policies import Overlap
from scheduling.runs import Backfill, Result
from tests.factories import NOW, make_job, make_run, make_target

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def daily(**fields: Any) -> Job:
    job = make_job(**{"schedule": "cron 0 3 * * *", **fields})
    make_target(job, next_fire_at=NOW + DAY)
    return job


def backfill(job: Job, *, days: int = 3, **options: Any) -> Backfill:
    return runs.backfill(job, after=NOW - days * DAY, until=NOW, by="ann", now=NOW, **options)


def rows(made: Backfill) -> list[Run]:
    return list(Run.objects.filter(backfill=made.id).order_by("scheduled_at"))


def work(run: Run, *, state: State = State.SUCCEEDED) -> bool:
    """Start and end a run, as a worker does; False if it may not start."""
    started = runs.start(run.pk, 1, worker="w", now=NOW)
    if started is None:
        return False
    return runs.finish(run.pk, 1, token=started.token, result=Result(state=state), now=NOW)


def three(hour: int = 3) -> list[datetime]:
    return [NOW.replace(day=day, hour=hour) for day in (3, 4, 5)]


def test_each_fire_of_the_range_gets_a_run_with_its_own_time() -> None:
    job = daily()

    made = backfill(job)

    assert made.fires == three()
    assert made.created == 3
    assert [run.scheduled_at for run in rows(made)] == three()
    assert {(run.cause, run.state, run.requested_by) for run in rows(made)} == {
        ("backfill", "queued", "ann")
    }
    assert Target.objects.get(job=job).next_fire_at == NOW + DAY  # the schedule does not move


def test_the_range_is_open_below_and_closed_above() -> None:
    job = daily()
    first, last = NOW.replace(day=3, hour=3), NOW.replace(day=5, hour=3)

    found = runs.backfill_fires(job, after=first, until=last, now=NOW)

    assert found == three()[1:]


def test_a_dry_run_lists_the_dates_and_writes_nothing() -> None:
    job = daily()

    found = runs.backfill_fires(job, after=NOW - 3 * DAY, until=NOW, newest_first=True, now=NOW)

    assert found == three()[::-1]
    assert not Run.objects.exists()


def test_they_run_one_after_another_oldest_first() -> None:
    made = backfill(daily())
    first, second, third = rows(made)

    assert not work(third)
    assert not work(second)
    assert work(first, state=State.FAILED)  # the next does not depend on how it ended
    assert work(second)
    assert work(third)


def test_newest_first_turns_the_line_around() -> None:
    made = backfill(daily(), newest_first=True)
    first, second, third = rows(made)

    assert made.fires == three()[::-1]
    assert [run.waiting_on for run in (third, second, first)] == [None, third, second]


def test_so_many_are_ready_at_once_and_no_more() -> None:
    made = backfill(daily(overlap="allow"), days=5, max_open=2, overlap=Overlap.ALLOW)
    line = rows(made)

    assert [run.waiting_on for run in line] == [None, None, line[0], line[1], line[2]]
    assert runs.start(line[0].pk, 1, worker="w", now=NOW) is not None
    assert work(line[1])
    assert runs.start(line[3].pk, 1, worker="w", now=NOW) is not None
    assert runs.start(line[2].pk, 1, worker="w", now=NOW) is None


def test_a_skipped_fire_can_be_made_up_for() -> None:
    job = daily()
    make_run(
        Target.objects.get(job=job),
        cause="schedule",
        state=State.SKIPPED,
        reason=Reason.LATE,
        scheduled_at=three()[1],
        ended_at=NOW,
    )

    assert backfill(job).created == 3


def test_only_what_is_missing_leaves_out_what_was_made_good() -> None:
    job = daily()
    target = Target.objects.get(job=job)
    for fire, state in zip(three(), (State.SUCCEEDED, State.FAILED, State.QUEUED), strict=True):
        make_run(target, cause="schedule", state=state, scheduled_at=fire)

    assert backfill(job, missing_only=True).fires == three()[1:2]


def test_asking_twice_gives_two_backfills() -> None:
    job = daily()

    assert backfill(job).id != backfill(job).id
    assert Run.objects.count() == 6


def test_all_targets_or_one() -> None:
    job = make_job(schedule="cron 0 3 * * *")
    for key in ("b", "a"):
        make_target(job, key)

    made = backfill(job)
    assert [run.key for run in Run.objects.filter(backfill=made.id).order_by("scheduled_at", "key")]
    assert made.created == 6
    assert made.fires == sorted(three() * 2)
    assert backfill(job, key="a").created == 3
    with pytest.raises(UnknownTarget, match="'c'"):
        backfill(job, key="c")


def test_a_paused_job_can_be_backfilled() -> None:
    job = daily()
    runs.pause(job, by="ann", reason="", now=NOW - HOUR)

    made = backfill(job)

    assert work(rows(made)[0])


def test_days_off_are_no_fires() -> None:
    calendar = Calendar.objects.create(name="bank", days="2026-01-04")

    assert backfill(daily(calendar=calendar)).fires == [three()[0], three()[2]]


@pytest.mark.parametrize("overlap", [Overlap.CANCEL, Overlap.TERMINATE])
def test_it_can_take_the_place_of_what_runs(overlap: Overlap) -> None:
    job = daily()
    running = runs.trigger(job, by="bob", now=NOW)
    assert runs.start(running.pk, 1, worker="w", now=NOW) is not None

    made = backfill(job, overlap=overlap)

    assert made.created == 3
    assert runs.stop_requests([running.pk]) == {running.pk: overlap is Overlap.TERMINATE}
    assert not work(rows(made)[0])


def test_it_can_give_way_to_what_is_open() -> None:
    job = daily()
    runs.trigger(job, by="bob", now=NOW)

    made = backfill(job, overlap=Overlap.SKIP)

    [skipped] = rows(made)
    assert made.created == 0
    assert (skipped.state, skipped.reason, skipped.fires) == (State.SKIPPED, Reason.OVERLAP, 3)


def test_a_whole_backfill_can_be_cancelled() -> None:
    job = daily()
    made = backfill(job)
    first = rows(made)[0]
    assert runs.start(first.pk, 1, worker="w", now=NOW) is not None

    assert runs.cancel_backfill(made.id, by="ann", now=NOW) == 3

    assert [run.state for run in rows(made)] == [State.RUNNING, State.SKIPPED, State.SKIPPED]
    assert runs.stop_requests([first.pk]) == {first.pk: False}


@pytest.mark.parametrize(
    ("fields", "options", "message"),
    [
        ({}, {"days": 0}, "is no range"),
        ({"schedule": "manual"}, {}, "names no fire times"),
        ({"schedule": "every 5m after end"}, {}, "names no fire times"),
        ({"schedule": "every 1s"}, {}, "More than 10000 runs"),
        ({}, {"max_open": 0}, "At most 0 runs"),
    ],
)
def test_what_cannot_be_backfilled_is_refused(
    fields: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidBackfill, match=message):
        backfill(daily(**fields), **options)
    assert not Run.objects.exists()


def test_the_future_needs_no_backfill() -> None:
    with pytest.raises(InvalidBackfill, match="lies ahead"):
        runs.backfill_fires(daily(), after=NOW, until=NOW + DAY, now=NOW)


def test_a_retired_job_cannot_be_backfilled() -> None:
    with pytest.raises(JobRetired):
        backfill(daily(retired_at=NOW))
