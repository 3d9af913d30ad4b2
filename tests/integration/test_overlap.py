"""What becomes of a fire while the run before it is open, by each of the six policies."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from scheduling import runs
from scheduling.models import Reason, Run, State, Target
from scheduling.policies import CatchUp, Overlap
from scheduling.runs import Result
from tests.factories import NOW, make_job, make_run, make_target

pytestmark = pytest.mark.django_db

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)


def busy(**fields: Any) -> tuple[Target, Run]:
    """Make a target of a minutely job, due now, with a running run of a minute ago."""
    target = make_target(make_job(**{"schedule": "every 1m", **fields}), next_fire_at=NOW)
    before = make_run(
        target, cause="schedule", scheduled_at=NOW - MINUTE, created_at=NOW - MINUTE, token=1
    )
    assert runs.start(before.pk, 1, worker="w", now=NOW - MINUTE) is not None
    before.refresh_from_db()
    return target, before


def claim(now: datetime = NOW) -> runs.Claim:
    return runs.claim(now=now, limit=100)


def end(run: Run, *, now: datetime, state: State = State.SUCCEEDED) -> None:
    run.refresh_from_db()
    assert runs.finish(run.pk, run.attempt, token=run.token, result=Result(state=state), now=now)


def at(fire: datetime) -> Run:
    return Run.objects.get(scheduled_at=fire)


def outcome(fire: datetime) -> tuple[str, str, UUID | None]:
    run = at(fire)
    return run.state, run.reason, run.waiting_on_id


def test_skip_skips_the_fire_and_counts_it() -> None:
    target, before = busy(overlap="skip")

    claim()

    target.refresh_from_db()
    assert outcome(NOW) == (State.SKIPPED, Reason.OVERLAP, None)
    assert str(before.pk) in at(NOW).detail
    assert target.skipped_for_overlap == 1


def test_wait_keeps_the_first_that_waits_and_skips_the_next() -> None:
    target, before = busy(overlap="wait")

    claim()
    claim(NOW + MINUTE)

    target.refresh_from_db()
    assert outcome(NOW) == (State.QUEUED, "", before.pk)
    assert outcome(NOW + MINUTE) == (State.SKIPPED, Reason.OVERLAP, None)
    assert target.skipped_for_overlap == 1


def test_queue_keeps_all_up_to_its_cap() -> None:
    target, before = busy(overlap="queue", queue_limit=2)

    for minutes in range(3):
        claim(NOW + minutes * MINUTE)

    target.refresh_from_db()
    first = at(NOW)
    assert outcome(NOW) == (State.QUEUED, "", before.pk)
    assert outcome(NOW + MINUTE) == (State.QUEUED, "", first.pk)
    assert outcome(NOW + 2 * MINUTE) == (State.SKIPPED, Reason.CAPPED, None)
    assert "2 runs were waiting" in at(NOW + 2 * MINUTE).detail
    assert (target.skipped_for_overlap, target.skipped_for_cap) == (0, 1)


def test_the_cap_of_a_queue_is_a_setting_unless_the_job_has_its_own(settings: Any) -> None:
    settings.JOBS_QUEUE_LIMIT = 1
    busy(overlap="queue")

    claim()
    claim(NOW + MINUTE)

    assert outcome(NOW + MINUTE)[:2] == (State.SKIPPED, Reason.CAPPED)


def test_a_cap_does_not_hold_for_what_was_missed() -> None:
    busy(overlap="queue", queue_limit=1, catch_up="all", catch_up_window=60 * MINUTE)
    Target.objects.filter(next_fire_at=NOW).update(next_fire_at=NOW - 9 * MINUTE)
    Run.objects.filter(cause="schedule").update(scheduled_at=NOW - 10 * MINUTE)

    claim()

    assert Run.objects.filter(cause="catch_up", state=State.QUEUED).count() == 9


@pytest.mark.parametrize(("overlap", "at_once"), [("cancel", False), ("terminate", True)])
def test_the_running_run_is_ended_and_the_fire_waits_for_its_end(
    overlap: str, at_once: bool
) -> None:
    target, before = busy(overlap=overlap)

    claim()

    target.refresh_from_db()
    before.refresh_from_db()
    assert before.state == State.RUNNING
    assert (before.stop_requested_at, before.stop_at_once) == (NOW, at_once)
    assert runs.stop_requests([before.pk]) == {before.pk: at_once}
    assert outcome(NOW) == (State.QUEUED, "", before.pk)
    assert (target.ended_for_overlap, target.skipped_for_overlap) == (1, 0)

    assert runs.lose(before.pk, 1, detail="killed", now=NOW + SECOND)
    before.refresh_from_db()
    assert before.state == State.FAILED
    assert before.reason == (Reason.TERMINATED if at_once else Reason.CANCELLED)
    assert at(NOW).waiting_on is None
    target.refresh_from_db()
    assert target.failing_since is None  # ended by somebody's will: no failure, no alert


@pytest.mark.parametrize("overlap", ["cancel", "terminate"])
def test_the_newest_fire_takes_the_place_of_one_that_waits(overlap: str) -> None:
    target, before = busy(overlap=overlap)

    claim()
    claim(NOW + MINUTE)

    target.refresh_from_db()
    assert outcome(NOW) == (State.SKIPPED, Reason.OVERLAP, None)
    assert "took its place" in at(NOW).detail
    assert outcome(NOW + MINUTE) == (State.QUEUED, "", before.pk)
    assert (target.ended_for_overlap, target.skipped_for_overlap) == (1, 1)


def test_of_several_fires_due_together_the_newest_stands() -> None:
    target = make_target(make_job(schedule="every 1s", overlap="cancel"), next_fire_at=NOW)

    claim(NOW + 3 * SECOND)

    target.refresh_from_db()
    assert [outcome(NOW + n * SECOND)[0] for n in range(4)] == [State.SKIPPED] * 3 + [State.QUEUED]
    assert at(NOW + 3 * SECOND).waiting_on is None
    assert target.next_fire_at == NOW + 4 * SECOND
    assert target.skipped_for_overlap == 3


def test_cancel_leaves_what_somebody_asked_for_and_goes_before_it() -> None:
    target, before = busy(overlap="cancel")
    by_hand = runs.trigger(target.job, by="ann", now=NOW - SECOND)

    claim()

    by_hand.refresh_from_db()
    assert by_hand.state == State.QUEUED
    assert outcome(NOW) == (State.QUEUED, "", before.pk)


def test_a_kill_may_follow_a_wish_to_stop() -> None:
    _, before = busy()

    runs.cancel(before.pk, by="ann", now=NOW)
    runs.cancel(before.pk, by="bob", now=NOW + SECOND, at_once=True)

    before.refresh_from_db()
    assert (before.stop_at_once, before.stop_requested_by) == (True, "bob")


def test_allow_lets_both_run() -> None:
    target, _ = busy(overlap="allow")

    claim()

    assert outcome(NOW) == (State.QUEUED, "", None)
    assert runs.start(at(NOW).pk, 1, worker="w", now=NOW) is not None
    assert Run.objects.running().filter(target=target).count() == 2


@pytest.mark.parametrize("overlap", list(Overlap))
def test_what_was_missed_runs_one_after_another_unless_the_policy_is_allow(overlap: str) -> None:
    target = make_target(make_job(schedule="every 1m", overlap=overlap), next_fire_at=NOW)
    runs.pause(target, by="ann", reason="", now=NOW - SECOND)
    claim()

    runs.resume(target, missed=CatchUp.ALL, by="ann", now=NOW + 2 * MINUTE)

    waits = [at(NOW + n * MINUTE).waiting_on_id for n in range(3)]
    if overlap == Overlap.ALLOW:
        assert waits == [None, None, None]
    else:
        assert waits == [None, at(NOW).pk, at(NOW + MINUTE).pk]


class TestByHand:
    """The choice of whoever runs a job now."""

    def test_without_a_choice_it_comes_after_the_one_that_runs(self) -> None:
        target, before = busy(overlap="skip")

        run = runs.trigger(target.job, by="ann", now=NOW)

        assert run.state == State.QUEUED
        assert runs.start(run.pk, 1, worker="w", now=NOW) is None
        end(before, now=NOW + SECOND)
        run.refresh_from_db()
        assert (run.state, run.publish_at) == (State.QUEUED, NOW + SECOND)

    def test_skip_is_refused_with_a_row(self) -> None:
        target, _ = busy()

        run = runs.trigger(target.job, overlap=Overlap.SKIP, by="ann", now=NOW)

        assert (run.state, run.reason, run.cause) == (State.SKIPPED, Reason.OVERLAP, "manual")
        assert Run.objects.get(pk=run.pk).requested_by == "ann"

    @pytest.mark.parametrize("overlap", [Overlap.CANCEL, Overlap.TERMINATE])
    def test_it_ends_the_one_that_runs(self, overlap: Overlap) -> None:
        target, before = busy()

        run = runs.trigger(target.job, overlap=overlap, by="ann", now=NOW)

        assert run.waiting_on_id == before.pk
        assert runs.stop_requests([before.pk]) == {before.pk: overlap is Overlap.TERMINATE}

    def test_allow_runs_it_beside_the_other(self) -> None:
        target, _ = busy(overlap="skip")

        run = runs.trigger(target.job, overlap=Overlap.ALLOW, by="ann", now=NOW)

        assert runs.start(run.pk, 1, worker="w", now=NOW) is not None

    @pytest.mark.parametrize("overlap", list(Overlap))
    def test_it_starts_at_once_if_nothing_is_open(self, overlap: Overlap) -> None:
        target = make_target()

        run = runs.trigger(target.job, overlap=overlap, by="ann", now=NOW)

        assert runs.start(run.pk, 1, worker="w", now=NOW) is not None

    def test_it_is_told_the_time_that_was_chosen(self) -> None:
        target = make_target(make_job(scheduled_at_argument="as_of"))
        past = NOW - timedelta(days=3)

        run = runs.trigger(target.job, as_of=past, by="ann", now=NOW)

        started = runs.start(run.pk, 1, worker="w", now=NOW)
        assert started is not None
        assert started.kwargs == {"as_of": past.isoformat()}
        assert started.current(lambda: False).scheduled_at == past
