"""What executors tell of runs: given out, begun, ended; in any order, more than once, in bulk."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from scheduling import backend, clock, runs
from scheduling.models import (
    FollowUp,
    Job,
    Notification,
    Outcome,
    Reason,
    Run,
    Seat,
    State,
    Target,
)
from tests.factories import NOW, make_job, make_target
from tests.integration.backend_jobs import HOUR, SECOND, one_off, one_offs, registered, started

pytestmark = pytest.mark.django_db

END = backend.RunEnd


# --- unknown, merged, in any order ----------------------------------------------------------------


def test_an_unknown_run_is_no_error() -> None:
    run_id = uuid4()
    assert backend.start_run(run_id) is None
    assert backend.end_run(run_id) is None
    assert backend.start_runs([run_id]) == []
    told = backend.end_runs([END(id=run_id)])
    assert (told.changed, told.unknown) == ([], [run_id])


def test_metadata_are_merged_and_times_are_kept() -> None:
    registered()
    at = clock.now()
    run = backend.schedule_run("load", at=at, metadata={"something": "old", "kept": 1})
    backend.start_run(run.pk, at=at + SECOND, metadata={"something": "stupid"})
    ended = backend.end_run(run.pk, at=at + 2 * SECOND, metadata={"other": "stuff"})
    assert ended is not None
    assert ended.metadata == {"something": "stupid", "other": "stuff", "kept": 1}
    assert (ended.scheduled_at, ended.started_at, ended.ended_at) == (
        at,
        at + SECOND,
        at + 2 * SECOND,
    )


def test_a_scheduled_run_is_left_to_its_executor_and_known_by_its_id() -> None:
    registered()
    run_id = uuid4()
    run = backend.schedule_run("load", run_id=run_id)
    assert backend.schedule_run("load", run_id=str(run_id)).pk == run.pk == run_id
    assert set(Run.objects.to_publish(clock.now())) == set()
    assert backend.claim_ready("load", limit=5) == []
    assert backend.schedule_run("load").pk != backend.schedule_run("load").pk


def test_runs_that_are_given_again_after_their_end_stay_ended() -> None:
    """What an executor's crash between sending and marking leads to."""
    registered("nightly", schedule="every 1h")
    registered()
    given = [
        backend.ScheduledRun(job=job, id=uuid4()) for job in ("load", "load", "nightly", "nightly")
    ]
    backend.schedule_runs(given)
    fires = Target.objects.get(job__name="nightly").next_fire_at
    for one in (given[0], given[2]):
        assert one.id is not None
        backend.end_run(one.id)
    again = backend.schedule_runs(given)
    assert [run.state for run in again] == [
        *(State.SUCCEEDED, State.QUEUED),
        *(State.SUCCEEDED, State.QUEUED),
    ]
    assert Target.objects.get(job__name="nightly").next_fire_at == fires


def test_an_end_that_comes_again_changes_nothing() -> None:
    registered(retries=0)
    run = started()
    first = backend.end_run(run.pk, "failed", error="first")
    again = backend.end_run(run.pk, "succeeded", metadata={"late": True})
    assert first is not None
    assert again is not None
    assert (again.state, again.error, again.metadata) == (State.FAILED, "first", {})
    assert (again.ended_at, again.target_id) == (first.ended_at, first.target_id)
    target = Target.objects.get(job__name="load")
    assert target.failures_in_a_row == 1


def test_a_late_start_changes_nothing() -> None:
    registered()
    run = one_off()
    backend.end_run(run.pk)
    assert backend.start_run(run.pk, metadata={"late": True}) is None
    run.refresh_from_db()
    assert (run.state, run.metadata) == (State.SUCCEEDED, {})


def test_a_start_that_is_told_again_is_the_same_start() -> None:
    registered()
    run = one_off()
    first = backend.start_run(run.pk, worker="pod", metadata={"a": 1})
    again = backend.start_run(run.pk, worker="pod", metadata={"b": 2})
    assert first is not None
    assert again is not None
    assert (again.started_at, again.token) == (first.started_at, first.token)
    assert again.metadata == {"a": 1, "b": 2}


def test_an_end_without_a_start_is_an_end() -> None:
    registered()
    at = clock.now()
    run = backend.end_run(one_off().pk, at=at)
    assert run is not None
    assert (run.state, run.started_at, run.ended_at) == (State.SUCCEEDED, at, at)


def test_an_end_by_a_clock_that_is_ahead_is_one_of_now() -> None:
    registered()
    at = clock.now()
    run = backend.end_run(started().pk, at=at + 100 * HOUR)
    assert run is not None
    assert run.ended_at is not None
    assert run.ended_at < at + HOUR


def test_an_end_without_a_start_is_one_also_beside_a_running_one() -> None:
    registered(overlap="skip")
    running = started()
    other = backend.end_run(one_off(kwargs={"a": 1}).pk)
    assert other is not None
    assert other.state == State.SUCCEEDED
    running.refresh_from_db()
    assert running.state == State.RUNNING


def test_runs_of_one_target_start_one_by_one_unless_they_may_overlap() -> None:
    registered(overlap="skip")
    first, second = backend.create_runs(one_offs(2))
    assert backend.start_runs([first.pk, second.pk]) == [first]
    second.refresh_from_db()
    assert second.waiting_on_id == first.pk


# --- words ----------------------------------------------------------------------------------------


def test_a_lost_run_has_failed() -> None:
    registered()
    run = backend.end_run(started().pk, "lost")
    assert run is not None
    assert (run.state, run.reason) == (State.FAILED, Reason.LOST)
    assert Target.objects.get(job__name="load").failures_in_a_row == 1


def test_a_lost_run_runs_again_if_its_job_says_so() -> None:
    registered(idempotent=True)
    run = backend.end_run(started().pk, "lost")
    assert run is not None
    assert (run.state, run.attempt) == (State.QUEUED, 2)


def test_a_permanent_failure_is_not_retried() -> None:
    registered(retries=3)
    run = backend.end_run(started().pk, "permanent", error="no such thing")
    assert run is not None
    assert (run.state, run.reason) == (State.FAILED, Reason.PERMANENT)
    assert Target.objects.get(job__name="load").paused_at is None


def test_a_permanent_failure_pauses_what_would_come_up_again() -> None:
    job = registered(keyed=True)
    (target,) = backend.create_targets(
        [backend.NewTarget(job="load", key="a", schedule="every 1h")]
    )
    run = backend.schedule_run("load", "a")
    backend.end_run(run.pk, "permanent", error="no such thing")
    target.refresh_from_db()
    assert (target.paused_by, target.pause_reason) == ("Beatkeeper", "no such thing")
    job.refresh_from_db()
    assert job.paused_at is None


def test_the_end_of_a_run_resumes_nothing() -> None:
    registered(schedule="every 1h")
    run = started()
    backend.set_jobs("load", "paused")
    backend.end_run(run.pk)
    target = Target.objects.get(job__name="load")
    assert (target.job.paused_by, target.job.paused_at is None) == ("backend", False)
    assert runs.claim(now=clock.now() + 2 * HOUR, limit=100).runs == [] or not Run.objects.filter(
        target=target, cause="schedule"
    )


def test_an_outcome_or_a_fingerprint_says_what_was_found() -> None:
    registered(keyed=True)
    backend.create_targets([backend.NewTarget(job="load", key="a", schedule="every 1h")])
    found = []
    at = clock.now()
    told: list[dict[str, Any]] = [{"fingerprint": "x"}, {"fingerprint": "x"}, {"fingerprint": "y"}]
    for number, said in enumerate([*told, {"outcome": "missing"}]):
        run = backend.schedule_run("load", "a")
        ended = backend.end_run(run.pk, at=at + number * SECOND, **said)
        assert ended is not None
        found.append(ended.outcome)
    assert found == [Outcome.CHANGED, Outcome.UNCHANGED, Outcome.CHANGED, Outcome.MISSING]
    target = Target.objects.get(job__name="load")
    assert (target.fingerprint, target.misses) == ("y", 1)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"state": "eventful"}, "'eventful'; known are succeeded, failed, lost"),
        ({"outcome": "fun"}, "'fun'"),
        ({"state": "failed", "outcome": "changed"}, "only a success"),
        ({"outcome": "changed", "fingerprint": "x"}, "give one"),
        ({"fingerprint": "x" * 129}, "129 characters"),
        ({"retry_after": timedelta(0)}, "positive"),
        ({"metadata": {"a": object()}}, "JSON"),
        ({"metadata": {"a": float("nan")}}, "JSON"),
        ({"at": NOW.replace(tzinfo=None)}, "zone"),
    ],
)
def test_a_wrong_word_is_named_and_loses_nothing_else(said: dict[str, Any], words: str) -> None:
    registered()
    right, wrong, right_too = (started(kwargs={"n": n}) for n in range(3))
    with pytest.raises(ValueError, match=words):
        backend.end_run(wrong.pk, **said)
    told = backend.end_runs([END(id=right.pk), END(id=wrong.pk, **said), END(id=right_too.pk)])
    assert sorted(told.changed) == sorted([right.pk, right_too.pk])
    assert list(told.refused) == [wrong.pk]
    wrong.refresh_from_db()
    assert wrong.state == State.RUNNING


@pytest.mark.parametrize("text", ["a\x00b\x00", "\x00ab", "ab\x00", "a\ud800b"])
def test_text_that_no_database_keeps_is_stored_without_it(text: str) -> None:
    registered(retries=0)
    run = started(metadata={"first": text})
    told = backend.end_runs(
        [END(id=run.pk, state="failed", error=text, metadata={text: [{"deep": text}]})]
    )
    assert told.changed == [run.pk]
    run.refresh_from_db()
    clean = text.replace("\x00", "").replace("\ud800", "?")
    assert run.error == clean
    assert run.metadata == {"first": clean, clean: [{"deep": clean}]}


# --- in bulk --------------------------------------------------------------------------------------


def test_ends_in_bulk_tell_what_became_of_each() -> None:
    registered()
    open_runs = [started(kwargs={"n": n}) for n in range(3)]
    ended = started(kwargs={"n": 9})
    backend.end_run(ended.pk)
    unknown = uuid4()
    reports = [END(id=run.pk, metadata={"n": 1}) for run in (*open_runs, ended)]
    told = backend.end_runs([*reports, END(id=unknown), END(id=open_runs[0].pk, state="failed")])
    assert sorted(told.changed) == sorted(run.pk for run in open_runs)
    assert (told.unchanged, told.unknown, told.refused) == ([ended.pk], [unknown], {})
    assert {run.state for run in Run.objects.all()} == {State.SUCCEEDED}


def how_it_stands() -> dict[str, Any]:
    """Everything that ends have led to, without what tells two runs of a test apart."""
    left_out = {"id", "parent_id", "root_id", "target_id", "job_id", "rule_id", "run_id"}

    def plain(rows: Any, order: str) -> list[dict[str, Any]]:
        return [
            {name: value for name, value in row.items() if name not in left_out}
            for row in rows.order_by(order).values()
        ]

    return {
        "runs": plain(Run.objects.all(), "kwargs__n"),
        "targets": [
            row | {"created_at": None}
            for row in plain(Target.objects.filter(job__name__startswith="load"), "job__name")
        ],
        "notifications": plain(Notification.objects.all(), "pk"),
        "seats": list(Seat.objects.filter(run__isnull=False).values_list("key", flat=True)),
    }


WAYS: list[dict[str, Any]] = [
    {},
    {"notify_on_success": True},
    {"recipients": ["ann@example.org"]},
    {"locks": ["disk"]},
    {"schedule": "every 10m after end"},
    {"schedule": "adaptive 2h between 1h and 8h factor 2"},
    {"schedule": "every 1h", "pause_after": 1},
    {"retries": 1},
    {"idempotent": True},
    {"circuit": "west"},
    {"overlap": "skip"},
    {"ping_url": "https://ping.example.org/x"},
    {"feed": {"max_queue_length": 10}},
]


@pytest.mark.parametrize("settings", WAYS, ids=lambda each: next(iter(each), "plain"))
@pytest.mark.parametrize("state", ["succeeded", "failed", "lost"])
@pytest.mark.parametrize("before", ["", "failed"], ids=["well", "failing"])
def test_an_end_in_bulk_leads_to_what_an_end_by_a_worker_leads_to(
    settings: dict[str, Any], state: str, before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each end of a run is one and the same, whoever tells of it."""
    monkeypatch.setattr("scheduling.backend.reports.clock.now", lambda: NOW + 3 * SECOND)
    stood = []
    for by_worker in (True, False):
        for rows in (Job, Notification, Run, Seat):
            rows.objects.all().delete()
        job = make_job_with(settings)
        target = make_target(job, "a")
        FollowUp.objects.create(job=job, follower=make_follower())
        runs_of = []
        for n in range(2):
            run = runs.trigger(job, key="a", kwargs={"n": n}, by="ann", now=NOW)
            if before and n == 0:
                begin(run)
                result = runs.Result(state=State.FAILED, reason=Reason.PERMANENT)
                runs.finish(run.pk, 1, token=None, result=result, now=NOW + SECOND)
                continue
            runs_of.append(run)
        last = runs_of[-1]
        begin(last)
        end_it(last, state, by_worker=by_worker)
        target.refresh_from_db()
        stood.append(how_it_stands())
    assert stood[0] == stood[1]


def make_job_with(settings: dict[str, Any]) -> Job:
    return registered("load", keyed=True, **settings)


def make_follower() -> Job:
    follower = make_job("load_after")
    make_target(follower)
    return follower


def begin(run: Run) -> None:
    run.refresh_from_db()
    assert runs.start(run.pk, run.attempt, worker="w", now=NOW + SECOND)


def end_it(run: Run, state: str, *, by_worker: bool) -> None:
    at = NOW + 2 * SECOND
    if not by_worker:
        backend.end_runs([END(id=run.pk, state=state, at=at)])
    elif state == "lost":
        runs.lose(run.pk, 1, detail="", now=at)
    else:
        done = State.SUCCEEDED if state == "succeeded" else State.FAILED
        reason = None if state == "succeeded" else Reason.ERROR
        runs.finish(run.pk, 1, token=None, result=runs.Result(state=done, reason=reason), now=at)
