"""What the code declares becomes rows, and follows the code from deploy to deploy."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import override_settings

from scheduling import clock, runs, sync
from scheduling.errors import InvalidDeclaration, InvalidSchedule
from scheduling.models import FollowUp, Installation, Job, Run
from scheduling.registry import FollowUpRule, registry
from tests.factories import NOW, make_job
from tests.integration.declared_code import declared_code

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)
code = pytest.fixture(declared_code)


def undeclare(name: str = "work") -> None:
    del registry._by_name[name]


def job(name: str = "work") -> Job:
    return Job.objects.get(name=name)


def test_a_declared_job_is_created_with_its_first_fire(code):
    code(schedule="every 1h", retries=3, hard_limit=5 * MINUTE, locks=("db",))
    result = sync.sync(now=NOW + MINUTE)
    assert "work" in result.created
    assert (job().retries, job().hard_limit, job().locks) == (3, 5 * MINUTE, ["db"])
    assert job().targets.get().next_fire_at == NOW + timedelta(hours=1)


def test_a_second_sync_changes_nothing(code):
    code(kwargs={"sizes": (1, 2)}, recipients=("a@example.org",))
    sync.sync(now=NOW)
    result = sync.sync(now=NOW)
    assert (result.created, result.updated, result.retired) == ([], [], [])
    assert "work" in result.unchanged
    assert result.problems == []


def test_a_changed_schedule_moves_the_next_fire(code):
    code(schedule="every 30m")
    sync.sync(now=NOW)
    code(schedule="every 5m")
    result = sync.sync(now=NOW + MINUTE)
    assert result.updated == ["work"]
    assert result.diff == {"work": ["schedule: every 30m -> every 5m"]}
    assert job().targets.get().next_fire_at == NOW + 5 * MINUTE
    assert job().schedule_version == 2


def test_clock_times_without_a_zone_are_the_projects(code):
    code(schedule="cron 0 3 * * *")
    with override_settings(TIME_ZONE="Europe/Paris"):
        sync.sync(now=NOW)
    assert job().schedule == "cron 0 3 * * * tz Europe/Paris"
    assert job().targets.get().next_fire_at == NOW.replace(hour=2) + timedelta(days=1)


def test_a_dry_run_says_what_it_would_do(code):
    code()
    result = sync.sync(now=NOW, dry_run=True)
    assert "work" in result.created
    assert not Job.objects.filter(name="work").exists()


def test_a_job_gone_from_the_code_is_retired_and_keeps_its_history(code):
    code()
    sync.sync(now=NOW)
    run = runs.trigger(job(), by="ann", now=NOW)
    undeclare()
    assert sync.sync(now=NOW + MINUTE).retired == ["work"]
    assert job().retired_at == NOW + MINUTE
    assert job().targets.get().next_fire_at is None
    assert Run.objects.filter(pk=run.pk).exists()


def test_a_job_that_comes_back_fires_again(code):
    code()
    sync.sync(now=NOW)
    undeclare()
    sync.sync(now=NOW)
    code(schedule="every 5m")
    result = sync.sync(now=NOW + MINUTE)
    assert result.updated == ["work"]
    assert job().retired_at is None
    assert job().targets.get().next_fire_at == NOW + 5 * MINUTE


def test_jobs_made_in_the_admin_are_left_alone(code):
    make_job("by hand", schedule="every 5m")
    result = sync.sync(now=NOW)
    assert "by hand" not in result.retired
    assert job("by hand").retired_at is None


def test_a_name_that_an_admin_has_taken_is_a_problem_and_stops_no_other(code):
    make_job("work")
    code("work")
    code("other")
    result = sync.sync(now=NOW)
    (problem,) = result.problems
    assert "'work'" in problem
    assert "rename one" in problem
    assert "other" in result.created


def test_a_keyed_job_has_no_plain_target(code):
    code(keyed=True)
    sync.sync(now=NOW)
    assert not job().targets.exists()


# --- overrides ------------------------------------------------------------------------------------


def test_an_override_survives_a_deploy_and_learns_the_new_code_value(code):
    code(schedule="every 1h")
    sync.sync(now=NOW)
    sync.set_override(job(), "schedule", "every 10m", by="ann", now=NOW)
    code(schedule="every 2h")
    sync.sync(now=NOW)
    assert job().schedule == "every 10m"
    assert job().overrides == {"schedule": {"code": "every 2h", "by": "ann", "at": NOW.isoformat()}}
    assert job().targets.get().next_fire_at == NOW + 10 * MINUTE


def test_a_reset_goes_back_to_the_code(code):
    code(schedule="every 1h", start_within=5 * MINUTE)
    sync.sync(now=NOW)
    sync.set_override(job(), "schedule", "every 10m", by="ann", now=NOW)
    sync.set_override(job(), "start_within", MINUTE, by="ann", now=NOW)
    assert sync.reset_override(job(), "start_within", now=NOW) == ["start_within"]
    assert job().start_within == 5 * MINUTE
    assert set(job().overrides) == {"schedule"}
    sync.reset_override(job(), now=NOW)
    assert (job().schedule, job().overrides) == ("every 1h", {})
    assert job().targets.get().next_fire_at == NOW + timedelta(hours=1)


def test_an_override_equal_to_the_code_is_none(code):
    code(schedule="every 1h", retries=2)
    sync.sync(now=NOW)
    sync.set_override(job(), "retries", 5, by="ann", now=NOW)
    sync.set_override(job(), "retries", 2, by="ann", now=NOW)
    sync.set_override(job(), "schedule", "every 60m", by="ann", now=NOW)
    assert job().overrides == {}


def test_an_override_that_the_code_catches_up_with_is_none(code):
    code(retries=2)
    sync.sync(now=NOW)
    sync.set_override(job(), "retries", 5, by="ann", now=NOW)
    code(retries=5)
    sync.sync(now=NOW)
    assert (job().retries, job().overrides) == (5, {})


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("schedule", "every now and then", InvalidSchedule),
        ("overlap", "jump", InvalidDeclaration),
        ("task", "other", InvalidDeclaration),
        ("name", "other", InvalidDeclaration),
    ],
)
def test_what_cannot_be_overridden_is_refused(code, field, value, error):
    code()
    sync.sync(now=NOW)
    with pytest.raises(error):
        sync.set_override(job(), field, value, by="ann", now=NOW)
    assert job().overrides == {}


# --- follow-ups -----------------------------------------------------------------------------------


def rules() -> set[tuple[str, str, str, bool]]:
    ours = FollowUp.objects.filter(job__task__startswith="tests.")
    return set(ours.values_list("job__name", "follower__name", "on", "declared"))


def follows(*names: str, on: Any = "success") -> tuple[FollowUpRule, ...]:
    return tuple(FollowUpRule(follower=name, on=on) for name in names)


def together(*names: str) -> tuple[FollowUpRule, ...]:
    return tuple(FollowUpRule(follower=name, join=True) for name in names)


def test_follow_ups_are_made_from_both_ends(code):
    code("first", follow_ups=follows("second", on="any"))
    code("second")
    code("third", after=follows("second"))
    assert sync.sync(now=NOW).problems == []
    assert rules() == {("first", "second", "any", True), ("second", "third", "success", True)}


def test_a_follow_up_gone_from_the_code_goes_and_an_admins_stays(code):
    code("first", follow_ups=follows("second"))
    code("second")
    code("third")
    sync.sync(now=NOW)
    FollowUp.objects.create(job=job("second"), follower=job("third"), on="failure")
    code("first")
    sync.sync(now=NOW)
    assert rules() == {("second", "third", "failure", False)}


def test_an_unknown_follower_is_told_and_the_job_is_synced(code):
    code("first", follow_ups=follows("sceond"))
    result = sync.sync(now=NOW)
    assert "first" in result.created
    (problem,) = result.problems
    assert "'first'" in problem
    assert "'sceond'" in problem


def test_a_cycle_is_refused_with_its_path(code):
    code("a", follow_ups=follows("b"))
    code("b", follow_ups=follows("c"))
    code("c")
    sync.sync(now=NOW)
    code("c", follow_ups=follows("a"))
    (problem,) = sync.sync(now=NOW).problems
    assert "c -> a -> b -> c" in problem
    assert ("c", "a", "success", True) not in rules()


def test_a_cycle_through_an_admins_rule_is_refused_too(code):
    code("a")
    code("b")
    sync.sync(now=NOW)
    FollowUp.objects.create(job=job("b"), follower=job("a"))
    code("a", follow_ups=follows("b"))
    (problem,) = sync.sync(now=NOW).problems
    assert "a -> b -> a" in problem


def test_a_join_is_made_of_all_that_it_names(code):
    code("first")
    code("left", after=follows("first"))
    code("right", after=follows("first"))
    code("last", after=together("left", "right"))
    assert sync.sync(now=NOW).problems == []
    joined = FollowUp.objects.filter(follower__name="last", join=True, declared=True)
    assert set(joined.values_list("job__name", flat=True)) == {"left", "right"}
    code("last", after=follows("left"))
    assert sync.sync(now=NOW).problems == []
    [rule] = FollowUp.objects.filter(follower__name="last")
    assert (rule.job.name, rule.join) == ("left", False)


def test_a_rule_alone_becomes_one_of_a_join(code):
    code("first")
    code("second", after=follows("first"))
    before = sync.declarations_hash()
    sync.sync(now=NOW)
    code("second", after=together("first"))
    assert sync.declarations_hash() != before, "beats of both deploys must not pass for the same"
    sync.sync(now=NOW)
    assert FollowUp.objects.get(follower__name="second").join


def test_a_pair_that_is_both_alone_and_joined_is_told_and_left_as_it_is(code):
    code("first")
    code("second", after=together("first"))
    sync.sync(now=NOW)
    code("first", follow_ups=follows("second", on="any"))
    (problem,) = sync.sync(now=NOW).problems
    assert "'second' follows 'first' both alone and by after_all" in problem
    assert FollowUp.objects.get(follower__name="second").join


def test_a_cycle_through_a_join_is_refused(code):
    code("a", after=together("c"))
    code("b", after=follows("a"))
    code("c", after=together("b"))
    (problem,) = sync.sync(now=NOW).problems
    assert "would follow itself" in problem


def test_jobs_that_no_single_run_leads_to_are_told_as_a_vain_join(code):
    code("left")
    code("right")
    code("last", after=together("left", "right"))
    (problem,) = sync.sync(now=NOW).problems
    assert "'last' waits for all of 'left', 'right'" in problem
    assert "let one of them follow the others" in problem
    code("right", after=follows("left", on="any"))
    assert sync.sync(now=NOW).problems == []


# --- when -----------------------------------------------------------------------------------------


def test_a_beat_with_other_declarations_than_those_migrated_retires_nothing(code):
    new = code()
    sync.sync(now=NOW)
    undeclare()
    assert sync.sync_at_beat_start(now=NOW) is None
    assert job().retired_at is None
    registry._by_name["work"] = new
    assert sync.sync_at_beat_start(now=NOW) is not None


def test_the_fingerprint_depends_on_what_is_declared(code):
    declaration = code()
    before = sync.declarations_hash()
    registry._by_name["work"] = replace(declaration, should_run=lambda: True)
    assert sync.declarations_hash() == before
    registry._by_name["work"] = replace(declaration, retries=1)
    assert sync.declarations_hash() != before


def test_migrating_syncs_once_and_says_what_it_did(code, capsys):
    code()
    sync.sync(now=NOW)
    code(schedule="every 2h")
    call_command("migrate")
    assert Installation.objects.get().declarations_hash == sync.declarations_hash()
    printed = capsys.readouterr().out
    assert printed.count("Jobs updated: work") == 1
    assert "work: schedule: every 1h -> every 2h" in printed


def test_one_bad_declaration_does_not_stop_a_migration(code, capsys):
    code("first", follow_ups=follows("nobody"))
    call_command("migrate", verbosity=1)
    printed = capsys.readouterr().out
    assert "Jobs created: first" in printed
    assert "Problem: Job 'first' is tied to 'nobody'" in printed


@pytest.mark.django_db(transaction=True)
def test_two_syncs_at_once_do_no_harm(code):
    for number in range(5):
        code(f"job {number}", follow_ups=follows(f"job {number + 1}") if number < 4 else ())
    failures: list[BaseException] = []

    def run() -> None:
        try:
            assert sync.sync(now=clock.now()).problems == []
        except BaseException as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert Job.objects.filter(name__startswith="job ").count() == 5
    assert len(rules()) == 4
