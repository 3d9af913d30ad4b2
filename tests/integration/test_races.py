"""What happens when two do something at once, when one dies halfway, and when time jumps."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta
from typing import Any

import pytest
from celery import Celery
from django.test import override_settings

from scheduling import clock, evidence, outbox, runs
from scheduling.beat import Scheduler
from scheduling.models import (
    Notification,
    Parked,
    Process,
    ProcessKind,
    Reason,
    Run,
    ScheduleStretch,
    State,
    Target,
)
from scheduling.models.system import Event
from scheduling.policies import CatchUp
from tests.factories import NOW, make_job, make_run, make_target
from tests.integration.accounts import accounted_for

pytestmark = pytest.mark.django_db

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


# --- catching up ----------------------------------------------------------------------------------


def test_many_targets_that_catch_up_do_not_keep_others_from_firing() -> None:
    behind = make_job(schedule="every 1m", catch_up="all")
    for number in range(5):
        make_target(behind, str(number), next_fire_at=NOW - HOUR)
    punctual = make_target(make_job(schedule="every 1m"), next_fire_at=NOW)
    runs.claim(now=NOW, limit=2, catch_up_budget=0)
    assert Run.objects.get().target == punctual


def test_no_more_targets_catch_up_than_there_is_budget_for() -> None:
    behind = make_job(schedule="every 1m", catch_up="all")
    for number in range(5):
        make_target(behind, str(number), next_fire_at=NOW - HOUR)
    taken = runs.claim(now=NOW, limit=10, catch_up_budget=2)
    assert (taken.targets, len(taken.runs)) == (2, 2)


def test_ten_thousand_missed_fires_are_resumed_in_a_few_seconds() -> None:
    target = runs.adopt(make_job(schedule="every 1s"), now=NOW)
    runs.pause(target.job, by="ann", reason="", now=NOW)
    began = datetime.now(NOW.tzinfo)
    runs.resume(target.job, by="ann", missed=CatchUp.ALL, now=NOW + 9_999 * SECOND)
    assert datetime.now(NOW.tzinfo) - began < timedelta(seconds=15)
    assert Run.objects.filter(cause="catch_up").count() == 9_999


# --- pauses ---------------------------------------------------------------------------------------


def test_a_target_parked_by_a_pause_that_was_being_lifted_goes_on() -> None:
    target = make_target(make_job(schedule="every 1m"), next_fire_at=NOW + MINUTE)
    runs.pause(target.job, by="ann", reason="", now=NOW)
    runs.resume(target.job, by="ann", now=NOW + SECOND)
    # A claim had read the job before the resume was committed.
    Target.objects.update(next_fire_at=None, parked_cursor=NOW + MINUTE, parked=Parked.PAUSED)
    runs.recover(now=NOW + 2 * MINUTE, reap=False)
    accounted = Run.objects.get()
    assert (accounted.reason, accounted.fires) == (Reason.PAUSED, 2)
    target.refresh_from_db()
    assert (target.parked, target.next_fire_at) == ("", NOW + 3 * MINUTE)


def test_a_resume_that_died_halfway_is_finished_by_a_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    target = make_target(make_job(schedule="every 1m"), next_fire_at=NOW)
    runs.pause(target.job, by="ann", reason="", now=NOW - SECOND)
    runs.claim(now=NOW, limit=10)

    def die(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(runs.pausing, "_resume_targets", die)
        with pytest.raises(KeyboardInterrupt):
            runs.resume(target.job, by="ann", now=NOW + MINUTE)
    runs.recover(now=NOW + 10 * MINUTE, reap=False)
    target.refresh_from_db()
    assert target.next_fire_at == NOW + 11 * MINUTE


def test_a_beat_does_not_meddle_with_a_resume_that_is_under_way() -> None:
    target = make_target(make_job(schedule="every 1m"), next_fire_at=NOW)
    runs.pause(target.job, by="ann", reason="", now=NOW - SECOND)
    runs.claim(now=NOW, limit=10)
    with_beat = runs.pausing._resume_targets

    def with_a_tick_before(*args: Any) -> None:
        runs.recover(now=NOW + MINUTE + SECOND, reap=False)
        with_beat(*args)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(runs.pausing, "_resume_targets", with_a_tick_before)
        runs.resume(target.job, by="ann", missed=CatchUp.ALL, now=NOW + MINUTE)
    assert Run.objects.filter(state=State.QUEUED).count() == 2


def test_fires_of_a_pause_that_ended_while_no_beat_ticked_are_skipped() -> None:
    target = make_target(make_job(schedule="every 1h"), next_fire_at=NOW)
    runs.pause(target.job, by="ann", reason="", until=NOW + 3 * HOUR, now=NOW - SECOND)
    now = NOW + 3 * HOUR + MINUTE
    runs.claim(now=now, limit=10)
    runs.recover(now=now, reap=False)
    skipped = Run.objects.get()
    assert (skipped.state, skipped.reason, skipped.fires) == (State.SKIPPED, Reason.PAUSED, 3)
    # The fire at the end of the pause was missed by nobody's will: the job's policy decides.
    [run] = runs.claim(now=now, limit=10).runs
    assert run.scheduled_at == NOW + 3 * HOUR


@pytest.mark.parametrize("met", [True, False], ids=["parked", "not met"])
@pytest.mark.parametrize("scope", ["job", "target", "installation"])
def test_an_edit_during_a_pause_accounts_for_what_was_missed(scope: str, met: bool) -> None:
    job = make_job(schedule="every 1m")
    target = runs.adopt(job, now=NOW)
    paused: Any = {"job": job, "target": target, "installation": runs.installation()}[scope]
    runs.pause(paused, by="ann", reason="", now=NOW)
    if met:
        runs.claim(now=NOW + MINUTE, limit=10)
    runs.reschedule(job, schedule="every 1h", now=NOW + 10 * MINUTE)
    skipped = Run.objects.get()
    assert (skipped.state, skipped.reason, skipped.fires) == (State.SKIPPED, Reason.PAUSED, 10)
    runs.resume(paused, by="ann", now=NOW + 2 * HOUR)
    accounted_for(target)


def test_a_job_that_is_retired_during_a_pause_accounts_for_what_was_missed() -> None:
    job = make_job(schedule="every 1m")
    target = runs.adopt(job, now=NOW)
    runs.pause(job, by="ann", reason="", now=NOW)
    runs.claim(now=NOW + MINUTE, limit=10)
    runs.retire(job, now=NOW + 10 * MINUTE)
    assert Run.objects.get().fires == 10
    accounted_for(target)


def test_a_run_of_a_resume_counts_against_the_number_of_runs() -> None:
    job = make_job(schedule="every 1m", runs_left=1)
    target = runs.adopt(job, now=NOW)
    runs.pause(job, by="ann", reason="", now=NOW)
    runs.claim(now=NOW + MINUTE, limit=10)
    runs.resume(job, by="ann", missed=CatchUp.LATEST, now=NOW + 2 * MINUTE)
    job.refresh_from_db()
    assert job.runs_left == 0
    runs.reschedule(job, schedule="every 2m", now=NOW + 3 * MINUTE)
    target.refresh_from_db()
    assert target.next_fire_at is None


# --- edits ----------------------------------------------------------------------------------------


def test_a_retired_job_that_is_edited_and_put_back_has_one_open_stretch() -> None:
    job = make_job(schedule="every 1m")
    target = runs.adopt(job, now=NOW)
    runs.retire(job, now=NOW + MINUTE)
    runs.reschedule(job, schedule="every 2m", now=NOW + 2 * MINUTE)
    runs.revive(job, now=NOW + 10 * MINUTE)
    assert ScheduleStretch.objects.filter(target=target, until=None).count() == 1
    accounted_for(target)


def test_an_edit_that_waited_for_a_claim_begins_after_it() -> None:
    job = make_job(schedule="every 1s")
    target = runs.adopt(job, now=NOW)
    runs.claim(now=NOW + 3 * SECOND, limit=10)
    # The web process read its clock before it waited for the claim.
    runs.reschedule(job, schedule="every 3s", now=NOW + SECOND)
    target.refresh_from_db()
    assert target.next_fire_at is not None
    assert target.next_fire_at > NOW + 3 * SECOND
    accounted_for(target)


# --- waiting --------------------------------------------------------------------------------------


def locked(*keys: str) -> Run:
    return make_run(make_target(make_job(locks=list(keys))))


def begin(run: Run, now: datetime = NOW) -> runs.Started | None:
    return runs.start(run.pk, run.attempt, worker="w", now=now)


def test_who_waits_for_a_held_lock_is_not_published_again_and_again() -> None:
    holder, waiter = locked("ledger"), locked("ledger")
    assert begin(holder)
    assert runs.wait_for_seat(waiter.pk, 1, key="ledger", now=NOW)
    for minutes in range(5):
        runs.recover(now=NOW + minutes * MINUTE, reap=False)
        assert not Run.objects.to_publish(NOW + minutes * MINUTE).filter(pk=waiter.pk).exists()


def test_a_lock_that_was_given_up_while_the_gate_said_no_wakes_the_waiter_at_the_next_tick() -> (
    None
):
    waiter = locked("ledger")
    runs.wait_for_seat(waiter.pk, 1, key="ledger", now=NOW)
    runs.recover(now=NOW + SECOND, reap=False)
    assert Run.objects.to_publish(NOW + SECOND).get() == waiter


def test_cancelling_who_was_woken_wakes_the_next_in_line() -> None:
    first, second, third = locked("a"), locked("a"), locked("a")
    begun = begin(first)
    assert begun is not None
    assert begin(second) is None
    assert begin(third, NOW + SECOND) is None
    done = runs.Result(state=State.SUCCEEDED)
    runs.finish(first.pk, 1, token=begun.token, result=done, now=NOW + 2 * SECOND)
    runs.cancel(second.pk, by="ann", now=NOW + 3 * SECOND)
    third.refresh_from_db()
    assert third.publish_at == NOW + 3 * SECOND


# --- publishing -----------------------------------------------------------------------------------


def test_a_message_that_task_routes_sent_elsewhere_is_not_taken_for_lost(valkey: Any) -> None:
    app = Celery("routed", set_as_current=False)
    with override_settings():
        from django.conf import settings

        app.conf.update(
            broker_url=settings.CELERY_BROKER_URL,
            task_routes={"tests.testapp.*": {"queue": "elsewhere"}},
        )
        run = make_run(make_target(), publish_at=NOW)
        assert outbox.publish_ready(app, epoch="e1", now=NOW) == 1
        comparison = evidence.Comparison()
        for minutes in range(5):
            comparison.compare(app, now=NOW + minutes * MINUTE)
    run.refresh_from_db()
    assert (run.queue, run.published_at) == ("elsewhere", NOW)


def test_what_a_broker_that_cannot_be_asked_may_have_lost_is_published_again_by_back_off() -> None:
    app = Celery("silent", broker="memory://", set_as_current=False)
    run = make_run(make_target(), published_at=NOW, published_epoch="", publications=1)
    comparison = evidence.Comparison()
    assert comparison.compare(app, now=NOW + 3 * SECOND) == 0
    assert comparison.compare(app, now=NOW + 8 * SECOND) == 0
    assert comparison.compare(app, now=NOW + 13 * SECOND) == 1
    assert Run.objects.to_publish(NOW + 13 * SECOND).get() == run


def test_a_dead_worker_is_buried_although_its_broker_cannot_be_asked() -> None:
    app = Celery("silent", broker="memory://", set_as_current=False)
    make_run(make_target(), published_at=NOW, published_epoch="", publications=1)
    Process.objects.create(
        kind=ProcessKind.WORKER, name="w", host="h", pid=1, started_at=NOW, seen_at=NOW
    )
    evidence.bury_silent_workers(app, silent_since=NOW + SECOND, now=NOW + SECOND)
    assert not Process.objects.exists()


def test_waiting_mails_do_not_fill_the_queue_while_workers_are_busy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_run()
    Notification.objects.create(name="a", event=Event.FAILING, created_at=NOW, deliver_at=NOW)
    beat = scheduler()
    sent: list[str] = []
    monkeypatch.setattr(beat.app, "send_task", lambda name, **options: sent.append(name))
    for seconds in range(600):
        beat._deliver_notifications(NOW + seconds * SECOND)
    assert len(sent) <= 10


# --- time -----------------------------------------------------------------------------------------


def scheduler() -> Scheduler:
    from celery.app import app_or_default

    return Scheduler(app_or_default(), lazy=True)


def test_leases_are_not_judged_by_a_beat_that_slept_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    beat = scheduler()
    times = itertools.chain([0, 20, 40, 41, 42, 3600, 3601], itertools.repeat(3602))
    moments = iter([clock.now() + timedelta(seconds=each) for each in itertools.islice(times, 7)])
    judged: list[bool] = []
    monkeypatch.setattr(beat, "_begin", lambda now: None)
    monkeypatch.setattr(clock, "sample", lambda: next(moments))
    monkeypatch.setattr(runs, "recover", lambda *, now, reap: judged.append(reap))
    with override_settings(JOBS_LEASE=timedelta(seconds=45)):
        for _ in range(7):
            beat._pass()
    assert judged == [False, False, False, False, False, False, False]
