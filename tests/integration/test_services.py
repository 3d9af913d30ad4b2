"""Services: one open run for each target, started again whenever it ends, stopped when held."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.test import override_settings

from scheduling import health, outbox, runs
from scheduling.conf import conf
from scheduling.errors import InvalidSchedule
from scheduling.limits import limits_of
from scheduling.models import (
    Circuit,
    Event,
    Job,
    Notification,
    Parked,
    Process,
    ProcessKind,
    Reason,
    Run,
    State,
    Target,
)
from scheduling.runs import Result, Scope
from scheduling.services import queue_of, unserved
from tests.factories import NOW, make_job, make_target
from tests.integration.admin_pages import errors_of, log_in, page

pytestmark = pytest.mark.django_db

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
WELL = conf.SERVICE_DELAY_MAX + SECOND


def service(name: str = "listener", **fields: object) -> Target:
    """A service that is due at NOW, as a sync leaves it."""
    job = make_job(name, schedule="always", **fields)
    return runs.adopt(job, now=NOW)


def claim(now: datetime) -> list[Run]:
    return runs.claim(now=now, limit=100).runs


def start(now: datetime) -> runs.Started:
    """Claim the service that is due and start its run."""
    [run] = claim(now)
    started = runs.start(run.pk, 1, worker="w", now=now)
    assert started is not None
    return started


def end(started: runs.Started, state: State, now: datetime) -> None:
    reason = Reason.ERROR if state == State.FAILED else None
    result = Result(state=state, reason=reason, error="no" if reason else "")
    token = started.token
    assert runs.finish(started.run.pk, started.run.attempt, token=token, result=result, now=now)


def is_asked_to_stop(run: Run) -> bool:
    run.refresh_from_db()
    return run.stop_requested_at is not None


def test_a_service_begins_at_once_and_waits_for_its_end() -> None:
    target = service()
    began = target.next_fire_at

    [run] = claim(NOW)

    target.refresh_from_db()
    assert (began, target.next_fire_at, target.parked) == (NOW, None, Parked.OPEN)
    assert (run.state, run.start_by, run.queue) == (State.QUEUED, None, "services")
    assert claim(NOW + 100 * MINUTE) == []


@pytest.mark.parametrize("overlap", ["skip", "allow", "queue"])
def test_a_second_run_of_a_service_waits_for_the_end_of_the_first(overlap: str) -> None:
    target = service(overlap=overlap)
    start(NOW)

    by_hand = runs.trigger(target.job, by="ann", now=NOW + SECOND)

    assert runs.start(by_hand.pk, 1, worker="w", now=NOW + SECOND) is None
    assert Run.objects.running().count() == 1


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED])
def test_what_ends_soon_is_started_again_later_and_later_up_to_a_maximum(state: State) -> None:
    target, now, waits = service(), NOW, []

    for _ in range(12):
        started = start(now)
        end(started, state, now + SECOND)
        target.refresh_from_db()
        assert target.next_fire_at is not None
        waits.append(target.next_fire_at - (now + SECOND))
        now = target.next_fire_at

    assert waits == [
        min(2**n * conf.SERVICE_DELAY, conf.SERVICE_DELAY_MAX) for n in range(len(waits))
    ]
    assert waits[-1] == waits[-2] == conf.SERVICE_DELAY_MAX


def test_one_that_ran_for_long_is_started_again_soon() -> None:
    target = service()
    Target.objects.filter(pk=target.pk).update(short_runs=9)
    started = start(NOW)

    end(started, State.FAILED, NOW + WELL)

    target.refresh_from_db()
    assert (target.next_fire_at, target.short_runs) == (NOW + WELL + conf.SERVICE_DELAY, 0)


def test_one_whose_should_run_says_no_is_asked_less_and_less_often() -> None:
    target = service()
    started = start(NOW)

    runs.decline(started.run.pk, 1, token=started.token, detail="", now=NOW)

    target.refresh_from_db()
    assert (target.next_fire_at, target.short_runs) == (NOW + conf.SERVICE_DELAY, 1)


@pytest.mark.parametrize("rerun", [True, False])
def test_a_failure_and_a_lost_worker_lead_to_a_new_run_not_to_a_retry(rerun: bool) -> None:
    target = service(retries=5, rerun_if_lost=rerun)
    failed = start(NOW)
    end(failed, State.FAILED, NOW)
    target.refresh_from_db()
    assert target.next_fire_at is not None

    lost = start(target.next_fire_at)
    runs.lose(lost.run.pk, 1, detail="gone", now=target.next_fire_at)

    assert set(Run.objects.values_list("state", "attempt")) == {(State.FAILED, 1)}
    target.refresh_from_db()
    assert target.next_fire_at is not None


@pytest.mark.parametrize("kind", ["everything", "circuit", "job", "target"])
def test_a_pause_stops_a_service_and_the_resume_starts_it(kind: str) -> None:
    target = service()
    run = start(NOW).run
    scopes: dict[str, Scope] = {"everything": runs.installation(), "job": target.job}
    if kind == "circuit":
        scopes["circuit"] = Circuit.objects.create(name="edge")
        Job.objects.update(circuit="edge")
    scope = scopes.get(kind, target)
    runs.recover(now=NOW + SECOND, reap=False)
    assert not is_asked_to_stop(run)

    runs.pause(scope, by="ann", reason="works", now=NOW + SECOND)
    runs.recover(now=NOW + SECOND, reap=False)

    assert is_asked_to_stop(run)
    assert "works" in run.stop_requested_by
    token = run.token
    stopped = Result(state=State.FAILED, reason=Reason.CANCELLED)
    assert runs.finish(run.pk, 1, token=token, result=stopped, now=NOW + 2 * SECOND)
    assert claim(NOW + MINUTE) == []
    target.refresh_from_db()
    assert (target.parked, target.short_runs) == (Parked.PAUSED, 0)
    assert not Notification.objects.exists()

    runs.resume(scope, by="ann", now=NOW + 2 * MINUTE)

    assert len(claim(NOW + 2 * MINUTE)) == 1


def test_a_service_that_a_person_runs_although_it_is_paused_is_left_to_run() -> None:
    target = service()
    runs.pause(target.job, by="ann", reason="", now=NOW)
    run = runs.trigger(target.job, by="ann", now=NOW + SECOND)
    assert runs.start(run.pk, 1, worker="w", now=NOW + SECOND) is not None

    runs.recover(now=NOW + MINUTE, reap=False)
    assert not is_asked_to_stop(run)

    runs.pause(runs.installation(), by="bob", reason="", now=NOW + MINUTE)
    runs.pause(target, by="bob", reason="", now=NOW + MINUTE)
    runs.resume(target.job, by="bob", now=NOW + MINUTE)
    runs.recover(now=NOW + MINUTE, reap=False)
    assert is_asked_to_stop(run)


@pytest.mark.parametrize("how", ["retired", "ended"])
def test_a_service_that_is_retired_or_over_is_stopped_and_stays_so(how: str) -> None:
    target = service(ends_at=NOW + MINUTE)
    started = start(NOW)
    if how == "retired":
        runs.retire(target.job, now=NOW + SECOND)
    now = NOW + (SECOND if how == "retired" else 2 * MINUTE)

    runs.recover(now=now, reap=False)

    assert is_asked_to_stop(started.run)
    end(started, State.SUCCEEDED, now)
    assert claim(NOW + 10 * MINUTE) == []


def test_an_edit_of_the_schedule_stops_the_service() -> None:
    target = service()
    run = start(NOW).run

    runs.reschedule(target.job, schedule="every 1h", now=NOW + SECOND)

    assert is_asked_to_stop(run)
    target.refresh_from_db()
    assert target.next_fire_at is not None


def test_an_edit_to_always_waits_for_what_runs() -> None:
    target = runs.adopt(make_job(schedule="every 1h"), now=NOW)
    run = runs.trigger(target.job, by="ann", now=NOW)
    started = runs.start(run.pk, 1, worker="w", now=NOW)
    assert started is not None

    runs.reschedule(target.job, schedule="always", now=NOW + SECOND)
    assert claim(NOW + MINUTE) == []
    end(started, State.SUCCEEDED, NOW + MINUTE)

    assert len(claim(NOW + 2 * MINUTE)) == 1


def test_a_service_that_runs_well_again_is_told_of_although_it_does_not_end() -> None:
    target = service()
    end(start(NOW), State.FAILED, NOW)
    target.refresh_from_db()
    assert target.next_fire_at is not None
    again = start(target.next_fire_at)

    runs.recover(now=NOW + MINUTE, reap=False)
    assert Notification.objects.get().event == Event.FAILING
    runs.recover(now=target.next_fire_at + WELL, reap=False)
    runs.recover(now=target.next_fire_at + WELL + MINUTE, reap=False)

    target.refresh_from_db()
    assert (target.failing_since, target.failures_in_a_row, target.short_runs) == (None, 0, 0)
    assert (target.misses, target.streak) == (0, 0)  # what pauses it begins anew, too
    assert Notification.objects.get(event=Event.FIXED).run_id == again.run.pk


def test_a_service_has_only_the_limits_that_it_names() -> None:
    plain = make_job(schedule="always")
    daily = make_job(schedule="always", hard_limit=timedelta(days=1))

    assert (limits_of(plain).soft, limits_of(plain).hard) == (None, None)
    assert limits_of(daily).hard == timedelta(days=1)
    assert (limits_of(make_job(schedule="every 1h")).hard) == conf.INTERNAL_HARD_LIMIT


@pytest.mark.parametrize(
    ("options", "queue"),
    [({}, "services"), ({"queue": "ears"}, "ears"), ({"routing_key": "ears"}, "")],
)
def test_services_have_a_queue_of_their_own_unless_they_name_another(
    options: dict[str, str], queue: str
) -> None:
    job = make_job(schedule="always", options=options)
    assert queue_of(job) == queue
    run = runs.trigger(runs.adopt(job, now=NOW).job, by="ann", now=NOW)
    sent = outbox._options(run, job)
    assert sent.get("queue", "") == queue
    assert "time_limit" not in sent


@override_settings(JOBS_SERVICE_QUEUE="ears")
def test_the_queue_of_services_is_a_setting() -> None:
    assert queue_of(make_job(schedule="always")) == "ears"


def test_services_that_no_worker_takes_are_found() -> None:
    service()
    make_job(schedule="always", options={"queue": "ears"})
    assert unserved(NOW) == {"ears": 1, "services": 1}

    Process.objects.create(
        kind=ProcessKind.WORKER,
        name="w",
        host="h",
        pid=1,
        started_at=NOW,
        seen_at=NOW,
        detail={"queues": ["services", "celery"]},
    )

    assert unserved(NOW) == {"ears": 1}
    assert "ears" in unserved(NOW + MINUTE)


def test_no_target_alone_is_a_service() -> None:
    job = make_job(schedule="every 1h")
    with pytest.raises(InvalidSchedule, match="give its job the schedule"):
        runs.add_target(job, "k", schedule="always", now=NOW)
    with pytest.raises(InvalidSchedule, match="give its job the schedule"):
        runs.reschedule_target(make_target(job, "k"), schedule="always", now=NOW)


def test_the_admin_refuses_a_target_that_runs_always() -> None:
    target = make_target(make_job(schedule="every 1h"), "k")
    client = log_in("view_target", "change_target", "view_job")
    address = page("scheduling_target_change", target.pk)
    answer = client.post(address, {"schedule": "always", "kwargs": "{}"})
    assert "give its job the schedule" in str(errors_of(answer)["schedule"])


def test_the_health_of_the_installation_names_services_that_nobody_runs() -> None:
    [well] = health.checks(NOW, ["services"])
    service()
    [check] = health.checks(NOW, ["services"])
    assert (well.ok, check.ok) == (True, False)
    assert "1 on queue 'services'" in check.detail
    assert "--queues services --pool threads" in check.detail


def test_a_service_is_found_among_any_number_of_others() -> None:
    job = make_job(schedule="always")
    targets = [make_target(job, f"{number}", next_fire_at=NOW) for number in range(210)]
    for run in runs.claim(now=NOW, limit=500).runs:
        assert runs.start(run.pk, 1, worker="w", now=NOW) is not None
    runs.pause(targets[-1], by="ann", reason="", now=NOW + SECOND)

    runs.recover(now=NOW + SECOND, reap=False)

    [asked] = Run.objects.filter(stop_requested_at__isnull=False)
    assert asked.target_id == targets[-1].pk
