"""What becomes of an attempt whose body hears that it is to stop, or that asks for another one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from scheduling import clock, current_run, redis, runs
from scheduling.models import Reason, Run, State
from tests.factories import make_job, make_run, make_target
from tests.integration.workers import tasks
from tests.integration.workers.conftest import Deliver
from tests.waiting import wait_for
from workers import lease, stopping

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def quick(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    settings.JOBS_LEASE_RENEWAL = timedelta(seconds=0.05)
    monkeypatch.setattr(lease, "POLL", 0.02)
    tasks.seen.clear()
    tasks.act.clear()
    yield
    stopping.reset()


def queued(name: str = "remember", **fields: Any) -> Run:
    return make_run(make_target(make_job(task=f"{tasks.PATH}.{name}", **fields)))


def obey() -> None:
    wait_for(current_run().should_stop)


def fail() -> None:
    raise KeyError("gone")


def ready(run: Run) -> Run:
    """Let a retry that waits be due."""
    Run.objects.filter(pk=run.pk).update(ready_at=clock.now() - timedelta(seconds=1))
    run.refresh_from_db()
    return run


# --- stopping -------------------------------------------------------------------------------------


def test_a_service_that_its_stopping_worker_has_told_is_handed_back(deliver: Deliver) -> None:
    def stop_worker() -> None:
        stopping.begin()
        obey()

    tasks.act.append(stop_worker)
    after = deliver(queued(schedule="always"))
    assert (after.state, after.reason, after.attempt) == (State.QUEUED, Reason.HANDED_BACK, 2)
    assert (after.failures, after.losses) == (0, 0)


def test_other_runs_are_not_told_that_their_worker_stops(deliver: Deliver) -> None:
    def stop_worker() -> None:
        before = Run.objects.get().lease_until
        assert before is not None
        stopping.begin()
        wait_for(lambda: Run.objects.filter(lease_until__gt=before).exists())
        assert not current_run().should_stop()

    tasks.act.append(stop_worker)
    assert deliver(queued()).state == State.SUCCEEDED


def test_a_run_that_reaches_a_stopping_worker_is_left_to_another(deliver: Deliver) -> None:
    run = queued()
    Run.objects.update(published_at=clock.now())
    stopping.begin()
    after = deliver(run)
    assert (after.state, after.attempt, after.published_at) == (State.QUEUED, 1, None)
    assert Run.objects.to_publish(clock.now()).exists()
    assert tasks.seen == []


@pytest.mark.parametrize(
    ("rerun", "end"),
    [
        (False, (State.FAILED, Reason.LOST, 1, 1)),
        (True, (State.QUEUED, Reason.LOST, 2, 1)),
    ],
)
def test_a_run_that_was_cut_off_and_stops_is_lost_as_its_job_says(
    deliver: Deliver, settings: Any, monkeypatch: pytest.MonkeyPatch, rerun: bool, end: Any
) -> None:
    settings.JOBS_LEASE = timedelta(seconds=0.5)
    monkeypatch.setattr(lease, "LAST_CHANCE", 0.02)
    monkeypatch.setattr(redis, "is_a_beat_well", lambda: True)

    def lose_the_database() -> None:
        with monkeypatch.context() as outage:
            outage.setattr(runs, "renew", lambda **_: 1 / 0)
            obey()

    tasks.act.append(lose_the_database)
    after = deliver(queued(rerun_if_lost=rerun, retries=3))
    assert (after.state, after.reason, after.attempt, after.losses) == end
    assert after.failures == 0


def test_the_result_of_a_superseded_attempt_changes_nothing(deliver: Deliver) -> None:
    def be_superseded() -> None:
        assert runs.lose(current_run().id, 1, detail="silent", now=clock.now())
        obey()

    tasks.act.append(be_superseded)
    after = deliver(queued(rerun_if_lost=True))
    assert (after.state, after.attempt, after.losses) == (State.QUEUED, 2, 1)


# --- retries --------------------------------------------------------------------------------------


def test_autoretry_for_asks_for_attempts_in_the_database_until_its_own_limit(
    deliver: Deliver,
) -> None:
    """The task has max_retries=1; the retries of the job are another thing."""
    run = queued("autoretrying", retries=5)
    after = deliver(run)
    assert (after.state, after.reason, after.attempt, after.failures) == (
        State.QUEUED,
        Reason.RETRY,
        2,
        1,
    )
    assert after.ready_at is not None
    assert after.ready_at - clock.now() < timedelta(seconds=6)
    Run.objects.filter(pk=run.pk).update(failures=5)
    deliver(ready(run))
    run.refresh_from_db()
    assert (run.state, run.reason) == (State.FAILED, Reason.ERROR)


def test_failures_and_losses_are_counted_apart(deliver: Deliver, settings: Any) -> None:
    """Two retries and three losses: each limit is met by its own kind alone."""
    settings.JOBS_LOSSES_TO_POISON = 3
    run = queued(retries=2, rerun_if_lost=True)

    def lose() -> None:
        assert runs.lose(current_run().id, current_run().attempt, detail="", now=clock.now())

    def counts() -> tuple[str, int, int, int]:
        run.refresh_from_db()
        return run.state, run.attempt, run.failures, run.losses

    expected = [
        (lose, ("queued", 2, 0, 1)),
        (fail, ("queued", 3, 1, 1)),
        (lose, ("queued", 4, 1, 2)),
        (fail, ("queued", 5, 2, 2)),
    ]
    for act, after in expected:
        tasks.act.append(act)
        deliver(ready(run))
        assert counts() == after
    tasks.act.append(lose)
    deliver(ready(run))
    assert counts() == ("failed", 5, 2, 3)
    assert run.reason == Reason.POISON


def test_losses_use_up_no_retry(deliver: Deliver) -> None:
    run = queued(retries=1)
    Run.objects.filter(pk=run.pk).update(losses=2)
    tasks.act.append(fail)
    deliver(run)
    run.refresh_from_db()
    assert (run.state, run.failures, run.losses) == (State.QUEUED, 1, 2)
