"""Edits of jobs with many targets: the job's row at once, the targets in batches, none twice."""

from __future__ import annotations

from datetime import datetime, timedelta
from unittest.mock import Mock

import pytest
from celery.app import app_or_default
from django.db import connection
from django.test.utils import CaptureQueriesContext

from scheduling import clock, runs, sync
from scheduling.beat import Scheduler
from scheduling.models import (
    Calendar,
    Edit,
    Parked,
    Reason,
    Run,
    ScheduleStretch,
    State,
    Target,
)
from scheduling.runs import edits, moving
from tests.factories import NOW, make_job, make_run, make_target
from tests.integration.accounts import accounted_for
from tests.integration.fed_jobs import fed_job, pooled
from tests.integration.many_targets import (
    BATCH,
    HOUR,
    MINUTE,
    SECOND,
    cursors,
    follow_all,
    in_small_batches,
    job_of_many,
    one_of,
    parked,
)
from tests.integration.rivals import needs_row_locks, side_by_side

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    in_small_batches(monkeypatch)


class TestFewTargets:
    def test_they_follow_at_once(self) -> None:
        job = job_of_many(BATCH)
        runs.reschedule(job, schedule="every 1h", now=NOW + SECOND)
        assert cursors(job) == {NOW + HOUR}
        runs.retire(job, now=NOW + MINUTE)
        assert parked(job) == {Parked.RETIRED}
        runs.revive(job, now=NOW + 2 * HOUR)
        assert cursors(job) == {NOW + 3 * HOUR}
        assert not Edit.objects.exists()

    def test_an_edit_while_another_is_under_way_takes_its_turn(self) -> None:
        job = job_of_many()
        runs.reschedule(job, schedule="every 1h", now=NOW + SECOND)
        Target.objects.filter(pk__in=list(Target.objects.values_list("pk", flat=True)[:6])).delete()
        runs.reschedule(job, schedule="every 2h", now=NOW + 2 * SECOND)
        assert Edit.objects.count() == 2
        follow_all(NOW + MINUTE)
        assert cursors(job) == {NOW + 2 * HOUR}


class TestManyTargets:
    def test_the_edit_writes_the_job_and_touches_no_target(self) -> None:
        job = job_of_many()
        before = cursors(job)
        runs.reschedule(job, schedule="every 1h", now=NOW + SECOND)
        assert (job.schedule, job.schedule_version) == ("every 1h", 2)
        assert cursors(job) == before
        assert Edit.objects.get().schedule == "every 1m"

    def test_ticks_move_them_a_batch_at_a_time(self) -> None:
        job = job_of_many()
        runs.reschedule(job, schedule="every 1h", now=NOW + SECOND)
        assert follow_all(NOW + MINUTE) == [3, 3, 1]
        assert cursors(job) == {NOW + HOUR}
        assert set(job.targets.values_list("schedule_version", flat=True)) == {2}
        assert not Edit.objects.exists()

    def test_what_the_old_schedule_owed_up_to_the_edit_is_settled_and_no_more(self) -> None:
        job = job_of_many()
        runs.reschedule(job, schedule="every 1h", now=NOW + 5 * MINUTE + SECOND)
        follow_all(NOW + 30 * MINUTE)
        for target in Target.objects.filter(job=job):
            assert Run.objects.filter(target=target).count() == 5
            accounted_for(target)

    def test_a_late_move_owes_the_fires_of_the_new_schedule(self) -> None:
        job = job_of_many(schedule="every 1h")
        runs.reschedule(job, schedule="every 1m", now=NOW + HOUR)
        follow_all(NOW + HOUR + 5 * MINUTE)
        assert cursors(job) == {NOW + HOUR + MINUTE}
        runs.claim(now=NOW + HOUR + 5 * MINUTE, limit=10)
        for target in Target.objects.filter(job=job):
            assert Run.objects.filter(target=target).count() == 6
            accounted_for(target)

    def test_edits_in_quick_succession_end_in_the_last_and_each_has_its_time(self) -> None:
        job = job_of_many()
        runs.reschedule(job, schedule="every 90s", now=NOW + 2 * MINUTE)
        runs.follow_edits(now=NOW + 2 * MINUTE)
        runs.reschedule(job, schedule="every 30s", now=NOW + 4 * MINUTE)
        runs.follow_edits(now=NOW + 4 * MINUTE)
        runs.reschedule(job, schedule="every 1m", now=NOW + 5 * MINUTE)
        follow_all(NOW + 9 * MINUTE)
        assert cursors(job) == {NOW + 6 * MINUTE}
        for target in Target.objects.filter(job=job):
            said = ScheduleStretch.objects.filter(target=target).order_by("pk")
            assert list(said.values_list("schedule", flat=True)) == [
                "every 1m",
                "every 90s",
                "every 30s",
                "every 1m",
            ]
            accounted_for(target)
            # 2 by the first, 1 by the second, 2 by the third
            assert Run.objects.filter(target=target).count() == 5

    def test_a_retirement_skips_what_is_queued(self) -> None:
        job = job_of_many()
        run = make_run(one_of(job))
        assert runs.retire(job, now=NOW + SECOND)
        assert not runs.retire(job, now=NOW + SECOND)
        follow_all(NOW + SECOND)
        run.refresh_from_db()
        assert (run.state, run.reason) == (State.SKIPPED, Reason.RETIRED)
        assert parked(job) == {Parked.RETIRED}
        assert cursors(job) == {None}

    def test_a_batch_ends_no_more_queued_runs_than_it_may(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(edits, "MOST_QUEUED", 4)
        job = job_of_many(4)
        for target in Target.objects.filter(job=job):
            for number in range(3):
                make_run(target, scheduled_at=NOW + number * SECOND)
        runs.retire(job, now=NOW + SECOND)
        assert follow_all(NOW + SECOND) == [1, 1, 1, 1]
        assert not Run.objects.queued().exists()

    def test_who_is_revived_before_its_retirement_came_to_it_goes_on(self) -> None:
        job = job_of_many()
        before, since = make_run(one_of(job)), make_run(one_of(job), scheduled_at=NOW + MINUTE)
        runs.retire(job, now=NOW + SECOND)
        assert runs.revive(job, now=NOW + 30 * SECOND)
        follow_all(NOW + MINUTE)
        assert cursors(job) == {NOW + MINUTE}
        before.refresh_from_db()
        since.refresh_from_db()
        assert (before.reason, since.state) == (Reason.RETIRED, State.QUEUED)
        for target in Target.objects.filter(job=job):
            accounted_for(target)

    def test_a_revival_gives_them_their_cursors_back(self) -> None:
        job = job_of_many()
        runs.retire(job, now=NOW + SECOND)
        follow_all(NOW + SECOND)
        runs.revive(job, now=NOW + HOUR)
        assert parked(job) == {Parked.RETIRED}
        follow_all(NOW + HOUR)
        assert cursors(job) == {NOW + HOUR + MINUTE}

    def test_they_follow_an_edit_of_their_calendar(self) -> None:
        calendar = Calendar.objects.create(name="days")
        job = job_of_many(schedule="every 1h", calendar=calendar)
        runs.change_calendar(calendar, days="2026-01-05", now=NOW + 90 * MINUTE)
        assert cursors(job) == {NOW + HOUR}
        follow_all(NOW + 3 * HOUR)
        assert cursors(job) == {datetime(2026, 1, 6, tzinfo=NOW.tzinfo)}
        # 13:00 is owed by the old days, 14:00 is off
        assert Run.objects.count() == 7

    def test_targets_of_a_fed_job_that_are_picked_stay_where_they_are(self) -> None:
        job = fed_job()
        targets = pooled(job, 7)
        run = make_run(targets[0], feed_at=NOW, publish_at=None)
        runs.retire(job, now=NOW)
        assert not Edit.objects.exists()
        run.refresh_from_db()
        assert run.reason == Reason.RETIRED
        assert Target.objects.filter(parked="", eligible_since__isnull=False).count() == 6

    def test_targets_of_a_fed_job_follow_another_least_distance(self) -> None:
        job = fed_job()
        pooled(job, 7, observed_at=NOW, last_state=State.SUCCEEDED, last_outcome="unchanged")
        runs.reschedule(job, schedule="adaptive 5d between 1d and 9d factor 2", now=NOW)
        assert follow_all(NOW) == [3, 3, 1]
        assert Target.objects.filter(eligible_at__gt=NOW + timedelta(days=4)).count() == 7

    def test_the_number_of_statements_does_not_grow_with_the_batch(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        counts = []
        for number in (4, 12):
            job = job_of_many(number)
            with CaptureQueriesContext(connection) as asked:
                runs.reschedule(job, schedule="every 1h", now=NOW + MINUTE)
                counts.append(len(asked))
            monkeypatch.setattr(edits, "BATCH", number)
            with CaptureQueriesContext(connection) as asked:
                assert runs.follow_edits(now=NOW + MINUTE) == number
                counts.append(len(asked))
            monkeypatch.setattr(edits, "BATCH", BATCH)
            follow_all(NOW + MINUTE)
        assert counts[:2] == counts[2:]


class TestCrashes:
    def test_a_batch_that_dies_is_done_again_as_a_whole(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = job_of_many()
        runs.reschedule(job, schedule="every 1h", now=NOW + 3 * MINUTE)
        runs.follow_edits(now=NOW + 3 * MINUTE)
        with monkeypatch.context() as patched:
            patched.setattr(moving, "restart", Mock(side_effect=OSError("gone")))
            with pytest.raises(OSError, match="gone"):
                runs.follow_edits(now=NOW + 3 * MINUTE)
        assert follow_all(NOW + 4 * MINUTE) == [3, 1]
        for target in Target.objects.filter(job=job):
            assert Run.objects.filter(target=target).count() == 3
            accounted_for(target)

    def test_who_was_passed_over_is_found_again(self) -> None:
        job = job_of_many()
        runs.reschedule(job, schedule="every 1h", now=NOW + SECOND)
        last = one_of(job)
        Edit.objects.update(moved_up_to=last.pk)
        assert follow_all(NOW + MINUTE) == []
        assert follow_all(NOW + MINUTE) == [3, 3, 1]

    def test_targets_of_an_older_release_need_no_move(self) -> None:
        job = make_job(schedule="every 1m", schedule_version=5)
        target = make_target(job, next_fire_at=NOW)
        assert len(runs.claim(now=NOW, limit=10).runs) == 1
        target.refresh_from_db()
        assert (target.next_fire_at, target.schedule_version) == (NOW + MINUTE, 5)


@pytest.mark.django_db(transaction=True)
def test_a_tick_moves_them() -> None:
    job = job_of_many(schedule="every 1h")
    now = clock.now()
    runs.reschedule(job, schedule="every 2d", now=now)
    Scheduler(app_or_default(), lazy=True)._pass()
    assert not Edit.objects.exists()


def test_a_sync_retires_and_puts_back_in_batches() -> None:
    job = job_of_many(declared_in="function")
    sync.sync(now=NOW + SECOND)
    job.refresh_from_db()
    assert job.retired_at == NOW + SECOND
    assert parked(job) == {""}
    follow_all(NOW + SECOND)
    assert parked(job) == {Parked.RETIRED}


@needs_row_locks
@pytest.mark.django_db(transaction=True)
def test_ticks_and_claims_side_by_side_move_each_target_once() -> None:
    job = job_of_many(20)
    runs.reschedule(job, schedule="every 90s", now=NOW + 3 * MINUTE)

    def claim() -> None:
        while runs.claim(now=NOW + 3 * MINUTE, limit=4).targets:
            pass

    def follow() -> None:
        follow_all(NOW + 3 * MINUTE)

    side_by_side(follow, claim, follow, claim)
    follow_all(NOW + 3 * MINUTE)
    follow_all(NOW + 3 * MINUTE)
    assert not Edit.objects.exists()
    for target in Target.objects.filter(job=job):
        assert Run.objects.filter(target=target).count() == 3
        accounted_for(target)


@needs_row_locks
@pytest.mark.django_db(transaction=True)
def test_a_tick_passes_over_a_target_that_somebody_holds() -> None:
    job = job_of_many()
    runs.reschedule(job, schedule="every 1h", now=NOW + SECOND)
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("SELECT 1 FROM scheduling_target WHERE id = %s FOR UPDATE", [one_of(job).pk])
        side_by_side(lambda: follow_all(NOW + SECOND))
        cursor.execute("COMMIT")
    assert cursors(job) == {NOW + HOUR, NOW + MINUTE}
    assert follow_all(NOW + SECOND) == []
    assert follow_all(NOW + SECOND) == [1]
