"""Each fire time is answered: by its row, or by a sentence why it has none."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from scheduling import runs
from scheduling.errors import UnknownTarget
from scheduling.models import (
    Calendar,
    Cause,
    Job,
    Reason,
    Run,
    State,
    Target,
)
from scheduling.policies import CatchUp
from scheduling.schedules import Every
from tests.factories import NOW, make_job, make_run, make_target
from tests.integration.answers import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    adopted,
    at_most,
    claimed,
    comes,
    ended,
    one,
    told,
    worker,
)
from tests.integration.cli import jobs
from tests.integration.fed_jobs import fed_job, feed, pooled

pytestmark = pytest.mark.django_db


# --- a stretch ------------------------------------------------------------------------------------


def test_each_fire_of_a_stretch_has_one_answer_newest_first() -> None:
    job = adopted()
    for n in (1, 2):
        ended(claimed(NOW + n * 10 * MINUTE)[0], NOW + n * 10 * MINUTE)
    account = told(job, now=NOW + 45 * MINUTE)
    assert [(each.about, each.fires) for each in account.findings[:1]] == [(NOW + 30 * MINUTE, 2)]
    assert "2 fires" in account.findings[0].explanation
    assert (
        "due and not claimed yet, the first 15 minutes late: no beat"
        in account.findings[0].explanation
    )
    assert [each.run and each.run.scheduled_at for each in account.findings[1:]] == [
        NOW + 20 * MINUTE,
        NOW + 10 * MINUTE,
    ]
    assert account.is_problem


def test_a_stretch_is_open_at_its_beginning_and_closed_at_its_end() -> None:
    job = adopted()
    for n in (1, 2, 3):
        ended(claimed(NOW + n * 10 * MINUTE)[0], NOW + n * 10 * MINUTE)
    found = one(job, now=NOW + HOUR, after=NOW + 10 * MINUTE, until=NOW + 20 * MINUTE)
    assert found.run is not None
    assert found.run.scheduled_at == NOW + 20 * MINUTE


def test_a_skipped_stretch_stays_one_entry() -> None:
    job = adopted()
    claimed(NOW + 55 * MINUTE)
    caught_up, missed = told(job, now=NOW + 55 * MINUTE).findings
    assert caught_up.run is not None
    assert caught_up.run.scheduled_at == NOW + 50 * MINUTE
    assert missed.run is not None
    assert missed.run.fires == 4


def test_what_was_missed_while_no_beat_ticked_says_so_and_by_which_policy() -> None:
    job = adopted(catch_up="none")
    claimed(NOW + 20 * MINUTE + 30 * SECOND)
    (missed,) = told(job, now=NOW + 21 * MINUTE).findings
    assert "2 fires from" in missed.explanation
    assert (
        "missed, no beat claimed them until 2026-01-05 12:20:30 UTC, the newest 30 seconds late"
        in (missed.explanation)
    )
    assert "the catch-up policy 'none'" in missed.explanation


def test_what_a_later_fire_stands_for_names_its_run() -> None:
    job = adopted()
    rows = claimed(NOW + 35 * MINUTE)
    (run,) = [row for row in rows if row.state == State.QUEUED]
    _, missed = told(job, now=NOW + 35 * MINUTE).findings
    assert f"a later fire stands for it, run {run.pk} of 2026-01-05 12:30:00 UTC" in (
        missed.explanation
    )


def test_rows_that_were_not_kept_are_told_as_missing_once_for_all_neighbours() -> None:
    job = adopted()
    for n in range(1, 7):
        ended(claimed(NOW + n * 10 * MINUTE)[0], NOW + n * 10 * MINUTE)
    Run.objects.filter(scheduled_at__in=[NOW + 20 * MINUTE, NOW + 30 * MINUTE]).delete()
    account = told(job, now=NOW + HOUR, after=NOW)
    (gone,) = [each for each in account.findings if each.run is None]
    assert (gone.about, gone.until, gone.fires) == (NOW + 20 * MINUTE, NOW + 30 * MINUTE, 2)
    assert "older than what is kept" in gone.explanation


def test_fires_before_the_target_existed_are_told_as_such() -> None:
    job = adopted()
    early = told(job, now=NOW + MINUTE, after=NOW - HOUR).findings[-1]
    assert (early.fires, early.about) == (6, NOW - 50 * MINUTE)
    assert "the target is known since 2026-01-05 12:00:00 UTC" in early.explanation
    assert not early.is_problem


def test_fires_are_those_of_the_schedule_that_held_then() -> None:
    job = adopted()
    for n in (1, 2, 3):
        ended(claimed(NOW + n * 10 * MINUTE)[0], NOW + n * 10 * MINUTE)
    runs.reschedule(job, schedule="cron 25 * * * *", now=NOW + 31 * MINUTE)
    account = told(job, now=NOW + 40 * MINUTE, after=NOW)
    assert [each.run is not None for each in account.findings] == [True, True, True]
    asked = one(job, at=NOW + 25 * MINUTE, now=NOW + 40 * MINUTE)
    assert "'every 10m' names no fire at 2026-01-05 12:25:00 UTC, which it followed then" in (
        asked.explanation
    )
    assert "'cron 25 * * * *', which it follows now, does" in asked.explanation


@pytest.mark.parametrize("minutes", [9, 10, 31, 65, 95, 121, 200])
def test_the_answers_add_up_to_the_fires_of_the_schedule(minutes: int) -> None:
    job = adopted(overlap="skip")
    until = NOW + minutes * MINUTE

    def at(minute: int) -> datetime:
        return min(NOW + minute * MINUTE, until)

    claimed(at(10))  # stays open: what follows is skipped
    claimed(at(20))
    claimed(at(55))  # nobody ticked meanwhile
    if minutes > 60:
        runs.pause(job, by="anna", reason="audit", now=at(60))
        claimed(at(70))
    if minutes > 90:
        runs.resume(Job.objects.get(pk=job.pk), by="anna", missed=CatchUp.LATEST, now=at(90))
    if minutes > 100:
        runs.reschedule(job, schedule="every 7m", now=at(100))
        claimed(at(112))
    fires = Every(10 * MINUTE).count(NOW, at(100)) + Every(7 * MINUTE).count(at(100), until)
    found = told(job, now=until, after=NOW, limit=1000).findings
    assert sum(each.run.fires if each.run else each.fires for each in found) == fires


def test_a_long_stretch_is_cut_and_says_so() -> None:
    job = adopted(schedule="every 1s")
    account = told(job, now=NOW + DAY)
    assert account.is_cut
    assert "More than 1,000 fires" in account.findings[0].explanation


def test_runs_by_hand_stand_in_the_ledger_beside_the_fires() -> None:
    job = adopted()
    asked = runs.trigger(job, by="anna", now=NOW + MINUTE)
    (found,) = told(job, now=NOW + 2 * MINUTE).findings
    assert found.run == asked
    assert "The run by hand of 2026-01-05 12:01:00 UTC, asked for by anna, was queued" in (
        found.explanation
    )


def test_of_a_job_with_many_targets_rows_are_told_and_one_key_tells_all() -> None:
    job = make_job("probes", schedule="every 10m")
    for key in "ab":
        runs.add_target(job, key, now=NOW)
    claimed(NOW + 10 * MINUTE)
    account = told(job, now=NOW + 45 * MINUTE)
    assert account.of_targets == 2
    assert [each.run and each.run.key for each in account.findings] != []
    assert all(each.run is not None for each in account.findings)
    of_a = told(job, key="a", now=NOW + 45 * MINUTE)
    assert [each.run is None for each in of_a.findings] == [True, False]
    with pytest.raises(UnknownTarget):
        told(job, key="c", now=NOW)


def test_the_number_of_queries_does_not_grow_with_the_stretch() -> None:
    job = adopted("long")
    target = Target.objects.get(job=job)
    before = make_run(target, state=State.SUCCEEDED, started_at=NOW, ended_at=NOW)
    for n in range(1, 40):
        at = NOW + n * 10 * MINUTE
        make_run(
            target,
            cause=Cause.SCHEDULE,
            scheduled_at=at,
            state=State.SKIPPED,
            reason=(Reason.OVERLAP, Reason.LATE, Reason.CANCELLED)[n % 3],
            detail=f"run {before.pk} of then was open",
            start_by=at if n % 3 == 1 else None,
        )
    for n in range(40, 60):
        make_run(
            target,
            cause=Cause.SCHEDULE,
            scheduled_at=NOW + n * 10 * MINUTE,
            waiting_for=f"lock {n}",
            waiting_on=before if n % 2 else None,
        )
    Target.objects.filter(pk=target.pk).update(next_fire_at=NOW + 700 * MINUTE)
    worker()
    with at_most(16):
        told(job, now=NOW + 650 * MINUTE, limit=1000, after=NOW - MINUTE)


def test_a_job_with_very_many_targets_is_answered_in_few_queries() -> None:
    job = make_job("probes", schedule="every 10m")
    Target.objects.bulk_create(
        Target(job=job, key=f"k{n}", next_fire_at=NOW + n * SECOND) for n in range(2000)
    )
    with at_most(8):
        account = told(job, now=NOW)
    assert account.of_targets == 2000
    assert "2,000 targets" in comes(job, now=NOW)


# --- one fire time --------------------------------------------------------------------------------


def test_a_time_between_the_fires_of_a_skipped_stretch_is_no_fire_time() -> None:
    job = adopted()
    claimed(NOW + 55 * MINUTE)
    assert "names no fire at" in one(job, at=NOW + 25 * MINUTE, now=NOW + HOUR).explanation
    assert one(job, at=NOW + 20 * MINUTE, now=NOW + HOUR).run is not None


def test_a_fire_to_come_says_what_stands_in_its_way() -> None:
    job = adopted(ends_at=NOW + HOUR)
    coming = one(job, at=NOW + 30 * MINUTE, now=NOW)
    assert coming.explanation == "That fire is still to come."
    assert "the job ends at" in one(job, at=NOW + 2 * HOUR, now=NOW).explanation
    runs.pause(job, by="anna", reason="audit", now=NOW)
    assert "paused by anna" in one(job, at=NOW + 30 * MINUTE, now=NOW).explanation


def test_a_fire_that_is_due_and_not_claimed_is_a_problem() -> None:
    job = adopted()
    assert "is due now" in one(job, at=NOW + 10 * MINUTE, now=NOW + 10 * MINUTE).explanation
    late = one(job, at=NOW + 10 * MINUTE, now=NOW + 11 * MINUTE)
    assert "is due and not claimed yet, 1 minute late" in late.explanation
    assert late.is_problem


def test_no_schedule_was_in_force_before_the_first_and_while_it_was_retired() -> None:
    job = adopted()
    runs.retire(job, now=NOW + 15 * MINUTE)
    runs.revive(job, now=NOW + 35 * MINUTE)
    now = NOW + 36 * MINUTE
    assert "is known since" in one(job, at=NOW - 10 * MINUTE, now=now).explanation
    away = one(job, at=NOW + 20 * MINUTE, now=now).explanation
    assert "no schedule in force from 2026-01-05 12:15:00 UTC" in away
    assert "until 2026-01-05 12:40:00 UTC" in away


# --- what comes next ------------------------------------------------------------------------------


def test_of_a_fed_job_the_last_round_is_told() -> None:
    job = fed_job("checks")
    pooled(job, 2)
    asked = ("why", "checks")
    assert (
        "Strategies pick its 2 targets when slots are free; no beat has fed it"
        in jobs(*asked).stdout
    )
    feed(job)
    assert (
        "slots are free; the round of 2026-01-05 12:00:00 UTC: 2 oldest_scheduled"
        in jobs(*asked).stdout
    )


def test_what_comes_next_names_the_next_fires() -> None:
    assert comes(adopted(), now=NOW + MINUTE) == (
        "The next fire is that of 2026-01-05 12:10:00 UTC, "
        "then 2026-01-05 12:20:00 UTC and 2026-01-05 12:30:00 UTC."
    )


def test_a_day_off_in_between_is_named() -> None:
    Calendar.objects.create(name="bank", days="2026-01-06 Epiphany")
    job = adopted(schedule="cron 0 3 * * *", calendar_id="bank")
    assert "The next fire is that of 2026-01-07 03:00:00 UTC" in comes(job, now=NOW)
    assert (
        "That of 2026-01-06 03:00:00 UTC is left out: 2026-01-06 is a day off of the calendar "
        "'bank'."
    ) in comes(job, now=NOW)
    asked = one(job, at=datetime.fromisoformat("2026-01-06T03:00:00+00:00"), now=NOW)
    assert "was left out: 2026-01-06 is a day off of the calendar 'bank'" in asked.explanation


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"schedule": "manual"}, "it runs when somebody asks for it"),
        ({"schedule": "once 2026-01-05T10:00:00+00:00"}, "has come to its end"),
        ({"ends_at": NOW - HOUR}, "it ended at 2026-01-05 11:00:00 UTC"),
        ({"runs_left": 0}, "it has had the number of runs"),
        ({"retired_at": NOW}, "The job was retired at 2026-01-05 12:00:00 UTC"),
        ({"schedule": "every blue moon"}, "cannot be read"),
    ],
)
def test_no_next_fire_has_its_reason(fields: dict[str, Any], sentence: str) -> None:
    assert sentence in comes(adopted(**fields), now=NOW + MINUTE)


def test_the_last_fire_is_known_as_the_last() -> None:
    job = adopted(ends_at=NOW + 15 * MINUTE)
    assert comes(job, now=NOW) == (
        "The next fire is that of 2026-01-05 12:10:00 UTC, and it is the last."
    )


def test_a_pause_between_runs_waits_for_the_end_of_the_open_one() -> None:
    job = adopted(schedule="every 10m after end")
    (run,) = claimed(NOW + 10 * MINUTE)
    assert comes(job, now=NOW + 11 * MINUTE) == (
        f"The next fire is counted from the end of the run that is open, run {run.pk}."
    )


def test_a_pause_with_an_end_says_what_comes_then() -> None:
    job = adopted()
    runs.pause(job, by="anna", reason="audit", until=NOW + 15 * MINUTE, now=NOW)
    assert "The first fire after that is that of 2026-01-05 12:20:00 UTC." in comes(job, now=NOW)


# --- the verb -------------------------------------------------------------------------------------


def test_the_verb_answers_a_stretch_newest_first_with_what_comes_next() -> None:
    make_run(
        target := make_target(make_job("mails", schedule="manual")),
        state=State.SUCCEEDED,
        started_at=NOW,
        ended_at=NOW,
    )
    make_run(target, scheduled_at=NOW + HOUR, state=State.SKIPPED, reason=Reason.CANCELLED)
    stretch = ("--from", "2026-01-05T11:00:00Z", "--to", "2026-01-05T12:30:00Z")
    (row,) = jobs("why", "mails", *stretch, "--json").document()
    assert row["scheduled_at"] == "2026-01-05T12:00:00+00:00"
    assert len(jobs("why", "mails", "--json").document()) == 2
    assert "asks for it" in jobs("why", "mails").stdout


@pytest.mark.parametrize(
    "words",
    [
        ("--at", "2026-01-05T12:00:00Z", "--from", "2026-01-05T11:00:00Z"),
        ("--from", "2026-01-05T12:00:00Z", "--to", "2026-01-05T12:00:00Z"),
        ("--from", "yesterday"),
    ],
)
def test_the_verb_refuses_what_is_no_stretch(words: tuple[str, ...]) -> None:
    make_target(make_job("mails"))
    answer = jobs("why", "mails", *words, "--json")
    assert answer.code == 2
    assert "error" in answer.document()
