"""When a target begins, and the columns that say more than the schedule's text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from scheduling import runs
from scheduling.errors import InvalidCalendar, InvalidSchedule
from scheduling.models import Calendar, Run, ScheduleStretch, State, Target
from scheduling.runs.moving import first_run_of
from tests.factories import NOW, make_job

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


class TestFirstRun:
    def test_next_is_the_next_fire_and_nothing_before(self) -> None:
        target = runs.adopt(make_job(schedule="every 1h"), now=NOW)

        assert target.next_fire_at == NOW + HOUR
        assert not Run.objects.exists()

    def test_now_is_one_run_that_moves_no_fire(self) -> None:
        target = runs.adopt(make_job(schedule="every 1h", first_run="now"), now=NOW)

        run = Run.objects.get()
        assert (run.cause, run.scheduled_at, run.ready_at) == ("manual", NOW, NOW)
        assert target.next_fire_at == NOW + HOUR

    def test_a_time_is_one_run_then_and_no_fire_before_it(self) -> None:
        at = NOW + 3 * HOUR + timedelta(minutes=10)
        job = make_job(schedule="every 1h", first_run=at.isoformat())

        target = runs.adopt(job, now=NOW)

        run = Run.objects.get()
        assert (run.scheduled_at, run.ready_at, run.publish_at) == (at, at, at)
        assert runs.start(run.pk, 1, worker="w", now=at - timedelta(seconds=1)) is None
        assert runs.start(run.pk, 1, worker="w", now=at) is not None
        assert target.next_fire_at == NOW + 4 * HOUR

    def test_a_time_that_has_passed_is_the_next_fire(self) -> None:
        job = make_job(schedule="every 1h", first_run=(NOW - DAY).isoformat())

        target = runs.adopt(job, now=NOW)

        assert not Run.objects.exists()
        assert target.next_fire_at == NOW + HOUR

    def test_of_a_manual_job_it_is_the_only_one(self) -> None:
        target = runs.adopt(make_job(first_run=(NOW + DAY).isoformat()), now=NOW)

        assert Run.objects.get().ready_at == NOW + DAY
        assert target.next_fire_at is None

    def test_what_cannot_be_read_is_next(self) -> None:
        assert first_run_of(make_job(first_run="soon")) == "next"


def adopted(**fields: Any) -> Target:
    return runs.adopt(make_job(**fields), now=NOW)


class TestDaysOff:
    def test_the_first_fire_is_on_a_working_day(self) -> None:
        bank = Calendar.objects.create(name="bank", days="2026-01-06 Epiphany\n01-07")

        target = adopted(schedule="cron 0 3 * * *", calendar=bank)

        assert target.next_fire_at == datetime(2026, 1, 8, 3, tzinfo=UTC)

    def test_a_claim_steps_over_them_and_they_are_no_skips(self) -> None:
        bank = Calendar.objects.create(name="bank", days="2026-01-07")
        target = adopted(schedule="cron 0 3 * * *", calendar=bank)

        runs.claim(now=datetime(2026, 1, 6, 3, tzinfo=UTC), limit=10)

        target.refresh_from_db()
        assert target.next_fire_at == datetime(2026, 1, 8, 3, tzinfo=UTC)
        assert Run.objects.get().state == State.QUEUED

    def test_a_day_begins_where_the_calendar_says(self) -> None:
        bank = Calendar.objects.create(name="bank", days="2026-01-06", timezone="Asia/Tokyo")

        target = adopted(schedule="every 1h", calendar=bank)

        # The 6th of Tokyo is from 15:00 UTC on the 5th to 15:00 UTC on the 6th.
        runs.claim(now=NOW + 2 * HOUR, limit=10)
        target.refresh_from_db()
        assert target.next_fire_at == datetime(2026, 1, 6, 15, tzinfo=UTC)

    def test_an_edited_calendar_moves_the_cursors_of_its_jobs(self) -> None:
        bank = Calendar.objects.create(name="bank")
        target = adopted(schedule="cron 0 3 * * *", calendar=bank)
        other = adopted(schedule="cron 0 3 * * *")

        runs.change_calendar(bank, days="2026-01-06", now=NOW)

        for each in (target, other):
            each.refresh_from_db()
        assert target.next_fire_at == datetime(2026, 1, 7, 3, tzinfo=UTC)
        assert other.next_fire_at == datetime(2026, 1, 6, 3, tzinfo=UTC)
        old, new = ScheduleStretch.objects.filter(target=target).order_by("pk")
        assert (old.days_off, new.days_off) == ("", "tz UTC\n2026-01-06")

    def test_what_is_due_by_the_old_days_is_settled_first(self) -> None:
        bank = Calendar.objects.create(name="bank")
        adopted(schedule="cron 0 3 * * *", calendar=bank)
        later = datetime(2026, 1, 6, 3, 0, 5, tzinfo=UTC)

        runs.change_calendar(bank, days="2026-01-06", now=later)

        assert Run.objects.get().scheduled_at == datetime(2026, 1, 6, 3, tzinfo=UTC)

    def test_a_line_that_cannot_be_read_is_refused_and_named(self) -> None:
        bank = Calendar.objects.create(name="bank", days="12-25")

        with pytest.raises(InvalidCalendar, match="Line 2, '2026-13-01'"):
            runs.change_calendar(bank, days="12-25\n2026-13-01", now=NOW)

        bank.refresh_from_db()
        assert bank.days == "12-25"

    def test_a_calendar_that_leaves_nothing_over_is_refused(self) -> None:
        bank = Calendar.objects.create(name="bank")
        adopted(schedule="cron 0 3 25 12 *", calendar=bank)

        with pytest.raises(InvalidSchedule, match="never fires on a day"):
            runs.change_calendar(bank, days="12-25", now=NOW)

    def test_a_job_can_be_given_a_calendar(self) -> None:
        Calendar.objects.create(name="bank", days="2026-01-06")
        target = adopted(schedule="cron 0 3 * * *")

        runs.reschedule(target.job, calendar="bank", now=NOW)

        target.refresh_from_db()
        assert target.next_fire_at == datetime(2026, 1, 7, 3, tzinfo=UTC)
        with pytest.raises(InvalidSchedule, match="no calendar 'school'"):
            runs.reschedule(target.job, calendar="school", now=NOW)
        runs.reschedule(target.job, calendar=None, now=NOW)
        target.refresh_from_db()
        assert target.next_fire_at == datetime(2026, 1, 6, 3, tzinfo=UTC)

    def test_days_that_cannot_be_read_stop_nobody_else(self) -> None:
        bad = Calendar.objects.create(name="bad")
        target = adopted(schedule="every 1h", calendar=bad)
        good = adopted(schedule="every 1h")
        Calendar.objects.filter(name="bad").update(days="someday")  # written by hand

        claimed = runs.claim(now=NOW + HOUR, limit=10)

        assert [run.target_id for run in claimed.runs] == [good.pk]
        target.job.refresh_from_db()
        assert "someday" in target.job.schedule_error


@pytest.mark.parametrize(
    ("rule", "spring", "autumn"),
    [
        ("classic", ["2026-03-29 01:00"], ["2026-10-25 00:30"]),
        ("skip", [], ["2026-10-25 00:30"]),
        ("twice", ["2026-03-29 01:00"], ["2026-10-25 00:30", "2026-10-25 01:30"]),
        ("running", [], ["2026-10-25 00:30", "2026-10-25 01:30"]),
    ],
)
def test_the_rule_for_clock_changes_is_a_column(
    rule: str, spring: list[str], autumn: list[str]
) -> None:
    target = adopted(schedule="cron 30 2 * * * tz Europe/Berlin", catch_up="all", clock_change=rule)
    Target.objects.filter(pk=target.pk).update(
        next_fire_at=datetime(2026, 3, 28, 1, 30, tzinfo=UTC)
    )

    fires = []
    for day in ("2026-03-29", "2026-10-25"):
        begin = datetime.fromisoformat(f"{day}T00:00:00+00:00")
        fires.append(
            [
                f"{fire:%Y-%m-%d %H:%M}"
                for fire in runs.backfill_fires(
                    target.job, after=begin, until=begin + 12 * HOUR, now=begin + DAY
                )
            ]
        )

    assert fires == [spring, autumn]


def test_another_rule_for_clock_changes_moves_the_cursor() -> None:
    target = adopted(schedule="cron 30 2 * * * tz Europe/Berlin")
    before_the_gap = datetime(2026, 3, 28, 12, tzinfo=UTC)
    Target.objects.filter(pk=target.pk).update(next_fire_at=datetime(2026, 3, 29, 1, tzinfo=UTC))

    runs.reschedule(target.job, clock_change="skip", now=before_the_gap)

    target.refresh_from_db()
    assert target.next_fire_at == datetime(2026, 3, 30, 0, 30, tzinfo=UTC)
