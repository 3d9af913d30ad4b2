"""Which runs leave the table, and which never do."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from scheduling.archive import passes
from scheduling.archive.rules import Rule, aged, rule_of, surplus
from scheduling.errors import ArchiveError
from scheduling.models import (
    Attempt,
    Cause,
    Job,
    Notification,
    Reason,
    Run,
    ScheduleStretch,
    Seat,
    State,
    Target,
)
from scheduling.models.system import Event, Ping, PingSignal, Process
from tests.factories import NOW, make_job, make_run, make_target
from tests.integration.old_runs import DAY, HOUR, MICROSECOND, ended, left, prune

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("keep_nothing")]


# --- age ------------------------------------------------------------------------------------------


def test_a_run_goes_when_it_is_older_than_the_span_and_not_when_it_is_exactly_as_old() -> None:
    just_older = ended(ago=90 * DAY + MICROSECOND)
    as_old = ended(ago=90 * DAY)
    younger = ended(ago=90 * DAY - MICROSECOND)
    assert prune().deleted == 1
    assert left() == {as_old, younger}
    assert not Run.objects.filter(pk=just_older.pk).exists()


@pytest.mark.parametrize(
    ("ago", "stays"),
    [
        pytest.param(timedelta(days=30, hours=23), True, id="30 days and 23 hours"),
        pytest.param(timedelta(days=31), True, id="31 days to the microsecond"),
        pytest.param(timedelta(days=31, microseconds=1), False, id="more than 31 days"),
    ],
)
def test_a_retention_counts_spans_and_not_days_of_the_calendar(
    settings: Any, ago: timedelta, stays: bool
) -> None:
    """Who counted whole days and kept 30 of them writes 31 days."""
    settings.JOBS_RETENTION = timedelta(days=31)
    ended(ago=ago)
    prune()
    assert Run.objects.exists() is stays


def test_it_is_the_end_that_counts_and_not_the_fire_time() -> None:
    late = ended(ago=1 * DAY, scheduled_at=NOW - 400 * DAY, created_at=NOW - 400 * DAY)
    prune()
    assert left() == {late}


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED, State.SKIPPED])
def test_every_end_goes(state: State) -> None:
    target = make_target()
    ended(target, ago=101 * DAY, state=state)
    newest = ended(target, ago=100 * DAY, state=state)
    prune()
    assert left() == ({newest} if state == State.SKIPPED else set())


def test_history_of_tasks_that_are_no_jobs_goes_too() -> None:
    Run.objects.create(
        name="shop.tasks.sell",
        cause=Cause.FOREIGN,
        state=State.SUCCEEDED,
        scheduled_at=NOW - 100 * DAY,
        created_at=NOW - 100 * DAY,
        ended_at=NOW - 100 * DAY,
    )
    assert prune().deleted == 1


def test_without_a_retention_nothing_goes_by_age(settings: Any) -> None:
    settings.JOBS_RETENTION = None
    run = ended(ago=4000 * DAY)
    prune()
    assert left() == {run}


def test_another_bound_may_be_named_but_none_in_the_future() -> None:
    ended(ago=3 * DAY)
    newer = ended(ago=1 * DAY)
    prune(before=NOW - 2 * DAY)
    assert left() == {newer}
    with pytest.raises(ArchiveError, match="lies ahead"):
        rule_of(now=NOW, before=NOW + HOUR)


def test_what_has_just_ended_stays_whatever_is_asked_for() -> None:
    run = ended(ago=HOUR)
    gone = ended(run.target, ago=HOUR + MICROSECOND)
    older = ended(run.target, ago=2 * HOUR)
    prune(before=NOW, keep=1)
    assert left() == {run}
    assert not Run.objects.filter(pk__in=(gone.pk, older.pk)).exists()


# --- the newest of each ---------------------------------------------------------------------------


def test_a_job_with_one_target_keeps_its_newest_good_and_failed_runs(settings: Any) -> None:
    settings.JOBS_KEEP_GOOD, settings.JOBS_KEEP_FAILED = 3, 2
    target = make_target()
    good = [ended(target, ago=(100 + n) * DAY) for n in range(5)]
    bad = [ended(target, ago=(200 + n) * DAY, state=State.FAILED) for n in range(5)]
    prune()
    assert left() == {*good[:3], *bad[:2]}


def test_young_runs_count_among_the_newest(settings: Any) -> None:
    settings.JOBS_KEEP_GOOD = 2
    target = make_target()
    young = [ended(target, ago=n * DAY) for n in (1, 2)]
    ended(target, ago=100 * DAY)
    prune()
    assert left() == set(young)


def test_a_job_with_many_targets_keeps_the_newest_of_each(settings: Any) -> None:
    settings.JOBS_KEEP_PER_TARGET, settings.JOBS_KEEP_GOOD = 2, 100
    job = make_job()
    kept = set()
    for key in ("a", "b"):
        target = make_target(job, key)
        for state in (State.SUCCEEDED, State.FAILED):
            made = [ended(target, ago=(100 + n) * DAY, state=state) for n in range(4)]
            kept |= set(made[:2])
    prune()
    assert left() == kept


def test_of_runs_of_one_time_exactly_as_many_stay_as_are_to(settings: Any) -> None:
    settings.JOBS_KEEP_GOOD = 2
    target = make_target()
    for _ in range(5):
        ended(target)
    prune()
    assert Run.objects.count() == 2


def test_what_was_kept_goes_when_newer_ones_have_come(settings: Any) -> None:
    settings.JOBS_KEEP_GOOD = 1
    old = ended(ago=100 * DAY)
    prune()
    assert left() == {old}
    newer = ended(old.target, ago=1 * DAY)
    prune()
    assert left() == {newer}


# --- no more than n -------------------------------------------------------------------------------


def test_beyond_a_number_per_job_runs_go_whatever_their_age(settings: Any) -> None:
    settings.JOBS_KEEP_GOOD = 100
    first, second = make_target(), make_target()
    kept = [ended(first, ago=n * DAY) for n in range(1, 6)][:3]
    other = ended(second, ago=1 * DAY)
    assert prune(keep=3).deleted == 2
    assert left() == {*kept, other}


def test_a_number_and_an_age_take_what_either_names_once(settings: Any) -> None:
    target = make_target()
    kept = [ended(target, ago=n * DAY) for n in (1, 2)]
    ended(target, ago=3 * DAY)
    ended(target, ago=100 * DAY)
    planned = passes.plan(rule_of(now=NOW, keep=2))
    assert planned.runs == 2
    assert prune(keep=2).deleted == 2
    assert left() == set(kept)


# --- never ----------------------------------------------------------------------------------------


def test_an_open_run_never_goes() -> None:
    runs = {
        make_run(created_at=NOW - 400 * DAY, scheduled_at=NOW - 400 * DAY, state=state)
        for state in (State.QUEUED, State.RUNNING)
    }
    prune(before=NOW, keep=1)
    assert left() == runs


def test_the_run_that_an_open_one_waits_for_stays() -> None:
    awaited = ended()
    waiter = make_run(awaited.target, waiting_on=awaited)
    prune()
    assert left() == {awaited, waiter}


def test_the_parent_of_an_open_run_stays() -> None:
    parent = ended()
    child = make_run(parent=parent)
    prune()
    assert left() == {parent, child}


def test_a_chain_stays_whole_while_anything_in_it_is_open() -> None:
    """A join looks at all ends under its root, and whether it has come already."""
    root = ended(ago=100 * DAY)
    middle = ended(ago=99 * DAY, parent=root, root=root)
    joined = ended(ago=98 * DAY, parent=middle, root=root, joined=True)
    last = make_run(parent=middle, root=root)
    prune()
    assert left() == {root, middle, joined, last}
    Run.objects.filter(pk=last.pk).update(state=State.SUCCEEDED, ended_at=NOW)
    prune()
    assert left() == {last}


def test_what_is_left_of_a_chain_names_no_run_that_is_gone() -> None:
    root = ended()
    child = ended(ago=1 * DAY, parent=root, root=root, cause=Cause.FOLLOW_UP)
    prune()
    child.refresh_from_db()
    assert (child.parent_id, child.root_id) == (None, None)


def test_a_run_stays_while_something_is_to_be_delivered_of_it() -> None:
    mail = Notification.objects.create(
        run=ended(), name="a", event=Event.FAILING, created_at=NOW, deliver_at=NOW
    )
    ping = Ping.objects.create(run=ended(), signal=PingSignal.FAIL, created_at=NOW, deliver_at=NOW)
    prune()
    assert left() == {mail.run, ping.run}


def test_the_last_holder_of_a_lock_stays() -> None:
    """It may hold it until the next fire; and the lock's row is its next holder's to change."""
    holder = ended()
    Seat.objects.create(key="db", run=holder, attempt=1)
    prune()
    assert left() == {holder}


# --- what goes with them --------------------------------------------------------------------------


def test_all_that_is_a_runs_own_goes_with_it() -> None:
    run = ended()
    Attempt.objects.create(run=run, number=1, ended_at=NOW, reason=Reason.RETRY)
    Notification.objects.create(run=run, name="a", event=Event.FAILING, created_at=NOW)
    Ping.objects.create(run=run, signal=PingSignal.FAIL, created_at=NOW)
    prune()
    assert [model.objects.count() for model in (Run, Attempt, Notification, Ping)] == [0] * 4


def test_what_belongs_to_no_run_goes_at_the_same_age() -> None:
    target = make_target(next_fire_at=NOW)
    old, young = NOW - 100 * DAY, NOW - 1 * DAY
    for at in (old, young):
        Notification.objects.create(name="c", event=Event.CIRCUIT_OPENED, created_at=at)
        Notification.objects.create(
            target=target, name="a", event=Event.LATE, created_at=at, late_since=at
        )
        ScheduleStretch.objects.create(target=target, schedule="manual", since=old, until=at)
        Process.objects.create(
            kind="worker", name=str(at), host="h", pid=1, started_at=old, seen_at=at
        )
    ScheduleStretch.objects.create(target=target, schedule="manual", since=young)
    told = prune().others
    assert told == {"notifications": 2, "schedules": 1, "processes": 1}
    assert set(Notification.objects.values_list("created_at", flat=True)) == {young}
    assert ScheduleStretch.objects.filter(target=target).count() == 2


def test_the_alert_of_a_target_that_is_still_late_stays_as_it_would_be_told_again() -> None:
    at = NOW - 100 * DAY
    stuck = make_target(next_fire_at=at)
    waiting = make_run(make_target(), scheduled_at=at).target
    over = make_target()
    for target in (stuck, waiting, over):
        Notification.objects.create(
            target=target, name="a", event=Event.LATE, created_at=at, late_since=at
        )
    prune()
    assert set(Notification.objects.values_list("target", flat=True)) == {stuck.pk, waiting.pk}  # type: ignore[union-attr]


# --- pages ----------------------------------------------------------------------------------------


def rule() -> Rule:
    return rule_of(now=NOW)


def test_a_target_with_more_runs_than_a_page_does_not_turn_in_circles() -> None:
    target = make_target()
    made = [ended(target).pk for _ in range(25)]  # of one moment
    pages = list(aged(rule(), size=10))
    assert [len(page.runs) for page in pages] == [10, 10, 5]
    assert [run.id for page in pages for run in page.runs] == sorted(made)


def test_pages_by_token_neither_skip_nor_repeat_while_rows_come_and_go() -> None:
    made = [ended(ago=(100 + n // 2) * DAY) for n in range(10)]
    first = next(aged(rule(), size=4))
    ended(ago=500 * DAY)  # before the place where we are
    Run.objects.filter(pk=first.runs[-1].id).delete()
    rest = [run.id for page in aged(rule(), token=first.token, size=4) for run in page.runs]
    seen = [run.id for run in first.runs] + rest
    assert len(seen) == len(set(seen)) == len(made)
    assert set(seen) == {run.pk for run in made}


def test_a_full_last_page_is_the_last() -> None:
    for _ in range(4):
        ended()
    assert [len(page.runs) for page in aged(rule(), size=2)] == [2, 2]


@pytest.mark.parametrize("token", ["x", "2026-01-01T00:00:00+00:00", "/", f"x/{UUID(int=7)}"])
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(ArchiveError, match="no token"):
        list(aged(rule(), token=token))


def test_surplus_runs_come_in_pages_too() -> None:
    target = make_target()
    for n in range(1, 8):
        ended(target, ago=n * DAY)
    pages = surplus(rule_of(now=NOW, keep=2), size=2)
    assert [len(page.runs) for page in pages] == [2, 2, 1]


def test_only_the_runs_that_were_meant_go_and_their_targets_stay() -> None:
    """Also a target whose last run goes: it has more to come."""
    one, other = make_target(), make_target()
    ended(one)
    kept = ended(other, ago=1 * DAY)
    before = (Job.objects.count(), Target.objects.count())
    prune()
    assert left() == {kept}
    assert (Job.objects.count(), Target.objects.count()) == before
