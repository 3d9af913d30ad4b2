"""What a library of job kinds and pools is known to do, corrected where it goes wrong there.

Single runs, retries, pauses between runs, schedules, services; each in a circuit or detached.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from scheduling import runs
from scheduling.errors import InvalidSchedule, UnknownRun
from scheduling.ledger import JobState, job_state
from scheduling.models import Circuit, Job, Reason, Run, State, Target
from scheduling.policies import retry_delay
from scheduling.runs import Result
from scheduling.schedules import parse
from tests.factories import NOW, make_job
from tests.integration.circuit_members import MINUTE, SECOND, claim, end, is_open, recover

pytestmark = pytest.mark.django_db

FAILED = Result(state=State.FAILED, reason=Reason.ERROR, error="no")
DONE = Result(state=State.SUCCEEDED)


def state_of(target: Target, now: datetime = NOW) -> JobState:
    return job_state(Job.objects.get(pk=target.job_id), now)


def start(run: Run, now: datetime) -> runs.Started:
    run.refresh_from_db()
    started = runs.start(run.pk, run.attempt, worker="w", now=now)
    assert started is not None
    return started


def finish(started: runs.Started, result: Result, now: datetime) -> bool:
    run = started.run
    return runs.finish(run.pk, run.attempt, token=started.token, result=result, now=now)


def test_three_attempts_of_which_the_last_succeeds_are_running_retrying_finished() -> None:
    target = runs.adopt(make_job(retries=2), now=NOW)
    run, now, seen = runs.trigger(target.job, by="ann", now=NOW), NOW, []
    for result in (FAILED, FAILED, DONE):
        started = start(run, now)
        seen.append(state_of(target))
        assert finish(started, result, now)
        seen.append(state_of(target))
        run.refresh_from_db()
        now = run.ready_at or now
    assert (run.attempt, run.state) == (3, State.SUCCEEDED)
    # Nobody glimpses a Finished in between.
    assert [each.value for each in seen] == ["Running", *["Retrying"] * 4, "Finished"]


@pytest.mark.parametrize(("result", "last"), [(DONE, JobState.FINISHED), (FAILED, JobState.FAILED)])
def test_a_single_run_waits_for_its_ready_and_then_ends_without_opening_its_circuit(
    result: Result, last: JobState
) -> None:
    Circuit.objects.create(name="edge")
    target = runs.adopt(make_job(circuit_id="edge"), now=NOW)
    run = runs.trigger(target.job, by="ann", now=NOW)
    run.job = target.job

    assert runs.wait_until_ready(run, detail="not yet", asked=True, now=NOW)
    assert state_of(target) == JobState.INITIALIZING
    assert runs.start(run.pk, 1, worker="w", now=NOW) is None

    runs.note_ready(Job.objects.get(pk=target.job_id), now=NOW + SECOND)
    started = start(run, NOW + SECOND)
    assert state_of(target) == JobState.RUNNING
    assert finish(started, result, NOW + 2 * SECOND)
    assert state_of(target) == last
    assert not is_open()


@pytest.mark.parametrize("text", ["@time", "cron @time", "* * * *", "cron 60 * * * *"])
def test_a_schedule_that_cannot_be_read_is_refused_in_words(text: str) -> None:
    with pytest.raises(InvalidSchedule, match=r"(?i)schedule|cron|field"):
        parse(text)


def test_a_schedule_of_every_second_is_taken() -> None:
    target = runs.adopt(make_job(schedule="cron * * * * * * *"), now=NOW)
    [run] = claim(NOW + SECOND)
    start(run, NOW + SECOND)
    assert state_of(target) == JobState.RUNNING


@pytest.mark.parametrize(
    ("base", "cap", "waits"),
    [
        (0.001, 0.010, [0.001, 0.002, 0.004, 0.008, 0.010, 0.010]),
        (30, 600, [30, 60, 120, 240, 480, 600, 600]),
    ],
)
def test_a_back_off_stays_at_its_maximum(base: float, cap: float, waits: list[float]) -> None:
    assert [
        retry_delay(n, base=timedelta(seconds=base), cap=timedelta(seconds=cap)).total_seconds()
        for n in range(1, len(waits) + 1)
    ] == waits


@pytest.fixture
def pool() -> dict[str, Target]:
    """One job of each kind in a circuit, and two that are detached; all due at NOW."""
    Circuit.objects.create(name="edge")
    kinds = {
        "failing": ("every 10s after end", "edge"),
        "interval": ("every 10s after end", "edge"),
        "scheduled": ("every 1m", "edge"),
        "channel": ("always", "edge"),
        "detached interval": ("every 10s after end", None),
        "detached channel": ("always", None),
    }
    targets = {}
    for name, (schedule, circuit) in kinds.items():
        job = make_job(name, schedule=schedule, circuit_id=circuit)
        targets[name] = runs.adopt(job, now=NOW - MINUTE)
        Target.objects.filter(job=job).update(next_fire_at=NOW)
    return targets


def test_one_that_fails_stops_all_but_the_detached_and_all_go_on_after_recovery(
    pool: dict[str, Target],
) -> None:
    begun = {run.name: run for run in claim(NOW)}
    assert set(begun) == set(pool)
    started = {name: start(run, NOW) for name, run in begun.items()}
    for name in ("interval", "scheduled", "detached interval"):
        assert finish(started[name], DONE, NOW)
    assert finish(started["failing"], FAILED, NOW)

    recover(NOW + SECOND)

    asked = Run.objects.filter(stop_requested_at__isnull=False)
    assert [run.name for run in asked] == ["channel"]
    assert finish(started["channel"], Result(state=State.FAILED, reason=Reason.CANCELLED), NOW)
    assert [run.name for run in claim(NOW + 15 * SECOND)] == ["detached interval"]
    states = {name: state_of(target).value for name, target in pool.items()}
    assert states == {
        **dict.fromkeys(("failing", "interval", "scheduled", "channel"), "Stopped"),
        **dict.fromkeys(("detached interval", "detached channel"), "Running"),
    }

    circuit, probe_at = Circuit.objects.get(), NOW + 30 * SECOND
    assert circuit.check_at == probe_at
    runs.close_circuit(circuit, by="", reason="", now=probe_at, probed=True)

    again = {run.name for run in claim(probe_at)}
    assert again == {"failing", "interval", "channel"}
    assert {run.name for run in claim(NOW + MINUTE)} == {"scheduled"}


def test_one_error_of_a_pause_between_runs_stops_both_at_once_until_the_next_probe() -> None:
    Circuit.objects.create(name="edge")
    first, second = (
        runs.adopt(make_job(name, schedule="every 10s after end", circuit_id="edge"), now=NOW)
        for name in ("first", "second")
    )
    now = NOW
    for round_ in range(3):
        now += 10 * SECOND
        for started in [start(run, now) for run in claim(now)]:
            is_the_one = started.job.name == "first" and round_ == 2
            assert finish(started, FAILED if is_the_one else DONE, now)
    assert {state_of(first, now), state_of(second, now)} == {JobState.STOPPED}
    assert claim(now + 29 * SECOND) == []

    probe_at = Circuit.objects.get().check_at
    assert probe_at == now + 30 * SECOND
    runs.close_circuit(Circuit.objects.get(), by="", reason="", now=probe_at, probed=True)

    # What met the open circuit begins at once; what was not due yet has lost nothing.
    assert {run.name for run in claim(probe_at)} == {"first", "second"}


def test_a_detached_service_belongs_to_no_circuit(pool: dict[str, Target]) -> None:
    members = runs.asked_members(Circuit.objects.get(), NOW)
    assert {job.name for job in members} == {"failing", "interval", "scheduled", "channel"}


def test_what_comes_after_a_time_limit_is_refused() -> None:
    target = runs.adopt(make_job(), now=NOW)
    started = start(runs.trigger(target.job, by="ann", now=NOW), NOW)
    limit = Result(state=State.FAILED, reason=Reason.HARD_LIMIT)

    assert finish(started, limit, NOW + SECOND)
    assert not finish(started, DONE, NOW + 4 * SECOND)

    assert Run.objects.get().reason == Reason.HARD_LIMIT
    assert state_of(target) == JobState.FAILED


def test_what_does_not_exist_is_said_not_to() -> None:
    with pytest.raises(UnknownRun, match="There is no run"):
        runs.cancel(Run().pk, by="ann", now=NOW)


def test_a_member_that_is_never_ready_keeps_nobody_else_from_running() -> None:
    Circuit.objects.create(name="edge")
    never = runs.adopt(make_job("never", schedule="every 1m", circuit_id="edge"), now=NOW)
    runs.adopt(make_job("well", schedule="every 1m", circuit_id="edge"), now=NOW)
    for run in claim(NOW + MINUTE):
        if run.name == "never":
            runs.wait_until_ready(run, detail="no", asked=True, now=NOW + MINUTE)
        else:
            end(run, NOW + MINUTE, state=State.SUCCEEDED)
    assert state_of(never) == JobState.INITIALIZING
    assert not is_open()
    assert {run.name for run in claim(NOW + 2 * MINUTE)} == {"well"}
