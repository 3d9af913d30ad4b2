"""What people ask for: run now, cancel, pause, resume; edits, retirement and return."""

from __future__ import annotations

from datetime import timedelta

import pytest

from scheduling import runs
from scheduling.errors import InvalidSchedule, JobRetired, UnknownRun, UnknownTarget
from scheduling.models import Installation, Job, Parked, Reason, Run, ScheduleStretch, State, Target
from scheduling.policies import CatchUp
from tests.factories import NOW, make_job, make_run, make_target

pytestmark = pytest.mark.django_db

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)


def every_minute(runs_left: int | None = None) -> Target:
    job = make_job(schedule="every 1m", runs_left=runs_left)
    return make_target(job, next_fire_at=NOW)


def skips() -> list[tuple[str, int]]:
    rows = Run.objects.filter(state=State.SKIPPED).order_by("scheduled_at")
    return list(rows.values_list("reason", "fires"))


class TestTrigger:
    def test_run_now_leaves_the_schedule_alone(self) -> None:
        target = every_minute()
        run = runs.trigger(target.job, by="ann", now=NOW - SECOND)
        assert (run.state, run.cause, run.requested_by) == (State.QUEUED, "manual", "ann")
        target.refresh_from_db()
        assert target.next_fire_at == NOW

    def test_a_delay_is_waited_in_the_database(self) -> None:
        run = runs.trigger(every_minute().job, by="ann", now=NOW, delay=MINUTE)
        assert run.publish_at == NOW + MINUTE

    def test_asking_twice_while_it_runs_gives_one_more_run(self) -> None:
        target = every_minute()
        make_run(target, state=State.RUNNING)
        first = runs.trigger(target.job, by="ann", now=NOW)
        assert runs.trigger(target.job, by="bob", now=NOW) == first
        other = runs.trigger(target.job, by="bob", now=NOW, kwargs={"full": True})
        assert other != first

    def test_an_unknown_key_is_named(self) -> None:
        with pytest.raises(UnknownTarget, match="'shop'"):
            runs.trigger(every_minute().job, key="shop", by="ann", now=NOW)

    def test_a_retired_job_is_refused(self) -> None:
        target = every_minute()
        runs.retire(target.job, now=NOW - SECOND)
        with pytest.raises(JobRetired):
            runs.trigger(target.job, by="ann", now=NOW)

    def test_a_paused_job_can_be_run_by_hand(self) -> None:
        target = every_minute()
        runs.pause(target.job, by="ann", reason="", now=NOW)
        run = runs.trigger(target.job, by="ann", now=NOW)
        assert runs.start(run.pk, 1, worker="w", now=NOW) is not None


class TestCancel:
    def test_a_queued_run_is_skipped(self) -> None:
        run = make_run()
        cancelled = runs.cancel(run.pk, by="ann", now=NOW)
        assert (cancelled.state, cancelled.reason) == (State.SKIPPED, Reason.CANCELLED)

    def test_a_running_run_is_asked_to_stop(self) -> None:
        run = make_run(state=State.RUNNING)
        runs.cancel(run.pk, by="ann", now=NOW)
        assert runs.stop_requests([run.pk]) == {run.pk: False}

    def test_an_ended_run_stays_as_it_is(self) -> None:
        run = make_run(state=State.SUCCEEDED)
        assert runs.cancel(run.pk, by="ann", now=NOW).state == State.SUCCEEDED

    def test_an_unknown_run_is_named(self) -> None:
        run = make_run()
        run.delete()
        with pytest.raises(UnknownRun):
            runs.cancel(Run(job=None).pk, by="ann", now=NOW)


class TestPause:
    def test_a_paused_job_does_not_fire_and_costs_no_further_tick(self) -> None:
        target = every_minute()
        assert runs.pause(target.job, by="ann", reason="upgrade", now=NOW)
        assert not runs.pause(target.job, by="bob", reason="again", now=NOW)
        runs.claim(now=NOW, limit=10)
        target.refresh_from_db()
        assert (target.parked, target.next_fire_at) == (Parked.PAUSED, None)
        assert Run.objects.count() == 0

    @pytest.mark.parametrize(
        ("missed", "started", "skipped"),
        [
            (CatchUp.NONE, 0, [("paused", 11)]),
            (CatchUp.LATEST, 1, [("paused", 10)]),
            (CatchUp.ALL, 11, []),
        ],
    )
    @pytest.mark.parametrize("scope", ["installation", "job", "target"])
    def test_resume_accounts_for_every_fire_of_the_pause(
        self, scope: str, missed: CatchUp, started: int, skipped: list[tuple[str, int]]
    ) -> None:
        target = every_minute()
        scopes: dict[str, Installation | Job | Target] = {
            "installation": runs.installation(),
            "job": target.job,
            "target": target,
        }
        paused = scopes[scope]
        runs.pause(paused, by="ann", reason="", now=NOW - SECOND)
        runs.claim(now=NOW, limit=10)
        assert runs.resume(paused, by="ann", missed=missed, now=NOW + 10 * MINUTE + SECOND)
        assert Run.objects.filter(state=State.QUEUED).count() == started
        assert skips() == skipped
        target.refresh_from_db()
        assert (target.parked, target.next_fire_at) == ("", NOW + 11 * MINUTE)

    def test_a_fire_at_the_moment_of_the_resume_belongs_to_the_pause(self) -> None:
        target = every_minute()
        runs.pause(target.job, by="ann", reason="", now=NOW - SECOND)
        runs.claim(now=NOW, limit=10)
        runs.resume(target.job, by="ann", now=NOW + MINUTE)
        assert skips() == [("paused", 2)]

    def test_resumed_runs_of_one_target_queue_one_after_another(self) -> None:
        target = every_minute()
        runs.pause(target.job, by="ann", reason="", now=NOW - SECOND)
        runs.claim(now=NOW, limit=10)
        runs.resume(target.job, by="ann", missed=CatchUp.ALL, now=NOW + 2 * MINUTE)
        line = list(Run.objects.order_by("scheduled_at"))
        assert [run.waiting_on for run in line] == [None, *line[:-1]]

    def test_a_pause_with_an_end_ends_by_itself(self) -> None:
        target = every_minute()
        runs.pause(target.job, by="ann", reason="", until=NOW + MINUTE, now=NOW - SECOND)
        runs.claim(now=NOW, limit=10)
        runs.recover(now=NOW + MINUTE + SECOND, reap=True)
        target.refresh_from_db()
        # "Until" is not "through": the fire at its end is due.
        assert target.next_fire_at == NOW + MINUTE
        assert skips() == [("paused", 1)]
        assert Job.objects.get(pk=target.job.pk).paused_at is None

    def test_resuming_the_job_leaves_a_paused_target_alone(self) -> None:
        target = every_minute()
        runs.pause(target, by="ann", reason="", now=NOW - SECOND)
        runs.pause(target.job, by="ann", reason="", now=NOW - SECOND)
        runs.claim(now=NOW, limit=10)
        runs.resume(target.job, by="ann", now=NOW + MINUTE)
        target.refresh_from_db()
        assert target.parked == Parked.PAUSED


class TestEdits:
    def test_a_new_schedule_settles_the_old_one_and_starts_after_now(self) -> None:
        job = make_job(schedule="every 1m")
        target = runs.adopt(job, now=NOW - 5 * MINUTE)
        runs.reschedule(job, schedule="every 1h", now=NOW + SECOND)
        target.refresh_from_db()
        assert job.schedule_version == 2
        assert target.next_fire_at == NOW + timedelta(hours=1)
        # 11:56 to 12:00: four missed or due fires are settled, none is forgotten
        fires = sum(Run.objects.values_list("fires", flat=True))
        assert fires == 5
        old, new = ScheduleStretch.objects.filter(target=target).order_by("since")
        assert (old.schedule, old.until) == ("every 1m", NOW + SECOND + timedelta.resolution)
        assert (new.schedule, new.until) == ("every 1h", None)

    def test_a_schedule_that_cannot_be_read_is_refused_and_changes_nothing(self) -> None:
        job = make_job(schedule="every 1m")
        with pytest.raises(InvalidSchedule):
            runs.reschedule(job, schedule="evry 1m", now=NOW)
        job.refresh_from_db()
        assert job.schedule == "every 1m"

    def test_an_edit_while_paused_keeps_the_pause(self) -> None:
        target = every_minute()
        runs.pause(target.job, by="ann", reason="", now=NOW - SECOND)
        runs.claim(now=NOW, limit=10)
        runs.reschedule(target.job, schedule="every 5m", now=NOW + MINUTE)
        target.refresh_from_db()
        assert (target.parked, target.next_fire_at) == (Parked.PAUSED, None)

    def test_a_target_with_its_own_schedule_keeps_it(self) -> None:
        job = make_job(schedule="every 1m")
        own = runs.add_target(job, "shop", schedule="every 5m", now=NOW)
        runs.reschedule(job, schedule="every 1h", now=NOW)
        own.refresh_from_db()
        assert own.next_fire_at == NOW + 5 * MINUTE
        runs.reschedule_target(own, schedule="", now=NOW)
        assert own.next_fire_at == NOW + timedelta(hours=1)

    def test_a_job_without_a_schedule_that_gets_one_is_armed(self) -> None:
        job = make_job(schedule="manual")
        target = runs.adopt(job, now=NOW)
        assert target.next_fire_at is None
        runs.reschedule(job, schedule="every 30m after end", now=NOW)
        target.refresh_from_db()
        assert target.next_fire_at == NOW + timedelta(minutes=30)


class TestRetirement:
    def test_a_retired_job_keeps_its_history_and_its_waiting_runs_are_skipped(self) -> None:
        target = every_minute()
        ended = make_run(target, state=State.SUCCEEDED)
        waiting = make_run(target)
        assert runs.retire(target.job, now=NOW - SECOND)
        waiting.refresh_from_db()
        assert (waiting.state, waiting.reason) == (State.SKIPPED, Reason.RETIRED)
        assert Run.objects.filter(pk=ended.pk).exists()
        target.refresh_from_db()
        assert target.next_fire_at is None

    def test_a_job_that_comes_back_fires_after_now(self) -> None:
        target = every_minute()
        runs.retire(target.job, now=NOW - SECOND)
        assert runs.revive(target.job, now=NOW + 10 * MINUTE)
        target.refresh_from_db()
        assert target.next_fire_at == NOW + 11 * MINUTE
        assert skips() == []


def test_a_first_run_now_is_explicit_and_moves_no_fire() -> None:
    job = make_job(schedule="every 1h")
    later = runs.add_target(job, "a", now=NOW)
    at_once = runs.add_target(job, "b", now=NOW, first_run="now")
    assert (later.next_fire_at, later.runs.count()) == (NOW + timedelta(hours=1), 0)
    assert at_once.next_fire_at == NOW + timedelta(hours=1)
    run = at_once.runs.get()
    assert (run.cause, run.publish_at, run.requested_by) == ("manual", NOW, "first run")
    runs.add_target(job, "b", now=NOW, first_run="now")
    assert at_once.runs.count() == 1


def test_a_job_has_a_start_and_an_end() -> None:
    job = make_job(
        schedule="every 1h", starts_at=NOW + timedelta(hours=3), ends_at=NOW + timedelta(hours=4)
    )
    target = runs.adopt(job, now=NOW)
    assert target.next_fire_at == NOW + timedelta(hours=3)
    runs.claim(now=NOW + timedelta(hours=3), limit=10)
    runs.claim(now=NOW + timedelta(hours=4), limit=10)
    assert Target.objects.get(pk=target.pk).next_fire_at is None
    assert Run.objects.count() == 2


def test_a_number_of_runs_is_not_exceeded_and_skips_do_not_count() -> None:
    target = every_minute(runs_left=2)
    runs.claim(now=NOW, limit=10)
    runs.claim(now=NOW + MINUTE, limit=10)  # skipped: the first is still open
    Run.objects.filter(state=State.QUEUED).update(state=State.SUCCEEDED)
    runs.claim(now=NOW + 2 * MINUTE, limit=10)
    runs.claim(now=NOW + 3 * MINUTE, limit=10)
    target.refresh_from_db()
    assert target.next_fire_at is None
    assert Job.objects.get(pk=target.job.pk).runs_left == 0
    assert Run.objects.exclude(state=State.SKIPPED).count() == 2
