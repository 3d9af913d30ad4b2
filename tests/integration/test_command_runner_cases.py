"""Management commands with a `ScheduledJob`, from deploy to deploy, case by case.

The numbers A-01 to A-36 are those of the cases that teams know from the runner they come from;
what a single run does (A-16 to A-21, A-34) is in `test_command_runner_runs`.
"""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

import pytest
from django.core import mail
from django.test import override_settings

from config.celery import app
from scheduling import clock, runs, sync
from scheduling.beat import Scheduler
from scheduling.models import Job, Reason, Run, State, Target
from scheduling.policies import CatchUp
from tests.factories import NOW
from tests.integration.cli import jobs
from tests.integration.command_app import Deploy, command, execute, job, run_now, target

pytestmark = pytest.mark.django_db(transaction=True)

MINUTE = timedelta(minutes=1)
DONE = runs.Result(state=State.SUCCEEDED)


def next_fire() -> datetime | None:
    return target().next_fire_at


def follow_ups() -> list[str]:
    return sorted(Run.objects.filter(cause="follow_up").values_list("name", flat=True))


def end_at(moment: datetime, *, by_hand: bool = False) -> None:
    """Run the job in no time, at a moment: what is due then, or what somebody asks for."""
    if by_hand:
        run = runs.trigger(job(), by="a test", now=moment)
    else:
        (run,) = runs.claim(now=moment, limit=10).runs
    started = runs.start(run.pk, run.attempt, worker="w", now=moment)
    assert started is not None
    assert runs.finish(run.pk, run.attempt, token=started.token, result=DONE, now=moment)


HALF_HOURLY = "scheduled_interval = timedelta(minutes=30)"


def test_a01_an_interval_is_first_due_one_interval_after_its_creation(deploy: Deploy) -> None:
    deploy(work=command(HALF_HOURLY))
    assert next_fire() == NOW + 30 * MINUTE
    end_at(NOW + 40 * MINUTE)
    assert next_fire() == NOW + 70 * MINUTE


def test_a01_a_run_by_hand_counts_for_the_pause_between_runs(deploy: Deploy) -> None:
    deploy(work=command(HALF_HOURLY))
    end_at(NOW + 20 * MINUTE, by_hand=True)
    assert next_fire() == NOW + 50 * MINUTE


def test_a02_without_a_schedule_a_job_runs_once_when_asked(deploy: Deploy) -> None:
    deploy(work=command("internal = True"))
    assert next_fire() is None
    assert run_now().state == State.SUCCEEDED
    assert next_fire() is None
    assert runs.claim(now=clock.now() + timedelta(days=9), limit=10).runs == []


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ("time(23, 37), time(13, 0)", NOW + timedelta(hours=1)),
        ("time(5, 0)", NOW + timedelta(hours=17)),
        ("time(12, 0)", NOW + timedelta(days=1)),
    ],
    ids=["later today", "tomorrow", "now is tomorrow"],
)
def test_a03_times_are_those_strictly_after_now(
    deploy: Deploy, times: str, expected: datetime
) -> None:
    deploy(work=command(f"scheduled_times = [{times}]"))
    assert next_fire() == expected


def test_a04_an_interval_set_by_hand_replaces_times(deploy: Deploy) -> None:
    deploy(work=command("scheduled_times = [time(13, 0)]"))
    sync.set_override(job(), "schedule", "every 5m after end", by="anna", now=NOW)
    end_at(NOW + 6 * MINUTE)
    assert next_fire() == NOW + 11 * MINUTE


def test_a05_times_set_by_hand_replace_an_interval(deploy: Deploy) -> None:
    deploy(work=command(HALF_HOURLY))
    sync.set_override(job(), "schedule", "times 13:00", by="anna", now=NOW)
    assert next_fire() == NOW + timedelta(hours=1)
    end_at(NOW + 60 * MINUTE)
    assert next_fire() == NOW + timedelta(days=1, hours=1)


def test_a06_what_equals_the_code_is_not_set_by_hand(deploy: Deploy) -> None:
    deploy(work=command(HALF_HOURLY))
    sync.set_override(job(), "schedule", "every 30m after end", by="anna", now=NOW)
    assert job().overrides == {}


def test_a07_an_interval_and_times_contradict_each_other(deploy: Deploy) -> None:
    both = f"{HALF_HOURLY}\nscheduled_times = [time(13, 0)]"
    result = deploy(work=command(both), other=command())
    (problem,) = result.problems
    for word in ("'work'", "'scheduled_interval'", "'scheduled_times'"):
        assert word in problem
    assert set(Job.objects.filter(declared_in="command", command__in=["work", "other"])) == {
        job("other")
    }


@pytest.mark.parametrize("answer", ["False", "None"])
@pytest.mark.parametrize("kind", ["staticmethod", "classmethod"])
def test_a10_a_job_that_declines_leaves_a_row_and_leads_nowhere(
    deploy: Deploy, kind: str, answer: str
) -> None:
    parameter = "cls" if kind == "classmethod" else ""
    attributes = f"""
        trigger_next_jobs = "shop.after"
        @{kind}
        def should_run({parameter}):
            return {answer}
    """
    deploy(work=command(attributes, "raise ValueError"), after=command())
    Target.objects.filter(job=job()).update(failing_since=NOW)
    run = run_now()
    assert (run.state, run.reason) == (State.SKIPPED, Reason.DECLINED)
    assert target().failing_since == NOW
    assert target().last_skipped_at is not None
    assert follow_ups() == []
    assert mail.outbox == []


def test_a11_a_check_that_raises_stops_no_job(deploy: Deploy) -> None:
    attributes = """
        internal = True
        @staticmethod
        def should_run():
            raise ValueError
    """
    deploy(work=command(attributes))
    assert run_now().state == State.SUCCEEDED


@pytest.mark.parametrize("names", ["'shop.after'", "['shop.after']", "('shop.after',)"])
@pytest.mark.parametrize("body", ["raise ValueError", "pass"])
def test_a13_the_next_job_runs_after_any_end(deploy: Deploy, body: str, names: str) -> None:
    attributes = f"internal = True\ntrigger_next_jobs = {names}"
    deploy(work=command(attributes, body), after=command())
    run_now()
    assert follow_ups() == ["after"]


def test_a14_a_next_job_that_is_unknown_is_told_and_harms_nothing(deploy: Deploy) -> None:
    result = deploy(work=command("internal = True\ntrigger_next_jobs = 'shop.nowhere'"))
    (problem,) = result.problems
    assert "'work'" in problem
    assert "'nowhere'" in problem
    assert run_now().state == State.SUCCEEDED


def test_a15_a_circle_of_next_jobs_is_refused_with_its_way(deploy: Deploy) -> None:
    result = deploy(
        work=command("internal = True\ntrigger_next_jobs = 'shop.after'"),
        after=command("internal = True\ntrigger_next_jobs = 'shop.work'"),
    )
    (problem,) = result.problems
    assert "work -> after -> work" in problem or "after -> work -> after" in problem
    run_now("work")
    run_now("after")
    assert len(follow_ups()) == 1


@pytest.mark.parametrize(
    ("rerun", "state", "attempt"), [(True, State.QUEUED, 2), (False, State.FAILED, 1)]
)
def test_a23_a_run_whose_worker_died_runs_again_if_the_job_says_so(
    deploy: Deploy, rerun: bool, state: str, attempt: int
) -> None:
    deploy(work=command(f"{HALF_HOURLY}\nrerun_if_lost = {rerun}"))
    due = NOW + 30 * MINUTE
    (run,) = runs.claim(now=due, limit=10).runs
    assert runs.start(run.pk, 1, worker="w", now=due)
    later = NOW + timedelta(hours=1)
    runs.recover(now=later, reap=True)
    run.refresh_from_db()
    assert (run.state, run.attempt) == (state, attempt)
    if not rerun:
        assert run.reason == Reason.LOST
        assert next_fire() == later + 30 * MINUTE


def test_a24_a_deploy_that_changes_the_interval_moves_the_next_fire(deploy: Deploy) -> None:
    deploy(work=command(HALF_HOURLY))
    deploy(now=NOW + MINUTE, work=command("scheduled_interval = timedelta(minutes=5)"))
    assert next_fire() == NOW + 6 * MINUTE
    deploy(now=NOW + 2 * MINUTE, work=command())
    assert next_fire() is None
    deploy(now=NOW + 3 * MINUTE, work=command(HALF_HOURLY))
    assert next_fire() == NOW + 33 * MINUTE


def test_a25_a_command_that_is_gone_leaves_its_history(deploy: Deploy) -> None:
    deploy(work=command(f"internal = True\n{HALF_HOURLY}"))
    run = run_now()
    assert deploy(now=clock.now()).retired == ["work"]
    assert job().retired_at is not None
    assert Run.objects.get(pk=run.pk).state == State.SUCCEEDED
    assert runs.claim(now=clock.now() + timedelta(days=9), limit=10).runs == []


def test_a28_an_edit_during_a_run_is_kept_and_counts_for_the_next_fire(deploy: Deploy) -> None:
    deploy(work=command(HALF_HOURLY))
    due = NOW + 30 * MINUTE
    (run,) = runs.claim(now=due, limit=10).runs
    started = runs.start(run.pk, 1, worker="w", now=due)
    assert started is not None
    sync.set_override(job(), "notify_on_success", True, by="anna", now=due)
    sync.set_override(job(), "schedule", "every 5m after end", by="anna", now=due)
    ended = due + 7 * MINUTE
    assert runs.finish(run.pk, 1, token=started.token, result=DONE, now=ended)
    assert job().notify_on_success
    assert job().schedule == "every 5m after end"
    fire = next_fire()
    assert fire is not None
    assert fire <= ended + 5 * MINUTE


def test_a29_what_is_paused_between_claim_and_start_does_not_run(deploy: Deploy) -> None:
    deploy(work=command(HALF_HOURLY))
    due = NOW + 30 * MINUTE
    (run,) = runs.claim(now=due, limit=10).runs
    runs.pause(job(), by="anna", reason="audit", now=due)
    assert runs.start(run.pk, 1, worker="w", now=due) is None
    run.refresh_from_db()
    assert (run.state, run.reason) == (State.SKIPPED, Reason.PAUSED)


def test_a30_without_jobs_a_beat_idles(deploy: Deploy, caplog: pytest.LogCaptureFixture) -> None:
    deploy()
    assert not Job.objects.exists()
    beat = Scheduler(app=app, lazy=True)
    with override_settings(JOBS_TICK=timedelta(milliseconds=10)):
        for _ in range(3):
            beat.tick()
    beat.close()
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_a31_a_paused_job_is_not_due_and_resumed_lies_ahead(deploy: Deploy) -> None:
    deploy(work=command(f"internal = True\n{HALF_HOURLY}"))
    runs.pause(job(), by="anna", reason="audit", now=NOW)
    later = NOW + timedelta(hours=5)
    assert runs.claim(now=later, limit=10).runs == []
    # A person may run it all the same.
    assert run_now().state == State.SUCCEEDED
    now = clock.now()
    runs.resume(job(), by="anna", missed=CatchUp.NONE, now=now)
    fire = next_fire()
    assert fire is not None
    assert fire > now


def test_a32_a_delay_is_kept(deploy: Deploy) -> None:
    deploy(work=command("internal = True"))
    before = clock.now()
    answer = jobs("trigger", "work", "--delay", "60s", "--json")
    run = Run.objects.get(pk=answer.document()["id"])
    assert run.ready_at is not None
    assert timedelta(seconds=60) <= run.ready_at - before < timedelta(seconds=70)
    assert execute(run).state == State.QUEUED


def test_a33_an_unknown_command_is_an_error_to_who_asks(deploy: Deploy) -> None:
    deploy(work=command())
    answer = jobs("trigger", "wrok", "--json")
    assert answer.code == 2
    assert "'work'" in answer.document()["error"]


def test_a35_two_beats_and_two_deliveries_make_one_run(deploy: Deploy) -> None:
    deploy(work=command(f"internal = True\n{HALF_HOURLY}", "self.stdout.write('once')"))
    due = NOW + 30 * MINUTE
    claimed = [run for _ in range(2) for run in runs.claim(now=due, limit=10).runs]
    assert len(claimed) == 1
    Run.objects.update(start_by=None)
    first, second = execute(claimed[0]), execute(claimed[0])
    assert (first.state, second.ended_at) == (State.SUCCEEDED, first.ended_at)
    assert Run.objects.count() == 1


def test_a36_a_command_without_help_is_named_and_the_others_are_synced(deploy: Deploy) -> None:
    result = deploy(work=command(help=""), other=command(help=None), good=command())
    assert len(result.problems) == 2
    for problem, name in zip(sorted(result.problems), ["'other'", "'work'"], strict=True):
        assert name in problem
        assert "help" in problem
    assert "good" in result.created


def test_the_default_of_notify_on_success_only_begins_with_it(deploy: Deploy) -> None:
    deploy(work=command("default_notify_on_success = True"))
    assert job().notify_on_success
    deploy(work=command("default_notify_on_success = False"))
    assert job().notify_on_success
    sync.set_override(job(), "notify_on_success", False, by="anna", now=NOW)
    deploy(work=command("default_notify_on_success = True"))
    assert not job().notify_on_success


def test_times_follow_the_zone_of_the_project(deploy: Deploy) -> None:
    with override_settings(TIME_ZONE="Europe/Paris"):
        deploy(work=command(f"scheduled_times = [{time(23, 37)!r}]".replace("datetime.", "")))
    assert next_fire() == datetime(2026, 1, 5, 22, 37, tzinfo=UTC)
